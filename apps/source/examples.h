/* examples.h - examples to train on, held in memory: some texts each, and a score or a class if so
 * asked.
 *
 * Feeds `train`. The files are looked through once, which finds every fault and counts rows and
 * bytes, so that the memory can be booked; then they are read into it. A table, JSON Lines, or of
 * single texts the lines of a file.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_EXAMPLES_H
#define EMB_SOURCE_EXAMPLES_H

#include "source/source.h"

#define EMB_EXAMPLES_COLUMNS 32 /* texts of an example and its score, at most */
#define EMB_EXAMPLES_NAME    40

typedef enum emb_examples_kind {
    EMB_EXAMPLES_GROUPS,  /* an anchor, a positive, and any number of negatives */
    EMB_EXAMPLES_SCORED,  /* two texts and a score */
    EMB_EXAMPLES_COSINES, /* the same, where the score is a cosine: from -1 to 1 */
    EMB_EXAMPLES_TEXTS,   /* any number of texts, none of which is more than another */
    EMB_EXAMPLES_LABELLED /* a text and the label of its class */
} emb_examples_kind;

typedef struct emb_examples {
    emb_examples_kind kind;
    const char *const *paths; /* [paths_count], the caller's */
    uint32_t paths_count;
    uint32_t texts_least, texts_most; /* that an example may have; 0: any number */
    /* What holds the texts, as names or numbers; with the score "S,A,B", with the label "TEXT,L".
     * NULL: anchor,positive and all whose names begin with "negative" (a table without a header
     * row: all columns); score,sentence1,sentence2 (5,6,7); text, or the only column; text,label
     * (1,2). */
    const char *columns;
    const char *columns_option; /* where the user states them, for messages */
    emb_source_options options; /* format (AUTO: by the suffix, else a table), delimiter, ... */
    int stop_descriptor;        /* -1: none */

    uint32_t count;          /* examples */
    uint32_t texts;          /* of each */
    uint64_t bytes;          /* of all texts */
    uint64_t replaced;       /* texts that hold what is not UTF-8, read as U+FFFD */
    uint64_t *starts;        /* [count * texts] */
    uint32_t *lengths;       /* [count * texts] */
    float *scores;           /* [count], or NULL */
    uint64_t *classes;       /* [count] hashes of labels, or NULL */
    double lowest, highest;  /* scores */
    char *memory;            /* [bytes] */
    char replaced_place[96]; /* "FILE line 3" of the first of these */
} emb_examples;

/* Whether a file is JSON Lines: as stated, else by its suffix. */
bool emb_examples_is_json(emb_source_format stated, const char *path);

/* Whether the examples of a kind have scores. */
static inline bool emb_examples_are_scored(emb_examples_kind kind) {
    return kind == EMB_EXAMPLES_SCORED || kind == EMB_EXAMPLES_COSINES;
}

/* Looks all files through; kind to stop_descriptor are set. Needs: buffer of EMB_SOURCE_BYTES, for
 * this call. Fails: EMB_NOT_FOUND, EMB_BAD_FILE (a row that is no example, naming file and line;
 * no row at all), EMB_INVALID_ARGUMENT (columns that are not there), EMB_CANCELLED. */
emb_status emb_examples_inspect(emb_examples *examples, void *buffer, emb_error *error);

/* Bytes of memory that reading needs, once inspected. */
uint64_t emb_examples_bytes(const emb_examples *examples);

/* Reads the files into memory, of emb_examples_bytes. Fails: as inspect; EMB_BAD_FILE if a file has
 * changed since. */
emb_status emb_examples_read(emb_examples *examples, void *memory, void *buffer, emb_error *error);

/* Text number `which` of an example. */
static inline emb_text emb_examples_text(const emb_examples *examples, uint32_t row,
                                         uint32_t which) {
    uint64_t at = (uint64_t)row * examples->texts + which;
    return (emb_text){.data = examples->memory + examples->starts[at],
                      .length = examples->lengths[at]};
}

#endif
