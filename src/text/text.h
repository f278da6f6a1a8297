/* text.h - bytes to token ids: the WordPiece tokenizer, resumable at any byte, in constant memory.
 *
 * Fed by engine, feeds the window's token table (through engine). Knows no model, plan or device.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_TEXT_H
#define EMB_TEXT_TEXT_H

#include "base/ledger.h"

#define EMB_TEXT_PATH_MAX        512
#define EMB_TEXT_ADDED_MAX       64 /* literal special tokens that a tokenizer may have */
#define EMB_TEXT_ADDED_BYTES_MAX 64 /* longest of them */

/* What the tokenizer file says, and the sizes that its tables will have. A value: no pointers.
 * Filled by emb_text_describe in one pass over the file; emb_text_load reads the file again. */
typedef struct emb_text_spec {
    char path[EMB_TEXT_PATH_MAX]; /* tokenizer.json or vocab.txt */
    uint32_t is_json;
    uint32_t lowercase, strip_accents, chinese_chars, clean_text; /* 0 or 1 */
    uint32_t vocabulary; /* entries; ids are below ids_end */
    uint32_t ids_end;
    uint64_t vocabulary_bytes;                /* of all entries */
    uint32_t word_chars_max;                  /* longer words are unknown (100) */
    char continuing_prefix[16];               /* "##" */
    uint32_t unknown_id, before_id, after_id; /* [UNK]; [CLS] or <s>; [SEP] or </s> */
    uint32_t added_count;                     /* literal tokens such as [MASK] (special or not) */
    struct {
        char bytes[EMB_TEXT_ADDED_BYTES_MAX];
        uint32_t length, id;
        uint8_t left_strip, right_strip, single_word, normalized;
    } added[EMB_TEXT_ADDED_MAX];
} emb_text_spec;

/* Reads `directory`/tokenizer.json, or vocab.txt (with tokenizer_config.json's do_lower_case and so
 * on, if it is there). Truncation and padding in tokenizer.json are ignored.
 * Fails: EMB_NOT_FOUND (neither file), EMB_BAD_FILE, EMB_UNSUPPORTED (a model, normalizer,
 * pre-tokenizer or post-processor that is not BERT's WordPiece), naming file, key and value. */
emb_status emb_text_describe(emb_text_spec *out, const char *directory, emb_error *error);

typedef struct emb_text_tables emb_text_tables; /* vocabulary index and word cache, in the arena */
typedef struct emb_text_state emb_text_state;   /* of the text being read, in the arena */

typedef struct emb_tokenizer {
    emb_text_tables *tables;
    emb_text_state *state;
} emb_tokenizer;

/* Books (or binds) tables and state under the item "tokenizer". Sizes depend on the spec alone. */
void emb_text_layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_ledger *ledger);

/* Books (or binds) a further tokenizer, which shares the tables of another but for the word cache,
 * so that both may read at the same time. */
void emb_text_layout_shared(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                            emb_ledger *ledger);

/* Completes such a tokenizer from one that is loaded, and must outlive it. */
void emb_text_share(emb_tokenizer *tokenizer, const emb_tokenizer *loaded);

/* Fills the tables from the file; needs no memory beyond what layout booked.
 * Fails: EMB_BAD_FILE (also if the file changed since describe), EMB_IO. */
emb_status emb_text_load(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_error *error);

/* Forgets whatever text was being read. Does not touch the word cache. */
void emb_text_begin(emb_tokenizer *tokenizer);

/* Reads bytes of the text and writes ids, until the bytes are used up or `ids` is full; call again
 * with the rest. With `last`, *done becomes true once all bytes are used and every id is out.
 * No special tokens are put around the text. Invalid UTF-8 is replaced as Python's
 * bytes.decode(errors="replace") does. Never fails; time linear in the bytes, for any input. Uses
 * the state of `tokenizer` only: one text at a time. */
void emb_text_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                   uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done);

#endif
