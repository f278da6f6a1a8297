/* layout.h - what a CUDA lane and a matrix take on the device; plain C, without CUDA.
 *
 * The core books with it (also for a device that is not present), the module binds with it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_SIZES_LAYOUT_H
#define EMB_BACKEND_CUDA_SIZES_LAYOUT_H

#include "backend/ops.h"

#define EMB_CUDA_TOKENS_KNEE 8192 /* see emb_backend */

/* Room for the module's struct, which the core cannot see; the module asserts that it fits. */
#define EMB_CUDA_STATE_BYTES 1024

/* A lane's device memory, cut. Attention and feed-forward never run at the same time, so `wide`
 * serves queries, keys and values as well as the intermediate. With quantized matrices, a product
 * that a norm reads replaces the source of its input: such models are used to save memory. */
typedef struct emb_cuda_lane {
    uint32_t *indices;     /* [emb_index_words()]: tokens and chunks, then what follows */
    uint32_t *starts;      /* [chunks + 1] */
    uint32_t *ids;         /* [tokens], then targets */
    uint32_t *positions;   /* [tokens] */
    uint32_t *query_tiles; /* attention's work list */
    void *wide;            /* [tokens, max(3 * hidden, intermediate)]; FP8: 3 * hidden */
    void *context;         /* [tokens, hidden] */
    void *projected;       /* [tokens, hidden]; NULL with quantized matrices */
    /* I8 and FP8, else NULL: products' inputs as codes, see emb_cuda_codes. Those needed at the
     * same time do not overlap. */
    void *layer_codes;  /* [tokens, hidden]: a layer's input; after queries, keys and values */
    void *inner_codes;  /* [tokens, max(hidden, intermediate)]: the context (not for FP8), or the
                           intermediate */
    void *middle_codes; /* [tokens, hidden]: the feed-forward's input; I8: where the context was */
    float *code_scales, *inner_scales; /* [tokens] */
    int32_t *code_zeros, *inner_zeros; /* [tokens] */
} emb_cuda_lane;

/* Cuts a tile's indices and what is derived from them (up to query_tiles) at base (NULL: measures),
 * for at most so many tokens and chunks; gives their bytes. */
uint64_t emb_cuda_indices_cut(emb_cuda_lane *lane, uint32_t tokens, uint32_t chunks, void *base);
/* See emb_backend. */
uint64_t emb_cuda_kept_place(const emb_backend *self, uint32_t tokens, uint32_t tiles,
                             uint32_t chunk_tokens_min);

/* Cuts a lane for at most so many tokens and chunks at base (NULL: measures); gives its bytes. */
uint64_t emb_cuda_lane_cut(emb_cuda_lane *lane, const emb_layer_spec *shape, emb_dtype dtype,
                           uint32_t tokens, uint32_t chunks, void *base);

/* The kernels of a dtype need a multiple of so many columns. */
static inline uint32_t emb_cuda_cols_step(emb_dtype dtype) {
    return !emb_dtype_quantized(dtype) ? 8 : dtype == EMB_DTYPE_INT4 ? 32 : 16;
}

/* Whether a matrix of these sizes has kernels. group: I4's, else unused. */
bool emb_cuda_linear_fits(uint32_t rows, uint32_t cols, emb_dtype dtype, uint32_t group);
void emb_cuda_linear_layout(const emb_backend *self, emb_linear *linear, uint32_t rows,
                            uint32_t cols, emb_dtype dtype, emb_ledger *ledger);
void emb_cuda_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                          const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger);

#endif
