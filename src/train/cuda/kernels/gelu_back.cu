/* gelu_back.cu - GELU and the gradient before it in one pass: what the products behind and before
 * it need, from the value before it and the gradient behind it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/gelu_back.cuh"
#include "train/cuda/kernels/gradients.h"

#define THREADS 256
#define GROUPS  2 /* of eight values, a thread: all are loaded before the first is used */

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    gelu_back_kernel(T *d, T *activated, const T *before, const uint32_t *counts, uint32_t cols) {
    emb_kernel_begin();
    uint64_t place = ((uint64_t)blockIdx.x * THREADS * GROUPS + threadIdx.x) * 8;
    uint64_t end = (uint64_t)counts[0] * cols;
    float x[GROUPS][8], back[GROUPS][8];
#pragma unroll
    for (int i = 0; i < GROUPS; i++) {
        uint64_t at = place + i * THREADS * 8;
        if (at >= end) continue;
        emb_load8(x[i], before + at);
        emb_load8(back[i], d + at);
    }
#pragma unroll
    for (int i = 0; i < GROUPS; i++) {
        uint64_t at = place + i * THREADS * 8;
        if (at >= end) continue;
        emb_gelu_back<T>(back[i], x[i]);
        emb_store8(activated + at, x[i]);
        emb_store8(d + at, back[i]);
    }
}

template <typename T>
static int gelu_back_run(void *d, void *activated, const void *before, uint32_t cols,
                         const emb_cuda_batch *batch, cudaStream_t stream) {
    if (cols % 8) return cudaErrorInvalidValue;
    uint64_t vectors = (uint64_t)batch->tokens_max * cols / 8;
    uint32_t blocks = (uint32_t)((vectors + THREADS * GROUPS - 1) / (THREADS * GROUPS));
    if (!blocks) return 0;
    return emb_launch(gelu_back_kernel<T>, dim3(blocks), THREADS, 0, batch, stream, (T *)d,
                      (T *)activated, (const T *)before, batch->counts, cols);
}

int emb_cuda_train_gelu_back(void *d, void *activated, const void *before, uint32_t cols,
                             const emb_cuda_batch *batch, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    switch (type) {
    case EMB_DTYPE_F32:
        return gelu_back_run<float>(d, activated, before, cols, batch, s);
    case EMB_DTYPE_BF16:
        return gelu_back_run<emb_bf16>(d, activated, before, cols, batch, s);
    case EMB_DTYPE_F16:
        return gelu_back_run<emb_f16>(d, activated, before, cols, batch, s);
    default:
        return cudaErrorNotSupported;
    }
}

int emb_cuda_train_linear_gelu_back(void *d, void *activated, const void *before, const void *d_out,
                                    const emb_cuda_linear *linear, const emb_cuda_batch *batch,
                                    const emb_cuda_device *device, void *stream) {
    if (device->capability == 90 && linear->type != EMB_DTYPE_F32) {
        return emb_cuda_linear_gelu_back_wgmma(d, activated, before, d_out, linear, batch, device,
                                               stream);
    }
    int status =
        emb_cuda_linear_run(d, d_out, linear, 0, EMB_CUDA_TILE_AUTO, batch, device, stream);
    if (status) return status;
    return emb_cuda_train_gelu_back(d, activated, before, linear->rows, batch, linear->type,
                                    stream);
}
