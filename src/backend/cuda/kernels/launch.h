/* launch.h - the launchers of the CUDA kernels as one table, which host/ calls through: the module
 * fills it with its kernels (launch.c), the fake device (tests/cuda) with loops.
 *
 * Legend: [tokens, ...] are the batch's, chunks end to end; rows of outputs past the batch stay
 * untouched. Numerics: the order of every sum over K, keys or tokens depends on nothing outside the
 * chunk; sums, softmax, norms, biases and pooled rows are always f32.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_LAUNCH_H
#define EMB_BACKEND_CUDA_KERNELS_LAUNCH_H

#include <stdint.h>

#include "embound.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EMB_CUDA_HIDDEN_MAX     1536
#define EMB_CUDA_HEAD_DIM_MAX   128
#define EMB_CUDA_QUERY_ROWS     64   /* query rows of one attention work item */
#define EMB_CUDA_CODES_COLS_MAX 6144 /* the most that quantize takes */

/* What launchers need to know of the device. */
typedef struct emb_cuda_device {
    uint32_t multiprocessors;
    uint32_t capability; /* 90 for sm_90 */
} emb_cuda_device;

/* The chunks that go through the encoder together, end to end. All pointers are device pointers. */
typedef struct emb_cuda_batch {
    uint32_t tokens_max, chunks_max; /* the bucket's, by which grids are sized */
    uint32_t overlap; /* 1: a kernel may be set up while the one before it ends; sm_90 and up */
    const uint32_t *counts;  /* [2]: tokens, chunks of this batch */
    const uint32_t *ids;     /* [tokens_max] */
    const uint32_t *starts;  /* [chunks_max + 1], first is 0 */
    const uint32_t *targets; /* [chunks_max]: row to which a chunk's vector is written */
    uint32_t *positions;     /* [tokens_max], made by prepare */
    uint32_t *query_tiles;   /* [emb_cuda_query_tiles_words()] of attention, made by prepare */
} emb_cuda_batch;

/* 32-bit words of batch->query_tiles, four per tile: [0] and [1] are the first token and the length
 * of its chunk, [2] is where its query rows begin in the chunk, [3] is the chunk's number. Tile 0
 * holds the number of the others. The address is a multiple of 16. */
static inline uint64_t emb_cuda_query_tiles_words(uint32_t tokens_max, uint32_t chunks_max) {
    return 4 * (1 + (uint64_t)tokens_max / EMB_CUDA_QUERY_ROWS + chunks_max);
}

/* Word table, positions and norm of the embedding. `words` may be pinned host memory. */
typedef struct emb_cuda_embedding {
    const void *words;         /* [rows, hidden] of the type; I8: rows of hidden codes, rounded up
                                  to a multiple of 4, and their f32 scale */
    const float *positions;    /* [chunk_tokens_max, hidden]; token type row 0 already added */
    const float *gain, *shift; /* [hidden] */
    float epsilon;
} emb_cuda_embedding;

typedef struct emb_cuda_norm {
    const float *gain, *shift; /* [hidden] */
    float epsilon;
} emb_cuda_norm;

/* A matrix applied as out = in * W^T + bias. rows and cols are multiples of 8 (4 for f32). */
typedef struct emb_cuda_linear {
    const void *weight; /* [rows, cols] of `type`, row-major, 16-byte aligned */
    const float *bias;  /* [rows], 16-byte aligned */
    uint32_t rows, cols;
    emb_dtype type; /* F32, F16, BF16 */
} emb_cuda_linear;

/* A quantized matrix on the device. value = scale * code (I8, FP8) or scale * (code - zero) (I4) */
typedef struct emb_cuda_quantized {
    const void *weight;   /* I8, FP8: [rows, cols] bytes; I4: [rows, cols / 2], the low half of a
                             byte is the even column; 16-byte aligned */
    const void *scales;   /* I8, FP8: f32 [rows], 16-byte aligned; I4: f16 [rows, cols / group] */
    const int32_t *sums;  /* I8: [rows], of the codes of a row, 16-byte aligned; else NULL */
    const uint8_t *zeros; /* I4: [rows, cols / group], 0 to 15; else NULL */
    const float *bias;    /* [rows], 16-byte aligned */
    uint32_t rows;        /* a multiple of 8 */
    uint32_t cols;        /* a multiple of 16; I4: of 32 and of group */
    uint32_t group;       /* I4: 32 or 64 */
    emb_dtype type;
} emb_cuda_quantized;

/* Activations as bytes: value = scale * (code - zero). */
typedef struct emb_cuda_codes {
    void *values;   /* [tokens_max, cols] u8 or E4M3, 16-byte aligned; cols a multiple of 16 */
    float *scales;  /* [tokens_max] */
    int32_t *zeros; /* [tokens_max], 0 to 255; not used by FP8 */
} emb_cuda_codes;

/* Candidates with identical bits: they differ in the tile of outputs that a block computes. */
typedef enum emb_cuda_tile {
    EMB_CUDA_TILE_AUTO = 0,
    EMB_CUDA_TILE_SMALL = 1,
    EMB_CUDA_TILE_MEDIUM = 2,
    EMB_CUDA_TILE_LARGE = 3,
    EMB_CUDA_TILE_PAIR = 4 /* Hopper, not f32: warpgroup products by pairs of blocks */
} emb_cuda_tile;

/* Shape of the attention. */
typedef struct emb_cuda_heads {
    uint32_t hidden, heads, head_dim;
    uint32_t relative_tokens; /* L of the table below; no chunk is longer */
    const float *relative;    /* NULL, or [heads, 2 * L - 1]: added to the scaled score of query i
                                 and key j at [j - i + L - 1] */
} emb_cuda_heads;

typedef enum emb_cuda_pooling {
    EMB_CUDA_POOL_MEAN = 0,
    EMB_CUDA_POOL_CLS = 1,
    EMB_CUDA_POOL_MAX = 2
} emb_cuda_pooling;

/* cuBLASLt, opened at run time, and its calls that are used. */
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

/* `stream` is what the work is enqueued on. Nothing is allocated. All but *_tile give 0 or a
 * cudaError_t (blas_*: see there) and may be captured in a graph: grids are sized by the batch's
 * maxima and actual lengths are read on the device, so that a captured graph serves every batch
 * that fits. Dtypes: F32, F16, and BF16 from sm_80 on, of matrices and activations alike; INT8,
 * INT4, and FP8 (E4M3) from sm_89 on, of matrices and tables beside activations in F16; else
 * cudaErrorNotSupported. */
typedef struct emb_cuda_launch {
    /* ---- embed ---- */

    /* Fills positions (index of each token in its chunk) and the attention work list. */
    int (*prepare)(const emb_cuda_batch *batch, void *stream);

    /* out [tokens, hidden] = norm(words[id] + positions[index in chunk]). hidden is a multiple of
     * 8. `type` is that of the words and of `out`; I8: `out` is F16. */
    int (*embed)(void *out, const emb_cuda_batch *batch, const emb_cuda_embedding *embedding,
                 uint32_t hidden, emb_dtype type, void *stream);

    /* The same of I8 words, and the codes of what it wrote, as by quantize, with the same bits as
     * the two calls. `codes` NULL: no codes. hidden: a multiple of 16. */
    int (*embed_codes)(void *out, const emb_cuda_codes *codes, const float *smooth,
                       emb_dtype codes_type, const emb_cuda_batch *batch,
                       const emb_cuda_embedding *embedding, uint32_t hidden,
                       const emb_cuda_device *device, void *stream);

    /* ---- norm ---- */

    /* out [tokens, hidden] = norm(in + residual); out may equal either. */
    int (*residual_norm)(void *out, const void *in, const void *residual, const emb_cuda_norm *norm,
                         const emb_cuda_batch *batch, uint32_t hidden, emb_dtype type,
                         void *stream);

    /* The same of F16, and the codes of what it wrote, as embed_codes. */
    int (*residual_norm_codes)(void *out, const emb_cuda_codes *codes, const float *smooth,
                               emb_dtype codes_type, const void *in, const void *residual,
                               const emb_cuda_norm *norm, const emb_cuda_batch *batch,
                               uint32_t hidden, const emb_cuda_device *device, void *stream);

    /* ---- linear ---- */

    /* The tile that AUTO stands for: the largest that still gives every multiprocessor work. */
    emb_cuda_tile (*linear_tile)(const emb_cuda_linear *linear, uint32_t tokens,
                                 const emb_cuda_device *device);

    /* out [tokens, rows] = in [tokens, cols] * W^T + bias, then GELU (erf form) if `gelu`: tensor
     * cores for 16-bit types, FFMA for f32. */
    int (*linear_run)(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                      emb_cuda_tile tile, const emb_cuda_batch *batch,
                      const emb_cuda_device *device, void *stream);

    /* out [tokens, rows] = norm(residual + in * W^T + bias), the product rounded to the type as
     * between linear_run and residual_norm, whose bits it has. `out` may be `residual`. `product`
     * [tokens, rows] is written unless one kernel does both, as on Hopper for rows of 384 and 768.
     * AUTO chooses as for a batch of `tokens` tokens, so that a caller can limit the number of
     * choices. */
    int (*linear_norm)(void *out, const void *in, const emb_cuda_linear *linear,
                       const void *residual, const emb_cuda_norm *norm, void *product,
                       emb_cuda_tile tile, uint32_t tokens, const emb_cuda_batch *batch,
                       const emb_cuda_device *device, void *stream);

    /* values [tokens, cols] = GELU(values): after a product by cuBLASLt. */
    int (*gelu)(void *values, uint32_t cols, const emb_cuda_batch *batch, emb_dtype type,
                void *stream);

    /* The candidate-th algorithm (0 is the library's first choice) for this shape among those that
     * need no workspace and do not split K. Gives 0, -1 if there are fewer candidates, or a
     * cublasStatus_t. */
    int (*blas_choose)(emb_cuda_blas_choice *choice, const emb_cuda_blas *blas,
                       const emb_cuda_linear *linear, uint32_t tokens, uint32_t candidate);

    /* out [tokens_max, rows] = in * W^T + bias, rows past the batch included. Gives 0 or a
     * cublasStatus_t. `linear->bias` points to values of `type` here. */
    int (*blas_run)(void *out, const void *in, const emb_cuda_linear *linear,
                    const emb_cuda_blas *blas, const emb_cuda_blas_choice *choice,
                    uint32_t tokens_max, void *stream);

    /* ---- attention, pool ---- */

    /* out [tokens, hidden] = attention of qkv [tokens, 3 * hidden] within each chunk. */
    int (*attention)(void *out, const void *qkv, const emb_cuda_heads *heads,
                     const emb_cuda_batch *batch, emb_dtype type, const emb_cuda_device *device,
                     void *stream);

    /* Chunk c's vector to rows[targets[c] * hidden ...], divided by max(length, 1e-12) if
     * `normalize`. A mean adds tokens w, w + 16, ... for w = 0..15, then those sixteen sums in a
     * fixed order. */
    int (*pool)(float *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream);

    /* ---- quantized ---- */

    /* Quantizes F16 `in` [tokens, cols], times `smooth` [cols] if that is not NULL. `type` I8: u8
     * by the token's range, zero within it; FP8: by its largest magnitude, which becomes 448.
     * cols: a multiple of 16, at most EMB_CUDA_CODES_COLS_MAX. */
    int (*quantize)(const emb_cuda_codes *out, const void *in, const float *smooth, uint32_t cols,
                    emb_dtype type, const emb_cuda_batch *batch, const emb_cuda_device *device,
                    void *stream);

    /* F16 out [tokens, cols] = in * smooth; `out` may be `in`. cols: a multiple of 8. */
    int (*smooth)(void *out, const void *in, const float *smooth, uint32_t cols,
                  const emb_cuda_batch *batch, void *stream);

    /* What AUTO stands for. FP8 on Hopper: always PAIR, for its sums differ in bits from the
     * others'. I4 has no PAIR. */
    emb_cuda_tile (*quantized_tile)(const emb_cuda_quantized *linear, uint32_t tokens,
                                    const emb_cuda_device *device);

    /* F16 out [tokens, rows] = in * W^T + bias, then GELU if `gelu`. I8, FP8: `codes` [tokens,
     * cols] are the input and `in` is NULL; I4: F16 `in` is, and `codes` is NULL. All tiles that a
     * device has for a type give identical bits; cudaErrorNotSupported for one that it has not.
     * I8: sums are exact in int32; out = f32(sum - zero * row sum) * row scale * token scale +
     * bias, one expression, so that every tile has the same bits. */
    int (*quantized_run)(void *out, const emb_cuda_codes *codes, const void *in,
                         const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                         const emb_cuda_batch *batch, const emb_cuda_device *device, void *stream);

    /* FP8: what bounds a matrix's outputs, device floats: bounds[0] the largest sum of magnitudes
     * of a row, bounds[1] the largest magnitude of the bias. Computed once, after the matrix is
     * uploaded. */
    int (*quantized_bounds)(float *bounds, const emb_cuda_quantized *linear,
                            const emb_cuda_device *device, void *stream);

    /* FP8: quantized_run whose outputs are codes: a token's scale is derived from its input's scale
     * and `bounds`, so that no output can exceed 448. E4M3 has the range for a scale that is larger
     * than needed. `out` and `codes` must not overlap. rows: a multiple of 16. */
    int (*quantized_codes)(const emb_cuda_codes *out, const emb_cuda_codes *codes,
                           const float *bounds, const emb_cuda_quantized *linear, int gelu,
                           emb_cuda_tile tile, const emb_cuda_batch *batch,
                           const emb_cuda_device *device, void *stream);
} emb_cuda_launch;

#ifdef __cplusplus
}
#endif

#endif
