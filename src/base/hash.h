/* hash.h - hashes of bytes, and random numbers by their place: for tables, checksums, shuffles and
 * dropout; never against somebody who chooses the input.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_HASH_H
#define EMB_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define EMB_HASH_START UINT64_C(0xCBF29CE484222325)

/* Continues a hash, or EMB_HASH_START, over more bytes: FNV-1a (Fowler, Noll, Vo). */
static inline uint64_t emb_hash_bytes(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *at = (const unsigned char *)bytes; /* C++ wants it */
    for (size_t i = 0; i < count; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001B3);
    return hash;
}

/* Mixes a value into a key; so also random number `value` of the stream `key`, whichever came
 * before: SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t emb_hash_mix(uint64_t key, uint64_t value) {
    uint64_t z = key + (value + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

#endif
