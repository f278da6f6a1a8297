/* table.c - source of csv and tsv files: the texts of one column.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "source/csv.h"
#include "source/pieces.h"

#define NO_COLUMN UINT32_MAX

typedef struct table {
    emb_csv csv;
    uint32_t column;        /* 0-based */
    uint32_t width;         /* cells of the file's first row; 0: none was read yet */
    bool row_bad;           /* the row being read breaks the rules */
    bool row_excess;        /* it has text in a cell beyond the width */
    emb_csv_others others;  /* of the file's first row */
    emb_source_names names; /* columns of the header row */
} table;

/* The column as a 0-based number if the user gave a number, or NO_COLUMN. */
static uint32_t column_number(const char *column) {
    if (!column || !isdigit((unsigned char)column[0])) return NO_COLUMN;
    char *end;
    unsigned long number = strtoul(column, &end, 10);
    return *end == '\0' && number >= 1 && number < NO_COLUMN ? (uint32_t)number - 1 : NO_COLUMN;
}

static emb_status unclosed(const emb_source *source, const emb_csv *csv, emb_error *error) {
    return emb_csv_fail_unclosed(csv, emb_input_shown(&source->input), error);
}

/* If a quote is never closed, a cell may take in the rest of the file. So in a regular file its end
 * is looked for before much of it is encoded; on a pipe the error shows only at the end. */
static emb_status look_ahead(emb_source *source, emb_error *error) {
    table *own = source->own;
    emb_csv ahead = own->csv; /* with the same block, all of whose text was given */
    uint64_t passed = 0;
    own->csv.looked = true;
    for (;;) {
        emb_csv_event event = emb_csv_next(&ahead);
        if (event == EMB_CSV_BAD && ahead.unclosed) return unclosed(source, &ahead, error);
        if (event == EMB_CSV_CELL && !ahead.last) continue;
        if (event != EMB_CSV_MORE) return EMB_OK;
        ptrdiff_t got = emb_input_peek(&source->input, passed, ahead.buffer, ahead.capacity);
        if (got < 0) return EMB_OK;
        passed += (uint64_t)got;
        emb_csv_fill(&ahead, (size_t)got);
    }
}

/* Reads the next block; an empty one at the end of the file. */
static emb_status refill(emb_source *source, emb_error *error) {
    table *own = source->own;
    emb_csv *csv = &own->csv;
    if (csv->doubted && !csv->looked) EMB_APP_TRY(look_ahead(source, error));
    ptrdiff_t got = emb_input_read(&source->input, csv->buffer, csv->capacity);
    if (got < 0) return emb_input_fail(&source->input, error);
    emb_csv_fill(csv, (size_t)got);
    return EMB_OK;
}

/* A malformed row: a failed row, or the end of the job if it is unknown where rows begin. */
static emb_status bad_row(const emb_source *source, emb_status status, const char *what,
                          const char *hint, emb_error *error) {
    const table *own = source->own;
    return emb_csv_fail(&own->csv, emb_input_shown(&source->input), status, what, hint, error);
}

/* The state of searching the header row for a column. */
typedef struct column_search {
    const char *name;
    size_t length, matched; /* of the name, in the cell at hand */
    bool differs;           /* that cell does */
    uint32_t found, again;  /* columns of that name, or NO_COLUMN */
    uint32_t cells;
    char cell[32]; /* the beginning of the cell at hand */
    size_t cell_length, cell_kept;
} column_search;

/* Compares a cell piece by piece, and keeps its beginning for messages. */
static void search_cell(emb_source *source, column_search *search) {
    table *own = source->own;
    const emb_csv *csv = &own->csv;
    size_t piece = csv->text_length, room = sizeof search->cell - search->cell_kept;
    size_t kept = piece < room ? piece : room;
    memcpy(search->cell + search->cell_kept, csv->text, kept);
    search->cell_kept += kept;
    search->cell_length += piece;
    if (!csv->row_quoted) emb_csv_others_add(&own->others, csv->text, piece);
    search->differs = search->differs || search->matched + piece > search->length ||
                      memcmp(search->name + search->matched, csv->text, piece) != 0;
    search->matched += piece;
    if (!csv->last) return;
    if (!search->differs && search->matched == search->length) {
        if (search->found == NO_COLUMN)
            search->found = csv->column;
        else if (search->again == NO_COLUMN)
            search->again = csv->column;
    }
    size_t length =
        search->cell_length > search->cell_kept ? search->cell_kept : search->cell_length;
    emb_source_names_add(&own->names, search->cell, length);
    search->differs = false;
    search->matched = search->cell_length = search->cell_kept = 0;
}

static emb_status bad_header(emb_source *source, const column_search *search, emb_error *error) {
    table *own = source->own;
    const emb_csv *csv = &own->csv;
    char what[200];
    if (csv->unclosed) return unclosed(source, csv, error);
    emb_source_names_add(&own->names, search->cell, search->cell_kept);
    snprintf(what, sizeof what, "after %.*s, %s", EMB_APP_CUT(own->names.text, 80), csv->reason);
    emb_csv_others_add(&own->others, (const char *)&csv->bad_byte, 1);
    const char *hint = emb_csv_others_hint(&own->others, csv->delimiter, 1);
    return bad_row(source, *hint ? EMB_INVALID_ARGUMENT : EMB_BAD_FILE, what, hint, error);
}

/* Reads the header row, the first that is not blank. */
static emb_status read_header(emb_source *source, column_search *search, emb_error *error) {
    table *own = source->own;
    emb_csv *csv = &own->csv;
    for (;;) {
        switch (emb_csv_next(csv)) {
        case EMB_CSV_MORE:
            EMB_APP_TRY(refill(source, error));
            break;
        case EMB_CSV_CELL:
            search_cell(source, search);
            break;
        case EMB_CSV_BAD:
            return bad_header(source, search, error);
        case EMB_CSV_ROW_END:
            search->cells = csv->cells;
            if (!csv->blank) return EMB_OK;
            memset(&own->names, 0, sizeof own->names);
            break;
        case EMB_CSV_END:
            search->cells = 0;
            return EMB_OK;
        }
    }
}

/* The column was not found, or it is the only one, whose name holds another delimiter. */
static emb_status no_column(const emb_source *source, const column_search *search,
                            emb_error *error) {
    const table *own = source->own;
    const char *wanted = source->options.column, *hint, *file = emb_input_shown(&source->input);
    unsigned long long line = own->csv.row_line;
    hint = emb_csv_others_hint(&own->others, own->csv.delimiter, search->cells);
    if (wanted && wanted[strspn(wanted, "0123456789")] == '\0')
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s line %llu: --column %.*s: its header row has %u: %s; state a "
                            "number from 1 to %u, or a name%s",
                            file, line, EMB_APP_CUT(wanted, 20), search->cells, own->names.text,
                            search->cells, hint);
    if (!*hint) hint = search->cells > 1 ? "; name one with --column" : "; name it with --column 1";
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s line %llu: no column \"%.*s\" among the %u of its header row: %s%s",
                        file, line, EMB_APP_CUT(wanted ? wanted : "text", 40), search->cells,
                        own->names.text, hint);
}

static emb_status choose_column(emb_source *source, emb_error *error) {
    table *own = source->own;
    const char *wanted = source->options.column;
    uint32_t number = column_number(wanted);
    column_search search = {
        .name = wanted ? wanted : "text", .found = NO_COLUMN, .again = NO_COLUMN};
    search.length = strlen(search.name);
    own->width = 0;
    if (source->options.no_header) {
        if (wanted && number == NO_COLUMN) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "--column %s: without a header row a column is a number from 1",
                                wanted);
        }
        own->column = number == NO_COLUMN ? 0 : number;
        return EMB_OK;
    }
    EMB_APP_TRY(read_header(source, &search, error));
    if (search.again != NO_COLUMN) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s line %llu: columns %u and %u of its header row are both "
                            "called \"%.*s\"; state --column NUMBER",
                            emb_input_shown(&source->input), (unsigned long long)own->csv.row_line,
                            search.found + 1, search.again + 1, EMB_APP_CUT(search.name, 60));
    }
    uint32_t found = search.found;
    if (number != NO_COLUMN && found == NO_COLUMN && number < search.cells) found = number;
    bool other = *emb_csv_others_hint(&own->others, own->csv.delimiter, 1) != '\0';
    if (!wanted && search.cells == 1 && !other) found = 0;
    own->column = found;
    own->width = own->csv.width = search.cells;
    if (found != NO_COLUMN || search.cells == 0) return EMB_OK;
    return no_column(source, &search, error);
}

/* Opens the next file and finds its column. `done` if there is none. */
static emb_status open_file(emb_source *source, bool *done, emb_error *error) {
    table *own = source->own;
    EMB_APP_TRY(emb_input_advance(&source->input, &source->file_open, error));
    *done = !source->file_open;
    if (*done) return EMB_OK;
    emb_csv_reset(&own->csv);
    memset(&own->others, 0, sizeof own->others);
    memset(&own->names, 0, sizeof own->names);
    EMB_APP_TRY(refill(source, error));
    return choose_column(source, error);
}

/* In a table of several columns a blank line is not a row, as usual; with a single column it is an
 * empty text. Before the first row the requested column decides. */
static bool passes_over(const emb_source *source) {
    const table *own = source->own;
    bool several = own->width ? own->width > 1 : own->column > 0;
    return own->csv.blank && several;
}

/* The first row of a table without a header: its number of cells is that of all rows. */
static emb_status take_width(emb_source *source, emb_error *error) {
    table *own = source->own;
    emb_csv *csv = &own->csv;
    const char *hint = emb_csv_others_hint(&own->others, csv->delimiter, 1);
    if (csv->blank) return EMB_OK;
    own->width = csv->width = csv->cells;
    if (csv->cells > 1 || source->options.column || !*hint) return EMB_OK;
    return bad_row(source, EMB_INVALID_ARGUMENT, "a single cell", hint, error);
}

/* Ends the text of the row just read, if it is one. */
static emb_status end_row(emb_source *source, emb_piece_list *list, emb_error *error) {
    table *own = source->own;
    const emb_csv *csv = &own->csv;
    bool bad = own->row_bad, excess = own->row_excess;
    char what[160];
    own->row_bad = own->row_excess = false;
    if (passes_over(source)) return EMB_OK;
    bool good = !bad && !excess && csv->cells > own->column;
    emb_status status = EMB_OK;
    if (good)
        status = emb_source_end(source, list, error);
    else
        emb_source_end_bad(source, list);
    if (good && own->width == 0) EMB_APP_TRY(take_width(source, error));
    if (good) return status;
    if (bad) return bad_row(source, EMB_BAD_TEXT, csv->reason, "", error);
    const char *cells = csv->cells == 1 ? "cell" : "cells";
    if (!excess) {
        snprintf(what, sizeof what, "%u %s, the text is in cell %u%s", csv->cells, cells,
                 own->column + 1, source->options.no_header ? " (--column)" : "");
        return bad_row(source, EMB_BAD_TEXT, what, "", error);
    }
    snprintf(what, sizeof what, "%u %s, and %s%u%s%s", csv->cells, cells,
             own->names.used ? "the header row has " : "the first row has ", own->width,
             own->names.used ? ": " : "", own->names.text);
    return bad_row(source, EMB_BAD_TEXT, what, "; put quotes around a cell that holds a delimiter",
                   error);
}

/* Texts contain no tabs: without a header row, further cells in a tsv are columns of their own.
 */
static void take_cell(emb_source *source, emb_piece_list *list) {
    table *own = source->own;
    const emb_csv *csv = &own->csv;
    if (csv->column == own->column && csv->text_length)
        emb_source_add(source, list, csv->text, csv->text_length);
    bool strict = !source->options.no_header || csv->delimiter != '\t';
    if (own->width && csv->column >= own->width && csv->text_length && strict)
        own->row_excess = true;
    if (!own->width && !csv->row_quoted)
        emb_csv_others_add(&own->others, csv->text, csv->text_length);
}

static emb_status next_row(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error) {
    table *own = source->own;
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    emb_csv *csv = &own->csv;
    bool done = false;
    emb_status status = EMB_OK;
    *count = 0;
    while (status == EMB_OK && !done && !emb_piece_list_full(&list)) {
        if (!source->file_open) {
            if (list.count) break; /* opening overwrites the block that the pieces point into */
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
            own->row_bad = true;
            if (csv->unclosed) status = unclosed(source, csv, error);
        } else if (event == EMB_CSV_ROW_END) {
            status = end_row(source, &list, error);
        } else {
            take_cell(source, &list);
        }
    }
    *count = list.count;
    return status;
}

static emb_status open_csv(emb_source *source, void *memory, size_t memory_bytes,
                           emb_error *error) {
    (void)error;
    table *own = source->own;
    char delimiter = source->options.delimiter ? source->options.delimiter : ',';
    emb_csv_init(&own->csv, memory, memory_bytes, delimiter, !source->options.no_quotes);
    return EMB_OK;
}

static emb_status open_tsv(emb_source *source, void *memory, size_t memory_bytes,
                           emb_error *error) {
    (void)error;
    table *own = source->own;
    emb_csv_init(&own->csv, memory, memory_bytes, '\t', !source->options.no_quotes);
    return EMB_OK;
}

static size_t waiting(const emb_source *source) {
    const table *own = source->own;
    return own->csv.end - own->csv.begin;
}

#define TAKES (EMB_SOURCE_TAKES_COLUMN | EMB_SOURCE_TAKES_NO_HEADER | EMB_SOURCE_TAKES_NO_QUOTES)

const emb_source_ops emb_source_csv_ops = {
    .suffixes = (const char *const[]){".csv", NULL},
    .takes = TAKES | EMB_SOURCE_TAKES_DELIMITER,
    .bytes = sizeof(table),
    .open = open_csv,
    .next = next_row,
    .waiting = waiting,
};

const emb_source_ops emb_source_tsv_ops = {
    .suffixes = (const char *const[]){".tsv", ".tab", NULL},
    .takes = TAKES,
    .bytes = sizeof(table),
    .open = open_tsv,
    .next = next_row,
    .waiting = waiting,
};
