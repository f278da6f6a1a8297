/* csv.h - reads comma or tab separated tables (RFC 4180) cell by cell, a cell in pieces.
 *
 * A pull reader over one fixed buffer: a cell may be larger than it. Nothing is copied: the text of
 * an event points into the buffer until the next fill. Feeds the table source and `eval`.
 *
 * A cell in quotes may have any number of lines. Its quote was never closed if the file ends, or a
 * quote comes that can only open another cell. That is a failed row; if 100 lines in a row inside
 * it looked like rows of the table, the file is given up. Such lines are not blank and have as many
 * delimiters as the table's rows (or, while that is not known, as the line before). Where rows have
 * no delimiter at all, 10,000 are needed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_CSV_H
#define EMB_SOURCE_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embound.h"

typedef enum emb_csv_event {
    EMB_CSV_MORE,    /* the buffer is used up: call emb_csv_fill */
    EMB_CSV_CELL,    /* text of the current cell; the cell is complete if `last` */
    EMB_CSV_ROW_END, /* `cells` and `blank` describe the row */
    EMB_CSV_BAD,     /* the row breaks the rules, see `reason`; its ROW_END still comes, but not if
                        `unclosed`: then there is no telling where rows begin */
    EMB_CSV_END      /* no rows are left */
} emb_csv_event;

typedef struct emb_csv {
    unsigned char *buffer;
    size_t capacity, begin, end;
    char delimiter;
    bool quotes; /* a cell may be quoted */
    bool at_end; /* the file has ended */
    uint8_t state;
    uint64_t line;     /* 1-based, being read */
    uint64_t row_line; /* where the row began */
    uint64_t row_last; /* its last line, once it has ended or is unclosed */
    uint32_t width;    /* cells that rows of the table have; the caller's; 0: not known */
    bool unclosed;     /* BAD: a quote that is never closed took in lines that look like rows */
    bool doubted;      /* of the open cell in quotes: lines inside it look like rows */
    bool looked;       /* the caller's: the reader has looked ahead for the end of that cell */
    bool cell_feeds, cell_may_begin; /* that cell has a line feed; a cell may begin at its quote */
    uint32_t line_delimiters, line_bytes, expected, like_rows; /* of the lines inside quotes */
    uint32_t column;                                           /* 0-based, of the CELL */
    uint32_t cells;                                            /* of the row that ended */
    bool blank; /* the row that ended was an empty line */
    bool row_quoted, row_bytes;
    const char *text;
    size_t text_length;
    bool last;
    const char *reason;
    unsigned char bad_byte; /* BAD: that stands at the place; 0: the file has ended */
} emb_csv;

/* How often a row has the delimiters that tables use. */
typedef struct emb_csv_others {
    uint32_t counts[4];
} emb_csv_others;

void emb_csv_others_add(emb_csv_others *others, const char *text, size_t length);

/* What to add to a message: which of them seems to be the delimiter of a row that has `cells` with
 * this one, and how to state it. Empty if none does. */
const char *emb_csv_others_hint(const emb_csv_others *others, char delimiter, uint32_t cells);

void emb_csv_init(emb_csv *csv, unsigned char *buffer, size_t capacity, char delimiter,
                  bool quotes);

/* Starts a new file with the same buffer. */
void emb_csv_reset(emb_csv *csv);

emb_csv_event emb_csv_next(emb_csv *csv);

/* Says that `length` bytes were read to the start of the buffer; 0: the file has ended. */
void emb_csv_fill(emb_csv *csv, size_t length);

/* Says of the row that ended, or is unclosed: "FILE line 3 to line 5: WHAT", and a hint. Gives
 * `status`. */
emb_status emb_csv_fail(const emb_csv *csv, const char *file, emb_status status, const char *what,
                        const char *hint, emb_error *error);

/* The same of a quote that is never closed and took in what looks like rows. Gives EMB_BAD_FILE. */
emb_status emb_csv_fail_unclosed(const emb_csv *csv, const char *file, emb_error *error);

#endif
