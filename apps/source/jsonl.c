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

/* EMB_BAD_FILE: the rest of the line is still to be passed over. EMB_BAD_TEXT: the line ended. */
static emb_status bad_line(const emb_source *source, emb_status status, const char *what,
                           emb_error *error) {
    const char *field = source->options.field ? source->options.field : "text";
    return emb_app_fail(error, status, "line %llu: field \"%s\" %s",
                        (unsigned long long)source->line, field, what);
}

static emb_status json_next(emb_source *source, emb_json_event *event, emb_error *error) {
    emb_status status = emb_json_next(&source->json, event, error);
    if (status != EMB_BAD_FILE && source->input.stopped) return EMB_CANCELLED;
    return status;
}

/* Reads the rest of a key and says whether it is the name wanted at this depth. */
static emb_status key_matches(emb_source *source, bool *matches, emb_error *error) {
    const emb_json *json = &source->json;
    bool here =
        source->path_matched < source->path_count && json->depth == source->path_matched + 1;
    const char *name = here ? source->path[source->path_matched].name : "";
    size_t length = here ? source->path[source->path_matched].length : 0, at = 0;
    *matches = here;
    for (;;) {
        *matches = *matches && at + json->text_length <= length &&
                   memcmp(name + at, json->text, json->text_length) == 0;
        at += json->text_length;
        if (json->text_last) break;
        emb_json_event event;
        EMB_APP_TRY(json_next(source, &event, error));
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
    EMB_APP_TRY(json_next(source, &event, error));
    bool innermost = source->path_matched + 1 == source->path_count;
    if (innermost && event == EMB_JSON_STRING) {
        if (source->text_seen) return bad_line(source, EMB_BAD_FILE, "stands there twice", error);
        source->text_seen = true;
        source->phase = IN_TEXT;
        return EMB_OK;
    }
    if (!innermost && event == EMB_JSON_OBJECT_BEGIN) {
        source->path_matched++;
        return EMB_OK;
    }
    const char *what = innermost ? "is not a string" : "leads to a value that is not an object";
    return bad_line(source, EMB_BAD_FILE, what, error);
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
    if (json->text_last) return EMB_OK;
    emb_json_event event;
    EMB_APP_TRY(json_next(source, &event, error));
    source->phase = IN_TEXT;
    return EMB_OK;
}

static emb_status end_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    bool seen = source->text_seen;
    emb_source_end(source, list);
    source->phase = LINE_START;
    source->text_seen = false;
    source->path_matched = 0;
    return seen ? EMB_OK : bad_line(source, EMB_BAD_TEXT, "is missing", error);
}

/* After a line that is no good: its row fails, and reading goes on behind it. */
static emb_status drop_line(emb_source *source, emb_piece_list *list) {
    source->text_seen = true;
    end_line(source, list, NULL);
    emb_status status = emb_json_skip_line(&source->json, NULL);
    if (source->input.stopped) return EMB_CANCELLED;
    return status == EMB_IO ? EMB_NOT_FOUND : EMB_BAD_TEXT;
}

static emb_status step(emb_source *source, emb_piece_list *list, bool *full, emb_error *error) {
    if (source->phase == IN_TEXT) return take_text(source, list, full, error);
    emb_json_event event;
    emb_status status = json_next(source, &event, error);
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
        return bad_line(source, EMB_BAD_FILE, "is missing: the line is not a JSON object", error);
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

/* Puts the file's name before a message that has none yet. */
static emb_status name_file(const emb_source *source, emb_status status, emb_error *error) {
    if (status != EMB_BAD_TEXT || !error) return status;
    emb_error inner = *error;
    return emb_app_fail(error, status, "%s: %.180s",
                        emb_input_name(&source->input, source->input.next - 1), inner.message);
}

emb_status emb_source_next_jsonl(emb_source *source, emb_piece *pieces, uint32_t capacity,
                                 uint32_t *count, emb_error *error) {
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    bool done = false, full = false;
    emb_status status = EMB_OK;
    source->text_length = source->text_given = 0; /* what was given before has been taken */
    while (status == EMB_OK && !done && !full && !emb_piece_list_full(&list)) {
        status =
            source->file_open ? step(source, &list, &full, error) : open_file(source, &done, error);
    }
    if (status == EMB_BAD_FILE) status = drop_line(source, &list);
    if (status == EMB_IO) status = EMB_NOT_FOUND;
    *count = list.count;
    return name_file(source, status, error);
}
