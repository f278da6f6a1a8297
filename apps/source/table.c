/* table.c - source of csv and tsv files: the texts of one column.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "source/source.h"

#define NO_COLUMN UINT32_MAX

/* The column as a 0-based number if the user gave a number, or NO_COLUMN. */
static uint32_t column_number(const char *column) {
    if (!column || !isdigit((unsigned char)column[0])) return NO_COLUMN;
    char *end;
    unsigned long number = strtoul(column, &end, 10);
    return *end == '\0' && number >= 1 && number < NO_COLUMN ? (uint32_t)number - 1 : NO_COLUMN;
}

/* Reads the next block. `more` is false at the end of the file. */
static emb_status refill(emb_source *source, emb_error *error) {
    ptrdiff_t got = emb_input_read(&source->input, source->csv.buffer, source->csv.capacity);
    if (got < 0) return emb_input_fail(&source->input, got, error);
    emb_csv_fill(&source->csv, (size_t)got);
    return EMB_OK;
}

/* Reads the first row and finds the wanted name in it, comparing cells piece by piece. */
static emb_status read_header(emb_source *source, uint32_t *found, uint32_t *cells,
                              emb_error *error) {
    const char *name = source->options.column ? source->options.column : "text";
    size_t length = strlen(name), matched = 0;
    bool matches = true;
    *found = NO_COLUMN;
    for (;;) {
        switch (emb_csv_next(&source->csv)) {
        case EMB_CSV_MORE:
            EMB_APP_TRY(refill(source, error));
            break;
        case EMB_CSV_CELL: {
            size_t piece = source->csv.text_length;
            matches = matches && matched + piece <= length &&
                      memcmp(name + matched, source->csv.text, piece) == 0;
            matched += piece;
            if (!source->csv.last) break;
            if (matches && matched == length && *found == NO_COLUMN) *found = source->csv.column;
            matches = true;
            matched = 0;
            break;
        }
        case EMB_CSV_BAD:
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: header row: %s",
                                emb_input_name(&source->input, source->input.next - 1),
                                source->csv.reason);
        case EMB_CSV_ROW_END:
            *cells = source->csv.cells;
            return EMB_OK;
        case EMB_CSV_END:
            *cells = 0;
            return EMB_OK;
        }
    }
}

static emb_status choose_column(emb_source *source, emb_error *error) {
    uint32_t found = NO_COLUMN, cells = 0;
    uint32_t number = column_number(source->options.column);
    const char *file = emb_input_name(&source->input, source->input.next - 1);
    source->width = 0;
    if (source->options.no_header) {
        if (source->options.column && number == NO_COLUMN) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "--column %s: without a header row a column is a number from 1",
                                source->options.column);
        }
        source->column = number == NO_COLUMN ? 0 : number;
        return EMB_OK;
    }
    EMB_APP_TRY(read_header(source, &found, &cells, error));
    if (number != NO_COLUMN && found == NO_COLUMN && number < cells) found = number;
    if (!source->options.column && cells == 1) found = 0;
    source->column = found;
    source->width = cells;
    if (found != NO_COLUMN || cells == 0) return EMB_OK;
    if (source->options.column) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s: no column \"%s\" among the %u of its header row; name one with "
                            "--column",
                            file, source->options.column, cells);
    }
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s: %u columns and none is called \"text\"; name one with --column NAME "
                        "or --column NUMBER",
                        file, cells);
}

/* Opens the next file and finds its column. `done` if there is none. */
static emb_status open_file(emb_source *source, bool *done, emb_error *error) {
    EMB_APP_TRY(emb_input_advance(&source->input, &source->file_open, error));
    *done = !source->file_open;
    if (*done) return EMB_OK;
    emb_csv_reset(&source->csv);
    EMB_APP_TRY(refill(source, error));
    return choose_column(source, error);
}

/* In a table of several columns a blank line is no row, as for every reader of such tables; in one
 * of a single column it is an empty text. Before a first row the column asked for must tell. */
static bool passes_over(const emb_source *source) {
    bool several = source->width ? source->width > 1 : source->column > 0;
    return source->csv.blank && several;
}

/* Ends the text of the row just read, if it is one. */
static emb_status end_row(emb_source *source, emb_piece_list *list, bool bad, emb_error *error) {
    const emb_csv *csv = &source->csv;
    if (passes_over(source)) return EMB_OK;
    if (source->width == 0 && !csv->blank) source->width = csv->cells;
    emb_source_end(source, list);
    const char *file = emb_input_name(&source->input, source->input.next - 1);
    if (bad) {
        return emb_app_fail(error, EMB_BAD_TEXT, "%s line %llu: %s", file,
                            (unsigned long long)csv->row_line, csv->reason);
    }
    if (csv->cells <= source->column) {
        return emb_app_fail(error, EMB_BAD_TEXT, "%s line %llu: %u cells, the text is in cell %u",
                            file, (unsigned long long)csv->row_line, csv->cells,
                            source->column + 1);
    }
    return EMB_OK;
}

emb_status emb_source_next_csv(emb_source *source, emb_piece *pieces, uint32_t capacity,
                               uint32_t *count, emb_error *error) {
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    emb_csv *csv = &source->csv;
    bool done = false;
    emb_status status = EMB_OK;
    *count = 0;
    while (status == EMB_OK && !done && !emb_piece_list_full(&list)) {
        if (!source->file_open) {
            if (list.count) break; /* opening reads into the block that the pieces point at */
            status = open_file(source, &done, error);
            continue;
        }
        emb_csv_event event = emb_csv_next(csv);
        source->line = csv->row_line;
        if (event == EMB_CSV_MORE) {
            if (list.count) break;
            status = refill(source, error);
        } else if (event == EMB_CSV_END) {
            source->file_open = false;
        } else if (event == EMB_CSV_BAD) {
            source->row_bad = true;
        } else if (event == EMB_CSV_ROW_END) {
            status = end_row(source, &list, source->row_bad, error);
            source->row_bad = false;
        } else if (csv->column == source->column && csv->text_length) {
            emb_source_add(source, &list, csv->text, csv->text_length);
        }
    }
    *count = list.count;
    return status;
}
