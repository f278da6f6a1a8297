/* pairs.c - reads scored sentence pairs out of a table.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/pairs.h"

#include <math.h>
#include <string.h>

#include "fail.h"
#include "source/content.h"
#include "suffix.h"

/* Counts the rows and keeps the cells of the first that is not blank. */
static emb_status count_rows(emb_pairs *pairs, emb_input *input, emb_csv *csv, emb_error *error) {
    for (;;) {
        switch (emb_csv_next(csv)) {
        case EMB_CSV_MORE: {
            ptrdiff_t got = emb_input_read(input, csv->buffer, csv->capacity);
            if (got < 0) return emb_input_fail(input, error);
            emb_csv_fill(csv, (size_t)got);
            break;
        }
        case EMB_CSV_CELL:
            emb_heading_add(&pairs->heading, csv);
            break;
        case EMB_CSV_ROW_END:
            if (pairs->heading.cells_count == 0 && !csv->blank)
                pairs->heading.cells_count = csv->cells;
            csv->width = pairs->heading.cells_count;
            pairs->rows_max++;
            if (pairs->rows_max == UINT32_MAX) {
                return emb_app_fail(error, EMB_BAD_FILE, "%s: too many rows", pairs->path);
            }
            break;
        case EMB_CSV_BAD: /* other rows' errors are reported when they are read for good */
            if (csv->unclosed)
                return emb_csv_fail_unclosed(csv, emb_app_path_tail(pairs->path), error);
            break;
        case EMB_CSV_END:
            return EMB_OK;
        }
    }
}

/* Resolves "SCORE,FIRST,SECOND". False if one of them is missing. */
static bool resolve(emb_pairs *pairs, const char *columns) {
    uint32_t found[3] = {0};
    bool there = emb_heading_resolve(&pairs->heading, columns, found, 3);
    pairs->score_column = found[0];
    pairs->first_column = found[1];
    pairs->second_column = found[2];
    return there;
}

/* Whether the first row holds a number where the score is. */
static bool begins_with_score(const emb_pairs *pairs) {
    return pairs->score_column < EMB_HEADING_CELLS &&
           emb_heading_number(pairs->heading.cells[pairs->score_column], NULL);
}

static emb_status no_columns(const emb_pairs *pairs, const char *wanted, emb_error *error) {
    emb_source_names names = {0};
    const char *hint = emb_heading_describe(&pairs->heading, &names);
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s: %.*s are not a score and two sentences in its first row: %s; "
                        "state --columns SCORE,FIRST,SECOND%s",
                        emb_app_path_tail(pairs->path), EMB_APP_CUT(wanted, 30), names.text, hint);
}

static emb_status choose_columns(emb_pairs *pairs, const char *columns, bool no_header,
                                 emb_error *error) {
    const char *usual = "score,sentence1,sentence2";
    pairs->heading.names = !no_header;
    bool found = pairs->heading.names && resolve(pairs, columns ? columns : usual);
    /* numbers fit with and without a header: then the first score decides which it is */
    if (found && begins_with_score(pairs)) found = false;
    if (!found) {
        pairs->heading.names = false;
        found = resolve(pairs, columns ? columns : "5,6,7");
        if (found && !no_header && !begins_with_score(pairs)) found = false;
    }
    return found ? EMB_OK : no_columns(pairs, columns ? columns : usual, error);
}

emb_status emb_pairs_inspect(emb_pairs *pairs, const char *path, const char *columns,
                             const emb_source_options *options, void *buffer, emb_error *error) {
    memset(pairs, 0, sizeof *pairs);
    pairs->path = path;
    emb_input input;
    bool more = false;
    if (strcmp(path, "-") == 0) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "eval reads its table twice: name a file, not standard input");
    }
    EMB_APP_TRY(emb_content_check_name(path, error));
    EMB_APP_TRY(emb_input_open(&input, &pairs->path, 1, -1, error));
    if (input.bytes_total == 0) {
        return emb_app_fail(error, EMB_BAD_FILE, "%s: empty, or not a regular file", path);
    }
    EMB_APP_TRY(emb_input_advance(&input, &more, error));
    ptrdiff_t got = emb_input_read(&input, buffer, EMB_SOURCE_BYTES);
    if (got < 0) {
        emb_input_close(&input);
        return emb_input_fail(&input, error);
    }
    emb_heading_guess(&pairs->heading, buffer, (size_t)got, options);
    emb_csv csv;
    emb_csv_init(&csv, buffer, EMB_SOURCE_BYTES, pairs->heading.delimiter, pairs->heading.quotes);
    emb_csv_fill(&csv, (size_t)got);
    emb_status status = count_rows(pairs, &input, &csv, error);
    emb_input_close(&input);
    if (status != EMB_OK) return status;
    return choose_columns(pairs, columns, options->no_header, error);
}

static void end_text(emb_pairs *pairs, emb_piece_list *list) {
    if (emb_source_end(&pairs->source, list, &pairs->cell_error) != EMB_OK) pairs->cell_bad = true;
    pairs->cells_done++;
}

/* Text cells come in file order, so the second column may come first; the cosine is symmetric. The
 * later text ends only with its row, so that a failing row has a text to fail. */
static void take_cell(emb_pairs *pairs, emb_piece_list *list) {
    const emb_csv *csv = &pairs->csv;
    if (pairs->heading.names && csv->column >= pairs->heading.cells_count && csv->text_length)
        pairs->row_excess = true;
    if (csv->column == pairs->score_column) {
        size_t room = EMB_HEADING_CELL_TEXT - 1 - pairs->score_length;
        size_t length = csv->text_length < room ? csv->text_length : room;
        memcpy(pairs->score_text + pairs->score_length, csv->text, length);
        pairs->score_length += (uint32_t)length;
        return;
    }
    if (csv->column != pairs->first_column && csv->column != pairs->second_column) return;
    if (csv->text_length) emb_source_add(&pairs->source, list, csv->text, csv->text_length);
    if (csv->last && pairs->cells_done == 0) end_text(pairs, list);
}

/* Why the row that ended is invalid, or NULL; its score is then in `score`. */
static const char *find_fault(const emb_pairs *pairs, double *score) {
    const emb_csv *csv = &pairs->csv;
    uint32_t last_column = pairs->score_column;
    if (pairs->first_column > last_column) last_column = pairs->first_column;
    if (pairs->second_column > last_column) last_column = pairs->second_column;
    if (pairs->row_bad) return csv->reason;
    if (csv->cells <= last_column) return "it lacks cells: not a score and two sentences";
    if (pairs->row_excess)
        return "it has more cells than the header row; put quotes around a cell that holds a "
               "delimiter";
    return emb_heading_number(pairs->score_text, score) ? NULL : "the score is not a number";
}

/* Every row gives two texts, whatever it lacks, so that rows and texts stay in step. */
static emb_status end_row(emb_pairs *pairs, emb_piece_list *list, emb_error *error) {
    double score = NAN;
    pairs->score_text[pairs->score_length] = '\0';
    const char *fault = find_fault(pairs, &score);
    while (pairs->cells_done < 2) end_text(pairs, list);
    bool cell_bad = pairs->cell_bad;
    pairs->scores[pairs->pairs++] = fault || cell_bad ? NAN : score;
    pairs->cells_done = pairs->score_length = 0;
    pairs->row_bad = pairs->row_excess = pairs->cell_bad = false;
    if (fault)
        return emb_csv_fail(&pairs->csv, emb_app_path_tail(pairs->path), EMB_BAD_TEXT, fault, "",
                            error);
    if (!cell_bad) return EMB_OK;
    *error = pairs->cell_error;
    return EMB_BAD_TEXT;
}

static emb_status next_pairs(emb_source *source, emb_piece *pieces, uint32_t capacity,
                             uint32_t *count, emb_error *error) {
    emb_pairs *pairs = source->own;
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    emb_csv *csv = &pairs->csv;
    emb_status status = EMB_OK;
    bool done = false;
    while (status == EMB_OK && !done && list.count + 6 <= list.capacity) {
        emb_csv_event event = emb_csv_next(csv);
        bool skip = pairs->heading.names && !pairs->header_passed;
        source->line = csv->row_line;
        if (event == EMB_CSV_MORE) {
            if (list.count) break;
            ptrdiff_t got = emb_input_read(&source->input, csv->buffer, csv->capacity);
            if (got < 0) return emb_input_fail(&source->input, error);
            emb_csv_fill(csv, (size_t)got);
        } else if (event == EMB_CSV_END) {
            done = true;
        } else if (pairs->pairs == pairs->rows_max) {
            status =
                emb_app_fail(error, EMB_BAD_FILE,
                             "%s: the table changed while it was read; run again", pairs->path);
        } else if (event == EMB_CSV_BAD) {
            pairs->row_bad = true;
            if (csv->unclosed)
                status = emb_csv_fail_unclosed(csv, emb_app_path_tail(pairs->path), error);
        } else if (event == EMB_CSV_ROW_END) {
            if (!skip && !csv->blank) status = end_row(pairs, &list, error);
            if (skip) pairs->row_bad = false;
            pairs->header_passed |= !csv->blank;
        } else if (!skip && (csv->column > 0 || csv->row_bytes || csv->row_quoted)) {
            take_cell(pairs,
                      &list); /* an empty first cell may be a blank line: end_row handles it */
        }
    }
    *count = list.count;
    return status;
}

static size_t waiting(const emb_source *source) {
    const emb_pairs *pairs = source->own;
    return pairs->csv.end - pairs->csv.begin;
}

emb_status emb_pairs_open(emb_pairs *pairs, const emb_source_options *options, double *scores,
                          int stop_descriptor, void *memory, emb_error *error) {
    static const emb_source_ops ops = {.next = next_pairs, .waiting = waiting};
    emb_source *source = &pairs->source;
    bool more = false;
    emb_source_init(source, &ops, pairs, options);
    source->texts_per_row = 2;
    EMB_APP_TRY(emb_input_open(&source->input, &pairs->path, 1, stop_descriptor, error));
    EMB_APP_TRY(emb_input_advance(&source->input, &more, error));
    emb_csv_init(&pairs->csv, memory, EMB_SOURCE_BYTES, pairs->heading.delimiter,
                 pairs->heading.quotes);
    pairs->csv.width = pairs->heading.names ? pairs->heading.cells_count : 0;
    pairs->scores = scores;
    pairs->pairs = 0;
    pairs->score_length = pairs->cells_done = 0;
    pairs->header_passed = pairs->row_bad = pairs->row_excess = pairs->cell_bad = false;
    return EMB_OK;
}
