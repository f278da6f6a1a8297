/* attention.cuh - what the tensor-core attentions share: parameters, mask, online softmax, output.
 *
 * Feeds attention_mma.cuh and attention_wgmma.cuh, whose products leave 16 query rows of a warp in
 * the same registers; the arithmetic between the products is here only, so their bits agree.
 * Legend: X what training adds to the work on an item, or emb_attention_alone.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_CUH
#define EMB_BACKEND_CUDA_KERNELS_ATTENTION_ATTENTION_CUH

#include "backend/cuda/kernels/device.cuh"

#define ROWS  EMB_CUDA_QUERY_ROWS
#define KEYS  64
#define LOG2E 1.4426950408889634f

/* A kernel's parameters. */
template <typename T> struct emb_attention {
    T *out;       /* [tokens, hidden] */
    const T *qkv; /* [tokens, 3 * hidden] */
    const uint4 *tiles;
    const float *relative;
    uint32_t hidden, heads, head_dim, relative_tokens;
    float scale; /* of a score, times log2 e */
};

template <typename T>
static emb_attention<T> emb_attention_make(void *out, const void *qkv, const emb_cuda_heads *heads,
                                           const emb_cuda_batch *batch) {
    return {(T *)out,        (const T *)qkv,         (const uint4 *)batch->query_tiles,
            heads->relative, heads->hidden,          heads->heads,
            heads->head_dim, heads->relative_tokens, LOG2E / sqrtf((float)heads->head_dim)};
}

/* Nothing is added. X::params is a kernel's parameter; an X is a thread's, and knows its item. */
struct emb_attention_alone {
    struct params {};
    /* blocks fewer on a multiprocessor, for their registers, where head_dim is up to 32 */
    static constexpr int FEWER_MMA = 0, FEWER_WGMMA = 0;
    /* Of an item, whose warp begins at that query row of the tile. */
    __device__ void begin(const params &, const uint4 & /* tile */, uint32_t /* head */,
                          uint32_t /* warp_row */) {}
    /* Of a block of keys: changes the weights, of which the sums were taken. */
    __device__ void change(const params &, float (&)[KEYS / 8][4] /* weights */,
                           uint32_t /* first_key */) const {}
    /* Of an item's end: scores are powers of 2 if multiplied by `scale`. */
    __device__ void end(const params &, const float (&)[2] /* largest */,
                        const float (&)[2] /* sums */, float /* scale */,
                        uint32_t /* rows */) const {}
};

/* Adds the bias to the scaled scores and hides keys past the chunk. A thread holds columns
 * 2 * (lane % 4) + {0, 1} of each group of 8, of rows lane / 4 and lane / 4 + 8. */
template <bool RELATIVE>
static __device__ __forceinline__ void emb_attention_mask(float (&scores)[KEYS / 8][4], float scale,
                                                          const float *bias, uint32_t warp_row,
                                                          uint32_t keys) {
    uint32_t lane = threadIdx.x & 31, row = warp_row + (lane >> 2);
    if (!RELATIVE && keys == KEYS) return;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t key = n * 8 + (lane & 3) * 2 + (i & 1), r = row + (i >> 1) * 8;
            if (RELATIVE) scores[n][i] = fmaf(scores[n][i], scale, bias[key + ROWS - 1 - r]);
            if (key >= keys) scores[n][i] = -INFINITY;
        }
    }
}

/* One step of the online softmax: scores become weights relative to the running maximum, and what
 * was summed before is rescaled. `scale` makes powers of 2 of the scores. */
template <int D>
static __device__ __forceinline__ void
emb_attention_update_softmax(float (&scores)[KEYS / 8][4], float (&context)[D / 8][4],
                             float (&largest)[2], float (&sums)[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = largest[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        top = fmaxf(top, __shfl_xor_sync(EMB_FULL_WARP, top, 1));
        top = fmaxf(top, __shfl_xor_sync(EMB_FULL_WARP, top, 2));
        float keep = emb_power2((largest[half] - top) * scale), sum = 0, offset = -top * scale;
        largest[half] = top;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores[n][i] = emb_power2(fmaf(scores[n][i], scale, offset));
                sum += scores[n][i];
            }
        }
        sums[half] = fmaf(sums[half], keep, sum);
        if (!__any_sync(EMB_FULL_WARP, keep != 1.0f)) continue;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            context[d][2 * half] *= keep;
            context[d][2 * half + 1] *= keep;
        }
    }
}

/* Adds up what the four threads of a row hold of its sum. */
static __device__ __forceinline__ void emb_attention_sums(float (&sums)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sums[half] += __shfl_xor_sync(EMB_FULL_WARP, sums[half], 1);
        sums[half] += __shfl_xor_sync(EMB_FULL_WARP, sums[half], 2);
    }
}

/* Divides by the sums and writes a warp's 16 rows, staged in its rows of the query tile. */
template <typename T, int D>
static __device__ __forceinline__ void
emb_attention_finish(const emb_attention<T> &p, float (&context)[D / 8][4], const float (&sums)[2],
                     unsigned char *tile, T *out, uint32_t warp_row, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = warp_row + (lane >> 2);
    __syncwarp(); /* all lanes have read the queries that were here */
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float factor = 1.0f / sums[half];
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            *reinterpret_cast<uint32_t *>(tile + emb_swizzle<D / 8>(row + half * 8, d) +
                                          (lane & 3) * 4) =
                emb_pack<T>(context[d][2 * half] * factor, context[d][2 * half + 1] * factor);
        }
    }
    __syncwarp();
    constexpr int PIECES = D / 8, STEP = 32 / PIECES;
    uint32_t piece = lane % PIECES;
#pragma unroll
    for (int i = 0; i < 16; i += STEP) {
        uint32_t r = warp_row + i + lane / PIECES;
        if (r < rows && piece * 8 < p.head_dim) {
            *reinterpret_cast<uint4 *>(out + (uint64_t)r * p.hidden + piece * 8) =
                *reinterpret_cast<const uint4 *>(tile + emb_swizzle<PIECES>(r, piece));
        }
    }
}

#endif
