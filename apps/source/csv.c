/* csv.c - the table reader: a small state machine that moves along the buffer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/csv.h"

#include <stdio.h>
#include <string.h>

#include "fail.h"

#define LIKE_ROWS 100   /* so many lines inside quotes that look like rows raise a doubt */
#define LIKE_TEXT 10000 /* the same where a row is a line without delimiters */

enum {
    ROW_START,
    CELL_START,
    PLAIN,    /* inside an unquoted cell */
    PLAIN_CR, /* the buffer ended after a carriage return that may belong to the line end */
    QUOTED,   /* inside quotes */
    QUOTE,    /* after a quote inside quotes: the end, or the first half of a doubled one */
    QUOTE_CR, /* after the closing quote and a carriage return */
    BROKEN,   /* skipping the rest of a bad row */
    ROW_DONE  /* the last cell was given */
};

void emb_csv_reset(emb_csv *csv) {
    csv->begin = csv->end = 0;
    csv->at_end = false;
    csv->state = ROW_START;
    csv->line = csv->row_line = csv->row_last = 1;
    csv->width = 0;
    csv->unclosed = csv->doubted = csv->looked = false;
}

void emb_csv_init(emb_csv *csv, unsigned char *buffer, size_t capacity, char delimiter,
                  bool quotes) {
    memset(csv, 0, sizeof *csv);
    csv->buffer = buffer;
    csv->capacity = capacity;
    csv->delimiter = delimiter;
    csv->quotes = quotes;
    emb_csv_reset(csv);
}

void emb_csv_fill(emb_csv *csv, size_t length) {
    csv->begin = 0;
    csv->end = length;
    csv->at_end = length == 0;
}

static emb_csv_event give(emb_csv *csv, const void *text, size_t length, bool last) {
    csv->text = text;
    csv->text_length = length;
    csv->last = last;
    csv->row_bytes = csv->row_bytes || length;
    return EMB_CSV_CELL;
}

static emb_csv_event fail(emb_csv *csv, const char *reason) {
    if (csv->state != QUOTED) csv->row_last = csv->line;
    csv->state = BROKEN;
    csv->reason = reason;
    csv->bad_byte = csv->begin < csv->end ? csv->buffer[csv->begin] : 0;
    return EMB_CSV_BAD;
}

/* Ends a cell at the byte at `begin` (a delimiter or a line feed), and skips it. */
static emb_csv_event end_cell(emb_csv *csv, const void *text, size_t length) {
    bool newline = csv->buffer[csv->begin] == '\n';
    csv->begin++;
    csv->row_last = csv->line;
    csv->line += newline;
    csv->state = newline ? ROW_DONE : CELL_START;
    return give(csv, text, length, true);
}

static const char stray_return[] =
    "a CR inside a cell without quotes: lines end in LF or CRLF (tr '\\r' '\\n' makes them)";

static emb_csv_event read_plain(emb_csv *csv) {
    const unsigned char *bytes = csv->buffer;
    size_t start = csv->begin, i = start;
    unsigned char delimiter = (unsigned char)csv->delimiter;
    while (i < csv->end && bytes[i] != delimiter && bytes[i] != '\n' && bytes[i] != '\r') i++;
    csv->begin = i;
    if (i == csv->end || bytes[i] == '\r') {
        csv->state = i < csv->end ? PLAIN_CR : PLAIN;
        csv->begin += i < csv->end;
        return give(csv, bytes + start, i - start, false);
    }
    return end_cell(csv, bytes + start, i - start);
}

/* A carriage return belongs to the end of the line, or it should not be there. */
static emb_csv_event read_plain_cr(emb_csv *csv) {
    if (csv->buffer[csv->begin] == '\n') return end_cell(csv, "", 0);
    return fail(csv, stray_return);
}

/* A line inside quotes has ended: do the last ones look like rows? */
static void count_line(emb_csv *csv) {
    uint32_t expected = csv->width ? csv->width - 1 : csv->expected;
    bool alike = csv->line_bytes && csv->line_delimiters == expected;
    csv->like_rows = alike ? csv->like_rows + 1 : 0;
    if (csv->like_rows >= (expected ? LIKE_ROWS : LIKE_TEXT)) csv->doubted = true;
    csv->expected = csv->line_delimiters;
    csv->line_delimiters = csv->line_bytes = 0;
    csv->row_last = csv->line++;
    csv->cell_feeds = true;
}

/* Gives the text before the next quote. `from` may be begin + 1, to give a quote as text. */
static emb_csv_event read_quoted(emb_csv *csv, size_t from) {
    const unsigned char *bytes = csv->buffer;
    const unsigned char delimiter = (unsigned char)csv->delimiter;
    size_t start = csv->begin, i = from;
    for (; i < csv->end && bytes[i] != '"'; i++) {
        csv->line_delimiters += bytes[i] == delimiter;
        csv->line_bytes += bytes[i] > ' ';
        if (bytes[i] == '\n') count_line(csv);
    }
    if (i > from) csv->cell_may_begin = bytes[i - 1] == delimiter || bytes[i - 1] == '\n';
    csv->begin = i;
    csv->state = i < csv->end ? QUOTE : QUOTED;
    csv->begin += i < csv->end;
    return give(csv, bytes + start, i - start, false);
}

static emb_csv_event fail_unclosed(emb_csv *csv, const char *reason) {
    csv->unclosed = csv->doubted;
    return fail(csv, reason);
}

/* The bytes around a quote tell what it is: a line end or a delimiter follows one that closes a
 * cell, and precedes one that opens a cell. */
static emb_csv_event read_after_quote(emb_csv *csv) {
    unsigned char c = csv->buffer[csv->begin];
    if (c == (unsigned char)csv->delimiter || c == '\n') return end_cell(csv, "", 0);
    if (csv->state == QUOTE && c == '"') return read_quoted(csv, csv->begin + 1);
    if (csv->state == QUOTE && c == '\r') {
        csv->state = QUOTE_CR;
        csv->begin++;
        return give(csv, "", 0, false);
    }
    if (csv->cell_feeds && csv->cell_may_begin)
        return fail_unclosed(csv, "a quote that is opened here is not closed before another one "
                                  "opens: close it, or state --no-quotes if quotes are plain "
                                  "characters");
    return fail(csv, "text after a closing quote: write a quote inside a cell twice (\"\"), or "
                     "state --no-quotes if quotes are plain characters");
}

/* Goes to the end of a bad row. */
static void skip_broken(emb_csv *csv) {
    const unsigned char *start = csv->buffer + csv->begin;
    const unsigned char *newline = memchr(start, '\n', csv->end - csv->begin);
    csv->begin = newline ? (size_t)(newline - csv->buffer) + 1 : csv->end;
    if (!newline) return;
    csv->row_last = csv->line++;
    csv->state = ROW_DONE;
}

static emb_csv_event end_row(emb_csv *csv) {
    csv->state = ROW_START;
    csv->cells = csv->column + 1;
    csv->blank = csv->column == 0 && !csv->row_bytes && !csv->row_quoted;
    return EMB_CSV_ROW_END;
}

/* The file has ended: whatever was begun ends too. */
static emb_csv_event finish(emb_csv *csv) {
    bool begun = csv->state == QUOTED ? csv->line_bytes > 0 : csv->state != BROKEN;
    if (begun) csv->row_last = csv->line;
    switch (csv->state) {
    case ROW_START:
        return EMB_CSV_END;
    case CELL_START:
        csv->column++;
        csv->state = ROW_DONE;
        return give(csv, "", 0, true);
    case QUOTED:
        return fail_unclosed(csv, "a quote that is opened here is never closed: close it, or state "
                                  "--no-quotes if quotes are plain characters");
    case BROKEN:
        return end_row(csv);
    default:
        csv->state = ROW_DONE;
        return give(csv, "", 0, true);
    }
}

static emb_csv_event start_cell(emb_csv *csv) {
    if (csv->state == ROW_START) {
        csv->column = 0;
        csv->row_line = csv->line;
        csv->row_bytes = csv->row_quoted = false;
    } else {
        csv->column++;
    }
    if (csv->quotes && csv->buffer[csv->begin] == '"') {
        csv->row_quoted = true;
        csv->line_delimiters = csv->line_bytes = csv->expected = csv->like_rows = 0;
        csv->doubted = csv->looked = csv->cell_feeds = csv->cell_may_begin = false;
        csv->begin++;
        csv->state = QUOTED;
        return give(csv, "", 0, false);
    }
    csv->state = PLAIN;
    return read_plain(csv);
}

emb_csv_event emb_csv_next(emb_csv *csv) {
    for (;;) {
        if (csv->state == ROW_DONE) return end_row(csv);
        if (csv->begin == csv->end) {
            return csv->at_end ? finish(csv) : EMB_CSV_MORE;
        }
        switch (csv->state) {
        case ROW_START:
        case CELL_START:
            return start_cell(csv);
        case PLAIN:
            return read_plain(csv);
        case PLAIN_CR:
            return read_plain_cr(csv);
        case QUOTED:
            return read_quoted(csv, csv->begin);
        case QUOTE:
        case QUOTE_CR:
            return read_after_quote(csv);
        default:
            skip_broken(csv);
        }
    }
}

emb_status emb_csv_fail(const emb_csv *csv, const char *file, emb_status status, const char *what,
                        const char *hint, emb_error *error) {
    unsigned long long first = csv->row_line, last = csv->row_last;
    char to[40] = "";
    if (last > first) snprintf(to, sizeof to, " to line %llu", last);
    return emb_app_fail(error, status, "%s line %llu%s: %s%s", file, first, to, what, hint);
}

emb_status emb_csv_fail_unclosed(const emb_csv *csv, const char *file, emb_error *error) {
    return emb_csv_fail(csv, file, EMB_BAD_FILE, csv->reason,
                        "; the lines after it look like rows, which nobody can tell apart now",
                        error);
}

/* ---- other delimiters ------------------------------------------------------------------------ */

static const char candidates[] = ";\t|,";
static const char *const hints[] = {
    "; if semicolons stand between cells: --delimiter ';'",
    "; if tabs stand between cells: --input-format tsv",
    "; if bars stand between cells: --delimiter '|'",
    "; if commas stand between cells: --input-format csv",
};

void emb_csv_others_add(emb_csv_others *others, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const char *found = text[i] ? strchr(candidates, text[i]) : NULL;
        if (found) others->counts[found - candidates]++;
    }
}

const char *emb_csv_others_hint(const emb_csv_others *others, char delimiter, uint32_t cells) {
    const char *hint = "";
    uint32_t most = cells > 1 ? cells - 1 : 0; /* so often stands the delimiter in use */
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        if (candidates[i] == delimiter || others->counts[i] <= most) continue;
        hint = hints[i];
        most = others->counts[i];
    }
    return hint;
}
