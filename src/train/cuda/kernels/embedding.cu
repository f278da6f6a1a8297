/* embedding.cu - embedding of a training batch from the f32 tables, and its gradient back to them.
 *
 * Forwards a warp takes a token. Backwards the tokens come sorted by id, so that each row of a
 * table has one writer and its sum one order: a warp takes a word with few tokens; of a word with
 * many, and of a position of all chunks, a block takes a slice of the columns.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define EMBED_WARPS 4
#define FEW         32 /* tokens of a word that a warp adds alone */
#define FEW_WARPS   8
#define FEW_BLOCKS  1024
#define BACK_WARPS  16
#define SLICE       64 /* columns of a block: eight lanes of eight */
#define BATCH       8  /* rows that a thread waits for at once */
#define MANY_BLOCKS 96 /* that share a slice of the frequent words */

/* ---- forwards -------------------------------------------------------------------------------- */

/* What a token is made of. */
struct tables {
    const float *words, *positions, *token_types;
};

/* One warp per token; a lane holds VECTORS groups of eight columns. */
template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * EMBED_WARPS, 6)
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

/* Eight columns of BATCH rows of d_sum, all of which are on their way before the first is added;
 * none where `valid` has no bit. */
template <typename T>
static __device__ __forceinline__ void add_batch(float (&sums)[8], const T *d_sum,
                                                 const uint32_t (&tokens)[BATCH], uint32_t valid,
                                                 uint32_t hidden, uint32_t col) {
    uint4 raw[BATCH];
#pragma unroll
    for (int j = 0; j < BATCH; j++) {
        raw[j] = make_uint4(0, 0, 0, 0);
        if (valid >> j & 1) {
            raw[j] = *reinterpret_cast<const uint4 *>(d_sum + (uint64_t)tokens[j] * hidden + col);
        }
    }
#pragma unroll
    for (int j = 0; j < BATCH; j++) {
        float x[8];
        emb_load8(x, reinterpret_cast<const T *>(&raw[j]));
        for (int i = 0; i < 8; i++) sums[i] += x[i];
    }
}

/* Sums tokens `first`, `first` + step, ... of a group of `count`. */
template <typename T>
static __device__ __forceinline__ void
add_tokens(float (&sums)[8], const T *d_sum, const uint32_t *tokens, uint32_t count, uint32_t first,
           uint32_t step, uint32_t hidden, uint32_t col) {
    for (int i = 0; i < 8; i++) sums[i] = 0;
    if (col >= hidden) return;
    for (uint32_t k = first; k < count; k += BATCH * step) {
        uint32_t batch[BATCH], valid = 0;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            bool inside = k + j * step < count;
            batch[j] = inside ? tokens[k + j * step] : 0;
            valid |= (uint32_t)inside << j;
        }
        add_batch<T>(sums, d_sum, batch, valid, hidden, col);
    }
}

/* Words of at most FEW tokens: a warp takes a whole row, onto which it adds the tokens. */
template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * FEW_WARPS, VECTORS <= 4 ? 4 : 2)
    few_back_kernel(float *d_words, const T *d_sum, emb_train_cuda_words order, uint32_t hidden) {
    emb_kernel_begin();
    uint32_t count = order.groups_count[0], lane = threadIdx.x & 31;
    for (uint32_t group = blockIdx.x * FEW_WARPS + (threadIdx.x >> 5); group < count;
         group += gridDim.x * FEW_WARPS) {
        uint32_t start = order.groups[group], tokens = order.groups[group + 1] - start;
        if (tokens > FEW) continue;
        float *row = d_words + (uint64_t)order.ids[group] * hidden, sums[VECTORS][8];
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            uint32_t col = (v * 32 + lane) * 8;
            if (col < hidden) emb_load8(sums[v], row + col);
        }
#pragma unroll(VECTORS <= 2 ? 4 : 2)
        for (uint32_t k = 0; k < tokens; k++) {
            const T *from = d_sum + (uint64_t)order.tokens[start + k] * hidden;
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                uint32_t col = (v * 32 + lane) * 8;
                if (col >= hidden) continue;
                float x[8];
                emb_load8(x, from + col);
                for (int i = 0; i < 8; i++) sums[v][i] += x[i];
            }
        }
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            uint32_t col = (v * 32 + lane) * 8;
            if (col < hidden) emb_store8(row + col, sums[v]);
        }
    }
}

/* The others: a block takes every so many-th group, for frequent words stand side by side in
 * vocabularies, and looks at one a thread for those that it has to add. */
template <typename T>
static __global__ void __launch_bounds__(32 * BACK_WARPS, 2)
    many_back_kernel(float *d_words, const T *d_sum, emb_train_cuda_words order, uint32_t hidden) {
    __shared__ uint32_t found[32 * BACK_WARPS], found_count;
    emb_kernel_begin();
    slice_place at = place_of_thread();
    uint32_t count = order.groups_count[0];
    for (uint32_t first = blockIdx.x; first < count; first += gridDim.x * blockDim.x) {
        uint32_t group = first + threadIdx.x * gridDim.x;
        if (threadIdx.x == 0) found_count = 0;
        __syncthreads();
        if (group < count && order.groups[group + 1] - order.groups[group] > FEW) {
            found[atomicAdd(&found_count, 1)] = group; /* in any order: each is a row of its own */
        }
        __syncthreads();
        for (uint32_t i = 0; i < found_count; i++) {
            uint32_t start = order.groups[found[i]], tokens = order.groups[found[i] + 1] - start;
            float sums[8];
            add_tokens<T>(sums, d_sum, order.tokens + start, tokens, at.warp * 4 + at.row,
                          4 * BACK_WARPS, hidden, at.col);
            add_warps(sums, at);
            if (threadIdx.x < 8 && at.col < hidden) {
                add_to(d_words + (uint64_t)order.ids[found[i]] * hidden + at.col, sums);
            }
        }
        __syncthreads(); /* all have read what was found */
    }
}

/* A block takes a position of all chunks that are long enough. */
template <typename T>
static __global__ void __launch_bounds__(32 * BACK_WARPS, 2)
    positions_back_kernel(float *d_positions, float *partials, const T *d_sum,
                          const uint32_t *counts, const uint32_t *starts, uint32_t hidden) {
    emb_kernel_begin();
    slice_place at = place_of_thread();
    uint32_t position = blockIdx.x, chunks = counts[1];
    float sums[8] = {};
    for (uint32_t c = at.warp * 4 + at.row; c < chunks && at.col < hidden;
         c += BATCH * 4 * BACK_WARPS) {
        uint32_t tokens[BATCH], valid = 0;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            uint32_t chunk = c + j * 4 * BACK_WARPS;
            bool inside = chunk < chunks;
            tokens[j] = inside ? starts[chunk] + position : 0;
            valid |= (uint32_t)(inside && tokens[j] < starts[chunk + 1]) << j;
        }
        add_batch<T>(sums, d_sum, tokens, valid, hidden, at.col);
    }
    add_warps(sums, at);
    if (threadIdx.x >= 8 || at.col >= hidden) return;
    uint64_t place = (uint64_t)position * hidden + at.col;
    add_to(d_positions + place, sums);
    if (partials) emb_store8(partials + place, sums);
}

/* Adds the sums of all positions to row 0 of the token types; a block takes 32 columns. */
static __global__ void __launch_bounds__(32 * BACK_WARPS, 2)
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
    uint32_t blocks = (batch->tokens_max + FEW_WARPS - 1) / FEW_WARPS;
    void (*few)(float *, const T *, emb_train_cuda_words, uint32_t) =
        hidden <= 512    ? few_back_kernel<T, 2>
        : hidden <= 1024 ? few_back_kernel<T, 4>
                         : few_back_kernel<T, 6>;
    if (blocks > FEW_BLOCKS) blocks = FEW_BLOCKS;
    int status = emb_launch(few, dim3(blocks), 32 * FEW_WARPS, 0, batch, stream, d_words,
                            (const T *)d_sum, *order, hidden);
    if (status) return status;
    status = emb_launch(many_back_kernel<T>, dim3(MANY_BLOCKS, slices), threads, 0, batch, stream,
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
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    if (!positions_max) return cudaErrorInvalidValue;
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
