/* quantize.cu - activations to codes, or smoothed, in passes of their own.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/quantized/codes.cuh"

#define QUANTIZE_WARPS 4
#define SMOOTH_THREADS 256

/* WARPS warps hold a token's row. */
template <int VECTORS, int WARPS>
static __global__ void __launch_bounds__(32 * QUANTIZE_WARPS)
    quantize_kernel(emb_codes_rule rule, const emb_f16 *in, const uint32_t *counts, uint32_t cols) {
    constexpr int TOKENS = QUANTIZE_WARPS / WARPS;
    __shared__ emb_code_span spans[QUANTIZE_WARPS];
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    uint32_t token = blockIdx.x * TOKENS + warp / WARPS, first = warp % WARPS * VECTORS * 256;
    bool inside = token < counts[0];
    const emb_f16 *row = in + (uint64_t)token * cols;
    float x[VECTORS][8] = {};
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = first + (v * 32 + lane) * 8;
        if (inside && col < cols) emb_load8(x[v], row + col);
    }
    emb_code_span span = emb_codes_span<256, VECTORS>(rule, x, first, cols);
    if (WARPS > 1) {
        if (lane == 0) spans[warp] = span;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < WARPS; i++) {
            emb_code_span other = spans[warp / WARPS * WARPS + i];
            span.low = fminf(span.low, other.low), span.high = fmaxf(span.high, other.high);
            span.number = span.number && other.number;
        }
    }
    if (inside) emb_codes_write<256, VECTORS>(rule, token, x, span, first, cols);
}

int emb_cuda_quantize(const emb_cuda_codes *out, const void *in, const float *smooth, uint32_t cols,
                      emb_dtype type, const emb_cuda_batch *batch, const emb_cuda_device *device,
                      void *stream) {
    int status = emb_codes_judge(type, cols, EMB_CUDA_CODES_COLS_MAX, device);
    if (status) return status;
    emb_codes_rule rule = {*out, smooth, (uint32_t)type};
    void (*kernel)(emb_codes_rule, const emb_f16 *, const uint32_t *, uint32_t) =
        cols <= 512    ? quantize_kernel<2, 1>
        : cols <= 1024 ? quantize_kernel<4, 1>
        : cols <= 1536 ? quantize_kernel<6, 1>
        : cols <= 3072 ? quantize_kernel<6, 2>
                       : quantize_kernel<6, 4>;
    uint32_t tokens = cols <= 1536 ? QUANTIZE_WARPS : cols <= 3072 ? QUANTIZE_WARPS / 2 : 1;
    uint32_t blocks = (batch->tokens_max + tokens - 1) / tokens;
    return emb_launch(kernel, dim3(blocks), 32 * QUANTIZE_WARPS, 0, batch, (cudaStream_t)stream,
                      rule, (const emb_f16 *)in, batch->counts, cols);
}

static __global__ void __launch_bounds__(SMOOTH_THREADS)
    smooth_kernel(emb_f16 *out, const emb_f16 *in, const float *smooth, const uint32_t *counts,
                  uint32_t cols) {
    emb_kernel_begin();
    uint64_t place = ((uint64_t)blockIdx.x * SMOOTH_THREADS + threadIdx.x) * 8;
    if (place >= (uint64_t)counts[0] * cols) return;
    float x[8], by[8];
    emb_load8(x, in + place);
    emb_load8(by, smooth + place % cols);
    for (int i = 0; i < 8; i++) x[i] *= by[i];
    emb_store8(out + place, x);
}

int emb_cuda_smooth(void *out, const void *in, const float *smooth, uint32_t cols,
                    const emb_cuda_batch *batch, void *stream) {
    if (!cols || cols % 8) return cudaErrorInvalidValue;
    uint64_t vectors = (uint64_t)batch->tokens_max * cols / 8;
    uint32_t blocks = (uint32_t)((vectors + SMOOTH_THREADS - 1) / SMOOTH_THREADS);
    return emb_launch(smooth_kernel, dim3(blocks), SMOOTH_THREADS, 0, batch, (cudaStream_t)stream,
                      (emb_f16 *)out, (const emb_f16 *)in, smooth, batch->counts, cols);
}
