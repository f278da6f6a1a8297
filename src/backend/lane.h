/* lane.h - what a lane works on: a tile of tokens, and scratch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_LANE_H
#define EMB_BACKEND_LANE_H

#include "backend/linear.h"
#include "backend/spec.h"

/* The tokens that go through a block together. */
typedef struct emb_tile {
    uint32_t tokens, chunks;
    const uint32_t *ids;    /* [tokens]; used by embed only */
    const uint32_t *starts; /* [chunks + 1], first is 0, last is tokens */
    uint32_t *indices;      /* the block that ids, starts and targets are in */
    void *kept; /* device memory where they stay until the pass is done; NULL: the lane's */
} emb_tile;

/* The most chunks that so many tokens can make; chunk_tokens_min as in emb_layer_spec. */
static inline uint32_t emb_chunks_max(uint32_t tokens, uint32_t chunk_tokens_min) {
    return tokens / chunk_tokens_min + 1;
}

/* The indices of up to so many tokens and chunks are one block of words, uploaded by one copy:
 * EMB_INDEX_HEAD words for the backend, starts [chunks + 1], ids [tokens], and targets [chunks]
 * right after the ids in use. */
#define EMB_INDEX_HEAD 4
static inline uint64_t emb_index_ids(uint32_t chunks) {
    return EMB_INDEX_HEAD + (uint64_t)chunks + 1;
}
static inline uint64_t emb_index_words(uint32_t tokens, uint32_t chunks) {
    return emb_index_ids(chunks) + tokens + chunks;
}

/* Grids on a device are sized for one of a few buckets: T tokens, the most a lane holds, T/2, T/4,
 * ... down to EMB_BUCKET_TOKENS_MIN. Gives a bucket's tokens; 0 past the last. */
#define EMB_BUCKETS_MAX       8
#define EMB_BUCKET_TOKENS_MIN 128
static inline uint32_t emb_bucket_tokens(uint32_t tokens_max, uint32_t bucket) {
    if (bucket >= EMB_BUCKETS_MAX) return 0;
    uint32_t tokens = (uint32_t)(((uint64_t)tokens_max + (1u << bucket) - 1) >> bucket);
    return bucket == 0 || tokens >= EMB_BUCKET_TOKENS_MIN ? tokens : 0;
}

/* Called with the input of every matrix before the matrix is applied; only by the CPU's f32
 * backends. Rows are `stride` values apart. */
typedef struct emb_observer {
    void (*see)(void *user, const emb_linear *linear, const float *in, size_t stride,
                uint32_t rows);
    void *user;
} emb_observer;

/* One lane's scratch: filled and used by the backend. */
typedef struct emb_lane_scratch {
    void *memory;                 /* booked by lane_layout, on the device where there is one */
    uint32_t tokens_max;          /* tokens that it was booked for */
    uint32_t chunk_tokens_min;    /* likewise; used by devices */
    void *state;                  /* [lane_state_bytes] in host memory, zeroed at open */
    const emb_observer *observer; /* NULL: none */
} emb_lane_scratch;

#endif
