/* examples_table.c - examples out of a comma or tab separated table: finds its columns in the first
 * row, then reads all. Lines of text are a table of one column, whatever stands in them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "fail.h"
#include "source/example_rows.h"
#include "source/heading.h"
#include "suffix.h"

typedef struct table {
    emb_example_rows *rows;
    emb_csv csv;
    emb_heading heading;
    uint32_t columns[EMB_EXAMPLES_COLUMNS]; /* of the texts, 0-based */
    uint32_t score_column;                  /* or the label's */
} table;

static emb_status refill(table *t, emb_error *error) {
    ptrdiff_t got = emb_input_read(&t->rows->input, t->csv.buffer, t->csv.capacity);
    if (got < 0) return emb_input_fail(&t->rows->input, error);
    emb_csv_fill(&t->csv, (size_t)got);
    return EMB_OK;
}

/* ---- columns --------------------------------------------------------------------------------- */

/* Single texts, a line each. */
static bool are_lines(const table *t) {
    const emb_examples *out = t->rows->out;
    const emb_source_options *options = &out->options;
    return out->kind == EMB_EXAMPLES_TEXTS && !out->columns && !options->format &&
           !options->delimiter && emb_app_has_suffix(t->rows->path, ".txt");
}

/* A format that is stated is taken at its word; else the first line tells, as in eval. */
static void choose_dialect(table *t, size_t length) {
    const emb_source_options *options = &t->rows->out->options;
    if (are_lines(t)) {
        t->heading.delimiter = '\n';
        return;
    }
    emb_heading_guess(&t->heading, t->rows->buffer, length, options);
    if (!options->format) return;
    char stated = options->delimiter ? options->delimiter : ',';
    t->heading.delimiter = options->format == EMB_SOURCE_TSV ? '\t' : stated;
    t->heading.quotes = !options->no_quotes;
}

/* Reads to the end of the first row that is not blank. */
static emb_status read_heading(table *t, emb_error *error) {
    ptrdiff_t got = emb_input_read(&t->rows->input, t->rows->buffer, EMB_SOURCE_BYTES);
    if (got < 0) return emb_input_fail(&t->rows->input, error);
    choose_dialect(t, (size_t)got);
    emb_csv_init(&t->csv, t->rows->buffer, EMB_SOURCE_BYTES, t->heading.delimiter,
                 t->heading.quotes);
    emb_csv_fill(&t->csv, (size_t)got);
    for (;;) {
        switch (emb_csv_next(&t->csv)) {
        case EMB_CSV_MORE:
            EMB_APP_TRY(refill(t, error));
            break;
        case EMB_CSV_CELL:
            emb_heading_add(&t->heading, &t->csv);
            break;
        case EMB_CSV_BAD:
            return emb_csv_fail(&t->csv, emb_app_path_tail(t->rows->path), EMB_BAD_FILE,
                                t->csv.reason, "", error);
        case EMB_CSV_ROW_END:
            if (t->csv.blank) break;
            t->heading.cells_count = t->csv.cells;
            return EMB_OK;
        case EMB_CSV_END:
            return emb_app_fail(error, EMB_BAD_FILE, "%s: it holds no example",
                                emb_app_path_tail(t->rows->path));
        }
    }
}

static emb_status no_columns(const table *t, emb_error *error) {
    const emb_examples *out = t->rows->out;
    const emb_example_form *form = emb_example_form_of(out->kind);
    const char *wanted = out->columns ? out->columns : form->usual;
    emb_source_names names = {0};
    const char *hint = emb_heading_describe(&t->heading, &names);
    bool scored = emb_examples_are_scored(out->kind);
    if (!*hint && !scored && !out->columns && t->heading.names)
        hint = ", or --no-header if that is an example";
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s: its first row has no %.*s: %.*s; state %s %s%s",
                        emb_app_path_tail(t->rows->path), EMB_APP_CUT(wanted, 30),
                        EMB_APP_CUT(names.text, 50), out->columns_option, form->wanted, hint);
}

static bool first_is_score(const table *t) {
    return t->score_column < EMB_HEADING_CELLS &&
           emb_heading_number(t->heading.cells[t->score_column], NULL);
}

static bool resolve_scored(table *t, const char *columns) {
    uint32_t found[3] = {0};
    bool there = emb_heading_resolve(&t->heading, columns, found, 3);
    t->score_column = found[0];
    t->columns[0] = found[1];
    t->columns[1] = found[2];
    return there;
}

/* As eval: whether there is a header row is seen from the score. */
static bool choose_scored(table *t) {
    const emb_examples *out = t->rows->out;
    bool no_header = out->options.no_header;
    t->rows->texts = 2;
    t->heading.names = !no_header;
    bool named = resolve_scored(t, out->columns ? out->columns : "score,sentence1,sentence2");
    if (!no_header && named && !first_is_score(t)) return true;
    t->heading.names = false;
    return resolve_scored(t, out->columns ? out->columns : "5,6,7") &&
           (no_header || first_is_score(t));
}

/* All columns of a table without names; else the usual names. */
static bool choose_usual(table *t) {
    uint32_t kept = emb_heading_kept(&t->heading), *count = &t->rows->texts;
    if (!t->heading.names) {
        for (*count = 0; *count < kept && *count < EMB_EXAMPLES_COLUMNS; ++*count)
            t->columns[*count] = *count;
        return *count >= 2;
    }
    if (!emb_heading_resolve(&t->heading, "anchor,positive", t->columns, 2)) return false;
    *count = 2;
    for (uint32_t i = 0; i < kept && *count < EMB_EXAMPLES_COLUMNS; i++)
        if (emb_example_is_negative(t->heading.cells[i])) t->columns[(*count)++] = i;
    return true;
}

/* The column of that name, or the only one. */
static bool choose_text(table *t) {
    t->rows->texts = 1;
    if (t->heading.names && emb_heading_resolve(&t->heading, "text", t->columns, 1)) return true;
    t->columns[0] = 0;
    return t->heading.cells_count == 1;
}

static bool choose_labelled(table *t) {
    const char *columns = t->rows->out->columns;
    uint32_t found[2] = {0};
    if (!columns) columns = t->heading.names ? "text,label" : "1,2";
    bool there = emb_heading_resolve(&t->heading, columns, found, 2);
    t->rows->texts = 1;
    t->columns[0] = found[0];
    t->score_column = found[1];
    return there;
}

static bool choose(table *t, uint32_t stated) {
    const emb_examples *out = t->rows->out;
    if (emb_examples_are_scored(out->kind)) return choose_scored(t);
    if (out->kind == EMB_EXAMPLES_LABELLED) return choose_labelled(t);
    if (!out->columns) return out->kind == EMB_EXAMPLES_TEXTS ? choose_text(t) : choose_usual(t);
    t->rows->texts = stated;
    return emb_heading_resolve(&t->heading, out->columns, t->columns, stated);
}

static emb_status choose_columns(table *t, emb_error *error) {
    const emb_examples *out = t->rows->out;
    emb_example_names stated = {.count = 0};
    if (out->columns) EMB_APP_TRY(emb_example_names_parse(&stated, out, error));
    t->score_column = EMB_HEADING_NONE;
    t->heading.names = !out->options.no_header && !are_lines(t);
    if (!choose(t, stated.count)) return no_columns(t, error);
    for (uint32_t i = 0; i < t->rows->texts; i++) {
        uint32_t column = t->columns[i];
        bool named = t->heading.names && column < EMB_HEADING_CELLS;
        char *label = t->rows->labels[i];
        if (named)
            snprintf(label, EMB_EXAMPLE_LABEL, "\"%s\"", t->heading.cells[column]);
        else
            snprintf(label, EMB_EXAMPLE_LABEL, "column %u", column + 1);
    }
    return emb_example_texts_found(t->rows, error);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static emb_status take_cell(table *t, emb_error *error) {
    emb_example_rows *rows = t->rows;
    const emb_csv *csv = &t->csv;
    if (t->heading.names && csv->column >= t->heading.cells_count && csv->text_length)
        emb_example_fault(rows,
                          "it has more cells than the first row's %u: put quotes around a "
                          "cell that holds a delimiter",
                          t->heading.cells_count);
    if (csv->column == t->score_column) emb_example_score_add(rows, csv->text, csv->text_length);
    for (uint32_t i = 0; i < rows->texts; i++) {
        if (t->columns[i] != csv->column) continue;
        if (!rows->seen[i]) emb_example_text_begin(rows, i, false);
        EMB_APP_TRY(emb_example_text_add(rows, csv->text, csv->text_length, error));
        if (csv->last) emb_example_text_end(rows);
    }
    return EMB_OK;
}

static emb_status end_row(table *t, emb_error *error) {
    emb_example_rows *rows = t->rows;
    EMB_APP_TRY(emb_example_row_end(rows, error));
    if (!rows->fault[0]) return EMB_OK;
    return emb_csv_fail(&t->csv, emb_app_path_tail(rows->path), EMB_BAD_FILE, rows->fault, "",
                        error);
}

static emb_status read_rows(table *t, emb_error *error) {
    emb_csv *csv = &t->csv;
    bool heading = t->heading.names; /* still to come */
    emb_csv_init(csv, t->rows->buffer, EMB_SOURCE_BYTES, t->heading.delimiter, t->heading.quotes);
    csv->width = t->heading.names ? t->heading.cells_count : 0;
    emb_example_row_begin(t->rows);
    for (;;) {
        emb_csv_event event = emb_csv_next(csv);
        t->rows->line = csv->row_line;
        switch (event) {
        case EMB_CSV_MORE:
            EMB_APP_TRY(refill(t, error));
            break;
        case EMB_CSV_CELL:
            if (!heading) EMB_APP_TRY(take_cell(t, error));
            break;
        case EMB_CSV_BAD:
            if (csv->unclosed)
                return emb_csv_fail_unclosed(csv, emb_app_path_tail(t->rows->path), error);
            return emb_csv_fail(csv, emb_app_path_tail(t->rows->path), EMB_BAD_FILE, csv->reason,
                                "", error);
        case EMB_CSV_ROW_END:
            if (!heading && !csv->blank) EMB_APP_TRY(end_row(t, error));
            heading = heading && csv->blank;
            emb_example_row_begin(t->rows);
            break;
        case EMB_CSV_END:
            return EMB_OK;
        }
    }
}

emb_status emb_example_read_table(emb_example_rows *rows, emb_error *error) {
    table t = {.rows = rows};
    EMB_APP_TRY(read_heading(&t, error));
    EMB_APP_TRY(choose_columns(&t, error));
    EMB_APP_TRY(emb_example_reopen(rows, error));
    return read_rows(&t, error);
}
