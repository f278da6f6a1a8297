/* sort.h - sorts an array in place, without memory of its own; no input makes it slow.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_SORT_H
#define EMB_BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>

#define EMB_SORT_ITEM_MAX 256 /* bytes */

/* Whether `a` stands before `b`. Where neither stands before the other, their order is left open.
 */
typedef bool (*emb_sort_before)(const void *a, const void *b);

/* Sorts `count` items of `size` bytes each, at most EMB_SORT_ITEM_MAX. */
void emb_sort(void *items, size_t count, size_t size, emb_sort_before before);

#endif
