/* back.cuh - what the kernels of the attention's backward pass share: parameters, tiles of rows,
 * and what is done with pairs of keys and queries between the products.
 *
 * A warp owns 16 rows, keys or queries, and walks rows of the other kind; what it makes of their
 * pairs stays in registers, as an operand of the products that follow. Those are in back_mma.cuh
 * and back_wgmma.cuh, which leave the same pairs in the same registers.
 * Legend: T f16 or bf16, D head_dim rounded up to 32, 64 or 128 (columns past head_dim are zeros).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_BACK_CUH
#define EMB_TRAIN_CUDA_KERNELS_BACK_CUH

#include "train/cuda/kernels/drop.cuh"

#define LOG2E 1.4426950408889634f

/* Of the kernels for longer chunks: a block's rows and threads, and blocks of a multiprocessor. */
template <int D> constexpr int EMB_BACK_ROWS = D == 128 ? 64 : 128;
template <int D> constexpr int EMB_BACK_THREADS = 2 * EMB_BACK_ROWS<D>;
#if __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 /* 100 KB of shared memory hold one */
template <int D> constexpr int EMB_BACK_RESIDENT = D == 32 ? 2 : 1;
#else
template <int D> constexpr int EMB_BACK_RESIDENT = 2;
#endif

/* A kernel's parameters. */
template <typename T> struct emb_attention_back {
    T *d_qkv;                   /* [tokens, 3 * hidden] */
    const T *d_out, *out, *qkv; /* [tokens, hidden], twice, and [tokens, 3 * hidden] */
    const float *log_sums;      /* [heads, tokens_max] */
    float *dots;                /* [heads, tokens_max]: of out and d_out */
    float *partial;             /* NULL, or [groups, heads, 2 * L - 1] of d_relative */
    const uint32_t *counts, *starts;
    const uint4 *tiles;
    const float *relative;
    uint32_t hidden, heads, head_dim, relative_tokens, tokens_max;
    uint32_t groups;      /* with `partial`: blocks that share a head's tiles */
    uint32_t whole_max;   /* longer chunks are worked on in parts */
    float scale, unscale; /* of a score, and 1 / scale */
    emb_drop_rule drop;
};

/* One head of one chunk. */
template <typename T> struct emb_head_back {
    const T *queries, *d_out, *out; /* of its first token */
    const float *log_sums, *bias;   /* bias[key - query], or NULL */
    float *dots;
    uint64_t drop;
    uint32_t count; /* tokens */
};

template <typename T>
static __device__ __forceinline__ emb_head_back<T>
emb_head_back_make(const emb_attention_back<T> &p, uint32_t start, uint32_t count, uint32_t chunk,
                   uint32_t head, bool drop) {
    emb_head_back<T> h;
    uint64_t at = (uint64_t)start * p.hidden, column = (uint64_t)head * p.head_dim;
    uint64_t row = (uint64_t)head * p.tokens_max + start;
    h.queries = p.qkv + 3 * at + column;
    h.out = p.out + at + column, h.d_out = p.d_out + at + column;
    h.log_sums = p.log_sums + row, h.dots = p.dots + row;
    h.bias = NULL;
    if (p.relative) {
        h.bias = p.relative + (uint64_t)head * (2 * p.relative_tokens - 1) + p.relative_tokens - 1;
    }
    h.drop = drop ? emb_drop_key(p.drop, chunk, head) : 0;
    h.count = count;
    return h;
}

/* Where the gradient of a head's queries goes. Made of what is there anyway: registers are few. */
template <typename T>
static __device__ __forceinline__ T *emb_head_gradient(const emb_attention_back<T> &p,
                                                       const emb_head_back<T> &h) {
    return p.d_qkv + (h.queries - p.qkv);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* ROWS rows from `from`, those past `count` and columns past head_dim zeros. Unrolled, so that all
 * copies are under way at once. */
template <typename T, int D, int THREADS, int ROWS>
static __device__ __forceinline__ void emb_load_rows(uint32_t to, const T *from, uint32_t stride,
                                                     uint32_t count, uint32_t head_dim) {
    constexpr uint32_t PIECES = D / 8, STEP = THREADS / PIECES;
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i += STEP) {
        bool valid = row + i < count && piece * 8 < head_dim;
        emb_copy16(to + emb_swizzle<PIECES>(row + i, piece),
                   valid ? from + (uint64_t)(row + i) * stride + piece * 8 : from, valid);
    }
}

/* Four bytes, as emb_copy16. */
static __device__ __forceinline__ void emb_copy_float(float *to, const float *from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(emb_shared(to)), "l"(from),
                 "r"(valid ? 4 : 0)
                 : "memory");
#else
    *to = valid ? *from : 0.0f;
#endif
}

/* A warp's rows of sums, times `factor`, to its 16 rows of a tile that only it uses. */
template <typename T, int D>
static __device__ __forceinline__ void emb_stage_rows(unsigned char *tile,
                                                      const float (&sums)[D / 8][4], float factor,
                                                      uint32_t warp_row) {
    uint32_t lane = threadIdx.x & 31, row = warp_row + (lane >> 2);
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            *reinterpret_cast<uint32_t *>(tile + emb_swizzle<D / 8>(row + half * 8, d) +
                                          (lane & 3) * 4) =
                emb_pack<T>(sums[d][2 * half] * factor, sums[d][2 * half + 1] * factor);
        }
    }
}

/* Writes those of them that are before `count`. */
template <typename T, int D>
static __device__ __forceinline__ void emb_write_rows(T *to, uint32_t stride,
                                                      const unsigned char *tile, uint32_t warp_row,
                                                      uint32_t count, uint32_t head_dim) {
    constexpr uint32_t PIECES = D / 8, STEP = 32 / PIECES;
    uint32_t lane = threadIdx.x & 31, piece = lane % PIECES;
#pragma unroll
    for (uint32_t i = 0; i < 16; i += STEP) {
        uint32_t row = warp_row + i + lane / PIECES;
        if (row < count && piece * 8 < head_dim) {
            *reinterpret_cast<uint4 *>(to + (uint64_t)row * stride + piece * 8) =
                *reinterpret_cast<const uint4 *>(tile + emb_swizzle<PIECES>(row, piece));
        }
    }
}

/* dots[row] = out . d_out of ROWS rows, zeros past `count`. All loads come first. */
template <typename T, int D, int THREADS, int ROWS>
static __device__ __forceinline__ void emb_dot_rows(float *dots, const T *out, const T *d_out,
                                                    uint32_t stride, uint32_t count,
                                                    uint32_t head_dim) {
    constexpr uint32_t PIECES = D / 8, STEP = THREADS / PIECES, TURNS = ROWS / STEP;
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    uint4 a[TURNS], b[TURNS];
#pragma unroll
    for (uint32_t i = 0; i < TURNS; i++) {
        uint64_t at = (uint64_t)(row + i * STEP) * stride + piece * 8;
        a[i] = b[i] = make_uint4(0, 0, 0, 0);
        if (row + i * STEP < count && piece * 8 < head_dim) {
            a[i] = *reinterpret_cast<const uint4 *>(out + at);
            b[i] = *reinterpret_cast<const uint4 *>(d_out + at);
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < TURNS; i++) {
        float x[8], y[8], sum = 0;
        emb_load8(x, reinterpret_cast<const T *>(&a[i]));
        emb_load8(y, reinterpret_cast<const T *>(&b[i]));
#pragma unroll
        for (int c = 0; c < 8; c++) sum = fmaf(x[c], y[c], sum);
#pragma unroll
        for (uint32_t step = PIECES / 2; step > 0; step >>= 1) {
            sum += __shfl_xor_sync(EMB_FULL_WARP, sum, step);
        }
        if (piece == 0) dots[row + i * STEP] = sum;
    }
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* Sums [16, STEP] that a warp holds: of rows lane / 4 and lane / 4 + 8 and, in each group of 8
 * columns, columns 2 * (lane % 4) and the next. As left operands of products: */
template <typename T, int STEP>
static __device__ __forceinline__ void emb_pack_operand(uint32_t (&a)[STEP / 16][4],
                                                        const float (&sums)[STEP / 8][4]) {
#pragma unroll
    for (int n = 0; n < STEP / 16; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &sums[2 * n + i / 2][i % 2 * 2];
            a[n][i] = emb_pack<T>(pair[0], pair[1]);
        }
    }
}

/* Stores them to rows of PIECES * 8 columns, from that column on. */
template <int PIECES, int STEP>
static __device__ __forceinline__ void emb_store_operand(unsigned char *tile,
                                                         const uint32_t (&a)[STEP / 16][4],
                                                         uint32_t warp_row, uint32_t column) {
    uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int n = 0; n < STEP / 16; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t row = warp_row + (lane >> 2) + (i & 1) * 8, piece = column / 8 + 2 * n + i / 2;
            *reinterpret_cast<uint32_t *>(tile + emb_swizzle<PIECES>(row, piece) + (lane & 3) * 4) =
                a[n][i];
        }
    }
}

/* Of one pair, a score and the gradient of its weight become the weight that is left by dropout
 * and the gradient of the scaled score. `kept`: emb_drop_factor. */
static __device__ __forceinline__ void emb_pair_back(float &score, float &gradient, float scale,
                                                     float offset, float dot, float kept) {
    float weight = emb_power2(fmaf(score, scale, offset));
    gradient = weight * fmaf(gradient, kept, -dot);
    score = weight * kept;
}

/* Adds a pair's bias to the unscaled score. Pairs past the chunk read what the table has: they are
 * hidden later. */
template <typename T>
static __device__ __forceinline__ void emb_pair_bias(float &score, const emb_attention_back<T> &p,
                                                     const emb_head_back<T> &h, uint32_t key,
                                                     uint32_t query) {
    int last = (int)p.relative_tokens - 1, apart = (int)key - (int)query;
    score = fmaf(h.bias[min(max(apart, -last), last)], p.unscale, score);
}

/* What is known of ROWS queries, in shared memory. */
template <int ROWS> struct emb_query_facts {
    uint2 keys[ROWS]; /* of dropout */
    float log_sums[ROWS], dots[ROWS];
};

/* emb_pair_back of a warp's 16 keys and STEP queries; `row`: of the queries among the facts,
 * `query`: the first of them in the chunk. Queries past the chunk have rows of zeros, which add
 * nothing to a key. */
template <typename T, bool DROP, int STEP, int ROWS>
static __device__ __forceinline__ void
emb_key_pairs(float (&scores)[STEP / 8][4], float (&gradients)[STEP / 8][4],
              const emb_attention_back<T> &p, const emb_head_back<T> &h,
              const emb_query_facts<ROWS> &facts, uint32_t first_key, uint32_t row,
              uint32_t query) {
    uint32_t lane = threadIdx.x & 31, key = first_key + (lane >> 2), column = (lane & 3) * 2;
    if (h.bias) {
#pragma unroll
        for (int i = 0; i < STEP / 2; i++) {
            emb_pair_bias(scores[i / 4][i % 4], p, h, key + (i & 2) * 4,
                          query + i / 4 * 8 + column + (i & 1));
        }
    }
    bool valid[2] = {key < h.count, key + 8 < h.count};
#pragma unroll
    for (int n = 0; n < STEP / 8; n++) {
        uint32_t at = row + n * 8 + column;
        float2 log_sums = *reinterpret_cast<const float2 *>(&facts.log_sums[at]);
        float2 dots = *reinterpret_cast<const float2 *>(&facts.dots[at]);
        uint4 random = make_uint4(0, 0, 0, 0);
        if (DROP) random = *reinterpret_cast<const uint4 *>(&facts.keys[at]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float offset = -(i & 1 ? log_sums.y : log_sums.x) * LOG2E, kept = 1.0f;
            if (DROP) {
                uint2 bits =
                    i & 1 ? make_uint2(random.z, random.w) : make_uint2(random.x, random.y);
                kept = emb_drop_factor(p.drop, bits, key + (i & 2) * 4);
            }
            emb_pair_back(scores[n][i], gradients[n][i], p.scale * LOG2E,
                          valid[i >> 1] ? offset : -INFINITY, i & 1 ? dots.y : dots.x, kept);
        }
    }
}

/* A warp's 16 queries: of rows lane / 4 and lane / 4 + 8. */
struct emb_query_rows {
    float offsets[2], dots[2];
    uint2 keys[2];  /* of dropout */
    uint32_t first; /* query of the chunk */
};

/* emb_pair_back of a warp's 16 queries and STEP keys. */
template <typename T, bool DROP, int STEP>
static __device__ __forceinline__ void
emb_query_pairs(float (&scores)[STEP / 8][4], float (&gradients)[STEP / 8][4],
                const emb_attention_back<T> &p, const emb_head_back<T> &h,
                const emb_query_rows &own, uint32_t first_key) {
    uint32_t lane = threadIdx.x & 31, key = first_key + (lane & 3) * 2;
    if (h.bias) {
#pragma unroll
        for (int i = 0; i < STEP / 2; i++) {
            emb_pair_bias(scores[i / 4][i % 4], p, h, key + i / 4 * 8 + (i & 1),
                          own.first + (lane >> 2) + (i & 2) * 4);
        }
    }
#pragma unroll
    for (int n = 0; n < STEP / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t k = key + n * 8 + (i & 1), half = i >> 1;
            float kept = DROP ? emb_drop_factor(p.drop, own.keys[half], k) : 1.0f;
            emb_pair_back(scores[n][i], gradients[n][i], p.scale * LOG2E,
                          k < h.count ? own.offsets[half] : -INFINITY, own.dots[half], kept);
        }
    }
}

/* ---- launchers ------------------------------------------------------------------------------- */

/* `hopper`: by warpgroup products where head_dim is up to 64. */

/* Chunks of up to p.whole_max tokens (at most 128); head_dim up to 64. */
template <typename T>
int emb_attention_back_whole(const emb_attention_back<T> &p, uint32_t chunk_tokens_max,
                             const emb_cuda_batch *batch, bool hopper, cudaStream_t stream);

/* Longer chunks: for the queries and, unless d_relative is NULL, the bias; then for the keys. */
template <typename T>
int emb_attention_back_queries(const emb_attention_back<T> &p, float *d_relative,
                               const emb_cuda_batch *batch, bool hopper, cudaStream_t stream);
template <typename T>
int emb_attention_back_keys(const emb_attention_back<T> &p, const emb_cuda_batch *batch,
                            bool hopper, cudaStream_t stream);

#endif
