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
 * serves queries, keys and values as well as the intermediate. Beside quantised matrices, products
 * that the norm takes stand where their input's source was: memory is what such models are for. */
typedef struct emb_cuda_lane {
    uint32_t *indices;   /* [emb_index_words()]: tokens, chunks, and what follows */
    uint32_t *starts;    /* [chunks + 1] */
    uint32_t *ids;       /* [tokens], then targets */
    uint32_t *positions; /* [tokens] */
    uint32_t *tiles;     /* attention's work list */
    void *wide;          /* [tokens, max(3 * hidden, intermediate)]; FP8: 3 * hidden */
    void *context;       /* [tokens, hidden] */
    void *narrow;        /* [tokens, hidden]; NULL beside quantised matrices */
    /* I8 and FP8, else NULL: products' inputs in codes, see emb_cuda_codes. Two that are needed at
     * once lie apart. */
    void *layer_codes;  /* [tokens, hidden]: a layer's input; behind queries, keys and values */
    void *inner_codes;  /* [tokens, max(hidden, intermediate)]: the context, but not of FP8; the
                           intermediate */
    void *middle_codes; /* [tokens, hidden]: the feed-forward's input; I8: where the context was */
    float *code_scales, *inner_scales; /* [tokens] */
    int32_t *code_zeros, *inner_zeros; /* [tokens] */
} emb_cuda_lane;

/* Cuts a tile's indices and what is made of them (to tiles) at base (NULL: measures), for at most
 * so many tokens; gives their bytes. */
uint64_t emb_cuda_indices_cut(emb_cuda_lane *lane, uint32_t tokens, void *base);
/* See emb_backend. */
uint64_t emb_cuda_kept_place(const emb_backend *self, uint32_t tokens, uint32_t tiles);

/* Cuts the lane at base (NULL: measures); gives its bytes. */
uint64_t emb_cuda_lane_cut(emb_cuda_lane *lane, const emb_block_shape *shape, emb_dtype dtype,
                           uint32_t tokens, void *base);

/* Columns that the kernels of a dtype take at once. */
static inline uint32_t emb_cuda_cols_step(emb_dtype dtype) {
    return !emb_dtype_quantized(dtype) ? 8 : dtype == EMB_DTYPE_INT4 ? 32 : 16;
}

/* Whether a matrix of these sizes has kernels. group: I4's, else unused. */
bool emb_cuda_linear_fits(uint32_t rows, uint32_t cols, emb_dtype dtype, uint32_t group);
const char *emb_cuda_supports_spec(const emb_backend *self, const emb_layer_spec *spec);
void emb_cuda_linear_layout(const emb_backend *self, emb_linear *linear, uint32_t rows,
                            uint32_t cols, emb_dtype dtype, emb_ledger *ledger);
void emb_cuda_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                          const emb_block_shape *shape, uint32_t tokens, emb_ledger *ledger);

/* emb_backend.own: who multiplies. cuBLASLt adds a bias of the products' own dtype. */
typedef struct emb_cuda_own {
    emb_gemm gemm;
} emb_cuda_own;
static inline emb_gemm emb_cuda_gemm_of(const emb_backend *self) {
    return ((const emb_cuda_own *)self->own)->gemm;
}

/* Every CUDA backend that there is: numerics, dtype of the weights, who multiplies. The sizes, the
 * module and the fake device each make a table of it. */
#define EMB_CUDA_ROWS(ROW)                                                                         \
    ROW("cuda-f32", EMB_DTYPE_F32, EMB_GEMM_OWN)                                                   \
    ROW("cuda-f32-cublaslt", EMB_DTYPE_F32, EMB_GEMM_CUBLASLT)                                     \
    ROW("cuda-sm75-f16", EMB_DTYPE_F16, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm75-f16-cublaslt", EMB_DTYPE_F16, EMB_GEMM_CUBLASLT)                                \
    ROW("cuda-sm80-f16", EMB_DTYPE_F16, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm80-f16-cublaslt", EMB_DTYPE_F16, EMB_GEMM_CUBLASLT)                                \
    ROW("cuda-sm80-bf16", EMB_DTYPE_BF16, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-bf16-cublaslt", EMB_DTYPE_BF16, EMB_GEMM_CUBLASLT)                              \
    ROW("cuda-sm75-int8", EMB_DTYPE_INT8, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-int8", EMB_DTYPE_INT8, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm75-int4", EMB_DTYPE_INT4, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm80-int4", EMB_DTYPE_INT4, EMB_GEMM_OWN)                                            \
    ROW("cuda-sm89-fp8", EMB_DTYPE_FP8, EMB_GEMM_OWN)                                              \
    ROW("cuda-sm90-fp8", EMB_DTYPE_FP8, EMB_GEMM_OWN)

/* What such a table's rows begin with: everything that planning needs. */
#define EMB_CUDA_SIZES(its_numerics, its_dtype, its_gemm)                                          \
    .name = "cuda", .numerics = its_numerics, .own = &(const emb_cuda_own){its_gemm},              \
    .dtype = its_dtype, .activation_bytes = (its_dtype) == EMB_DTYPE_F32 ? 4 : 2,                  \
    .tokens_knee = EMB_CUDA_TOKENS_KNEE, .lane_state_bytes = EMB_CUDA_STATE_BYTES,                 \
    .supports = emb_cuda_supports_spec, .linear_layout = emb_cuda_linear_layout,                   \
    .lane_layout = emb_cuda_lane_layout, .kept_place = emb_cuda_kept_place

/* The row of a device and dtype; NULL: it lacks the dtype. */
const emb_backend *emb_cuda_find(const emb_backend *rows, size_t count, uint32_t compute_capability,
                                 emb_dtype dtype, emb_gemm gemm);

/* Whether kernels built for these architectures, as CMake names them ("80-real,90a-real,
 * 90-virtual"), run on a GPU; true for words whose meaning only the build knew ("native"). */
bool emb_cuda_built_for(const char *architectures, uint32_t compute_capability);

#endif
