/* marks.h - inside src/text/: the marks behind a character, in canonical order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_NORMALIZE_MARKS_H
#define EMB_TEXT_NORMALIZE_MARKS_H

#include <stdint.h>

/* Marks that wait for one that may stand before them. */
typedef struct emb_text_marks {
    uint32_t count;
    uint32_t *list; /* class << 24 | code point */
} emb_text_marks;

/* Gives class << 24 | code of a mark that decomposition keeps, 0 of any other character. */
uint32_t emb_text_mark(uint32_t code);

/* Keeps marks in the order of their classes, equal ones as they came, and of more than `most` the
 * first. */
void emb_text_marks_insert(emb_text_marks *marks, uint32_t most, uint32_t mark);

#endif
