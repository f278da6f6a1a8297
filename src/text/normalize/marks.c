/* marks.c - the canonical order of combining marks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/normalize/marks.h"

#include <string.h>

#include "text/normalize/unicode.h"

#define FIRST_MARK 0x300u

uint32_t emb_text_mark(uint32_t code) {
    if (code < FIRST_MARK) return 0;
    uint32_t low = 0, high = emb_text_classes_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (EMB_TEXT_CODE(emb_text_classes[middle]) < code)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == emb_text_classes_count || EMB_TEXT_CODE(emb_text_classes[low]) != code) return 0;
    return emb_text_classes[low];
}

void emb_text_marks_insert(emb_text_marks *marks, uint32_t most, uint32_t mark) {
    uint32_t at = marks->count;
    while (at > 0 && marks->list[at - 1] >> 24 > mark >> 24) at--;
    if (at == most) return;
    uint32_t moved = (marks->count < most ? marks->count : most - 1) - at;
    memmove(marks->list + at + 1, marks->list + at, moved * sizeof *marks->list);
    marks->list[at] = mark;
    marks->count = at + moved + 1;
}
