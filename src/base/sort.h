/* sort.h - sorts an array in place, without extra memory, in O(n log n) for any input.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_SORT_H
#define EMB_BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>

#define EMB_SORT_ITEM_MAX 256 /* bytes */

/* Whether `a` sorts before `b`. Not stable: the order of equal items is unspecified.
 */
typedef bool (*emb_sort_before)(const void *a, const void *b);

/* Sorts `count` items of one size, at most EMB_SORT_ITEM_MAX bytes, which the compiler checks. */
#define emb_sort(items, count, size, before)                                                       \
    do {                                                                                           \
        _Static_assert((size) <= EMB_SORT_ITEM_MAX, "an item is too large to sort");               \
        emb_sort_items(items, count, size, before);                                                \
    } while (0)
void emb_sort_items(void *items, size_t count, size_t size, emb_sort_before before);

#endif
