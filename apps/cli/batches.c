/* batches.c - the shuffled order by random numbers of a counter, and the choice of examples that
 * have no text in common.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/batches.h"

#include <string.h>

#include "base/hash.h"

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

uint64_t emb_batches_bytes(emb_batches *b) {
    b->table = 0;
    if (b->no_duplicates) {
        uint64_t texts = (uint64_t)b->size * b->examples->texts;
        for (b->table = 16; b->table < 2 * texts;) b->table *= 2;
    }
    return round_up((uint64_t)b->examples->count * sizeof *b->order) +
           round_up((uint64_t)b->size * sizeof *b->rows) + b->table * sizeof *b->texts;
}

void emb_batches_bind(emb_batches *b, void *memory) {
    unsigned char *at = memory;
    b->order = memory;
    at += round_up((uint64_t)b->examples->count * sizeof *b->order);
    b->rows = (uint32_t *)at;
    at += round_up((uint64_t)b->size * sizeof *b->rows);
    b->texts = (uint64_t *)at;
}

uint64_t emb_batches_per_epoch(const emb_batches *b) {
    uint32_t count = b->examples->count;
    return count / b->size + (count % b->size >= b->least);
}

void emb_batches_begin(emb_batches *b, uint32_t epoch) {
    uint32_t count = b->examples->count;
    uint64_t stream = emb_hash_mix(b->seed, epoch);
    b->epoch = epoch;
    b->next = 0;
    if (b->classes) {
        emb_classes_order(b->order, b->classes, stream, b->shuffles);
        return;
    }
    for (uint32_t i = 0; i < count; i++) b->order[i] = i;
    if (b->shuffles) emb_shuffle(b->order, count, stream);
}

/* ---- no text twice --------------------------------------------------------------------------- */

/* Two texts of one hash are taken for the same: their examples only wait for another
 * batch. */
static uint64_t hash_of(emb_text text) {
    uint64_t hash = emb_hash_bytes(EMB_HASH_START, text.data, text.length);
    return hash ? hash : 1; /* 0 is a free place */
}

/* The place of a hash in the table, or the free one where it belongs. */
static uint64_t *find(const emb_batches *b, uint64_t hash) {
    uint64_t at = emb_hash_mix(hash, 0);
    while (b->texts[at & (b->table - 1)] && b->texts[at & (b->table - 1)] != hash) at++;
    return &b->texts[at & (b->table - 1)];
}

/* Adds the texts of an example to the batch's, unless one is there. */
static bool fits(const emb_batches *b, uint32_t row) {
    uint32_t texts = b->examples->texts;
    for (uint32_t k = 0; k < texts; k++)
        if (*find(b, hash_of(emb_examples_text(b->examples, row, k)))) return false;
    for (uint32_t k = 0; k < texts; k++) {
        uint64_t hash = hash_of(emb_examples_text(b->examples, row, k));
        *find(b, hash) = hash;
    }
    return true;
}

/* Takes the first examples that fit. Those passed over keep their order and come first next time.
 */
static uint32_t take_different(emb_batches *b) {
    uint32_t taken = 0, passed = 0, *order = b->order + b->next;
    uint32_t left = b->examples->count - b->next;
    memset(b->texts, 0, b->table * sizeof *b->texts);
    for (uint32_t i = 0; i < left && taken < b->size; i++) {
        uint32_t row = order[i];
        if (fits(b, row))
            b->rows[taken++] = row;
        else
            order[passed++] = row;
    }
    memmove(order + taken, order, passed * sizeof *order);
    b->next += taken;
    return taken;
}

/* ---- batches --------------------------------------------------------------------------------- */

static uint32_t take(emb_batches *b) {
    if (b->no_duplicates) return take_different(b);
    uint32_t left = b->examples->count - b->next, count = left < b->size ? left : b->size;
    while (b->classes && count < left && !b->classes->begins[b->next + count]) count--;
    memcpy(b->rows, b->order + b->next, count * sizeof *b->rows);
    b->next += count;
    return count;
}

/* Where fewer than `least` can be taken of all that are left, the epoch ends. */
uint32_t emb_batches_next(emb_batches *b) {
    for (uint32_t ends = 0; ends < 2; ends++) {
        uint32_t count = b->next < b->examples->count ? take(b) : 0;
        if (count >= b->least) return count;
        emb_batches_begin(b, b->epoch + 1);
    }
    return 0;
}
