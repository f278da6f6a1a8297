/* example_rows.h - what the readers of tables and of JSON Lines give examples.c: texts piece by
 * piece, rows, and what is wrong with one.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_EXAMPLE_ROWS_H
#define EMB_SOURCE_EXAMPLE_ROWS_H

#include "source/examples.h"

#define EMB_EXAMPLE_LABEL (EMB_EXAMPLES_NAME + 8)

typedef struct emb_example_rows {
    emb_examples *out;
    bool fills; /* false: counts alone */
    bool named; /* the message of the failure names its file */
    uint32_t count;
    uint64_t bytes;
    /* of the file at hand */
    const char *path;
    emb_input input;
    void *buffer;                                         /* [EMB_SOURCE_BYTES] */
    uint32_t texts;                                       /* of its rows */
    char labels[EMB_EXAMPLES_COLUMNS][EMB_EXAMPLE_LABEL]; /* of them, as messages call them */
    /* of the row at hand */
    bool seen[EMB_EXAMPLES_COLUMNS];
    uint64_t line;
    char fault[160]; /* the first that was found; empty: none */
    char score_text[40];
    uint32_t score_length; /* of all of it, or of the label */
    bool labelled;         /* there is a label, whatever its length */
    uint64_t label;        /* its hash so far */
    /* of the text at hand */
    uint32_t which;
    uint64_t text_bytes;
    bool blank;
    emb_utf8 utf8;
} emb_example_rows;

/* Notes what is wrong with the row, unless something is already. */
void emb_example_fault(emb_example_rows *rows, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The file's rows have so many texts, `texts`: as those of all files must. Fails: EMB_BAD_FILE. */
emb_status emb_example_texts_found(emb_example_rows *rows, emb_error *error);

/* Text number `which` of the row begins, goes on, ends. Fails: EMB_BAD_FILE (the file has changed
 * since it was looked through). */
void emb_example_text_begin(emb_example_rows *rows, uint32_t which, bool nul_is_text);
emb_status emb_example_text_add(emb_example_rows *rows, const char *bytes, size_t length,
                                emb_error *error);
void emb_example_text_end(emb_example_rows *rows);

/* A piece of what should be the score, or the label. */
void emb_example_score_add(emb_example_rows *rows, const char *bytes, size_t length);

/* The row has ended: it counts, unless `fault` says by then why it cannot.
 * Fails: EMB_BAD_FILE (changed). */
emb_status emb_example_row_end(emb_example_rows *rows, emb_error *error);

/* Forgets the row. */
void emb_example_row_begin(emb_example_rows *rows);

/* What --columns is by default, by kind, and how a message says what it may be. */
typedef struct emb_example_form {
    const char *usual, *wanted, *states;
    uint32_t least, most; /* names */
} emb_example_form;
const emb_example_form *emb_example_form_of(emb_examples_kind kind);

/* The names stated as "A,B,C". Fails: EMB_INVALID_ARGUMENT (too many, too few, too long, an empty
 * one, one twice). */
typedef struct emb_example_names {
    char names[EMB_EXAMPLES_COLUMNS][EMB_EXAMPLES_NAME];
    uint32_t count;
} emb_example_names;
emb_status emb_example_names_parse(emb_example_names *names, const emb_examples *examples,
                                   emb_error *error);

/* Whether a name is one of those that hard negatives have. */
bool emb_example_is_negative(const char *name);

/* The open file's rows from its beginning to its end: after the columns were found. */
emb_status emb_example_read_table(emb_example_rows *rows, emb_error *error);
emb_status emb_example_read_json(emb_example_rows *rows, emb_error *error);

/* Opens rows->path anew. Fails: EMB_NOT_FOUND, EMB_BAD_FILE. */
emb_status emb_example_reopen(emb_example_rows *rows, emb_error *error);

#endif
