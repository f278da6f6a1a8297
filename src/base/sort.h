/* sort.h - sorts an array in place, without extra memory, in O(n log n) for any input; and orders
 * ranges by their length, or numbers by keys, in O(n).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_SORT_H
#define EMB_BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Fills order [count] with the numbers of the ranges [starts[i], starts[i + 1]), the longest first,
 * those of one length as they came: a counting sort, linear, with counts [longest + 1] to work in.
 * Needs: no range is longer than `longest`. */
void emb_sort_by_length(uint32_t *order, uint32_t *counts, const uint32_t *starts, uint32_t count,
                        uint32_t longest);

/* Fills order [count] with the numbers 0 .. count - 1, the least keys[number] first, those of one
 * key as they came: a radix sort, linear, with work [count]. */
void emb_sort_by_key(uint32_t *order, uint32_t *work, const uint32_t *keys, uint32_t count);

#endif
