/* jsonl.c - source of JSON Lines: one object a line, the text in one of its fields.
 *
 * The text is unescaped into a block of its own, so that short lines share one call of submit and
 * a long one passes through in pieces. A bad line is a failed row; the lines after it go on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fail.h"
#include "source/source.h"

enum { LINE_START, IN_OBJECT, IN_TEXT };

emb_status emb_source_set_field(emb_source *source, const char *field, emb_error *error) {
    const char *name = field;
    for (;;) {
        size_t length = strcspn(name, ".");
        if (length == 0 || source->path_count == EMB_SOURCE_PATH_MAX) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "--field %s: names separated by single dots, at most %d", field,
                                EMB_SOURCE_PATH_MAX);
        }
        source->path[source->path_count].name = name;
        source->path[source->path_count++].length = length;
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
    const char *field = source->options.field ? source->options.field : "text";
    bool some = source->names.used > 0;
    return emb_app_fail(
        error, EMB_BAD_TEXT, "%s line %llu: field \"%.*s\" is missing: the line has %s%s",
        emb_input_shown(&source->input), (unsigned long long)source->line, EMB_APP_CUT(field, 40),
        some ? source->names.text : "no fields", some ? "; name one with --field" : "");
}

/* Fields of the innermost object on the way to the text, for the message if that is missing. */
static void note_name(emb_source *source) {
    if (source->names_depth != source->path_matched) {
        if (source->names_depth > source->path_matched) return;
        memset(&source->names, 0, sizeof source->names);
        source->names_depth = source->path_matched;
    }
    emb_source_names_add(&source->names, source->json.text, source->json.text_length);
}

/* Reads the rest of a key and says whether it is the name wanted at this depth. */
static emb_status key_matches(emb_source *source, bool *matches, emb_error *error) {
    const emb_json *json = &source->json;
    bool here =
        source->path_matched < source->path_count && json->depth == source->path_matched + 1;
    const char *name = here ? source->path[source->path_matched].name : "";
    size_t length = here ? source->path[source->path_matched].length : 0, at = 0;
    *matches = here;
    if (here && !source->text_seen) note_name(source);
    for (;;) {
        *matches = *matches && at + json->text_length <= length &&
                   memcmp(name + at, json->text, json->text_length) == 0;
        at += json->text_length;
        if (json->text_last) break;
        emb_json_event event;
        EMB_APP_TRY(emb_json_next(&source->json, &event, error));
    }
    *matches = *matches && at == length;
    return EMB_OK;
}

/* After a key: enters the value if it is on the way to the text, else passes over it. */
static emb_status take_value(emb_source *source, emb_error *error) {
    bool matches;
    EMB_APP_TRY(key_matches(source, &matches, error));
    if (!matches) return emb_json_skip(&source->json, error);
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&source->json, &event, error));
    bool innermost = source->path_matched + 1 == source->path_count;
    if (innermost) source->form_seen = true;
    if (innermost && event == EMB_JSON_STRING) {
        if (source->text_seen) return bad_line(source, "stands there twice", error);
        source->text_seen = true;
        source->phase = IN_TEXT;
        return EMB_OK;
    }
    if (!innermost && event == EMB_JSON_OBJECT_BEGIN) {
        source->path_matched++;
        return EMB_OK;
    }
    const char *what = innermost ? "is not a string" : "leads to a value that is not an object";
    return bad_line(source, what, error);
}

/* Gives the part of the block that holds text not given yet. */
static void give_text(emb_source *source, emb_piece_list *list) {
    size_t length = source->text_length - source->text_given;
    if (length) emb_source_add(source, list, source->text + source->text_given, length);
    source->text_given = source->text_length;
}

/* Copies what the reader holds of the text; what does not fit waits for the next call. */
static emb_status take_text(emb_source *source, emb_piece_list *list, bool *full,
                            emb_error *error) {
    emb_json *json = &source->json;
    if (json->text_length > source->text_capacity - source->text_length) {
        *full = true;
        return EMB_OK;
    }
    memcpy(source->text + source->text_length, json->text, json->text_length);
    source->text_length += json->text_length;
    give_text(source, list);
    source->phase = IN_OBJECT;
    if (json->text_last && json->text_replaced) emb_utf8_note(&source->utf8, 0xED);
    if (json->text_last) return EMB_OK;
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&source->json, &event, error));
    source->phase = IN_TEXT;
    return EMB_OK;
}

static void begin_line(emb_source *source) {
    source->phase = LINE_START;
    source->text_seen = false;
    source->path_matched = source->names_depth = 0;
    source->names.used = 0;
    source->names.full = false;
}

static emb_status end_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    emb_status status;
    if (source->text_seen) {
        status = emb_source_end(source, list, error);
    } else {
        status = missing(source, error);
        emb_source_end_bad(source, list);
    }
    begin_line(source);
    return status;
}

/* After a line that is no good: its row fails, and reading goes on behind it. The file's name is
 * put before the message of the JSON reader. */
static emb_status drop_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    emb_error why = *error;
    emb_source_end_bad(source, list);
    begin_line(source);
    EMB_APP_TRY(emb_json_skip_line(&source->json, error));
    return emb_app_fail(error, EMB_BAD_TEXT, "%s: %.*s", emb_input_shown(&source->input),
                        EMB_APP_CUT(why.message, 170));
}

static emb_status step(emb_source *source, emb_piece_list *list, bool *full, emb_error *error) {
    if (source->phase == IN_TEXT) return take_text(source, list, full, error);
    emb_json_event event;
    emb_status status = emb_json_next(&source->json, &event, error);
    if (source->phase == LINE_START) source->line = source->json.line;
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
        source->phase = IN_OBJECT;
        return EMB_OK;
    case EMB_JSON_OBJECT_END:
        if (source->path_matched && source->json.depth <= source->path_matched) {
            source->path_matched--;
        }
        return EMB_OK;
    default:
        return bad_line(source, "is missing: the line is not a JSON object", error);
    }
}

static emb_status open_file(emb_source *source, bool *done, emb_error *error) {
    EMB_APP_TRY(emb_input_advance(&source->input, &source->file_open, error));
    *done = !source->file_open;
    emb_json_init(&source->json, source->buffer, source->capacity, emb_input_read, &source->input);
    source->json.lines = true;
    source->phase = LINE_START;
    return EMB_OK;
}

/* Does the buffer hold the whole of the next line? Then reading it waits for nothing. */
static bool line_is_there(const emb_json *json) {
    const unsigned char *at = json->buffer + json->begin;
    size_t length = json->end - json->begin;
    if (length && *at == '\n') at++, length--; /* the end of the line before */
    return length && memchr(at, '\n', length);
}

emb_status emb_source_next_jsonl(emb_source *source, emb_piece *pieces, uint32_t capacity,
                                 uint32_t *count, emb_error *error) {
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    bool done = false, full = false;
    emb_status status = EMB_OK;
    source->text_length = source->text_given = 0; /* what was given before has been taken */
    while (status == EMB_OK && !done && !full && !emb_piece_list_full(&list)) {
        bool between = source->phase == LINE_START && list.count;
        if (between && source->file_open && !line_is_there(&source->json)) break;
        status =
            source->file_open ? step(source, &list, &full, error) : open_file(source, &done, error);
    }
    if (status == EMB_BAD_FILE && !source->input.failed) status = drop_line(source, &list, error);
    *count = list.count;
    return source->input.failed ? emb_input_fail(&source->input, error) : status;
}
