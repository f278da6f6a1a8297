/* cpu.h - private to cpu/: the kernels that an instruction set gives, and the blocks made of them.
 *
 * blocks.c writes each block operation once, in terms of one emb_cpu_kernels; ref/, avx2/ and
 * avx512/ fill such tables; select.c alone knows which exist. An "operand" is an activation in the
 * form that products read: f32, or bf16 where the product instruction wants it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_CPU_H
#define EMB_BACKEND_CPU_CPU_H

#include <string.h>

#include "backend/backend.h"

/* Keys that one step of the online softmax takes; counted from the chunk's first token. Part of the
 * numerics: another value gives other bits. */
#define EMB_CPU_KEY_BLOCK 64

/* Queries that one step takes at most; free, since each query has a vector lane of its own. */
#define EMB_CPU_QUERY_TILE 32

/* out [rows, columns] = in [rows, cols] * W[column0 ...]^T + bias */
typedef struct emb_cpu_product {
    const emb_linear *linear;
    uint32_t column0, columns; /* which outputs: rows of W */
    uint32_t rows;
    const void *in;    /* operands */
    size_t in_stride;  /* values */
    void *out;         /* f32; operands if gelu */
    size_t out_stride; /* values */
    bool gelu;         /* apply GELU */
} emb_cpu_product;

/* One head of one chunk. */
typedef struct emb_cpu_attention {
    const float *queries, *keys, *values; /* [tokens, head_dim], rows `stride` apart */
    size_t stride;
    uint32_t tokens, head_dim;
    float scale;
    const float *relative; /* NULL, or the entry for j - i = 0: add relative[j - i] */
    void *out;             /* operands [tokens, head_dim], rows `out_stride` apart */
    size_t out_stride;
    float *work; /* emb_cpu_attention_work(head_dim) values, on a cache line */
} emb_cpu_attention;

typedef struct emb_cpu_norm {
    const float *gain, *shift; /* [hidden] */
    uint32_t hidden;
    float epsilon;
} emb_cpu_norm;

typedef struct emb_cpu_kernels {
    uint32_t panel_rows;    /* rows of W side by side in a packed panel; divides EMB_PACK_ROWS */
    uint32_t depth_step;    /* cols of W are padded to a multiple of this */
    uint32_t weight_bytes;  /* of one packed weight */
    uint32_t operand_bytes; /* 4: f32; 2: bf16 */
    uint32_t block_rows;    /* tokens per step of ffn_block: bounds its intermediate */

    /* Packs rows [row0, row0 + rows) from values [rows, cols]; zeroes what pads the last panel. */
    void (*pack)(const emb_linear *linear, uint32_t row0, uint32_t rows, const float *values);
    void (*product)(const emb_cpu_product *product);
    void (*attention)(const emb_cpu_attention *attention);
    /* out = norm(in + add); add may be NULL, out may equal in. All [rows, hidden]. */
    void (*norm)(float *out, const float *in, const float *add, uint32_t rows,
                 const emb_cpu_norm *norm);
    /* Rounds f32 [rows, cols] to operands; NULL where operands are f32. */
    void (*operands)(void *out, size_t out_stride, const float *in, uint32_t rows, uint32_t cols);
} emb_cpu_kernels;

extern const emb_cpu_kernels emb_cpu_ref_f32, emb_cpu_ref_bf16;
extern const emb_cpu_kernels emb_cpu_avx2_f32, emb_cpu_avx2_bf16;
extern const emb_cpu_kernels emb_cpu_avx512_f32, emb_cpu_avx512_bf16, emb_cpu_avx512_bf16dot;

/* ---- blocks.c: the operations of emb_backend, for any kernels -------------------------------- */

void emb_cpu_linear_layout(const emb_cpu_kernels *kernels, emb_linear *linear, uint32_t rows,
                           uint32_t cols, emb_format format, emb_ledger *ledger);
void emb_cpu_lane_layout(const emb_cpu_kernels *kernels, emb_lane_scratch *scratch,
                         const emb_block_shape *shape, uint32_t tokens, emb_ledger *ledger);
void emb_cpu_embed(const emb_cpu_kernels *kernels, float *out, const emb_tile *tile,
                   const emb_embedding *embedding, const emb_block_shape *shape);
void emb_cpu_attention_block(const emb_cpu_kernels *kernels, float *out, const float *in,
                             const emb_tile *tile, const emb_layer *layer,
                             const emb_block_shape *shape, emb_lane_scratch *scratch);
void emb_cpu_ffn_block(const emb_cpu_kernels *kernels, float *out, const float *in,
                       const emb_tile *tile, const emb_layer *layer, const emb_block_shape *shape,
                       emb_lane_scratch *scratch);

/* ---- common.c: what costs too little to need an instruction set ------------------------------ */

void emb_cpu_pool(float *rows, const uint32_t *targets, const void *in, const emb_tile *tile,
                  const emb_pool_rule *rule, const emb_block_shape *shape);
void emb_cpu_convert(void *out, emb_format format, const float *in, uint64_t count);

/* ---- small pieces ---------------------------------------------------------------------------- */

/* Before a loop over an array of vectors: without it compilers keep the array in memory. */
#ifdef __clang__
#define EMB_CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EMB_CPU_UNROLL _Pragma("GCC unroll 16")
#endif

static inline size_t emb_cpu_round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/* Values between the rows of a private buffer: an odd number of cache lines, because rows whose
 * distance is a multiple of 4 KiB fall into the same cache set and evict each other. */
static inline size_t emb_cpu_stride(size_t cols, size_t value_bytes) {
    size_t lines = (cols * value_bytes + EMB_ALIGN - 1) / EMB_ALIGN;
    return (lines | 1) * EMB_ALIGN / value_bytes;
}

static inline size_t emb_cpu_packed_depth(const emb_cpu_kernels *kernels, uint32_t cols) {
    return emb_cpu_round_up(cols, kernels->depth_step);
}

/* Queries, sums and scores of one query tile. */
static inline size_t emb_cpu_attention_work(uint32_t head_dim) {
    return (size_t)EMB_CPU_QUERY_TILE * (2 * (size_t)head_dim + EMB_CPU_KEY_BLOCK);
}

static inline float emb_cpu_widen(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* To nearest, ties to even; a NaN stays a NaN. */
static inline uint16_t emb_cpu_round_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#endif
