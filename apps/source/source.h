/* source.h - the input interface: a source yields pieces of texts, in order.
 *
 * A text may be larger than any buffer: it then comes as many pieces. Feeds the engine's submit. A
 * source reads through one block of memory, which it is given, and allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_SOURCE_H
#define EMB_SOURCE_SOURCE_H

#include "source/input.h"
#include "source/registry.h"
#include "source/utf8.h"

typedef struct emb_source_options {
    emb_source_format format;
    const char *field;  /* jsonl: "text" if NULL; "a.b" is b inside a */
    const char *column; /* csv: name or 1-based number; if NULL "text" or the only one */
    bool no_header;     /* csv: the first line is data */
    bool no_quotes;     /* csv: a quote is a character like any other */
    char delimiter;     /* csv: between cells; 0: a comma */
    uint32_t invalid;   /* what is not UTF-8: 0: becomes U+FFFD, 1: fails its row */
    const char *prompt; /* put before every text; NULL: none */
} emb_source_options;

#define EMB_SOURCE_PIECES_MIN 4 /* pieces that `next` must be given room for */

typedef struct emb_source emb_source;

/* What to tell the user about texts that were encoded nevertheless. */
typedef struct emb_source_notes {
    uint64_t replaced, texts_replaced; /* characters that are not UTF-8; the texts that have some */
    uint64_t nuls;                     /* among those characters */
    uint64_t replaced_place, replaced_byte; /* the first: its text's user tag, its byte from 1 */
    uint8_t replaced_value;                 /* that byte */
    uint64_t texts_return, return_place;    /* txt: lines with a CR inside */
} emb_source_notes;

/* Options that have a meaning for some formats only. */
typedef enum emb_source_takes {
    EMB_SOURCE_TAKES_FIELD = 1,
    EMB_SOURCE_TAKES_COLUMN = 2,
    EMB_SOURCE_TAKES_DELIMITER = 4,
    EMB_SOURCE_TAKES_NO_HEADER = 8,
    EMB_SOURCE_TAKES_NO_QUOTES = 16
} emb_source_takes;

/* What a format is. */
typedef struct emb_source_ops {
    const char *const *suffixes; /* of its files, NULL at the end; NULL: none */
    unsigned takes;              /* options: emb_source_takes */
    bool whole;                  /* not read by lines */
    bool nul_is_text;            /* a NUL byte is an ordinary character */
    size_t bytes;                /* of its own state: source->own, zeroed before open */
    /* Binds the rest of the memory. Fails: EMB_INVALID_ARGUMENT. */
    emb_status (*open)(emb_source *source, void *memory, size_t memory_bytes, emb_error *error);
    /* Gives the next pieces. count 0 with EMB_OK: the end. The pieces point into the source's
     * memory and are valid until the next call. The user tag of a piece encodes its place: see
     * emb_source_place. Fails: EMB_BAD_TEXT: the pieces given are valid and complete the text, but
     * this last text is a failed row for the reason in error; call again to continue. Anything else
     * ends the job: EMB_NOT_FOUND (cannot be read), EMB_BAD_FILE (no text, or rows that cannot be
     * told apart), EMB_INVALID_ARGUMENT (no such column), EMB_CANCELLED. */
    emb_status (*next)(emb_source *source, emb_piece *pieces, uint32_t capacity, uint32_t *count,
                       emb_error *error);
    /* Bytes read but not yet given. NULL: none. */
    size_t (*waiting)(const emb_source *source);
} emb_source_ops;

#define EMB_SOURCE_DECLARE(name, NAME) extern const emb_source_ops emb_source_##name##_ops;
EMB_SOURCES(EMB_SOURCE_DECLARE, EMB_SOURCE_DECLARE)

struct emb_source {
    const emb_source_ops *ops;
    void *own; /* the state of the format */
    emb_input input;
    emb_source_options options;
    size_t prompt_length;
    uint32_t texts_per_row; /* 1; of scored pairs 2 */
    uint32_t ended;         /* texts that emb_source_read has just ended */
    uint32_t file_seen;     /* whose rows the next two are about */
    uint32_t file_rows_bad; /* rows that failed */
    bool file_form_seen;    /* a row had the right form, be its text good or not */
    bool form_seen;         /* the same, in this call of next */
    bool file_open;
    bool begun;         /* a text was begun and not ended */
    bool return_inside; /* txt: the current text has a CR that ends no line */
    uint64_t line;      /* 1-based, where the current text begins */
    emb_utf8 utf8;      /* of the current text */
    emb_source_notes notes;
};

/* Bytes of memory that any source may be given; more makes larger blocks. */
#define EMB_SOURCE_BYTES (160u << 10)

/* Decodes the user tag of a piece or row: which file, which line. */
void emb_source_place(uint64_t user, uint32_t *file, uint64_t *line);

#endif
