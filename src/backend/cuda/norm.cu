/* norm.cu - residual add and norm in one pass over the activations, one warp per token.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/device.cuh"

#define NORM_WARPS 4

template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * NORM_WARPS)
    norm_kernel(T *out, const T *in, const T *residual, const uint32_t *counts, emb_cuda_norm norm,
                uint32_t hidden) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * NORM_WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    uint64_t row = (uint64_t)token * hidden;
    float x[VECTORS][8], sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * 8;
        float add[8] = {};
        for (int i = 0; i < 8; i++) x[v][i] = 0;
        if (col < hidden) {
            emb_load8(x[v], in + row + col);
            emb_load8(add, residual + row + col);
        }
        for (int i = 0; i < 8; i++) sum += x[v][i] += add[i];
    }
    emb_norm_row<T, VECTORS>(out + row, x, emb_warp_sum(sum), norm, hidden);
}

template <typename T>
static int norm_run(void *out, const void *in, const void *residual, const emb_cuda_norm *norm,
                    const emb_cuda_pack *pack, uint32_t hidden, cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    void (*kernel)(T *, const T *, const T *, const uint32_t *, emb_cuda_norm, uint32_t) =
        hidden <= 512    ? norm_kernel<T, 2>
        : hidden <= 1024 ? norm_kernel<T, 4>
                         : norm_kernel<T, 6>;
    return emb_launch(kernel, dim3((pack->tokens_max + NORM_WARPS - 1) / NORM_WARPS),
                      32 * NORM_WARPS, 0, pack, stream, (T *)out, (const T *)in,
                      (const T *)residual, pack->counts, *norm, hidden);
}

int emb_cuda_residual_norm(void *out, const void *in, const void *residual,
                           const emb_cuda_norm *norm, const emb_cuda_pack *pack, uint32_t hidden,
                           emb_cuda_type type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    switch (type) {
    case EMB_CUDA_F32:
        return norm_run<float>(out, in, residual, norm, pack, hidden, s);
    case EMB_CUDA_BF16:
        return norm_run<emb_bf16>(out, in, residual, norm, pack, hidden, s);
    case EMB_CUDA_F16:
        return norm_run<emb_f16>(out, in, residual, norm, pack, hidden, s);
    }
    return cudaErrorInvalidValue;
}
