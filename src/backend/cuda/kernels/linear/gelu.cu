/* gelu.cu - GELU in place, after products whose epilogue has only an approximate form of it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"

#define GELU_THREADS 256

template <typename T> static __device__ __forceinline__ void gelu(float (&v)[8]) {
    emb_gelu_fast(v);
}
template <> __device__ __forceinline__ void gelu<float>(float (&v)[8]) {
    for (int i = 0; i < 8; i++) v[i] = emb_gelu_exact(v[i]);
}

template <typename T>
static __global__ void __launch_bounds__(GELU_THREADS)
    gelu_kernel(T *values, const uint32_t *counts, uint32_t cols) {
    emb_kernel_begin();
    uint64_t place = ((uint64_t)blockIdx.x * GELU_THREADS + threadIdx.x) * 8;
    if (place >= (uint64_t)counts[0] * cols) return;
    float v[8];
    emb_load8(v, values + place);
    gelu<T>(v);
    emb_store8(values + place, v);
}

template <typename T>
static int gelu_run(void *values, uint32_t cols, const emb_cuda_batch *batch, cudaStream_t stream) {
    if (cols % 8) return cudaErrorInvalidValue;
    uint64_t vectors = (uint64_t)batch->tokens_max * cols / 8;
    uint32_t blocks = (uint32_t)((vectors + GELU_THREADS - 1) / GELU_THREADS);
    return emb_launch(gelu_kernel<T>, dim3(blocks), GELU_THREADS, 0, batch, stream, (T *)values,
                      batch->counts, cols);
}

int emb_cuda_gelu(void *values, uint32_t cols, const emb_cuda_batch *batch, emb_dtype type,
                  void *stream) {
    switch (type) {
    case EMB_DTYPE_F32:
        return gelu_run<float>(values, cols, batch, (cudaStream_t)stream);
    case EMB_DTYPE_BF16:
        return gelu_run<emb_bf16>(values, cols, batch, (cudaStream_t)stream);
    case EMB_DTYPE_F16:
        return gelu_run<emb_f16>(values, cols, batch, (cudaStream_t)stream);
    default:
        return cudaErrorInvalidValue;
    }
}
