/* keys.c - reads an object by the list of its keys: wanted ones go into fields, unsupported ones
 * are refused, unknown ones reported.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "model/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define NAME_MAX_BYTES 192 /* of a key with its parents' keys */
#define VALUE_MAX      64  /* of a value, in a message */
#define DEPTH_MAX      8   /* of nested objects and lists */

const emb_key *emb_key_find(const emb_key_list *list, const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < list->count; i++) {
        const char *known = list->keys[i].name;
        if (strcmp(known, name) == 0) return &list->keys[i];
        size_t tail = *known == '*' ? strlen(known + 1) : 0;
        if (tail && length > tail && strcmp(name + length - tail, known + 1) == 0)
            return &list->keys[i];
    }
    return NULL;
}

/* ---- findings -------------------------------------------------------------------------------- */

static void report_unknown(emb_key_findings *findings, const emb_key_list *list, const char *name) {
    static const char more[] = ", ...";
    size_t used = strlen(findings->unknown), room = sizeof findings->unknown - used;
    char entry[NAME_MAX_BYTES + 64];
    if (findings->more) return;
    if (!emb_document_printable(name)) name = "?";
    if (findings->file == list->file)
        snprintf(entry, sizeof entry, ", %s", name);
    else
        snprintf(entry, sizeof entry, "%s%s: %s", used ? "; " : "", list->file, name);
    findings->more = strlen(entry) + sizeof more > room;
    snprintf(findings->unknown + used, room, "%s", findings->more ? more : entry);
    findings->file = list->file;
}

static void refuse_unknown(emb_key_findings *findings, const char *name) {
    if (findings->refused != EMB_OK) return;
    findings->refused =
        emb_error_set(&findings->refusal, EMB_UNSUPPORTED,
                      "the key \"%s\" is not known here: remove it if it changes nothing",
                      emb_document_printable(name) ? name : "?");
}

static void refuse_value(emb_key_findings *findings, const emb_key *key, const char *name,
                         const char *value) {
    if (findings->refused != EMB_OK) return;
    findings->refused = emb_error_set(
        &findings->refusal, EMB_UNSUPPORTED, "\"%s\" is %s, which is not supported: only %s (%s)",
        name, emb_document_printable(value) ? value : "?", key->values, key->about);
}

emb_status emb_keys_refusal(const emb_key_findings *findings, const char *path, emb_error *error) {
    if (findings->refused == EMB_OK) return EMB_OK;
    return emb_error_set(error, findings->refused, "%s: %s", path, findings->refusal.message);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Writes the value whose first event was just read as JSON, truncated if long, and reads to its
 * end. A container that is not empty becomes "{...}" or "[...]". */
static emb_status value_text(emb_json *json, emb_json_event event, char *out, emb_error *error) {
    uint32_t depth = json->depth, events = 0;
    bool object = event == EMB_JSON_OBJECT_BEGIN;
    switch (event) {
    case EMB_JSON_STRING:
        snprintf(out, VALUE_MAX, "\"%.*s\"", json->text_length < 56 ? (int)json->text_length : 56,
                 json->text);
        return json->text_last ? EMB_OK : emb_json_skip(json, error);
    case EMB_JSON_NUMBER:
        snprintf(out, VALUE_MAX, "%s", json->text);
        return EMB_OK;
    case EMB_JSON_OBJECT_BEGIN:
    case EMB_JSON_ARRAY_BEGIN:
        for (; json->depth >= depth; events++) EMB_TRY(emb_json_next(json, &event, error));
        snprintf(out, VALUE_MAX, object ? "{%s}" : "[%s]", events > 1 ? "..." : "");
        return EMB_OK;
    default:
        snprintf(out, VALUE_MAX, "%s",
                 event == EMB_JSON_TRUE    ? "true"
                 : event == EMB_JSON_FALSE ? "false"
                                           : "null");
        return EMB_OK;
    }
}

static bool is_listed(const char *values, const char *value) {
    size_t length = strlen(value);
    for (const char *at = values; at; at = strstr(at, " | ") ? strstr(at, " | ") + 3 : NULL)
        if (strncmp(at, value, length) == 0 && (!at[length] || strncmp(at + length, " | ", 3) == 0))
            return true;
    return false;
}

static emb_status check_value(emb_json *json, const emb_key *key, const char *name,
                              emb_key_findings *findings, emb_error *error) {
    char value[VALUE_MAX];
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    EMB_TRY(value_text(json, event, value, error));
    if (!is_listed(key->values, value)) refuse_value(findings, key, name, value);
    return EMB_OK;
}

/* ---- the walk -------------------------------------------------------------------------------- */

/* The stack of open objects and lists, and how much of `name` belongs to each. */
typedef struct walk {
    char name[NAME_MAX_BYTES];
    size_t lengths[DEPTH_MAX];
    uint32_t depth;
    bool deeper; /* nested deeper than the stack */
} walk;

static void enter(walk *w) {
    if (w->depth + 1 == DEPTH_MAX) {
        w->deeper = true;
        return;
    }
    w->lengths[w->depth + 1] = w->lengths[w->depth];
    w->depth++;
}

/* Appends the next key to the name of its object. */
static emb_status read_name(emb_json *json, walk *w, emb_error *error) {
    size_t used = w->lengths[w->depth];
    if (used) w->name[used++] = '.';
    if (json->text_last && !memchr(json->text, 0, json->text_length) &&
        json->text_length < sizeof w->name - 1 - used)
        return emb_json_string(json, w->name + used, sizeof w->name - 1 - used, NULL, error);
    snprintf(w->name + used, sizeof w->name - used, "(a long key)");
    return EMB_OK;
}

/* Enters the object or list of an INSIDE key. */
static emb_status enter_value(emb_json *json, walk *w, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN && event != EMB_JSON_ARRAY_BEGIN) {
        char value[VALUE_MAX];
        return value_text(json, event, value, error);
    }
    enter(w);
    w->lengths[w->depth] = strlen(w->name);
    return EMB_OK;
}

static emb_status take_key(emb_json *json, walk *w, const emb_key_list *list, emb_field *fields,
                           size_t count, emb_key_findings *findings, emb_error *error) {
    EMB_TRY(read_name(json, w, error));
    const emb_key *key = emb_key_find(list, w->name);
    if (!key) {
        if (list->strict)
            refuse_unknown(findings, w->name);
        else
            report_unknown(findings, list, w->name);
        return emb_json_skip(json, error);
    }
    if (key->rule == EMB_KEY_LIMITED) return check_value(json, key, w->name, findings, error);
    if (key->rule == EMB_KEY_INSIDE) return enter_value(json, w, error);
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].key, w->name) == 0) return emb_document_field(json, &fields[i], error);
    return emb_json_skip(json, error);
}

emb_status emb_keys_object(emb_json *json, bool entered, const emb_key_list *list,
                           emb_field *fields, size_t count, emb_key_findings *findings,
                           emb_error *error) {
    walk w = {.depth = 1};
    emb_json_event event = EMB_JSON_OBJECT_BEGIN;
    if (!entered) EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "an object ({...}) was expected");
    while (w.depth > 0) {
        EMB_TRY(emb_json_next(json, &event, error));
        switch (event) {
        case EMB_JSON_KEY:
            EMB_TRY(take_key(json, &w, list, fields, count, findings, error));
            break;
        case EMB_JSON_OBJECT_BEGIN: /* in a list */
        case EMB_JSON_ARRAY_BEGIN:
            enter(&w);
            break;
        case EMB_JSON_OBJECT_END:
        case EMB_JSON_ARRAY_END:
            w.depth--;
            break;
        default: /* a value in a list */
            break;
        }
        if (w.deeper)
            return emb_error_set(error, EMB_UNSUPPORTED, "\"%s\" is nested too deeply", w.name);
    }
    return EMB_OK;
}

typedef struct reading {
    const emb_key_list *list;
    emb_field *fields;
    size_t count;
    emb_key_findings *findings;
} reading;

static emb_status parse(emb_json *json, void *user, emb_error *error) {
    reading *r = user;
    return emb_keys_object(json, false, r->list, r->fields, r->count, r->findings, error);
}

emb_status emb_keys_read(const emb_key_list *list, const char *root, const char *path,
                         emb_field *fields, size_t count, emb_key_findings *findings,
                         emb_error *error) {
    reading r = {list, fields, count, findings};
    return emb_document_read(root, path, parse, &r, error);
}

emb_status emb_keys_check(const emb_key_list *list, const char *root, const char *path,
                          emb_field *fields, size_t count, emb_key_findings *findings,
                          emb_error *error) {
    EMB_TRY(emb_keys_read(list, root, path, fields, count, findings, error));
    return emb_keys_refusal(findings, path, error);
}
