/* sort.c - heap sort, a counting sort of ranges by their length, a radix sort by keys.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/sort.h"

#include <string.h>

void emb_sort_items(void *items, size_t count, size_t size, emb_sort_before before) {
    unsigned char *at = items, moving[EMB_SORT_ITEM_MAX];
    for (size_t left = count / 2, end = count; end > 1;) {
        if (left > 0) {
            memcpy(moving, at + --left * size, size);
        } else {
            memcpy(moving, at + --end * size, size);
            memcpy(at + end * size, at, size);
        }
        size_t hole = left;
        for (size_t child; (child = 2 * hole + 1) < end; hole = child) {
            if (child + 1 < end && before(at + child * size, at + (child + 1) * size)) child++;
            if (!before(moving, at + child * size)) break;
            memcpy(at + hole * size, at + child * size, size);
        }
        memcpy(at + hole * size, moving, size);
    }
}

void emb_sort_by_length(uint32_t *order, uint32_t *counts, const uint32_t *starts, uint32_t count,
                        uint32_t longest) {
    memset(counts, 0, ((size_t)longest + 1) * sizeof *counts);
    for (uint32_t i = 0; i < count; i++) counts[starts[i + 1] - starts[i]]++;
    uint32_t before = 0;
    for (uint32_t length = longest + 1; length-- > 0;) {
        uint32_t some = counts[length];
        counts[length] = before;
        before += some;
    }
    for (uint32_t i = 0; i < count; i++) order[counts[starts[i + 1] - starts[i]]++] = i;
}

/* One digit: to = from in the order of bits [shift, shift + DIGIT_BITS) of the keys. */
enum { DIGIT_BITS = 9, DIGITS = 1 << DIGIT_BITS };
static void sort_digit(uint32_t *to, const uint32_t *from, const uint32_t *keys, uint32_t count,
                       uint32_t shift) {
    uint32_t places[DIGITS] = {0}, before = 0;
    for (uint32_t i = 0; i < count; i++) places[keys[i] >> shift & (DIGITS - 1)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint32_t some = places[d];
        places[d] = before;
        before += some;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = from ? from[i] : i;
        to[places[keys[number] >> shift & (DIGITS - 1)]++] = number;
    }
}

void emb_sort_by_key(uint32_t *order, uint32_t *work, const uint32_t *keys, uint32_t count) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++) bits |= keys[i];
    /* an even number of digits, so that the last one ends in `order` */
    for (uint32_t shift = 0; shift == 0 || (shift < 32 && bits >> shift); shift += 2 * DIGIT_BITS) {
        sort_digit(work, shift ? order : NULL, keys, count, shift);
        if (shift + DIGIT_BITS < 32)
            sort_digit(order, work, keys, count, shift + DIGIT_BITS);
        else
            memcpy(order, work, count * sizeof *order);
    }
}
