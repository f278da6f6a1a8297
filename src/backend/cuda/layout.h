/* layout.h - what a CUDA lane and a matrix take on the device; plain C, without CUDA.
 *
 * The core books with it (also for a device that is not present), the module binds with it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_LAYOUT_H
#define EMB_BACKEND_CUDA_LAYOUT_H

#include "backend/backend.h"

/* Where things stand in emb_lane_scratch.buffers. */
enum {
    EMB_CUDA_LANE_MEMORY = 0, /* the lane's device memory */
    EMB_CUDA_LANE_TOKENS,     /* that it was booked for, as an integer */
    EMB_CUDA_LANE_STREAM,
    EMB_CUDA_LANE_FAILURE,    /* first cudaError_t since finish, as an integer */
    EMB_CUDA_LANE_DEVICE,     /* index, as an integer */
    EMB_CUDA_LANE_PROCESSORS, /* of the device, as an integer */
    EMB_CUDA_LANE_CAPABILITY  /* 90 for 9.0, as an integer */
};

/* A lane's device memory, cut. Attention and feed-forward never run at the same time, so `wide`
 * serves queries, keys and values as well as the intermediate. */
typedef struct emb_cuda_lane {
    uint32_t *counts;    /* [2] tokens, chunks */
    uint32_t *ids;       /* [tokens] */
    uint32_t *starts;    /* [chunks + 1] */
    uint32_t *targets;   /* [chunks] */
    uint32_t *positions; /* [tokens] */
    uint32_t *tiles;     /* attention's work list */
    void *wide;          /* [tokens, max(3 * hidden, intermediate)] */
    void *context;       /* [tokens, hidden] */
    void *narrow;        /* [tokens, hidden] */
} emb_cuda_lane;

/* Most chunks that a tile of so many tokens can hold: each has two special tokens at least. */
static inline uint32_t emb_cuda_chunks_max(uint32_t tokens) {
    return tokens / 2 + 1;
}

/* Cuts the lane at base (NULL: measures); gives its bytes. */
uint64_t emb_cuda_lane_cut(emb_cuda_lane *lane, const emb_block_shape *shape, emb_format format,
                           uint32_t tokens, void *base);

void emb_cuda_linear_layout(emb_linear *linear, uint32_t rows, uint32_t cols, emb_format format,
                            emb_ledger *ledger);
void emb_cuda_lane_layout(emb_lane_scratch *scratch, const emb_block_shape *shape,
                          emb_format format, uint32_t tokens, emb_ledger *ledger);

/* Knee and name, shared by the sizes and the module's tables. */
#define EMB_CUDA_TOKENS_KNEE 8192
const char *emb_cuda_numerics(uint32_t compute_capability, emb_format format);

#endif
