/* csv.c - the table reader: a small state machine that moves along the buffer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/csv.h"

#include <string.h>

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
    csv->line = csv->row_line = 1;
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
    csv->state = BROKEN;
    csv->reason = reason;
    return EMB_CSV_BAD;
}

/* Ends a cell at the byte that stands at `begin` (a delimiter or a line feed), passing over it. */
static emb_csv_event end_cell(emb_csv *csv, const void *text, size_t length) {
    bool newline = csv->buffer[csv->begin] == '\n';
    csv->begin++;
    csv->line += newline;
    csv->state = newline ? ROW_DONE : CELL_START;
    return give(csv, text, length, true);
}

static emb_csv_event read_plain(emb_csv *csv) {
    const unsigned char *bytes = csv->buffer;
    size_t start = csv->begin, i = start;
    unsigned char delimiter = (unsigned char)csv->delimiter;
    for (; i < csv->end; i++) {
        unsigned char c = bytes[i];
        if (c == delimiter || c == '\n') {
            csv->begin = i;
            size_t length = i - start;
            if (c == '\n' && length && bytes[i - 1] == '\r') length--;
            return end_cell(csv, bytes + start, length);
        }
    }
    csv->begin = csv->end;
    csv->state = PLAIN;
    if (bytes[i - 1] == '\r') {
        csv->state = PLAIN_CR;
        i--;
    }
    return give(csv, bytes + start, i - start, false);
}

static emb_csv_event read_plain_cr(emb_csv *csv) {
    if (csv->buffer[csv->begin] == '\n') return end_cell(csv, "", 0);
    csv->state = PLAIN;
    return give(csv, "\r", 1, false);
}

/* Gives what stands before the next quote. `from` may be begin + 1, to give a quote as text. */
static emb_csv_event read_quoted(emb_csv *csv, size_t from) {
    const unsigned char *bytes = csv->buffer;
    size_t start = csv->begin, i = from;
    while (i < csv->end && bytes[i] != '"') {
        csv->line += bytes[i] == '\n';
        i++;
    }
    csv->state = i < csv->end ? QUOTE : QUOTED;
    csv->begin = i < csv->end ? i + 1 : i;
    return give(csv, bytes + start, i - start, false);
}

static emb_csv_event read_after_quote(emb_csv *csv) {
    unsigned char c = csv->buffer[csv->begin];
    if (c == (unsigned char)csv->delimiter || c == '\n') return end_cell(csv, "", 0);
    if (csv->state == QUOTE && c == '"') return read_quoted(csv, csv->begin + 1);
    if (csv->state == QUOTE && c == '\r') {
        csv->state = QUOTE_CR;
        csv->begin++;
        return give(csv, "", 0, false);
    }
    return fail(csv, "text after a closing quote; write a quote inside a cell twice (\"\")");
}

/* Goes to the end of a bad row. */
static void skip_broken(emb_csv *csv) {
    const unsigned char *start = csv->buffer + csv->begin;
    const unsigned char *newline = memchr(start, '\n', csv->end - csv->begin);
    csv->begin = newline ? (size_t)(newline - csv->buffer) + 1 : csv->end;
    if (!newline) return;
    csv->line++;
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
    switch (csv->state) {
    case ROW_START:
        return EMB_CSV_END;
    case CELL_START:
        csv->column++;
        csv->state = ROW_DONE;
        return give(csv, "", 0, true);
    case QUOTED:
        return fail(csv, "a quote that is opened here is never closed");
    case BROKEN:
        return end_row(csv);
    case PLAIN_CR:
        csv->state = ROW_DONE;
        return give(csv, "\r", 1, true);
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
