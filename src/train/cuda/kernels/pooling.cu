/* pooling.cu - training's pooling: vectors of the activations' type, and the gradient of the
 * tokens.
 *
 * Backwards a block takes a chunk and pools it again where the gradient needs its vector or length.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/pool/pool.cuh"
#include "train/cuda/kernels/ends.h"

int emb_cuda_train_pool(void *vectors, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                        emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) {
        return pool_sized<emb_f16>((emb_f16 *)vectors, in, batch, hidden, pooling, normalize, s);
    }
    if (type == EMB_DTYPE_BF16) {
        return pool_sized<emb_bf16>((emb_bf16 *)vectors, in, batch, hidden, pooling, normalize, s);
    }
    return cudaErrorInvalidValue;
}

/* first [hidden] = the first token that has the largest value of a column, `pooled`. */
template <typename T>
static __device__ void find_largest(uint32_t *first, const float *pooled, const T *in,
                                    uint32_t length, uint32_t hidden) {
    for (uint32_t col = threadIdx.x; col < hidden; col += POOL_THREADS) first[col] = length;
    __syncthreads();
    uint32_t pieces = hidden / 8;
    for (uint32_t i = threadIdx.x; i < length * pieces; i += POOL_THREADS) {
        uint32_t token = i / pieces, col = i % pieces * 8;
        float x[8];
        emb_load8(x, in + (uint64_t)token * hidden + col);
        for (int k = 0; k < 8; k++) {
            if (x[k] == pooled[col + k]) atomicMin(&first[col + k], token);
        }
    }
    __syncthreads();
}

template <typename T, int VECTORS>
static __global__ void __launch_bounds__(POOL_THREADS, 1)
    pool_back_kernel(T *d, const T *d_vectors, const T *in, const uint32_t *counts,
                     const uint32_t *starts, const uint32_t *targets, uint32_t hidden, int pooling,
                     int normalize) {
    extern __shared__ float parts[]; /* [POOL_PARTS, hidden]: first the vector, then its gradient */
    __shared__ float warp_sums[2][POOL_WARPS];
    emb_kernel_begin();
    uint32_t chunk = blockIdx.x;
    if (chunk >= counts[1]) return;
    uint32_t start = starts[chunk], length = starts[chunk + 1] - start;
    float *gradient = parts + hidden;
    uint32_t *first = reinterpret_cast<uint32_t *>(parts + 2 * hidden);
    const T *given = d_vectors + (uint64_t)targets[chunk] * hidden;
    bool maximum = pooling == EMB_CUDA_POOL_MAX;
    float size = 1.0f, along = 0, squares = 0;
    in += (uint64_t)start * hidden, d += (uint64_t)start * hidden;
    if (normalize || maximum) {
        squares = pool_chunk<T, VECTORS>(parts, in, length, hidden, pooling);
    }
    if (normalize) {
        size = pool_length(squares, warp_sums[0]); /* after its barrier `gradient` is free */
        for (uint32_t col = threadIdx.x; col < hidden; col += POOL_THREADS) {
            along = fmaf(parts[col], emb_from(given[col]), along);
        }
        along = block_sum(along, warp_sums[1]) / (size * size);
    }
    if (maximum) {
        __syncthreads();
        find_largest<T>(first, parts, in, length, hidden);
    }
    float share = pooling == EMB_CUDA_POOL_MEAN ? 1.0f / (float)length : 1.0f;
    for (uint32_t col = threadIdx.x; col < hidden; col += POOL_THREADS) {
        float value = emb_from(given[col]);
        if (normalize) value = (value - along * parts[col]) / size;
        gradient[col] = share * value;
    }
    __syncthreads();
    uint32_t pieces = hidden / 8;
    for (uint32_t i = threadIdx.x; i < length * pieces; i += POOL_THREADS) {
        uint32_t token = i / pieces, col = i % pieces * 8;
        float x[8];
        emb_load8(x, gradient + col);
        for (int k = 0; k < 8; k++) {
            bool none = maximum ? first[col + k] != token : pooling == EMB_CUDA_POOL_CLS && token;
            if (none) x[k] = 0;
        }
        emb_store8(d + (uint64_t)token * hidden + col, x);
    }
}

template <typename T>
static int pool_back_run(void *d, const void *d_vectors, const void *in,
                         const emb_cuda_batch *batch, uint32_t hidden, emb_cuda_pooling pooling,
                         int normalize, cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    void (*kernel)(T *, const T *, const T *, const uint32_t *, const uint32_t *, const uint32_t *,
                   uint32_t, int, int) = hidden <= 512    ? pool_back_kernel<T, 2>
                                         : hidden <= 1024 ? pool_back_kernel<T, 4>
                                                          : pool_back_kernel<T, 6>;
    return emb_launch(kernel, dim3(batch->chunks_max), POOL_THREADS,
                      POOL_PARTS * hidden * sizeof(float), batch, stream, (T *)d,
                      (const T *)d_vectors, (const T *)in, batch->counts, batch->starts,
                      batch->targets, hidden, (int)pooling, normalize);
}

int emb_cuda_train_pool_back(void *d, const void *d_vectors, const void *in,
                             const emb_cuda_batch *batch, uint32_t hidden, emb_cuda_pooling pooling,
                             int normalize, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) {
        return pool_back_run<emb_f16>(d, d_vectors, in, batch, hidden, pooling, normalize, s);
    }
    if (type == EMB_DTYPE_BF16) {
        return pool_back_run<emb_bf16>(d, d_vectors, in, batch, hidden, pooling, normalize, s);
    }
    return cudaErrorInvalidValue;
}
