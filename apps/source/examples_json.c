/* examples_json.c - examples out of JSON Lines: an object a line, a text a key.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "fail.h"
#include "source/example_rows.h"
#include "source/pieces.h"
#include "suffix.h"

typedef struct json_examples {
    emb_example_rows *rows;
    emb_json json;
    emb_example_names texts;       /* keys of the texts */
    char score[EMB_EXAMPLES_NAME]; /* the key of the score or label; empty: there is none */
    char key[EMB_EXAMPLES_NAME];   /* at hand; empty: longer than any that is looked for */
    bool usual;                    /* the keys were not stated */
} json_examples;

static void begin(json_examples *j) {
    emb_json_init(&j->json, j->rows->buffer, EMB_SOURCE_BYTES, emb_input_read, &j->rows->input);
    j->json.lines = true;
}

/* What the reader of JSON says lacks the file. */
static emb_status fail(const json_examples *j, emb_status status, emb_error *error) {
    if ((status != EMB_BAD_FILE && status != EMB_IO) || j->rows->named) return status;
    if (j->rows->input.failed) return emb_input_fail(&j->rows->input, error);
    emb_error why = *error;
    return emb_app_fail(error, EMB_BAD_FILE, "%s %.*s", emb_app_path_tail(j->rows->path),
                        EMB_APP_CUT(why.message, 170));
}

static emb_status bad_row(const json_examples *j, const char *what, emb_error *error) {
    return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s line %llu: %s",
                        emb_app_path_tail(j->rows->path), (unsigned long long)j->rows->line, what);
}

/* Collects the key whose first piece has come. */
static emb_status take_key(json_examples *j, emb_error *error) {
    size_t length = 0;
    bool fits = true;
    for (;;) {
        size_t piece = j->json.text_length;
        fits = fits && length + piece < sizeof j->key;
        if (fits) memcpy(j->key + length, j->json.text, piece);
        length += piece;
        if (j->json.text_last) break;
        emb_json_event event;
        EMB_APP_TRY(emb_json_next(&j->json, &event, error));
    }
    j->key[fits ? length : 0] = '\0';
    return EMB_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* Notes a key of the first object: negatives, in their order. */
static void note_key(json_examples *j, bool found[2], emb_source_names *names) {
    emb_source_names_add(names, j->key, strlen(j->key));
    found[0] = found[0] || strcmp(j->key, "anchor") == 0;
    found[1] = found[1] || strcmp(j->key, "positive") == 0;
    bool room = j->texts.count < EMB_EXAMPLES_COLUMNS;
    if (emb_example_is_negative(j->key) && room) strcpy(j->texts.names[j->texts.count++], j->key);
}

/* What an object a line begins with, goes on with and ends with. */
static bool is_inside(emb_json_event event) {
    return event == EMB_JSON_OBJECT_BEGIN || event == EMB_JSON_KEY ||
           event == EMB_JSON_OBJECT_END || event == EMB_JSON_LINE_END;
}

static emb_status no_object(json_examples *j, emb_error *error) {
    j->rows->named = true;
    return emb_app_fail(error, EMB_BAD_FILE,
                        "%s line %llu: it is not a JSON object; JSON Lines have one a line, not an "
                        "array of all",
                        emb_app_path_tail(j->rows->path), (unsigned long long)j->rows->line);
}

/* The keys of the first line say which negatives there are. */
static emb_status look_at_keys(json_examples *j, emb_error *error) {
    bool found[2] = {false, false};
    emb_source_names names = {0};
    emb_json_event event;
    begin(j);
    do {
        EMB_APP_TRY(emb_json_next(&j->json, &event, error));
        j->rows->line = j->json.line;
        if (!is_inside(event) && event != EMB_JSON_END) return no_object(j, error);
        if (event != EMB_JSON_KEY) continue;
        EMB_APP_TRY(take_key(j, error));
        note_key(j, found, &names);
        EMB_APP_TRY(emb_json_skip(&j->json, error));
    } while (event == EMB_JSON_OBJECT_BEGIN || event == EMB_JSON_KEY);
    if ((found[0] && found[1]) || event == EMB_JSON_END) return EMB_OK;
    char what[200];
    snprintf(what, sizeof what,
             "no \"anchor\" and \"positive\": it has %.*s; name the texts with --columns "
             "ANCHOR,POSITIVE",
             EMB_APP_CUT(names.used ? names.text : "no keys", 80));
    return bad_row(j, what, error);
}

static emb_status choose_keys(json_examples *j, emb_error *error) {
    const emb_examples *out = j->rows->out;
    emb_examples usual = *out;
    j->usual = !out->columns;
    if (j->usual) usual.columns = emb_example_form_of(out->kind)->usual;
    EMB_APP_TRY(emb_example_names_parse(&j->texts, &usual, error));
    if (emb_examples_are_scored(out->kind)) {
        strcpy(j->score, j->texts.names[0]);
        memmove(j->texts.names[0], j->texts.names[1], 2 * sizeof j->texts.names[0]);
        j->texts.count = 2;
    } else if (out->kind == EMB_EXAMPLES_LABELLED) {
        strcpy(j->score, j->texts.names[1]);
        j->texts.count = 1;
    } else if (j->usual && out->kind == EMB_EXAMPLES_GROUPS) {
        EMB_APP_TRY(look_at_keys(j, error));
        EMB_APP_TRY(emb_example_reopen(j->rows, error));
    }
    j->rows->texts = j->texts.count;
    for (uint32_t i = 0; i < j->texts.count; i++)
        snprintf(j->rows->labels[i], EMB_EXAMPLE_LABEL, "\"%s\"", j->texts.names[i]);
    return emb_example_texts_found(j->rows, error);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Goes on behind a value that was looked at and is not what it should be. */
static emb_status pass_over(json_examples *j, emb_json_event event, emb_error *error) {
    bool inside = event == EMB_JSON_OBJECT_BEGIN || event == EMB_JSON_ARRAY_BEGIN;
    bool more = event == EMB_JSON_STRING && !j->json.text_last;
    return inside || more ? emb_json_skip(&j->json, error) : EMB_OK;
}

static emb_status take_text(json_examples *j, uint32_t which, emb_error *error) {
    emb_example_rows *rows = j->rows;
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&j->json, &event, error));
    if (event != EMB_JSON_STRING) {
        emb_example_fault(rows, "%s is not a string: a key holds one text", rows->labels[which]);
        return pass_over(j, event, error);
    }
    emb_example_text_begin(rows, which, true);
    for (;;) {
        EMB_APP_TRY(emb_example_text_add(rows, j->json.text, j->json.text_length, error));
        if (j->json.text_last) break;
        EMB_APP_TRY(emb_json_next(&j->json, &event, error));
    }
    if (j->json.text_replaced) emb_utf8_note(&rows->utf8, 0xED);
    emb_example_text_end(rows);
    return EMB_OK;
}

/* A number; a label may be a string as well. */
static emb_status take_score(json_examples *j, emb_error *error) {
    bool labels = j->rows->out->kind == EMB_EXAMPLES_LABELLED;
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&j->json, &event, error));
    if (j->rows->labelled) emb_example_fault(j->rows, "\"%s\" stands there twice", j->score);
    bool good = event == EMB_JSON_NUMBER || (labels && event == EMB_JSON_STRING);
    if (!good) {
        emb_example_fault(j->rows, "\"%s\" is not a number%s: correct it, or remove the row",
                          j->score, labels ? " or string" : "");
        return pass_over(j, event, error);
    }
    emb_example_score_add(j->rows, j->json.text, j->json.text_length);
    while (event == EMB_JSON_STRING && !j->json.text_last) {
        EMB_APP_TRY(emb_json_next(&j->json, &event, error));
        emb_example_score_add(j->rows, j->json.text, j->json.text_length);
    }
    return EMB_OK;
}

static emb_status take_member(json_examples *j, emb_error *error) {
    EMB_APP_TRY(take_key(j, error));
    if (j->score[0] && strcmp(j->key, j->score) == 0) return take_score(j, error);
    for (uint32_t i = 0; i < j->texts.count; i++)
        if (strcmp(j->key, j->texts.names[i]) == 0) return take_text(j, i, error);
    bool groups = j->rows->out->kind == EMB_EXAMPLES_GROUPS;
    if (j->usual && groups && emb_example_is_negative(j->key))
        emb_example_fault(j->rows,
                          "it has \"%s\", the first line has not: give all rows the same, or name "
                          "those to use with --columns",
                          j->key);
    return emb_json_skip(&j->json, error);
}

static emb_status end_row(json_examples *j, emb_error *error) {
    emb_example_rows *rows = j->rows;
    EMB_APP_TRY(emb_example_row_end(rows, error));
    if (rows->fault[0])
        return emb_app_fail(error, EMB_BAD_FILE, "%s line %llu: %s", emb_app_path_tail(rows->path),
                            (unsigned long long)rows->line, rows->fault);
    emb_example_row_begin(rows);
    return EMB_OK;
}

static emb_status read_rows(json_examples *j, emb_error *error) {
    emb_json_event event;
    begin(j);
    emb_example_row_begin(j->rows);
    for (;;) {
        emb_status status = emb_json_next(&j->json, &event, error);
        if (status != EMB_OK) return fail(j, status, error);
        j->rows->line = j->json.line;
        switch (event) {
        case EMB_JSON_END:
            return EMB_OK;
        case EMB_JSON_KEY:
            status = take_member(j, error);
            if (status != EMB_OK) return fail(j, status, error);
            break;
        case EMB_JSON_LINE_END:
            EMB_APP_TRY(end_row(j, error));
            break;
        case EMB_JSON_OBJECT_BEGIN:
        case EMB_JSON_OBJECT_END:
            break;
        default:
            return no_object(j, error);
        }
    }
}

emb_status emb_example_read_json(emb_example_rows *rows, emb_error *error) {
    json_examples j = {.rows = rows};
    emb_status status = choose_keys(&j, error);
    if (status != EMB_OK) return fail(&j, status, error);
    return read_rows(&j, error);
}
