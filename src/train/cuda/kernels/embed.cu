/* embed.cu - embedding of a training batch from the f32 tables, and its gradient back to them.
 *
 * Forwards a warp takes a token. Backwards the tokens come sorted by id, so that each row of a
 * table has one writer and its sum one order: a warp takes a word with few tokens, a block one with
 * many, each for a slice of the columns, and likewise a position of all chunks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define EMBED_WARPS 4
#define BACK_WARPS  8
#define SLICE       64 /* columns of a block: eight lanes of eight */
#define WORD_FEW    64 /* tokens of a word that a warp adds alone */
#define WORD_BLOCKS 1024

/* ---- forwards -------------------------------------------------------------------------------- */

/* What a token is made of. */
struct tables {
    const float *words, *positions, *token_types;
};

/* One warp per token; a lane holds VECTORS groups of eight columns. */
template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * EMBED_WARPS)
    embed_kernel(T *out, T *sums, const uint32_t *ids, const uint32_t *indices,
                 const uint32_t *counts, tables t, emb_cuda_norm norm, uint32_t hidden) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * EMBED_WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    const float *word = t.words + (uint64_t)ids[token] * hidden;
    const float *position = t.positions + (uint64_t)indices[token] * hidden;
    uint64_t row = (uint64_t)token * hidden;
    float x[VECTORS][8], sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * 8;
        for (int i = 0; i < 8; i++) x[v][i] = 0;
        if (col >= hidden) continue;
        float place[8], kind[8] = {};
        emb_load8(x[v], word + col);
        emb_load8(place, position + col);
        if (t.token_types) emb_load8(kind, t.token_types + col);
        for (int i = 0; i < 8; i++) {
            x[v][i] = emb_from(emb_to<T>(x[v][i] + (place[i] + kind[i])));
            sum += x[v][i];
        }
        emb_store8(sums + row + col, x[v]);
    }
    emb_norm_row<T, VECTORS>(out + row, x, emb_warp_sum(sum), norm, hidden);
}

template <typename T>
static int embed_run(void *x, void *sum, const emb_cuda_batch *batch, const tables &t,
                     const emb_cuda_norm &norm, uint32_t hidden, cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    void (*kernel)(T *, T *, const uint32_t *, const uint32_t *, const uint32_t *, tables,
                   emb_cuda_norm, uint32_t) = hidden <= 512    ? embed_kernel<T, 2>
                                              : hidden <= 1024 ? embed_kernel<T, 4>
                                                               : embed_kernel<T, 6>;
    return emb_launch(kernel, dim3((batch->tokens_max + EMBED_WARPS - 1) / EMBED_WARPS),
                      32 * EMBED_WARPS, 0, batch, stream, (T *)x, (T *)sum, batch->ids,
                      batch->positions, batch->counts, t, norm, hidden);
}

int emb_cuda_train_embed(void *x, void *sum, const emb_cuda_batch *batch, const float *words,
                         const float *positions, const float *token_types, const float *gain,
                         const float *shift, float epsilon, uint32_t hidden, emb_dtype type,
                         void *stream) {
    tables t = {words, positions, token_types};
    emb_cuda_norm norm = {gain, shift, epsilon};
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) return embed_run<emb_f16>(x, sum, batch, t, norm, hidden, s);
    if (type == EMB_DTYPE_BF16) return embed_run<emb_bf16>(x, sum, batch, t, norm, hidden, s);
    return cudaErrorInvalidValue;
}

/* ---- backwards ------------------------------------------------------------------------------- */

/* Where a thread stands: eight columns, and which of its warp's four rows. */
struct slice_place {
    uint32_t col, row, warp;
};

static __device__ __forceinline__ slice_place place_of_thread() {
    uint32_t lane = threadIdx.x & 31;
    return {blockIdx.y * SLICE + (lane & 7) * 8, lane >> 3, threadIdx.x >> 5};
}

/* Adds the sums of a warp's four rows; all of them get the result. */
static __device__ __forceinline__ void add_rows(float (&sums)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sums[i] += __shfl_xor_sync(EMB_FULL_WARP, sums[i], 8);
        sums[i] += __shfl_xor_sync(EMB_FULL_WARP, sums[i], 16);
    }
}

/* Adds the warps' sums in their order; the first warp gets the result. Holds two barriers. */
static __device__ __forceinline__ void add_warps(float (&sums)[8], const slice_place &at) {
    __shared__ float parts[BACK_WARPS][SLICE];
    add_rows(sums);
    if (at.row == 0) emb_store8(&parts[at.warp][(threadIdx.x & 7) * 8], sums);
    __syncthreads();
    for (int w = 1; w < BACK_WARPS && at.warp == 0; w++) {
        float part[8];
        emb_load8(part, &parts[w][(threadIdx.x & 7) * 8]);
        for (int i = 0; i < 8; i++) sums[i] += part[i];
    }
    __syncthreads();
}

static __device__ __forceinline__ void add_to(float *out, const float (&sums)[8]) {
    float x[8];
    emb_load8(x, out);
    for (int i = 0; i < 8; i++) x[i] += sums[i];
    emb_store8(out, x);
}

/* Sums tokens `first`, `first` + step, ... of a group of `count`. */
template <typename T>
static __device__ __forceinline__ void
add_tokens(float (&sums)[8], const T *d_sum, const uint32_t *tokens, uint32_t count, uint32_t first,
           uint32_t step, uint32_t hidden, uint32_t col) {
    for (int i = 0; i < 8; i++) sums[i] = 0;
    if (col >= hidden) return;
#pragma unroll 4
    for (uint32_t k = first; k < count; k += step) {
        float x[8];
        emb_load8(x, d_sum + (uint64_t)tokens[k] * hidden + col);
        for (int i = 0; i < 8; i++) sums[i] += x[i];
    }
}

/* Frequent words stand side by side in vocabularies, so the groups of a block lie far apart. */
template <typename T>
static __global__ void __launch_bounds__(32 * BACK_WARPS)
    words_back_kernel(float *d_words, const T *d_sum, emb_train_cuda_words order, uint32_t hidden) {
    emb_kernel_begin();
    slice_place at = place_of_thread();
    uint32_t count = order.groups_count[0], apart = (count + BACK_WARPS - 1) / BACK_WARPS;
    float sums[8];
    for (uint32_t first = blockIdx.x; first < apart; first += gridDim.x) {
        uint32_t group = at.warp * apart + first;
        uint32_t start = group < count ? order.groups[group] : 0;
        uint32_t tokens = group < count ? order.groups[group + 1] - start : 0;
        if (tokens && tokens <= WORD_FEW) {
            add_tokens<T>(sums, d_sum, order.tokens + start, tokens, at.row, 4, hidden, at.col);
            add_rows(sums);
            if (at.row == 0 && at.col < hidden) {
                add_to(d_words + (uint64_t)order.ids[group] * hidden + at.col, sums);
            }
        }
        for (int w = 0; w < BACK_WARPS; w++) {
            group = w * apart + first;
            if (group >= count) break;
            start = order.groups[group], tokens = order.groups[group + 1] - start;
            if (tokens <= WORD_FEW) continue;
            add_tokens<T>(sums, d_sum, order.tokens + start, tokens, at.warp * 4 + at.row,
                          4 * BACK_WARPS, hidden, at.col);
            add_warps(sums, at);
            if (threadIdx.x < 8 && at.col < hidden) {
                add_to(d_words + (uint64_t)order.ids[group] * hidden + at.col, sums);
            }
        }
    }
}

/* A block takes a position of all chunks that are long enough. */
template <typename T>
static __global__ void __launch_bounds__(32 * BACK_WARPS)
    positions_back_kernel(float *d_positions, float *partials, const T *d_sum,
                          const uint32_t *counts, const uint32_t *starts, uint32_t hidden) {
    emb_kernel_begin();
    slice_place at = place_of_thread();
    uint32_t position = blockIdx.x, chunks = counts[1];
    float sums[8] = {};
    if (at.col < hidden) {
#pragma unroll 4
        for (uint32_t c = at.warp * 4 + at.row; c < chunks; c += 4 * BACK_WARPS) {
            uint32_t token = starts[c] + position;
            if (token >= starts[c + 1]) continue;
            float x[8];
            emb_load8(x, d_sum + (uint64_t)token * hidden + at.col);
            for (int i = 0; i < 8; i++) sums[i] += x[i];
        }
    }
    add_warps(sums, at);
    if (threadIdx.x >= 8 || at.col >= hidden) return;
    uint64_t place = (uint64_t)position * hidden + at.col;
    add_to(d_positions + place, sums);
    if (partials) emb_store8(partials + place, sums);
}

/* Adds the sums of all positions to row 0 of the token types; a block takes 32 columns. */
static __global__ void __launch_bounds__(32 * BACK_WARPS)
    token_types_back_kernel(float *d_token_types, const float *partials, uint32_t positions,
                            uint32_t hidden) {
    __shared__ float parts[BACK_WARPS][32];
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, col = blockIdx.x * 32 + lane;
    float sum = 0;
    if (col < hidden) {
#pragma unroll 8
        for (uint32_t p = warp; p < positions; p += BACK_WARPS) {
            sum += partials[(uint64_t)p * hidden + col];
        }
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || col >= hidden) return;
    for (int w = 1; w < BACK_WARPS; w++) sum += parts[w][lane];
    d_token_types[col] += sum;
}

template <typename T>
static int embed_back_run(float *d_words, float *d_positions, float *d_token_types, float *partials,
                          const void *d_sum, const emb_cuda_batch *batch,
                          const emb_train_cuda_words *order, uint32_t positions_max,
                          uint32_t hidden, cudaStream_t stream) {
    uint32_t slices = (hidden + SLICE - 1) / SLICE, threads = 32 * BACK_WARPS;
    uint32_t blocks = (batch->tokens_max + BACK_WARPS - 1) / BACK_WARPS;
    if (blocks > WORD_BLOCKS) blocks = WORD_BLOCKS;
    int status = emb_launch(words_back_kernel<T>, dim3(blocks, slices), threads, 0, batch, stream,
                            d_words, (const T *)d_sum, *order, hidden);
    if (status) return status;
    status = emb_launch(positions_back_kernel<T>, dim3(positions_max, slices), threads, 0, batch,
                        stream, d_positions, d_token_types ? partials : NULL, (const T *)d_sum,
                        batch->counts, batch->starts, hidden);
    if (status || !d_token_types) return status;
    return emb_launch(token_types_back_kernel, dim3((hidden + 31) / 32), threads, 0, batch, stream,
                      d_token_types, partials, positions_max, hidden);
}

int emb_cuda_train_embed_back(float *d_words, float *d_positions, float *d_token_types,
                              float *partials, const void *d_sum, const emb_cuda_batch *batch,
                              const emb_train_cuda_words *order, uint32_t positions_max,
                              uint32_t hidden, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (hidden == 0 || hidden % 8 || !positions_max) return cudaErrorInvalidValue;
    if (d_token_types && !partials) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_F16) {
        return embed_back_run<emb_f16>(d_words, d_positions, d_token_types, partials, d_sum, batch,
                                       order, positions_max, hidden, s);
    }
    if (type == EMB_DTYPE_BF16) {
        return embed_back_run<emb_bf16>(d_words, d_positions, d_token_types, partials, d_sum, batch,
                                        order, positions_max, hidden, s);
    }
    return cudaErrorInvalidValue;
}
