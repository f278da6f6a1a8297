/* wordpiece.h - the WordPiece family's interface to the rest of src/text/: BERT's normalizer and
 * pre-tokenizer, then longest matches in a vocabulary.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_WORDPIECE_WORDPIECE_H
#define EMB_TEXT_WORDPIECE_WORDPIECE_H

#include <stdint.h>

#include "text/normalize/bert.h"

typedef struct emb_wordpiece_spec {
    emb_text_bert normalizer;
    uint32_t word_chars_max;    /* longer words are unknown */
    char continuing_prefix[16]; /* "##" */
    uint32_t unknown_id;        /* [UNK] */
    uint64_t vocabulary_bytes;  /* of all entries */
} emb_wordpiece_spec;

extern const struct emb_text_family emb_text_wordpiece;

#endif
