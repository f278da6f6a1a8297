/* norm.cu - residual add and norm in one pass over the activations, one warp per token; codes of
 * the result beside it where a quantized product is next.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/quantized/codes.cuh"

#define NORM_WARPS 4

template <typename T, int VECTORS, bool CODES>
static __global__ void __launch_bounds__(32 * NORM_WARPS)
    norm_kernel(T *out, const T *in, const T *residual, const uint32_t *counts, emb_cuda_norm norm,
                uint32_t hidden, emb_codes_rule rule) {
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
    if constexpr (CODES) {
        emb_round<T>(x);
        emb_codes_row<256, VECTORS>(rule, token, x, hidden);
    }
}

/* Adds, for each block of 192 columns, the 24 lanes' four column pairs in the order of the norm by
 * blocks; every lane gets the sum. Halving what a lane holds at each step spares exchanges. */
static __device__ __forceinline__ float block_sum(const float (&pairs)[4]) {
    uint32_t lane = threadIdx.x & 31;
    bool odd = lane & 1, second = lane & 2;
    float a = odd ? pairs[2] : pairs[0], b = odd ? pairs[3] : pairs[1];
    a += __shfl_xor_sync(EMB_FULL_WARP, odd ? pairs[0] : pairs[2], 1);
    b += __shfl_xor_sync(EMB_FULL_WARP, odd ? pairs[1] : pairs[3], 1);
    float sum = (second ? b : a) + __shfl_xor_sync(EMB_FULL_WARP, second ? a : b, 2);
    sum += __shfl_xor_sync(EMB_FULL_WARP, sum, 4);
    float first = __shfl_sync(EMB_FULL_WARP, sum, lane & 7);
    float middle = __shfl_sync(EMB_FULL_WARP, sum, (lane & 7) + 8);
    sum = (first + middle) + __shfl_sync(EMB_FULL_WARP, sum, (lane & 7) + 16);
    sum += __shfl_xor_sync(EMB_FULL_WARP, sum, 2);
    return sum + __shfl_xor_sync(EMB_FULL_WARP, sum, 1);
}

/* Rows of BLOCKS * 192 columns; 24 lanes hold eight columns of each block. */
template <typename T, int BLOCKS, bool CODES>
static __global__ void __launch_bounds__(32 * NORM_WARPS, 7)
    norm_blocks_kernel(T *out, const T *in, const T *residual, const uint32_t *counts,
                       emb_cuda_norm norm, uint32_t hidden, emb_codes_rule rule) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * NORM_WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    bool holds = lane < EMB_NORM_BLOCK / 8;
    uint64_t place = (uint64_t)token * hidden + (holds ? lane * 8 : 0);
    float x[BLOCKS][8];
    float2 blocks[BLOCKS];
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        float add[8];
        emb_load8(x[b], in + place + b * EMB_NORM_BLOCK);
        emb_load8(add, residual + place + b * EMB_NORM_BLOCK);
        for (int i = 0; i < 8; i++) x[b][i] += add[i];
    }
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        float pairs[4];
        for (int q = 0; q < 4; q++) pairs[q] = x[b][2 * q] + x[b][2 * q + 1];
        blocks[b].x = __fmul_rn(block_sum(pairs), 1.0f / EMB_NORM_BLOCK);
        for (int q = 0; q < 4; q++) {
            float first = x[b][2 * q] - blocks[b].x, second = x[b][2 * q + 1] - blocks[b].x;
            pairs[q] = fmaf(second, second, __fmul_rn(first, first));
        }
        blocks[b].y = block_sum(pairs);
    }
    float2 whole = emb_norm_merge<BLOCKS>(blocks, norm.epsilon);
    if (!CODES && !holds) return;
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        if (!holds) continue;
        float gain[8], shift[8];
        emb_load8(gain, norm.gain + b * EMB_NORM_BLOCK + lane * 8);
        emb_load8(shift, norm.shift + b * EMB_NORM_BLOCK + lane * 8);
        for (int i = 0; i < 8; i++) {
            x[b][i] = fmaf(__fmul_rn(x[b][i] - whole.x, whole.y), gain[i], shift[i]);
        }
        emb_store8(out + place + b * EMB_NORM_BLOCK, x[b]);
    }
    if constexpr (CODES) {
        emb_round<T>(x);
        emb_codes_row<EMB_NORM_BLOCK, BLOCKS>(rule, token, x, hidden);
    }
}

template <typename T, bool CODES>
static int norm_run(void *out, const void *in, const void *residual, const emb_cuda_norm *norm,
                    const emb_cuda_batch *batch, uint32_t hidden, const emb_codes_rule &rule,
                    cudaStream_t stream) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    void (*kernel)(T *, const T *, const T *, const uint32_t *, emb_cuda_norm, uint32_t,
                   emb_codes_rule) = hidden <= 512    ? norm_kernel<T, 2, CODES>
                                     : hidden <= 1024 ? norm_kernel<T, 4, CODES>
                                                      : norm_kernel<T, 6, CODES>;
    if constexpr (sizeof(T) == 2) {
        if (hidden == 2 * EMB_NORM_BLOCK) kernel = norm_blocks_kernel<T, 2, CODES>;
        if (hidden == 4 * EMB_NORM_BLOCK) kernel = norm_blocks_kernel<T, 4, CODES>;
    }
    return emb_launch(kernel, dim3((batch->tokens_max + NORM_WARPS - 1) / NORM_WARPS),
                      32 * NORM_WARPS, 0, batch, stream, (T *)out, (const T *)in,
                      (const T *)residual, batch->counts, *norm, hidden, rule);
}

int emb_cuda_residual_norm(void *out, const void *in, const void *residual,
                           const emb_cuda_norm *norm, const emb_cuda_batch *batch, uint32_t hidden,
                           emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    emb_codes_rule none = {};
    if (type == EMB_DTYPE_F32) {
        return norm_run<float, false>(out, in, residual, norm, batch, hidden, none, s);
    }
    if (type == EMB_DTYPE_BF16) {
        return norm_run<emb_bf16, false>(out, in, residual, norm, batch, hidden, none, s);
    }
    if (type != EMB_DTYPE_F16) return cudaErrorInvalidValue;
    return norm_run<emb_f16, false>(out, in, residual, norm, batch, hidden, none, s);
}

int emb_cuda_residual_norm_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                                 emb_dtype codes_type, const void *in, const void *residual,
                                 const emb_cuda_norm *norm, const emb_cuda_batch *batch,
                                 uint32_t hidden, const emb_cuda_device *device, void *stream) {
    if (!codes) {
        return emb_cuda_residual_norm(out, in, residual, norm, batch, hidden, EMB_DTYPE_F16,
                                      stream);
    }
    int status = emb_codes_judge(codes_type, hidden, EMB_CUDA_HIDDEN_MAX, device);
    if (status) return status;
    emb_codes_rule rule = {*codes, smooth, (uint32_t)codes_type};
    return norm_run<emb_f16, true>(out, in, residual, norm, batch, hidden, rule,
                                   (cudaStream_t)stream);
}
