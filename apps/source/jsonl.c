/* jsonl.c - source of JSON Lines: one object a line, the text in one of its fields.
 *
 * The text is unescaped into a block of its own, so that short lines share one call of submit and
 * a long one passes through in pieces. A bad line is a failed row; the lines after it go on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/json.h"
#include "fail.h"
#include "source/pieces.h"

#define PATH_MAX_NAMES 8 /* in a.b.c */

enum { LINE_START, IN_OBJECT, IN_TEXT };

typedef struct json_lines {
    unsigned char *buffer;
    size_t capacity;
    emb_json json;
    unsigned char *text; /* the unescaped text is gathered here */
    size_t text_capacity, text_length, text_given;
    bool text_seen; /* in the current line */
    uint8_t phase;
    struct {
        const char *name;
        size_t length;
    } path[PATH_MAX_NAMES]; /* the names in a.b.c */
    uint32_t path_count, path_matched, names_depth;
    emb_source_names names; /* fields of the line */
} json_lines;

static emb_status set_field(json_lines *own, const char *field, emb_error *error) {
    const char *name = field;
    for (;;) {
        size_t length = strcspn(name, ".");
        if (length == 0 || own->path_count == PATH_MAX_NAMES) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "--field %s: names separated by single dots, at most %d", field,
                                PATH_MAX_NAMES);
        }
        own->path[own->path_count].name = name;
        own->path[own->path_count++].length = length;
        if (name[length] == '\0') return EMB_OK;
        name += length + 1;
    }
}

/* The rest of the line is still to be passed over. */
static emb_status bad_line(const emb_source *source, const char *what, emb_error *error) {
    const char *field = source->options.field ? source->options.field : "text";
    return emb_app_fail(error, EMB_BAD_FILE, "line %llu: field \"%.*s\" %s",
                        (unsigned long long)source->line, EMB_APP_CUT(field, 60), what);
}

/* The line has ended. */
static emb_status missing(const emb_source *source, emb_error *error) {
    const json_lines *own = source->own;
    const char *field = source->options.field ? source->options.field : "text";
    bool some = own->names.used > 0;
    return emb_app_fail(
        error, EMB_BAD_TEXT, "%s line %llu: field \"%.*s\" is missing: the line has %s%s",
        emb_input_shown(&source->input), (unsigned long long)source->line, EMB_APP_CUT(field, 40),
        some ? own->names.text : "no fields", some ? "; name one with --field" : "");
}

/* Fields of the innermost object on the way to the text, for the message if that is missing. */
static void note_name(emb_source *source) {
    json_lines *own = source->own;
    if (own->names_depth != own->path_matched) {
        if (own->names_depth > own->path_matched) return;
        memset(&own->names, 0, sizeof own->names);
        own->names_depth = own->path_matched;
    }
    emb_source_names_add(&own->names, own->json.text, own->json.text_length);
}

/* Reads the rest of a key and says whether it is the name wanted at this depth. */
static emb_status key_matches(emb_source *source, bool *matches, emb_error *error) {
    json_lines *own = source->own;
    const emb_json *json = &own->json;
    bool here = own->path_matched < own->path_count && json->depth == own->path_matched + 1;
    const char *name = here ? own->path[own->path_matched].name : "";
    size_t length = here ? own->path[own->path_matched].length : 0, at = 0;
    *matches = here;
    if (here && !own->text_seen) note_name(source);
    for (;;) {
        *matches = *matches && at + json->text_length <= length &&
                   memcmp(name + at, json->text, json->text_length) == 0;
        at += json->text_length;
        if (json->text_last) break;
        emb_json_event event;
        EMB_APP_TRY(emb_json_next(&own->json, &event, error));
    }
    *matches = *matches && at == length;
    return EMB_OK;
}

/* After a key: enters the value if it is on the way to the text, else passes over it. */
static emb_status take_value(emb_source *source, emb_error *error) {
    json_lines *own = source->own;
    bool matches;
    EMB_APP_TRY(key_matches(source, &matches, error));
    if (!matches) return emb_json_skip(&own->json, error);
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&own->json, &event, error));
    bool innermost = own->path_matched + 1 == own->path_count;
    if (innermost) source->form_seen = true;
    if (innermost && event == EMB_JSON_STRING) {
        if (own->text_seen) return bad_line(source, "stands there twice", error);
        own->text_seen = true;
        own->phase = IN_TEXT;
        return EMB_OK;
    }
    if (!innermost && event == EMB_JSON_OBJECT_BEGIN) {
        own->path_matched++;
        return EMB_OK;
    }
    const char *what = innermost ? "is not a string" : "leads to a value that is not an object";
    return bad_line(source, what, error);
}

/* Gives the part of the block that holds text not given yet. */
static void give_text(emb_source *source, emb_piece_list *list) {
    json_lines *own = source->own;
    size_t length = own->text_length - own->text_given;
    if (length) emb_source_add(source, list, own->text + own->text_given, length);
    own->text_given = own->text_length;
}

/* Copies what the reader holds of the text; what does not fit waits for the next call. */
static emb_status take_text(emb_source *source, emb_piece_list *list, bool *full,
                            emb_error *error) {
    json_lines *own = source->own;
    emb_json *json = &own->json;
    if (json->text_length > own->text_capacity - own->text_length) {
        *full = true;
        return EMB_OK;
    }
    memcpy(own->text + own->text_length, json->text, json->text_length);
    own->text_length += json->text_length;
    give_text(source, list);
    own->phase = IN_OBJECT;
    if (json->text_last && json->text_replaced) emb_utf8_note(&source->utf8, 0xED);
    if (json->text_last) return EMB_OK;
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&own->json, &event, error));
    own->phase = IN_TEXT;
    return EMB_OK;
}

static void begin_line(emb_source *source) {
    json_lines *own = source->own;
    own->phase = LINE_START;
    own->text_seen = false;
    own->path_matched = own->names_depth = 0;
    own->names.used = 0;
    own->names.full = false;
}

static emb_status end_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    json_lines *own = source->own;
    emb_status status;
    if (own->text_seen) {
        status = emb_source_end(source, list, error);
    } else {
        status = missing(source, error);
        emb_source_end_bad(source, list);
    }
    begin_line(source);
    return status;
}

/* After an invalid line: its row fails, and reading continues after it. The file's name is put
 * before the message of the JSON reader. */
static emb_status drop_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    json_lines *own = source->own;
    emb_error why = *error;
    emb_source_end_bad(source, list);
    begin_line(source);
    EMB_APP_TRY(emb_json_skip_line(&own->json, error));
    return emb_app_fail(error, EMB_BAD_TEXT, "%s: %.*s", emb_input_shown(&source->input),
                        EMB_APP_CUT(why.message, 170));
}

static emb_status step(emb_source *source, emb_piece_list *list, bool *full, emb_error *error) {
    json_lines *own = source->own;
    if (own->phase == IN_TEXT) return take_text(source, list, full, error);
    emb_json_event event;
    emb_status status = emb_json_next(&own->json, &event, error);
    if (own->phase == LINE_START) source->line = own->json.line;
    if (status != EMB_OK) return status;
    switch (event) {
    case EMB_JSON_END:
        source->file_open = false;
        return EMB_OK;
    case EMB_JSON_LINE_END:
        return end_line(source, list, error);
    case EMB_JSON_KEY:
        return take_value(source, error);
    case EMB_JSON_OBJECT_BEGIN:
        own->phase = IN_OBJECT;
        return EMB_OK;
    case EMB_JSON_OBJECT_END:
        if (own->path_matched && own->json.depth <= own->path_matched) {
            own->path_matched--;
        }
        return EMB_OK;
    default:
        return bad_line(source, "is missing: the line is not a JSON object", error);
    }
}

static emb_status open_file(emb_source *source, bool *done, emb_error *error) {
    json_lines *own = source->own;
    EMB_APP_TRY(emb_input_advance(&source->input, &source->file_open, error));
    *done = !source->file_open;
    emb_json_init(&own->json, own->buffer, own->capacity, emb_input_read, &source->input);
    own->json.lines = true;
    own->phase = LINE_START;
    return EMB_OK;
}

/* Does the buffer hold the whole of the next line? Then reading it waits for nothing. */
static bool line_is_there(const emb_json *json) {
    const unsigned char *at = json->buffer + json->begin;
    size_t length = json->end - json->begin;
    if (length && *at == '\n') at++, length--; /* the end of the line before */
    return length && memchr(at, '\n', length);
}

static emb_status next_jsonl(emb_source *source, emb_piece *pieces, uint32_t capacity,
                             uint32_t *count, emb_error *error) {
    json_lines *own = source->own;
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    bool done = false, full = false;
    emb_status status = EMB_OK;
    own->text_length = own->text_given = 0; /* what was given before has been taken */
    while (status == EMB_OK && !done && !full && !emb_piece_list_full(&list)) {
        bool between = own->phase == LINE_START && list.count;
        if (between && source->file_open && !line_is_there(&own->json)) break;
        status =
            source->file_open ? step(source, &list, &full, error) : open_file(source, &done, error);
    }
    if (status == EMB_BAD_FILE && !source->input.failed) status = drop_line(source, &list, error);
    *count = list.count;
    return source->input.failed ? emb_input_fail(&source->input, error) : status;
}

static emb_status open_jsonl(emb_source *source, void *memory, size_t memory_bytes,
                             emb_error *error) {
    json_lines *own = source->own;
    own->buffer = memory;
    own->capacity = own->text_capacity = memory_bytes / 2;
    own->text = own->buffer + own->capacity;
    return set_field(own, source->options.field ? source->options.field : "text", error);
}

static size_t waiting(const emb_source *source) {
    const json_lines *own = source->own;
    return own->json.end - own->json.begin;
}

const emb_source_ops emb_source_jsonl_ops = {
    .suffixes = (const char *const[]){".jsonl", ".ndjson", NULL},
    .takes = EMB_SOURCE_TAKES_FIELD,
    .nul_is_text = true,
    .bytes = sizeof(json_lines),
    .open = open_jsonl,
    .next = next_jsonl,
    .waiting = waiting,
};
