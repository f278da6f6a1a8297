/* source.h - the seam through which texts come in: a source yields pieces of texts, in order.
 *
 * A text may be larger than every buffer: it then comes as many pieces. Feeds the engine's submit.
 * A source reads through one block of memory that it is given, and allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_SOURCE_H
#define EMB_SOURCE_SOURCE_H

#include "base/json.h"
#include "source/csv.h"
#include "source/input.h"
#include "source/utf8.h"

typedef enum emb_source_format {
    EMB_SOURCE_AUTO = 0, /* by the suffix of the first file */
    EMB_SOURCE_TXT,      /* one text a line, LF or CRLF; an empty line is an empty text; a CR
                            anywhere else is a character of the text */
    EMB_SOURCE_WHOLE,    /* one text a file */
    EMB_SOURCE_JSONL,    /* one JSON object a line, the text in one of its fields */
    EMB_SOURCE_CSV,      /* RFC 4180 */
    EMB_SOURCE_TSV       /* the same with tabs */
} emb_source_format;

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
#define EMB_SOURCE_PATH_MAX   8 /* names in a.b.c */

typedef struct emb_source emb_source;

/* Names for a message: "id", "text". What does not fit is left out, and "..." says so. */
typedef struct emb_source_names {
    char text[96];
    uint8_t used;
    bool full;
} emb_source_names;

/* What the user should hear of texts that were encoded all the same. */
typedef struct emb_source_notes {
    uint64_t replaced, texts_replaced; /* characters that are not UTF-8; the texts that have some */
    uint64_t replaced_place, replaced_byte; /* the first: its text's user tag, its byte from 1 */
    uint8_t replaced_value;                 /* that byte */
    uint64_t texts_return, return_place;    /* txt: lines with a CR inside */
} emb_source_notes;

/* Gives the next pieces. count 0 with EMB_OK: the end. The pieces point into the source's buffer
 * and stay until the next call. The user tag of a piece is its place: see emb_source_place.
 * Fails: EMB_BAD_TEXT: the pieces given are valid and complete the text, but this last text is
 * a failed row for the reason in error; call again to go on. Anything else ends the job:
 * EMB_NOT_FOUND (cannot be read), EMB_BAD_FILE (no text, or rows that cannot be told apart),
 * EMB_INVALID_ARGUMENT (no such column), EMB_CANCELLED. */
typedef emb_status (*emb_source_next)(emb_source *source, emb_piece *pieces, uint32_t capacity,
                                      uint32_t *count, emb_error *error);

struct emb_source {
    emb_source_next next;
    emb_input input;
    emb_source_options options;
    size_t prompt_length;
    uint32_t texts_per_row; /* 1; of scored pairs 2 */
    uint32_t ended;         /* texts that emb_source_read has just ended */
    uint32_t file_seen;     /* whose rows the next two are about */
    uint32_t file_rows_bad; /* rows that failed */
    bool file_form_seen;    /* a row had the right form, be its text good or not */
    bool form_seen;         /* the same, in this call of next */
    emb_utf8 utf8;          /* of the current text */
    emb_source_notes notes;
    emb_source_names names; /* csv: columns of the header row; jsonl: fields of the line */
    bool file_open;
    bool begun;    /* a text was begun and not ended */
    uint64_t line; /* 1-based, where the current text begins */
    unsigned char *buffer;
    size_t capacity, begin, end;
    bool carriage_return; /* txt: the block before ended with one */
    bool return_inside;   /* txt: the current text has one that ends no line */
    emb_csv csv;
    uint32_t column;       /* csv: 0-based */
    uint32_t width;        /* csv: cells of the file's first row; 0: none was read yet */
    bool row_bad;          /* csv: the row being read breaks the rules */
    bool row_excess;       /* csv: it has text in a cell beyond the width */
    emb_csv_others others; /* csv: of the file's first row */
    emb_json json;
    unsigned char *text; /* jsonl: the unescaped text is gathered here */
    size_t text_capacity, text_length, text_given;
    bool text_seen; /* jsonl: in the current line */
    uint8_t phase;
    struct {
        const char *name;
        size_t length;
    } path[EMB_SOURCE_PATH_MAX]; /* jsonl: the names in a.b.c */
    uint32_t path_count, path_matched, names_depth;
};

/* Bytes of memory that emb_source_open wants; more makes larger blocks. */
#define EMB_SOURCE_BYTES (160u << 10)

/* Needs: memory of EMB_SOURCE_BYTES, options and paths that outlive the source.
 * Fails: EMB_NOT_FOUND, EMB_INVALID_ARGUMENT (formats that differ, an unknown one). */
emb_status emb_source_open(emb_source *source, const emb_source_options *options,
                           const char *const *paths, uint32_t paths_count, int stop_descriptor,
                           void *memory, emb_error *error);
void emb_source_close(emb_source *source);

/* What every reader of texts calls: next(), which also counts the texts that it ends (`ended`) and
 * gives up where the first rows of a file all are of another form: EMB_BAD_FILE. */
emb_status emb_source_read(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error);

/* Bytes of all files whose texts were given: what was read, less what waits in the buffer. */
uint64_t emb_source_bytes_given(const emb_source *source);

/* The format that a file name stands for. Fails: EMB_INVALID_ARGUMENT (a suffix that is known and
 * not read, such as .gz). */
emb_status emb_source_format_of(emb_source_format *out, const char *path, emb_error *error);

/* Takes apart the user tag of a piece or row: which file, which line. */
void emb_source_place(uint64_t user, uint32_t *file, uint64_t *line);

/* ---- for the sources themselves -------------------------------------------------------------- */

typedef struct emb_piece_list {
    emb_piece *pieces;
    uint32_t capacity, count;
} emb_piece_list;

/* Room for a prompt, a piece and an end? */
bool emb_piece_list_full(const emb_piece_list *list);

/* Adds bytes to the current text, which begins (with its prompt) if it has not. */
void emb_source_add(emb_source *source, emb_piece_list *list, const void *data, size_t length);

/* Ends the current text (an empty one if nothing was added). Fails: EMB_BAD_TEXT (it is not UTF-8,
 * and that is to be an error): the text has ended all the same. */
emb_status emb_source_end(emb_source *source, emb_piece_list *list, emb_error *error);

/* Ends the current text, which fails for a reason of its own. */
void emb_source_end_bad(emb_source *source, emb_piece_list *list);

void emb_source_names_add(emb_source_names *names, const char *name, size_t length);

emb_status emb_source_next_txt(emb_source *source, emb_piece *pieces, uint32_t capacity,
                               uint32_t *count, emb_error *error);
emb_status emb_source_next_jsonl(emb_source *source, emb_piece *pieces, uint32_t capacity,
                                 uint32_t *count, emb_error *error);
emb_status emb_source_next_csv(emb_source *source, emb_piece *pieces, uint32_t capacity,
                               uint32_t *count, emb_error *error);
emb_status emb_source_set_field(emb_source *source, const char *field, emb_error *error);

#endif
