/* classes.c - sorts examples by class (by heap, because qsort may allocate), and shuffles units of
 * two or three of a class.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/classes.h"

#include "base/hash.h"

/* From 0 to below - 1; some are likelier than others by at most `below` in 2^32. */
static uint32_t random_below(uint64_t stream, uint64_t at, uint32_t below) {
    return (uint32_t)((emb_hash_mix(stream, at) >> 32) * below >> 32);
}

void emb_shuffle(uint32_t *values, uint32_t count, uint64_t stream) {
    for (uint32_t i = count; i-- > 1;) {
        uint32_t other = random_below(stream, i, i + 1), value = values[i];
        values[i] = values[other];
        values[other] = value;
    }
}

uint64_t emb_classes_bytes(const emb_classes *c) {
    return (4 * (uint64_t)c->count + 1) * sizeof(uint32_t) + c->count;
}

void emb_classes_bind(emb_classes *c, void *memory) {
    c->rows = memory;
    c->numbers = c->rows + c->count;
    c->units = c->numbers + c->count;
    c->firsts = c->units + c->count;
    c->begins = (uint8_t *)(c->firsts + c->count + 1);
}

/* ---- by class -------------------------------------------------------------------------------- */

static bool before(const uint64_t *hashes, uint32_t a, uint32_t b) {
    return hashes[a] != hashes[b] ? hashes[a] < hashes[b] : a < b;
}

/* Sifts the row at `root` down until the heap property holds. */
static void sink(uint32_t *rows, const uint64_t *hashes, uint32_t root, uint32_t count) {
    uint32_t moving = rows[root];
    while (2 * (uint64_t)root + 1 < count) {
        uint32_t child = 2 * root + 1;
        if (child + 1 < count && before(hashes, rows[child], rows[child + 1])) child++;
        if (!before(hashes, moving, rows[child])) break;
        rows[root] = rows[child];
        root = child;
    }
    rows[root] = moving;
}

void emb_classes_sort(emb_classes *c, const uint64_t *hashes) {
    uint32_t *rows = c->rows;
    for (uint32_t i = 0; i < c->count; i++) rows[i] = i;
    for (uint32_t i = c->count / 2; i-- > 0;) sink(rows, hashes, i, c->count);
    for (uint32_t end = c->count; end-- > 1;) {
        uint32_t last = rows[0];
        rows[0] = rows[end];
        rows[end] = last;
        sink(rows, hashes, 0, end);
    }
    c->classes = c->pairs = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        bool first = i == 0 || hashes[rows[i]] != hashes[rows[i - 1]];
        if (first) c->firsts[c->classes++] = i;
        if (!first && i - c->firsts[c->classes - 1] == 1) c->pairs++;
        c->numbers[rows[i]] = c->classes - 1;
    }
    c->firsts[c->classes] = c->count;
}

/* The rows of each class in the order of the files, whatever an epoch before made of them. */
static void sort_again(emb_classes *c) {
    uint32_t *next = c->units; /* free until units are found */
    for (uint32_t k = 0; k < c->classes; k++) next[k] = c->firsts[k];
    for (uint32_t row = 0; row < c->count; row++) c->rows[next[c->numbers[row]]++] = row;
}

/* ---- an order -------------------------------------------------------------------------------- */

/* Examples of the unit that begins at `at`: the last of an odd class has three. */
static uint32_t unit_length(const emb_classes *c, uint32_t at) {
    uint32_t class = c->numbers[c->rows[at]], left = c->firsts[class + 1] - at;
    return left <= EMB_CLASSES_TOGETHER ? left : 2;
}

void emb_classes_order(uint32_t *order, emb_classes *c, uint64_t stream, bool shuffles) {
    uint32_t units = 0, filled = 0;
    sort_again(c);
    for (uint32_t k = 0; k < c->classes && shuffles; k++)
        emb_shuffle(c->rows + c->firsts[k], c->firsts[k + 1] - c->firsts[k],
                    emb_hash_mix(stream, k));
    for (uint32_t at = 0; at < c->count; at += unit_length(c, at)) c->units[units++] = at;
    if (shuffles) emb_shuffle(c->units, units, stream);
    for (uint32_t u = 0; u < units; u++) {
        uint32_t length = unit_length(c, c->units[u]);
        for (uint32_t i = 0; i < length; i++) {
            c->begins[filled] = i == 0;
            order[filled++] = c->rows[c->units[u] + i];
        }
    }
}
