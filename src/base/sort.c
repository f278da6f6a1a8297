/* sort.c - heap sort, and a counting sort of ranges by their length.
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
