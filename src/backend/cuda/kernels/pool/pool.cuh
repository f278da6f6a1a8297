/* pool.cuh - a chunk's pooled vector, then its length: mean, first token or maximum. Feeds pool.cu
 * and training's pooling, whose values so agree.
 *
 * A block takes a chunk: warp w adds tokens w, w + 16, ...; then the sums of warps w and w + 8 are
 * added, and those eight in order. So the order depends only on the chunk.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_POOL_POOL_CUH
#define EMB_BACKEND_CUDA_KERNELS_POOL_POOL_CUH

#include "backend/cuda/kernels/device.cuh"

#define POOL_WARPS   16
#define POOL_PARTS   8
#define POOL_THREADS (32 * POOL_WARPS)

/* The larger of two; NaN propagates, since the engine checks for it. */
static __device__ __forceinline__ float larger(float a, float b) {
    return a >= b || a != a ? a : b;
}

template <typename T, int VECTORS>
static __device__ void gather(float (&sums)[VECTORS][8], const T *in, uint32_t length,
                              uint32_t hidden, bool maximum) {
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < 8; i++) sums[v][i] = maximum ? -INFINITY : 0;
    }
#pragma unroll(VECTORS <= 2 ? 8 : 2)
    for (uint32_t token = warp; token < length; token += POOL_WARPS) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            uint32_t col = (v * 32 + lane) * 8;
            if (col >= hidden) continue;
            float x[8];
            emb_load8(x, in + (uint64_t)token * hidden + col);
            for (int i = 0; i < 8; i++) {
                sums[v][i] = maximum ? larger(sums[v][i], x[i]) : sums[v][i] + x[i];
            }
        }
    }
}

template <int VECTORS>
static __device__ void store(float *part, const float (&sums)[VECTORS][8], uint32_t hidden) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + (threadIdx.x & 31)) * 8;
        if (col < hidden) emb_store8(part + col, sums[v]);
    }
}

template <int VECTORS>
static __device__ void add(float (&sums)[VECTORS][8], const float *part, uint32_t hidden,
                           bool maximum) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + (threadIdx.x & 31)) * 8;
        if (col >= hidden) continue;
        float x[8];
        emb_load8(x, part + col);
        for (int i = 0; i < 8; i++) {
            sums[v][i] = maximum ? larger(sums[v][i], x[i]) : sums[v][i] + x[i];
        }
    }
}

/* Sum of a value over the block, the same in every thread. */
static __device__ float block_sum(float value, float *warp_sums) {
    value = emb_warp_sum(value);
    if ((threadIdx.x & 31) == 0) warp_sums[threadIdx.x >> 5] = value;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < POOL_WARPS; i++) sum += warp_sums[i];
    return sum;
}

/* Leaves the pooled vector of a chunk from `in` on in parts [hidden], which is the first of
 * [POOL_PARTS, hidden]; a thread wrote columns threadIdx.x + i * POOL_THREADS, and has the sum of
 * their squares back. No barrier follows. */
template <typename T, int VECTORS>
static __device__ float pool_chunk(float *parts, const T *in, uint32_t length, uint32_t hidden,
                                   int pooling) {
    uint32_t warp = threadIdx.x >> 5;
    bool maximum = pooling == EMB_CUDA_POOL_MAX;
    float sums[VECTORS][8];
    uint32_t tokens = pooling == EMB_CUDA_POOL_CLS ? min(length, 1u) : length;
    gather<T, VECTORS>(sums, in, tokens, hidden, maximum);
    float *part = parts + warp % POOL_PARTS * hidden;
    if (warp >= POOL_PARTS) store<VECTORS>(part, sums, hidden);
    __syncthreads();
    if (warp < POOL_PARTS) {
        add<VECTORS>(sums, part, hidden, maximum);
        store<VECTORS>(part, sums, hidden);
    }
    __syncthreads();
    float divisor = pooling == EMB_CUDA_POOL_MEAN ? (float)length : 1.0f, squares = 0;
    for (uint32_t col = threadIdx.x; col < hidden; col += POOL_THREADS) {
        float value = parts[col];
        for (int i = 1; i < POOL_PARTS; i++) {
            float other = parts[i * hidden + col];
            value = maximum ? larger(value, other) : value + other;
        }
        value /= divisor;
        parts[col] = value;
        squares = fmaf(value, value, squares);
    }
    return squares;
}

/* The length that a vector is divided by, given a thread's share of its squares. */
static __device__ float pool_length(float squares, float *warp_sums) {
    squares = block_sum(squares, warp_sums);
    return fmaxf(sqrtf(squares), 1e-12f) + emb_not_overflown(squares);
}

/* Rows in f32 for inference, of the activations' type for training. */
template <typename T, typename O, int VECTORS>
static __global__ void __launch_bounds__(POOL_THREADS, 1)
    pool_kernel(O *rows, const T *in, const uint32_t *counts, const uint32_t *starts,
                const uint32_t *targets, uint32_t hidden, int pooling, int normalize) {
    extern __shared__ float parts[]; /* [POOL_PARTS, hidden] */
    __shared__ float warp_sums[POOL_WARPS];
    emb_kernel_begin();
    uint32_t chunk = blockIdx.x;
    if (chunk >= counts[1]) return;
    uint32_t start = starts[chunk], length = starts[chunk + 1] - start;
    float squares =
        pool_chunk<T, VECTORS>(parts, in + (uint64_t)start * hidden, length, hidden, pooling);
    float size = normalize ? pool_length(squares, warp_sums) : 1.0f;
    O *row = rows + (uint64_t)targets[chunk] * hidden;
    for (uint32_t col = threadIdx.x; col < hidden; col += POOL_THREADS) {
        row[col] = emb_to<O>(parts[col] / size);
    }
}

template <typename T, typename O, int VECTORS>
static int pool_run(O *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                    emb_cuda_pooling pooling, int normalize, cudaStream_t stream) {
    return emb_launch(pool_kernel<T, O, VECTORS>, dim3(batch->chunks_max), POOL_THREADS,
                      POOL_PARTS * hidden * sizeof(float), batch, stream, rows, (const T *)in,
                      batch->counts, batch->starts, batch->targets, hidden, (int)pooling,
                      normalize);
}

template <typename T, typename O>
static int pool_sized(O *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                      emb_cuda_pooling pooling, int normalize, cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    if (hidden <= 512) {
        return pool_run<T, O, 2>(rows, in, batch, hidden, pooling, normalize, stream);
    }
    if (hidden <= 1024) {
        return pool_run<T, O, 4>(rows, in, batch, hidden, pooling, normalize, stream);
    }
    return pool_run<T, O, 6>(rows, in, batch, hidden, pooling, normalize, stream);
}

#endif
