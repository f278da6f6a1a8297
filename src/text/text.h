/* text.h - bytes to token ids: a model's tokenizer, resumable at any byte, in constant memory.
 *
 * Fed by engine, feeds the window's token table (through engine). Knows no model, plan or device.
 * What is specific to a kind of tokenizer is in its family's folder; families.h lists them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_TEXT_H
#define EMB_TEXT_TEXT_H

#include <stdbool.h>

#include "base/ledger.h"
#include "text/families.h"

#define EMB_TEXT_PATH_MAX        512
#define EMB_TEXT_ADDED_BYTES_MAX 64 /* longest added token, its NUL included */

/* Where a token was added, in the order in which those outside the vocabulary get their ids. */
typedef enum emb_text_rank {
    EMB_TEXT_RANK_FILE,     /* tokenizer.json, if it applies as it is */
    EMB_TEXT_RANK_LISTED,   /* a list by ids: added_tokens_decoder, added_tokens.json */
    EMB_TEXT_RANK_NAMED,    /* unk_token and so on, in the reference's order */
    EMB_TEXT_RANK_SPECIFIC, /* another ..._token of this model */
    EMB_TEXT_RANK_EXTRA     /* additional_special_tokens */
} emb_text_rank;

/* A token that is searched for in the text, such as [MASK], special or not. */
typedef struct emb_text_added {
    char bytes[EMB_TEXT_ADDED_BYTES_MAX];
    uint32_t length, id;
    uint32_t order; /* within its rank; for a listed token the id in the list */
    uint32_t place; /* its number in reading order */
    uint8_t rank;   /* emb_text_rank */
    uint8_t left_strip, right_strip, single_word, normalized;
} emb_text_added;

/* What the model's other files say of its tokenizer. */
typedef struct emb_text_hints {
    const char *tokenizer_class; /* of config.json; "" or NULL: not stated */
    const char *default_class;   /* the model's default, if no file states one */
    bool lowercase;              /* texts are lowercased first, whatever the tokenizer does */
    uint32_t rows;               /* of the embedding table: ids below it can be encoded */
} emb_text_hints;

typedef struct emb_text_family emb_text_family; /* how it works: family.h */

/* What the tokenizer's files say, and the sizes that its tables will have. Filled by
 * emb_text_describe; emb_text_load reads the vocabulary again. */
typedef struct emb_text_spec {
    const emb_text_family *family;
    char path[EMB_TEXT_PATH_MAX]; /* tokenizer.json, or the family's vocabulary file */
    bool is_json;
    uint32_t vocabulary;   /* entries; ids are below ids_end */
    uint32_t ids_end;      /* end of all ids, added tokens included */
    emb_specials specials; /* around every chunk */
    uint32_t added_count;
    emb_text_added *added; /* [added_count], the caller's */
    emb_text_own own;      /* the family's */
} emb_text_spec;

/* Gives how many emb_text_added emb_text_describe needs room for: as many as the files list, used
 * or not. Fails as emb_text_describe does, as far as it reads. */
emb_status emb_text_count_added(uint32_t *count, const char *directory, const emb_text_hints *hints,
                                emb_error *error);

/* Reads `directory`/tokenizer.json, or vocab.txt, with tokenizer_config.json, and
 * special_tokens_map.json and added_tokens.json where that has no added_tokens_decoder. As in
 * transformers 5, the class of the tokenizer decides what applies: one that sets itself up
 * (BertTokenizer, MPNetTokenizer) takes only the vocabulary and added tokens from tokenizer.json,
 * and case, accents and special tokens from tokenizer_config.json; PreTrainedTokenizerFast (or
 * TokenizersBackend) takes tokenizer.json as it is. Its truncation and padding are ignored. `added`
 * has room for `capacity` tokens and lives as long as the spec.
 * Fails: EMB_NOT_FOUND (neither file), EMB_BAD_FILE, EMB_UNSUPPORTED (a class or model of no
 * family, another normalizer, pre-tokenizer or post-processor than the family's), naming file, key
 * and value. */
emb_status emb_text_describe(emb_text_spec *out, emb_text_added *added, uint32_t capacity,
                             const char *directory, const emb_text_hints *hints, emb_error *error);

typedef struct emb_tokenizer {
    const emb_text_family *family;
    void *tables; /* vocabulary and caches, in the arena; the family's */
    void *state;  /* of the text being read, in the arena; the family's */
} emb_tokenizer;

/* Books (or binds) tables and state under the item "tokenizer". Sizes depend only on the spec. */
void emb_text_layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_ledger *ledger);

/* Books (or binds) a further tokenizer, which shares another's tables except its caches, so that
 * both can be used at the same time. */
void emb_text_layout_shared(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                            emb_ledger *ledger);

/* Completes such a tokenizer from a loaded one, which must outlive it. */
void emb_text_share(emb_tokenizer *tokenizer, const emb_tokenizer *loaded);

/* Fills the tables from the file; needs no memory beyond what layout booked.
 * Fails: EMB_BAD_FILE (also if the file changed since describe), EMB_IO. */
emb_status emb_text_load(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_error *error);

/* Discards the text being read. Keeps caches. */
void emb_text_begin(emb_tokenizer *tokenizer);

/* Reads bytes of the text and writes ids, until the bytes are used up or `ids` is full; call again
 * with the rest. With `last`, *done becomes true once all bytes are used and every id is written.
 * No special tokens are put around the text. Invalid UTF-8 is replaced as Python's
 * bytes.decode(errors="replace") does. Never fails; time linear in the bytes, for any input. Uses
 * the state of `tokenizer` only: one text at a time. */
void emb_text_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                   uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done);

/* Puts the special tokens around the `count` ids at ids + specials->before, in an array with room
 * for all. Gives their number, special ones included. (wrap.c) */
uint32_t emb_text_wrap(const emb_specials *specials, uint32_t *ids, uint32_t count);

/* Tokens of the shortest possible chunk: at least 1, as a chunk without tokens is not encoded.
 * (wrap.c) */
uint32_t emb_text_chunk_min(const emb_specials *specials);

#endif
