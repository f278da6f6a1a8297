/* csv.h - reads comma or tab separated tables (RFC 4180) cell by cell, a cell in pieces.
 *
 * A pull reader over one fixed buffer: a cell may be larger than it. Nothing is copied: the text of
 * an event points into the buffer until the next fill. Feeds the table source and `eval`.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_CSV_H
#define EMB_SOURCE_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum emb_csv_event {
    EMB_CSV_MORE,    /* the buffer is used up: call emb_csv_fill */
    EMB_CSV_CELL,    /* text of the current cell; the cell is complete if `last` */
    EMB_CSV_ROW_END, /* `cells` and `blank` describe the row */
    EMB_CSV_BAD,     /* the row breaks the rules, see `reason`; its ROW_END still comes */
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
    uint32_t column;   /* 0-based, of the CELL */
    uint32_t cells;    /* of the row that ended */
    bool blank;        /* the row that ended was an empty line */
    bool row_quoted, row_bytes;
    const char *text;
    size_t text_length;
    bool last;
    const char *reason;
} emb_csv;

void emb_csv_init(emb_csv *csv, unsigned char *buffer, size_t capacity, char delimiter,
                  bool quotes);

/* Starts a new file with the same buffer. */
void emb_csv_reset(emb_csv *csv);

emb_csv_event emb_csv_next(emb_csv *csv);

/* Says that `length` bytes were read to the start of the buffer; 0: the file has ended. */
void emb_csv_fill(emb_csv *csv, size_t length);

#endif
