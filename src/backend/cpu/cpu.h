/* cpu.h - private to cpu/: the kernels of an instruction set, and the blocks made of them.
 *
 * attention_block.c and ffn_block.c write each block once, for all dtypes, in terms of one
 * emb_cpu_kernels; ref/, avx2/, avx512/ fill such tables; only registry.c knows which exist. An
 * "operand" is an activation in the form that products read: f32, or bf16 where the product
 * instruction wants it, or u8 with a scale and a zero per token (quantized.c).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_CPU_H
#define EMB_BACKEND_CPU_CPU_H

#include <math.h>
#include <string.h>

#include "backend/ops.h"

/* A key tile: keys that one step of the online softmax takes, counted from the chunk's first token.
 * Part of the numerics: another value gives other bits. */
#define EMB_CPU_KEY_TILE 64

/* The largest query tile; not part of the numerics, since each query has a vector lane of its
 * own. */
#define EMB_CPU_QUERY_TILE 32

/* A key tile where attention is in bytes; as much a part of the numerics. Up to EMB_CPU_CODES_AHEAD
 * rows after a chunk's last key are read and ignored. */
#define EMB_CPU_DOT_KEYS    128
#define EMB_CPU_CODES_AHEAD 7

/* Zero, or NaN if the sum of squares overflowed: then one over its root is zero, and without this
 * the row would be finite. Adding it changes no bits otherwise. */
static inline float emb_cpu_not_overflown(float variance) {
    return variance - variance;
}

/* out [rows, columns] = in [rows, cols] * W[column0 ...]^T + bias, or out += in * W^T */
typedef struct emb_cpu_product {
    const emb_linear *linear;
    uint32_t column0, columns; /* which outputs: rows of W */
    uint32_t col0, cols;       /* which cols of W; `in` holds only these. cols 0: all; fewer only if
                                  quantized, with col0 a multiple of 64. */
    uint32_t rows;
    const void *in;                     /* operands */
    size_t in_stride;                   /* values */
    void *out;                          /* f32; operands if gelu, unless they are quantized */
    size_t out_stride;                  /* values */
    bool gelu;                          /* apply GELU */
    bool add;                           /* add to out, instead of the bias; only if quantized */
    void *work;                         /* emb_cpu_dot_work bytes of the cols */
    const struct emb_cpu_product *next; /* NULL, or the product that follows: prefetched */
} emb_cpu_product;

/* Queries or keys of one head and chunk in bytes, as attention_bytes makes them. */
typedef struct emb_cpu_codes {
    uint8_t *values; /* [tokens, head_dim in sixteens], rows `stride` apart */
    size_t stride;
    float widest; /* what the largest byte stands for; NaN if a value is not finite */
} emb_cpu_codes;

/* One head of one chunk. */
typedef struct emb_cpu_attention {
    const float *queries, *keys, *values; /* [tokens, head_dim], rows `stride` apart */
    size_t stride;
    emb_cpu_codes query_codes, key_codes; /* in place of queries and keys, if attention_bytes */
    uint32_t tokens, head_dim;
    float scale;
    const float *relative; /* NULL, or the entry for j - i = 0: add relative[j - i] */
    void *out; /* [tokens, head_dim] as context_bytes says, rows `out_stride` apart; may be
                  `values`, if attention_bytes */
    size_t out_stride;
    float *work; /* emb_cpu_attention_work values, on a cache line */
} emb_cpu_attention;

typedef struct emb_cpu_norm {
    const float *gain, *shift; /* [hidden] */
    uint32_t hidden;
    float epsilon;
    size_t add_stride; /* values between rows of what is added: hidden, or 0 for one row for all */
} emb_cpu_norm;

typedef struct emb_cpu_kernels {
    uint32_t panel_rows;    /* rows of W side by side in a packed panel; divides EMB_PACK_ROWS */
    uint32_t depth_step;    /* cols of W are padded to a multiple of this */
    uint32_t weight_bytes;  /* of one packed weight; unused if quantized */
    uint32_t operand_bytes; /* 4: f32; 2: bf16; 1: u8, a token's values and an emb_cpu_token */
    uint32_t context_bytes; /* of what attention writes: operands, or f32 if quantized */
    uint32_t block_rows;    /* tokens per step of ffn_block and of norm: bounds what it holds */
    bool quantized;         /* operands are made from whole tokens: from f32 that was stored */
    bool attention_pairs;   /* attention keeps a chunk's keys and values in pairs of bf16 */

    /* Packs rows [row0, row0 + rows) from values [rows, cols]; zeroes the last panel's padding.
     * NULL if quantized: see emb_cpu_dot_pack. */
    void (*pack)(const emb_linear *linear, uint32_t row0, uint32_t rows, const float *values);
    void (*product)(const emb_cpu_product *product);
    void (*attention)(const emb_cpu_attention *attention);
    /* NULL, or attention reads queries and keys in bytes: makes them from f32 [tokens, head_dim]
     * with rows `stride` apart. */
    void (*attention_bytes)(emb_cpu_codes *codes, const float *in, size_t stride, uint32_t tokens,
                            uint32_t head_dim, bool keys);
    /* out = norm(in + add); add may be NULL, out may equal in. All [rows, hidden]. */
    void (*norm)(float *out, const float *in, const float *add, uint32_t rows,
                 const emb_cpu_norm *norm);
    /* Rounds f32 [rows, cols] to operands; NULL where operands are f32. smooth: see emb_linear,
     * read if quantized. */
    void (*operands)(void *out, size_t out_stride, const float *in, uint32_t rows, uint32_t cols,
                     const float *smooth);
    /* The same of GELU(in); NULL: products apply GELU themselves. */
    void (*gelu_operands)(void *out, size_t out_stride, const float *in, uint32_t rows,
                          uint32_t cols, const float *smooth);
} emb_cpu_kernels;

extern const emb_cpu_kernels emb_cpu_ref_f32, emb_cpu_ref_bf16;
extern const emb_cpu_kernels emb_cpu_avx2_f32, emb_cpu_avx2_bf16;
extern const emb_cpu_kernels emb_cpu_avx512_f32, emb_cpu_avx512_bf16, emb_cpu_avx512_bf16dot;
/* For I8 and I4. Without and with VNNI, with the same bits. */
extern const emb_cpu_kernels emb_cpu_ref_dot, emb_cpu_avx2_dot, emb_cpu_avx512_dot;
extern const emb_cpu_kernels emb_cpu_avx512_dot_vnni, emb_cpu_avx512_dot_bf16;

/* emb_cpu_dot's sum without VNNI; AVX2 and AVX-512 share it. */
void emb_cpu_avx2_dot_sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                          const int8_t *panel, size_t depth, const int8_t *ahead);

/* ---- attention_block.c, ffn_block.c: operations of emb_backend, for any kernels -------------- */

static inline const emb_cpu_kernels *emb_cpu_kernels_of(const emb_backend *self) {
    return self->own;
}

void emb_cpu_attention_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                             const void *in, const emb_tile *tile, const emb_layer *layer,
                             const emb_layer_spec *shape);
void emb_cpu_ffn_block(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                       const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape);

/* Bytes of a lane's scratch that the blocks need for tiles of up to so many tokens. */
uint64_t emb_cpu_attention_bytes(const emb_backend *self, const emb_layer_spec *shape,
                                 uint32_t tokens);
uint64_t emb_cpu_ffn_bytes(const emb_backend *self, const emb_layer_spec *shape, uint32_t tokens);

/* ---- common.c: the other operations ---------------------------------------------------------- */

const char *emb_cpu_supports(const emb_backend *self, const emb_layer_spec *spec);
void emb_cpu_linear_layout(const emb_backend *self, emb_linear *linear, uint32_t rows,
                           uint32_t cols, emb_dtype dtype, emb_ledger *ledger);
void emb_cpu_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                  const float *values);
void emb_cpu_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                         const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger);
void emb_cpu_embed(const emb_backend *self, emb_lane_scratch *lane, void *out, const emb_tile *tile,
                   const emb_embedding *embedding, const emb_layer_spec *shape);
void emb_cpu_pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                  const uint32_t *targets, const void *in, const emb_tile *tile,
                  const emb_pool_rule *rule, const emb_layer_spec *shape);
void emb_cpu_convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                     uint64_t rows, uint32_t cols);

/* ---- quantized.c: products of 8-bit activations and 8-bit or 4-bit weights ------------------- */

/* Outputs side by side in a panel, tokens of a tile at most. */
enum { EMB_CPU_DOT_PANEL = 64, EMB_CPU_DOT_ROWS = 6 };

/* Activations are quantized in slices, with a scale and a zero each: of the context as many whole
 * groups of heads as have up to so many columns; of the intermediate up to so many. Part of the
 * numerics. */
enum { EMB_CPU_DOT_CONTEXT = 128, EMB_CPU_DOT_SLICE = 1024 };

/* Cols up to which `whole` of emb_cpu_dot is exact. */
enum { EMB_CPU_DOT_WHOLE_COLS = 1 << 14 };

/* After a token's u8 values, at emb_cpu_dot_depth(cols): value = scale * (q - zero). */
typedef struct emb_cpu_token {
    float scale;
    int32_t zero; /* 0 to 255 */
} emb_cpu_token;

/* Some tokens times one panel: a tile of the product. */
typedef struct emb_cpu_dot_tile {
    const emb_cpu_product *product;
    size_t depth; /* of the cols that are multiplied; the emb_cpu_token comes after them */
    uint32_t panel0, row0, rows;
    const uint8_t *in;          /* of row0 */
    const int8_t *ahead;        /* see emb_cpu_dot */
    const int32_t *sums;        /* [rows, 64] of u8 times s8 */
    float *totals;              /* [rows, 64] over the groups so far; I4 only */
    const float *scales;        /* [64] of the panel (and group) */
    const int32_t *weight_sums; /* [64] */
    int32_t *pairs;             /* [64] of `whole`, which keeps them for a panel's tiles */
} emb_cpu_dot_tile;

/* What an instruction set gives. */
typedef struct emb_cpu_dot {
    /* sums [rows, 64] = in [rows, depth] * panel; depth is a multiple of 4, sums on a cache line.
     * Prefetches the depth * 32 bytes from `ahead` on into L2, spread over its loop: else the next
     * panel's first tile would wait for L3. */
    void (*sum)(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                const int8_t *panel, size_t depth, const int8_t *ahead);
    /* Turns sums into outputs: applies scales, zeros, bias and GELU, or adds to out. */
    void (*finish)(const emb_cpu_dot_tile *tile);
    /* Adds a group's sums to the totals, scaled except by the token's scale. */
    void (*add_group)(const emb_cpu_dot_tile *tile);
    void (*finish_totals)(const emb_cpu_dot_tile *tile);
    /* Both `sum` and `finish` of I8 without GELU, for a panel whose columns are all wanted and up
     * to EMB_CPU_DOT_WHOLE_COLS cols. NULL: not available. */
    void (*whole)(const emb_cpu_dot_tile *tile, const int8_t *panel);
} emb_cpu_dot;

void emb_cpu_dot_layout(emb_linear *linear, emb_ledger *ledger);
void emb_cpu_dot_pack(const emb_backend *self, emb_linear *linear, uint32_t row0,
                      const emb_quantized_rows *rows);
void emb_cpu_dot_product(const emb_cpu_dot *dot, const emb_cpu_product *product);

/* Bytes of work that products of up to so many cols need. */
size_t emb_cpu_dot_work(emb_dtype dtype, uint32_t cols);

/* Cols of a slice of the intermediate. */
static inline uint32_t emb_cpu_dot_slice(uint32_t cols) {
    uint32_t slices = (cols + EMB_CPU_DOT_SLICE - 1) / EMB_CPU_DOT_SLICE;
    if (slices <= 1) return cols;
    return ((cols + slices - 1) / slices + EMB_CPU_DOT_PANEL - 1) / EMB_CPU_DOT_PANEL *
           EMB_CPU_DOT_PANEL;
}

static inline size_t emb_cpu_dot_depth(uint32_t cols) {
    return ((size_t)cols + 3) / 4 * 4;
}

static inline emb_cpu_token emb_cpu_dot_token(const emb_cpu_dot_tile *tile, uint32_t row) {
    emb_cpu_token token;
    memcpy(&token, tile->in + row * tile->product->in_stride + tile->depth, sizeof token);
    return token;
}

/* The scale and zero of a token whose values lie in [low, high]; *factor is what to multiply them
 * by. The range includes zero. A range below the minimum gives a factor of 0. */
static inline emb_cpu_token emb_cpu_token_make(float low, float high, bool finite, float *factor) {
    float range = (high > 0.0f ? high : 0.0f) - (low < 0.0f ? low : 0.0f);
    bool usable = range > 1e-30f;
    *factor = usable ? 255.0f / range : 0.0f;
    emb_cpu_token token = {usable ? range / 255.0f : 0.0f, 0};
    if (usable && low < 0.0f) token.zero = (int32_t)rintf(-low * *factor);
    if (!finite) token.scale = NAN; /* NaN propagates */
    return token;
}

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

/* Cuts the next buffer off a scratch; with a base of NULL the end is the number of bytes. */
static inline void *emb_cpu_cut(uintptr_t *end, size_t rows, size_t stride, size_t value_bytes) {
    uintptr_t start = *end;
    *end += emb_cpu_round_up(rows * stride * value_bytes, EMB_ALIGN);
    return (void *)start;
}

/* The stride of a private buffer, in values: an odd number of cache lines, because rows a multiple
 * of 4 KiB apart map to the same cache set and evict each other. */
static inline size_t emb_cpu_stride(size_t cols, size_t value_bytes) {
    size_t lines = (cols * value_bytes + EMB_ALIGN - 1) / EMB_ALIGN;
    return (lines | 1) * EMB_ALIGN / value_bytes;
}

static inline size_t emb_cpu_packed_depth(const emb_cpu_kernels *kernels, uint32_t cols) {
    return emb_cpu_round_up(cols, kernels->depth_step);
}

/* Bytes of a head's query or key. */
static inline size_t emb_cpu_code_bytes(uint32_t head_dim) {
    return emb_cpu_round_up(head_dim, 16);
}

/* Queries, sums and scores of one query tile; of a chunk what is paired, or the values' bytes. */
static inline size_t emb_cpu_attention_work(const emb_cpu_kernels *kernels, uint32_t head_dim,
                                            uint32_t chunk_tokens) {
    if (kernels->attention_bytes) {
        size_t stride = emb_cpu_code_bytes(head_dim), rows = emb_cpu_round_up(chunk_tokens, 4);
        size_t lanes = EMB_CPU_DOT_KEYS + stride / 4 + stride;
        return EMB_CPU_QUERY_TILE * lanes + 2 * stride + rows * stride / 4;
    }
    size_t tile = (size_t)EMB_CPU_QUERY_TILE * (2 * (size_t)head_dim + 1 + EMB_CPU_KEY_TILE);
    if (!kernels->attention_pairs) return tile;
    size_t tokens = chunk_tokens, dim = head_dim;
    return tile + tokens * ((dim + 1) / 2) + (tokens + 1) / 2 * dim;
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
