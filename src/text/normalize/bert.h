/* bert.h - inside src/text/: BertNormalizer, as files state it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_NORMALIZE_BERT_H
#define EMB_TEXT_NORMALIZE_BERT_H

#include "base/error.h"

#define EMB_TEXT_AS_LOWERCASE (-2) /* strip_accents is null */

/* The steps applied to a text, 0 or 1 each. */
typedef struct emb_text_bert {
    int clean_text, chinese_chars, strip_accents, lowercase;
} emb_text_bert;

/* The reference's defaults. */
#define EMB_TEXT_BERT_DEFAULT ((emb_text_bert){1, 1, EMB_TEXT_AS_LOWERCASE, 1})

struct emb_text_json;

/* Reads the value that comes next: null (nothing is done), a BertNormalizer, or a Sequence of that
 * one. Fails: EMB_BAD_FILE, EMB_UNSUPPORTED (another). */
emb_status emb_text_bert_read(emb_text_bert *out, struct emb_text_json *file, emb_error *error);

/* Once all is read: strip_accents follows lowercase unless it was stated. */
static inline void emb_text_bert_settle(emb_text_bert *normalizer) {
    if (normalizer->strip_accents == EMB_TEXT_AS_LOWERCASE)
        normalizer->strip_accents = normalizer->lowercase;
}

#endif
