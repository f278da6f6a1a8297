/* family.h - inside src/text/: the interface of a family of tokenizers, and what the shared readers
 * of its files offer it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_FAMILY_H
#define EMB_TEXT_FAMILY_H

#include "text/json_file.h"
#include "text/text.h"

#define EMB_TEXT_ID_NONE UINT32_MAX

/* Special tokens with a name of their own, in the reference's order. */
typedef enum emb_text_named {
    EMB_TEXT_BOS,
    EMB_TEXT_EOS,
    EMB_TEXT_UNK,
    EMB_TEXT_SEP,
    EMB_TEXT_PAD,
    EMB_TEXT_CLS,
    EMB_TEXT_MASK,
    EMB_TEXT_NAMED
} emb_text_named;

/* A class of the reference that sets itself up, whatever tokenizer.json says. */
typedef struct emb_text_class {
    const char *name;                        /* also with Fast appended */
    const char *named[EMB_TEXT_NAMED];       /* tokens, unless a file names them */
    uint32_t before, after;                  /* number of special tokens before and after a text */
    emb_text_named around[EMB_SPECIALS_MAX]; /* which ones: those before, then those after */
    uint32_t needed; /* bits of emb_text_named: those that must exist as tokens */
} emb_text_class;

/* The state of reading a tokenizer's files. */
typedef struct emb_text_reading {
    emb_text_spec *spec;
    const emb_text_hints *hints;
    const emb_text_class *builder;          /* NULL: tokenizer.json applies as it is */
    bool counts;                            /* only count the tokens */
    uint32_t capacity;                      /* of spec->added */
    uint32_t seen;                          /* tokens added so far, also beyond the capacity */
    bool has_decoder, has_extra;            /* which lists tokenizer_config.json has */
    emb_text_added named[EMB_TEXT_NAMED];   /* no bytes: none */
    char unknown[EMB_TEXT_ADDED_BYTES_MAX]; /* model.unk_token of tokenizer.json */
} emb_text_reading;

struct emb_text_family {
    const char *model;             /* model.type of tokenizer.json */
    const char *vocabulary;        /* a file that stands in for tokenizer.json: vocab.txt */
    const emb_text_class *classes; /* the last has no name */

    /* ---- files to a spec, in this order ---- */

    /* Sets the defaults of its classes. */
    void (*defaults)(emb_text_reading *reading);
    /* A key of tokenizer_config.json; *taken: it was one of the family's, and its value was read.
     */
    emb_status (*read_setting)(emb_text_reading *reading, emb_text_json *file, const char *key,
                               bool *taken, emb_error *error);
    /* "model" of tokenizer.json; where that counts as it stands, "normalizer" and "pre_tokenizer"
     * too, in any order. Refuses what it does not do. */
    emb_status (*read_part)(emb_text_reading *reading, emb_text_json *file, const char *key,
                            emb_error *error);
    /* Reads the vocabulary, each entry through emb_text_reading_entry, and completes the spec. */
    emb_status (*read_vocabulary)(emb_text_reading *reading, emb_error *error);

    /* ---- a spec at work: text.h says what each needs and gives ---- */

    void (*layout)(emb_tokenizer *tokenizer, const emb_text_spec *spec, bool shared,
                   emb_ledger *ledger);
    void (*share)(emb_tokenizer *tokenizer, const emb_tokenizer *loaded);
    emb_status (*load)(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_error *error);
    void (*begin)(emb_tokenizer *tokenizer);
    void (*feed)(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                 uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done);
};

/* ---- describe.c ------------------------------------------------------------------------------ */

/* Counts an entry of the vocabulary, and finds out whether it is one of the tokens that were named
 * or added. */
void emb_text_reading_entry(emb_text_reading *reading, const uint8_t *bytes, uint32_t length,
                            uint32_t id);

/* Fails if a token that the vocabulary must have is not there: EMB_BAD_FILE. */
emb_status emb_text_reading_require(const emb_text_reading *reading, uint32_t id, const char *what,
                                    const char *name, emb_error *error);

/* ---- added.c --------------------------------------------------------------------------------- */

/* Adds a token; an empty one is dropped. Fails: EMB_UNSUPPORTED. */
emb_status emb_text_added_put(emb_text_reading *reading, const emb_text_added *token,
                              emb_text_rank rank, uint32_t order, emb_error *error);

/* Removes duplicates and sorts by bytes, as emb_text_added_match needs. */
void emb_text_added_unite(emb_text_spec *spec);

/* Takes an entry of the vocabulary: an added token of the same bytes gets its id. */
void emb_text_added_match(emb_text_spec *spec, const uint8_t *bytes, uint32_t length, uint32_t id);

/* Numbers the tokens that the vocabulary lacks, in the order in which they were added. */
void emb_text_added_number(emb_text_spec *spec, uint32_t rows);

/* ---- config.c -------------------------------------------------------------------------------- */

/* Finds the class that reads the files, and with it the family; neither if tokenizer.json applies
 * as it is. Fails: EMB_UNSUPPORTED, EMB_BAD_FILE. */
emb_status emb_text_find_class(emb_text_reading *reading, const char *directory, emb_error *error);

/* Reads tokenizer_config.json, special_tokens_map.json and added_tokens.json, and adds what they
 * list. */
emb_status emb_text_read_config(emb_text_reading *reading, const char *directory, emb_error *error);

/* Sets the bytes of a token, cut to its capacity. */
void emb_text_set_bytes(emb_text_added *token, const char *text);

/* The value that comes next, if it is a token: "[CLS]", or {"content": "[CLS]", ...}, whose flags
 * default to the reference's. `special`: it is special whatever the file says. Any other value is
 * skipped and gives no bytes. */
emb_status emb_text_read_token(emb_text_json *file, emb_text_added *out, bool *flags, bool special,
                               emb_error *error);

/* The same for an object whose beginning was read; `id` is set where the object states one. */
emb_status emb_text_read_token_object(emb_text_json *file, emb_text_added *out, bool special,
                                      emb_error *error);

/* ---- tokenizer_json.c ------------------------------------------------------------------------ */

/* Finds the family of a tokenizer.json that applies as it is. Fails: EMB_UNSUPPORTED. */
emb_status emb_text_find_family(emb_text_reading *reading, emb_error *error);

/* Reads all of tokenizer.json but the vocabulary. */
emb_status emb_text_read_json(emb_text_reading *reading, emb_error *error);

/* Takes one entry of a vocabulary. */
typedef emb_status (*emb_text_entry)(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                                     emb_error *error);

/* Calls `take` with every entry of model.vocab, an object, in the file's order. Fails as `take`
 * does, and EMB_BAD_FILE, with path and place. */
emb_status emb_text_json_entries(const char *path, emb_text_entry take, void *user,
                                 emb_error *error);

/* ---- describe.c: the registry ---------------------------------------------------------------- */

extern const emb_text_family *const emb_text_families[]; /* ends with NULL */

#endif
