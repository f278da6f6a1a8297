/* settings.c - config_sentence_transformers.json: prompts, and how many values of a vector are
 * kept.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

typedef struct reading {
    emb_prompts *prompts;
    size_t used; /* bytes */
} reading;

static emb_status append(reading *r, const char *text, size_t length, bool last, emb_error *error) {
    emb_prompts *prompts = r->prompts;
    if (memchr(text, 0, length))
        return emb_error_set(error, EMB_BAD_FILE, "\"prompts\" holds a NUL character");
    if (prompts->texts) {
        if (length + last > prompts->bytes - r->used)
            return emb_error_set(error, EMB_BAD_FILE, "it changed while it was read");
        memcpy(prompts->texts + r->used, text, length);
        if (last) prompts->texts[r->used + length] = 0;
    }
    r->used += length + last;
    return EMB_OK;
}

/* Appends the string whose first event was just read, and a NUL. */
static emb_status append_string(emb_json *json, reading *r, emb_error *error) {
    for (;;) {
        emb_json_event event;
        EMB_TRY(append(r, json->text, json->text_length, json->text_last, error));
        if (json->text_last) return EMB_OK;
        EMB_TRY(emb_json_next(json, &event, error));
    }
}

static emb_status parse_prompts(emb_json *json, emb_json_event event, void *user,
                                emb_error *error) {
    reading *r = user;
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "\"prompts\" must be an object ({...})");
    for (;; r->prompts->count++) {
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        EMB_TRY(append_string(json, r, error));
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_NULL)
            EMB_TRY(append(r, "", 0, true, error));
        else if (event == EMB_JSON_STRING)
            EMB_TRY(append_string(json, r, error));
        else
            return emb_error_set(error, EMB_BAD_FILE,
                                 "each of \"prompts\" must be a string or null");
    }
}

/* Index of the last prompt of that name, as other JSON readers take the last; -1 if there is
 * none. */
static int32_t find_prompt(const emb_prompts *prompts, const char *name) {
    const char *at = prompts->texts;
    int32_t found = -1;
    for (uint32_t i = 0; i < prompts->count; i++) {
        const char *text = at + strlen(at) + 1;
        if (strcmp(at, name) == 0) found = (int32_t)i;
        at = text + strlen(text) + 1;
    }
    return found;
}

const char *emb_prompts_find(const emb_prompts *prompts, const char *name) {
    const char *at = prompts->texts;
    int32_t index = name ? find_prompt(prompts, name) : prompts->fallback;
    if (index < 0) return NULL;
    for (int32_t i = 0; i < 2 * index + 1; i++) at += strlen(at) + 1;
    return at;
}

emb_status emb_prompts_read(emb_prompts *prompts, emb_shape *shape, const char *root,
                            emb_key_findings *findings, emb_error *error) {
    static const char file[] = "config_sentence_transformers.json";
    reading r = {.prompts = prompts};
    char fallback[EMB_TEXT_FIELD_MAX] = "";
    uint64_t dim = 0;
    emb_field fields[] = {EMB_FIELD("prompts", PARSED, &r),
                          EMB_FIELD("default_prompt_name", TEXT, fallback),
                          EMB_FIELD("truncate_dim", COUNT, &dim)};
    fields[0].parse = parse_prompts;
    prompts->count = 0;
    prompts->fallback = -1;
    if (emb_document_exists(root, file))
        EMB_TRY(emb_keys_check(&emb_keys_settings, root, file, fields, 3, findings, error));
    if (fields[2].given && dim == 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s: \"truncate_dim\" is 0: no value of a vector would be left", file);
    if (shape && fields[2].given)
        shape->truncate_dim = dim < shape->output_width ? (uint32_t)dim : shape->output_width;
    if (!prompts->texts) prompts->bytes = r.used;
    if (!prompts->texts || !*fallback) return EMB_OK;
    prompts->fallback = find_prompt(prompts, fallback);
    /* in the reference every model has these two, empty */
    bool always = strcmp(fallback, "query") == 0 || strcmp(fallback, "document") == 0;
    if (prompts->fallback < 0 && !always)
        return emb_error_set(error, EMB_BAD_FILE,
                             "%s: \"default_prompt_name\" \"%s\" is not among its \"prompts\"",
                             file, fallback);
    return EMB_OK;
}
