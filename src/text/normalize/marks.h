/* marks.h - inside src/text/: the combining marks after a character, in canonical order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_NORMALIZE_MARKS_H
#define EMB_TEXT_NORMALIZE_MARKS_H

#include <stdint.h>

/* Marks held back, as a later one may have to go before them. */
typedef struct emb_text_marks {
    uint32_t count;
    uint32_t *list; /* class << 24 | code point */
} emb_text_marks;

/* Gives class << 24 | code of a mark that decomposition keeps, 0 of any other character. */
uint32_t emb_text_mark(uint32_t code);

/* Inserts a mark by its class, after those of the same class; of more than `most` only the first
 * are kept. */
void emb_text_marks_insert(emb_text_marks *marks, uint32_t most, uint32_t mark);

#endif
