/* examples.c - takes rows from the readers: counts them first, and stores them when they come
 * again.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/examples.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "fail.h"
#include "source/content.h"
#include "source/example_rows.h"
#include "source/heading.h"
#include "suffix.h"

/* ---- a row ----------------------------------------------------------------------------------- */

void emb_example_fault(emb_example_rows *rows, const char *format, ...) {
    if (rows->fault[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(rows->fault, sizeof rows->fault, format, arguments);
    va_end(arguments);
}

void emb_example_row_begin(emb_example_rows *rows) {
    memset(rows->seen, 0, sizeof rows->seen);
    rows->fault[0] = '\0';
    rows->score_length = 0;
    rows->labelled = false;
    rows->label = EMB_HASH_START;
}

static emb_status changed(emb_example_rows *rows, emb_error *error) {
    rows->named = true;
    return emb_app_fail(error, EMB_BAD_FILE, "%s: the file changed while it was read; run again",
                        emb_app_path_tail(rows->path));
}

void emb_example_text_begin(emb_example_rows *rows, uint32_t which, bool nul_is_text) {
    emb_examples *out = rows->out;
    if (rows->seen[which]) emb_example_fault(rows, "%s stands there twice", rows->labels[which]);
    rows->seen[which] = true;
    rows->which = which;
    rows->text_bytes = 0;
    rows->blank = true;
    emb_utf8_begin(&rows->utf8, nul_is_text);
    if (rows->fills && rows->count < out->count)
        out->starts[(uint64_t)rows->count * out->texts + which] = rows->bytes;
}

emb_status emb_example_text_add(emb_example_rows *rows, const char *bytes, size_t length,
                                emb_error *error) {
    emb_examples *out = rows->out;
    for (size_t i = 0; i < length && rows->blank; i++)
        rows->blank = bytes[i] == ' ' || (bytes[i] >= '\t' && bytes[i] <= '\r');
    if (rows->fills) {
        if (length > out->bytes - rows->bytes) return changed(rows, error);
        memcpy(out->memory + rows->bytes, bytes, length);
    }
    emb_utf8_add(&rows->utf8, bytes, length);
    rows->bytes += length;
    rows->text_bytes += length;
    return EMB_OK;
}

void emb_example_text_end(emb_example_rows *rows) {
    emb_examples *out = rows->out;
    const char *label = rows->labels[rows->which];
    emb_utf8_end(&rows->utf8);
    if (rows->blank) emb_example_fault(rows, "%s is empty: fill it in, or remove the row", label);
    if (rows->text_bytes > UINT32_MAX) emb_example_fault(rows, "%s is longer than 4 GiB", label);
    if (rows->utf8.replaced && out->options.invalid)
        emb_example_fault(rows, "byte %llu of %s (0x%02X) is not UTF-8",
                          (unsigned long long)rows->utf8.first, label, rows->utf8.value);
    if (rows->fills) {
        if (rows->count < out->count)
            out->lengths[(uint64_t)rows->count * out->texts + rows->which] =
                (uint32_t)rows->text_bytes;
    } else if (rows->utf8.replaced && out->replaced++ == 0) {
        snprintf(out->replaced_place, sizeof out->replaced_place, "%s line %llu",
                 emb_app_path_tail(rows->path), (unsigned long long)rows->line);
    }
}

void emb_example_score_add(emb_example_rows *rows, const char *bytes, size_t length) {
    size_t most = sizeof rows->score_text - 1;
    rows->label = emb_hash_bytes(rows->label, bytes, length);
    rows->labelled = true;
    if (rows->score_length < most) {
        size_t room = most - rows->score_length, kept = length < room ? length : room;
        memcpy(rows->score_text + rows->score_length, bytes, kept);
        rows->score_text[rows->score_length + kept] = '\0';
    }
    rows->score_length += (uint32_t)length;
}

static double read_score(emb_example_rows *rows) {
    double score = 0;
    if (!rows->score_length) {
        emb_example_fault(rows, "it has no score: fill it in, or remove the row");
    } else if (!emb_heading_number(rows->score_text, &score)) {
        emb_example_fault(rows, "the score \"%.*s\" is not a number: correct it, or remove the row",
                          EMB_APP_CUT(rows->score_text, 30));
    } else if (!isfinite((float)score)) { /* as which it is kept */
        emb_example_fault(
            rows, "the score %g is beyond single precision: divide all by the highest", score);
    } else if (rows->out->kind == EMB_EXAMPLES_COSINES && !(score >= -1 && score <= 1)) {
        emb_example_fault(rows,
                          "the score %g is no cosine, from -1 to 1: divide all by the highest (or "
                          "use --loss cosent, which takes any)",
                          score);
    }
    return score;
}

emb_status emb_example_row_end(emb_example_rows *rows, emb_error *error) {
    emb_examples *out = rows->out;
    for (uint32_t i = 0; i < rows->texts; i++)
        if (!rows->seen[i])
            emb_example_fault(rows,
                              "it lacks %s: fill it in, remove the row, or name the texts that "
                              "all rows have with %s",
                              rows->labels[i], out->columns_option);
    bool scored = emb_examples_are_scored(out->kind);
    double score = scored ? read_score(rows) : 0;
    if (out->kind == EMB_EXAMPLES_LABELLED && !rows->score_length)
        emb_example_fault(rows, "it has no label: fill it in, or remove the row");
    if (rows->fault[0]) return EMB_OK;
    if (rows->fills && rows->count == out->count) return changed(rows, error);
    if (rows->count == UINT32_MAX - 1)
        return emb_app_fail(error, EMB_BAD_FILE, "%s: too many rows", rows->path);
    if (rows->count == 0 || score < out->lowest) out->lowest = score;
    if (rows->count == 0 || score > out->highest) out->highest = score;
    if (rows->fills && scored) out->scores[rows->count] = (float)score;
    if (rows->fills && out->classes) out->classes[rows->count] = rows->label;
    rows->count++;
    return EMB_OK;
}

/* ---- columns --------------------------------------------------------------------------------- */

const emb_example_form *emb_example_form_of(emb_examples_kind kind) {
    static const emb_example_form forms[] = {
        {"anchor,positive", "ANCHOR,POSITIVE", "ANCHOR,POSITIVE or with NEGATIVE... after", 2,
         EMB_EXAMPLES_COLUMNS},
        {"score,sentence1,sentence2", "SCORE,FIRST,SECOND", "SCORE,FIRST,SECOND", 3, 3},
        {"score,sentence1,sentence2", "SCORE,FIRST,SECOND", "SCORE,FIRST,SECOND", 3, 3},
        {"text", "TEXT", "TEXT", 1, EMB_EXAMPLES_COLUMNS},
        {"text,label", "TEXT,LABEL", "TEXT,LABEL", 2, 2}};
    return &forms[kind];
}

bool emb_example_is_negative(const char *name) {
    return strncmp(name, "negative", 8) == 0;
}

emb_status emb_example_names_parse(emb_example_names *names, const emb_examples *examples,
                                   emb_error *error) {
    const emb_example_form *form = emb_example_form_of(examples->kind);
    const char *at = examples->columns;
    bool good = true;
    names->count = 0;
    for (bool more = true; more && good; names->count++) {
        size_t length = strcspn(at, ",");
        good = length > 0 && length < EMB_EXAMPLES_NAME && names->count < EMB_EXAMPLES_COLUMNS;
        if (!good) break;
        char *name = names->names[names->count];
        memcpy(name, at, length);
        name[length] = '\0';
        for (uint32_t i = 0; i < names->count; i++)
            good = good && strcmp(names->names[i], name) != 0;
        more = at[length] == ',';
        at += length + 1;
    }
    if (good && names->count >= form->least && names->count <= form->most) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%.*s': state %s, each once",
                        examples->columns_option, EMB_APP_CUT(examples->columns, 60), form->states);
}

emb_status emb_example_texts_found(emb_example_rows *rows, emb_error *error) {
    emb_examples *out = rows->out;
    bool first = !rows->fills && rows->path == out->paths[0];
    if (first) out->texts = rows->texts;
    if (rows->texts < out->texts_least || (out->texts_most && rows->texts > out->texts_most)) {
        rows->named = true;
        bool few = rows->texts < out->texts_least;
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s: its examples have %u text%s, and this loss takes %s %u%s; name "
                            "them with --columns",
                            emb_app_path_tail(rows->path), rows->texts, rows->texts == 1 ? "" : "s",
                            few ? "at least" : "at most", few ? out->texts_least : out->texts_most,
                            few && out->texts_least > 2 ? ", with a negative" : "");
    }
    if (rows->texts == out->texts) return EMB_OK;
    if (rows->fills) return changed(rows, error);
    rows->named = true;
    return emb_app_fail(error, EMB_BAD_FILE,
                        "%s: its examples have %u texts, those of %s %u; name the same texts of "
                        "all with --columns",
                        emb_app_path_tail(rows->path), rows->texts,
                        emb_app_path_tail(out->paths[0]), out->texts);
}

/* ---- files ----------------------------------------------------------------------------------- */

emb_status emb_example_reopen(emb_example_rows *rows, emb_error *error) {
    bool more = false;
    emb_input_close(&rows->input);
    EMB_APP_TRY(emb_input_open(&rows->input, &rows->path, 1, rows->out->stop_descriptor, error));
    return emb_input_advance(&rows->input, &more, error);
}

bool emb_examples_is_json(emb_source_format stated, const char *path) {
    if (stated) return stated == EMB_SOURCE_JSONL;
    return emb_app_has_suffix(path, ".jsonl") || emb_app_has_suffix(path, ".ndjson");
}

/* An option of another format would change nothing, and the user believes it does. */
static emb_status check_options(const emb_example_rows *rows, bool json, emb_error *error) {
    const emb_source_options *options = &rows->out->options;
    const char *option = NULL;
    if (options->delimiter && (json || options->format == EMB_SOURCE_TSV)) option = "--delimiter";
    if (options->no_header && json) option = "--no-header";
    if (options->no_quotes && json) option = "--no-quotes";
    if (!option) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s has no meaning for %s; state its format with --input-format", option,
                        emb_app_path_tail(rows->path));
}

static emb_status read_file(emb_example_rows *rows, emb_error *error) {
    emb_examples *out = rows->out;
    if (strcmp(rows->path, "-") == 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "train reads its examples twice: name a file, not standard input");
    bool json = emb_examples_is_json(out->options.format, rows->path);
    EMB_APP_TRY(emb_content_check_name(rows->path, error));
    EMB_APP_TRY(check_options(rows, json, error));
    EMB_APP_TRY(emb_example_reopen(rows, error));
    if (rows->input.bytes_total == 0)
        return emb_app_fail(error, EMB_BAD_FILE, "%s: empty, or not a regular file", rows->path);
    uint32_t before = rows->count;
    EMB_APP_TRY(json ? emb_example_read_json(rows, error) : emb_example_read_table(rows, error));
    if (rows->count == before)
        return emb_app_fail(error, EMB_BAD_FILE, "%s: it holds no example",
                            emb_app_path_tail(rows->path));
    return EMB_OK;
}

static emb_status read_all(emb_example_rows *rows, emb_error *error) {
    emb_examples *out = rows->out;
    emb_status status = EMB_OK;
    for (uint32_t i = 0; i < out->paths_count && status == EMB_OK; i++) {
        rows->path = out->paths[i];
        status = read_file(rows, error);
    }
    emb_input_close(&rows->input);
    return status;
}

emb_status emb_examples_inspect(emb_examples *examples, void *buffer, emb_error *error) {
    emb_example_rows rows = {.out = examples, .buffer = buffer, .input = {.descriptor = -1}};
    EMB_APP_TRY(read_all(&rows, error));
    examples->count = rows.count;
    examples->bytes = rows.bytes;
    return EMB_OK;
}

/* The places of a row's texts, of its score or class, and the texts themselves. */
uint64_t emb_examples_bytes(const emb_examples *examples) {
    uint64_t texts = (uint64_t)examples->count * examples->texts;
    uint64_t scores = emb_examples_are_scored(examples->kind) ? examples->count : 0;
    uint64_t classes = examples->kind == EMB_EXAMPLES_LABELLED ? examples->count : 0;
    return texts * (sizeof *examples->starts + sizeof *examples->lengths) +
           scores * sizeof *examples->scores + classes * sizeof *examples->classes +
           examples->bytes;
}

emb_status emb_examples_read(emb_examples *examples, void *memory, void *buffer, emb_error *error) {
    uint64_t texts = (uint64_t)examples->count * examples->texts;
    emb_example_rows rows = {
        .out = examples, .fills = true, .buffer = buffer, .input = {.descriptor = -1}};
    bool scored = emb_examples_are_scored(examples->kind);
    bool labelled = examples->kind == EMB_EXAMPLES_LABELLED;
    examples->starts = memory;
    examples->classes = examples->starts + texts;
    examples->lengths = (uint32_t *)(examples->classes + (labelled ? examples->count : 0));
    examples->scores = (float *)(examples->lengths + texts);
    examples->memory = (char *)(examples->scores + (scored ? examples->count : 0));
    if (!scored) examples->scores = NULL;
    if (!labelled) examples->classes = NULL;
    EMB_APP_TRY(read_all(&rows, error));
    return rows.count == examples->count ? EMB_OK : changed(&rows, error);
}
