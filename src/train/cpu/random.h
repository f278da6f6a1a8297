/* random.h - random numbers by their place: which values dropout leaves out follows from the step,
 * the text, the token and the column alone, so that a value computed again is dropped again, in
 * whatever tile and by whatever thread.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_RANDOM_H
#define EMB_TRAIN_CPU_RANDOM_H

#include "base/hash.h"

/* Where dropout is at work. */
typedef enum emb_drop_site {
    EMB_DROP_EMBEDDING,
    EMB_DROP_WEIGHTS, /* of the attention */
    EMB_DROP_ATTENTION,
    EMB_DROP_FFN
} emb_drop_site;

/* 32 random bits for place i of a key's row: the finalizer of MurmurHash3 over both halves. */
static inline uint32_t emb_random_bits(uint64_t key, uint32_t i) {
    uint32_t x = (uint32_t)key ^ (i * 0x9e3779b9u);
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = ((x ^ (x >> 13)) + (uint32_t)(key >> 32)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

/* Bits below this are dropped. */
static inline uint32_t emb_random_limit(float share) {
    return (uint32_t)((double)share * 4294967296.0);
}

#endif
