/* kernels.h - launchers of the CUDA kernels: device pointers, sizes, a stream; nothing is
 * allocated.
 *
 * Fed by the host side of the CUDA backend and by tests/cuda. Each returns 0 or a cudaError_t and
 * may be captured in a graph. Grids are sized by a bucket's maxima, the actual lengths are read on
 * the device (counts), so that a captured graph serves every batch that fits the bucket.
 * Numerics: the order of every sum over K, keys or tokens depends on nothing outside the chunk.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_KERNELS_H
#define EMB_BACKEND_CUDA_KERNELS_KERNELS_H

#include <stdint.h>

#include "embound.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMB_CUDA_HIDDEN_MAX   1536
#define EMB_CUDA_HEAD_DIM_MAX 128
#define EMB_CUDA_TILE_ROWS    64 /* query rows of one attention work item */

/* Which dtypes: BF16 from sm_80 on, FP8 (E4M3) from sm_89 on; INT8, INT4 and FP8 of matrices and
 * tables alone, see kernels_quantized.h, with activations in F16. Sums, softmax, norms, biases and
 * pooled rows are always f32. */
/* What launchers ask about the device; filled in once by emb_cuda_device_read. */
typedef struct emb_cuda_device {
    uint32_t multiprocessors;
    uint32_t capability; /* 90 for sm_90 */
} emb_cuda_device;

/* Fills `device` for the current CUDA device. */
int emb_cuda_device_read(emb_cuda_device *device);

/* The chunks that go through the encoder together, packed. All pointers are device pointers. */
typedef struct emb_cuda_pack {
    uint32_t tokens_max, chunks_max; /* of the bucket: what grids are sized by */
    uint32_t overlap; /* 1: a kernel may be set up while the one before it ends; sm_90 and up */
    const uint32_t *counts;  /* [2]: tokens, chunks of this batch */
    const uint32_t *ids;     /* [tokens_max] */
    const uint32_t *starts;  /* [chunks_max + 1], first is 0 */
    const uint32_t *targets; /* [chunks_max]: row that a chunk's vector goes to */
    uint32_t *positions;     /* [tokens_max], made by emb_cuda_prepare */
    uint32_t *tiles;         /* [emb_cuda_tiles_words()], made by emb_cuda_prepare */
} emb_cuda_pack;

/* 32-bit words of pack->tiles; its address is a multiple of 16. */
static inline uint64_t emb_cuda_tiles_words(uint32_t tokens_max, uint32_t chunks_max) {
    return 4 * (1 + (uint64_t)tokens_max / EMB_CUDA_TILE_ROWS + chunks_max);
}

/* Fills positions (index of each token in its chunk) and the attention work list. */
int emb_cuda_prepare(const emb_cuda_pack *pack, void *stream);

/* Word table, positions and norm of the embedding. `words` may be pinned host memory. */
typedef struct emb_cuda_embedding {
    const void *words;         /* [rows, hidden] of the type; I8: rows of hidden codes, rounded up
                                  to a multiple of 4, and their f32 scale */
    const float *positions;    /* [chunk_tokens_max, hidden]; token type row 0 already added */
    const float *gain, *shift; /* [hidden] */
    float epsilon;
} emb_cuda_embedding;

/* out [tokens, hidden] = norm(words[id] + positions[index in chunk]). hidden is a multiple of 8.
 * `type` is that of the words and of `out`; I8: `out` is F16. */
int emb_cuda_embed(void *out, const emb_cuda_pack *pack, const emb_cuda_embedding *embedding,
                   uint32_t hidden, emb_dtype type, void *stream);

/* out [tokens, hidden] = norm(in + residual); out may equal either. */
typedef struct emb_cuda_norm {
    const float *gain, *shift; /* [hidden] */
    float epsilon;
} emb_cuda_norm;
int emb_cuda_residual_norm(void *out, const void *in, const void *residual,
                           const emb_cuda_norm *norm, const emb_cuda_pack *pack, uint32_t hidden,
                           emb_dtype type, void *stream);

/* A matrix applied as out = in * W^T + bias. rows and cols are multiples of 8 (4 for f32). */
typedef struct emb_cuda_linear {
    const void *weight; /* [rows, cols] of `type`, row-major, 16-byte aligned */
    const float *bias;  /* [rows], 16-byte aligned */
    uint32_t rows, cols;
    emb_dtype type;
} emb_cuda_linear;

/* Candidates with identical bits: they differ in the tile of outputs that a block computes. */
typedef enum emb_cuda_tile {
    EMB_CUDA_TILE_AUTO = 0,
    EMB_CUDA_TILE_SMALL = 1,
    EMB_CUDA_TILE_MEDIUM = 2,
    EMB_CUDA_TILE_LARGE = 3,
    EMB_CUDA_TILE_PAIR = 4 /* Hopper, 16-bit types: warpgroup products by pairs of blocks */
} emb_cuda_tile;

/* What AUTO stands for: the largest tile that still gives every multiprocessor work. */
emb_cuda_tile emb_cuda_linear_tile(const emb_cuda_linear *linear, uint32_t tokens,
                                   const emb_cuda_device *device);

/* out [tokens, rows] = in [tokens, cols] * W^T + bias, then GELU (erf form) if `gelu`. Own kernels:
 * tensor cores for 16-bit types, FFMA for f32. Rows of `out` past the batch stay untouched. */
int emb_cuda_linear_run(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_pack *pack,
                        const emb_cuda_device *device, void *stream);

/* What emb_cuda_linear_run chose beneath it; for 16-bit types and f32. */
int emb_cuda_linear_mma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_pack *pack, void *stream);
int emb_cuda_linear_f32(float *out, const float *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_pack *pack, void *stream);

int emb_cuda_linear_wgmma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                          const emb_cuda_pack *pack, const emb_cuda_device *device, void *stream);

/* out [tokens, rows] = norm(residual + in * W^T + bias), the product rounded to the type as between
 * the two calls that this stands for, whose bits it has. `out` may be `residual`. `product`
 * [tokens, rows] is written if the two are not done in one, as on Hopper for rows of 384 and 768.
 * AUTO chooses as for a batch of `tokens` tokens, so that a caller may have few sizes to choose by.
 */
int emb_cuda_linear_norm(void *out, const void *in, const emb_cuda_linear *linear,
                         const void *residual, const emb_cuda_norm *norm, void *product,
                         emb_cuda_tile tile, uint32_t tokens, const emb_cuda_pack *pack,
                         const emb_cuda_device *device, void *stream);
int emb_cuda_linear_norm_wgmma(void *out, const void *in, const emb_cuda_linear *linear,
                               const void *residual, const emb_cuda_norm *norm,
                               const emb_cuda_pack *pack, const emb_cuda_device *device,
                               void *stream);

/* values [tokens, cols] = GELU(values): behind a product of cuBLASLt. */
int emb_cuda_gelu(void *values, uint32_t cols, const emb_cuda_pack *pack, emb_dtype type,
                  void *stream);

/* Shape of the attention. */
typedef struct emb_cuda_heads {
    uint32_t hidden, heads, head_dim;
    uint32_t relative_tokens; /* L of the table below; no chunk is longer */
    const float *relative;    /* NULL, or [heads, 2 * L - 1]: added to the scaled score of query i
                                 and key j at [j - i + L - 1] */
} emb_cuda_heads;

/* out [tokens, hidden] = attention of packed qkv [tokens, 3 * hidden]; each chunk by itself. */
int emb_cuda_attention(void *out, const void *qkv, const emb_cuda_heads *heads,
                       const emb_cuda_pack *pack, emb_dtype type, const emb_cuda_device *device,
                       void *stream);

/* What emb_cuda_attention chose for 16-bit types and head_dim a multiple of 8 (on sm_75, up to 64).
 */
int emb_cuda_attention_mma(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_pack *pack, emb_dtype type, const emb_cuda_device *device,
                           void *stream);

/* The same bits by Hopper's warpgroup products: 16-bit types, head_dim 32 or 64. */
int emb_cuda_attention_wgmma(void *out, const void *qkv, const emb_cuda_heads *heads,
                             const emb_cuda_pack *pack, emb_dtype type,
                             const emb_cuda_device *device, void *stream);

typedef enum emb_cuda_pooling {
    EMB_CUDA_POOL_MEAN = 0,
    EMB_CUDA_POOL_CLS = 1,
    EMB_CUDA_POOL_MAX = 2
} emb_cuda_pooling;

/* Chunk c's vector to rows[targets[c] * hidden ...], divided by max(length, 1e-12) if `normalize`.
 * A mean adds tokens w, w + 16, ... for w = 0..15, then those sixteen sums in a fixed order. */
int emb_cuda_pool(float *rows, const void *in, const emb_cuda_pack *pack, uint32_t hidden,
                  emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream);

/* ---- cuBLASLt behind the same product: opened at run time, no workspace, no split of K --------
 */

/* The library and the calls that are used. */
typedef struct emb_cuda_blas {
    void *library, *handle;
    void *calls[10];
} emb_cuda_blas;

/* One product's algorithm: fixed per (rows, cols, type), whatever the number of tokens. */
typedef struct emb_cuda_blas_choice {
    uint64_t algorithm[8];
    uint32_t rows, cols;
    emb_dtype type;
} emb_cuda_blas_choice;

/* Opens libcublasLt.so.13 (or the path in `name`, if not NULL). Gives 0, or -1 if it is not there,
 * or a cublasStatus_t. This is the only call here that allocates: inside the library. */
int emb_cuda_blas_open(emb_cuda_blas *blas, const char *name);
void emb_cuda_blas_close(emb_cuda_blas *blas);

/* The candidate-th algorithm (0 is the library's favourite) for this shape among those that need no
 * workspace and do not split K. Gives 0, -1 if there are fewer candidates, or a cublasStatus_t. */
int emb_cuda_blas_choose(emb_cuda_blas_choice *choice, const emb_cuda_blas *blas,
                         const emb_cuda_linear *linear, uint32_t tokens, uint32_t candidate);

/* out [tokens_max, rows] = in * W^T + bias, rows past the batch included. Gives 0 or a
 * cublasStatus_t. `linear->bias` points to values of `type` here. */
int emb_cuda_blas_run(void *out, const void *in, const emb_cuda_linear *linear,
                      const emb_cuda_blas *blas, const emb_cuda_blas_choice *choice,
                      uint32_t tokens_max, void *stream);

#ifdef __cplusplus
}
#endif

#endif
