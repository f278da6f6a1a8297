/* quantized_linear.cu - chooses the kernel and the tile of a quantized product; every choice that a
 * device has gives the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/quantized/codes.cuh"

emb_cuda_tile emb_cuda_quantized_tile(const emb_cuda_quantized *linear, uint32_t tokens,
                                      const emb_cuda_device *device) {
    if (linear->type == EMB_DTYPE_FP8 && device->capability == 90) return EMB_CUDA_TILE_PAIR;
    return emb_cuda_tile_for(linear->rows, tokens, linear->type == EMB_DTYPE_INT8, device);
}

/* A product of codes, wherever its outputs go. */
static int run(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
               const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
               const emb_cuda_batch *batch, const emb_cuda_device *device, void *stream) {
    bool hopper = device->capability == 90;
    if (tile == EMB_CUDA_TILE_AUTO) {
        tile = emb_cuda_quantized_tile(linear, batch->tokens_max, device);
    }
    if (tile == EMB_CUDA_TILE_PAIR) {
        if (!hopper) return cudaErrorNotSupported;
        return emb_cuda_quantized_wgmma(out, codes, linear, gelu, batch, device, stream);
    }
    if (linear->type == EMB_DTYPE_FP8 && (hopper || device->capability < 89)) {
        return cudaErrorNotSupported;
    }
    return emb_cuda_quantized_mma(out, codes, linear, gelu, tile, batch, stream);
}

int emb_cuda_quantized_run(void *out, const emb_cuda_codes *codes, const void *in,
                           const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                           const emb_cuda_batch *batch, const emb_cuda_device *device,
                           void *stream) {
    if (linear->type == EMB_DTYPE_INT4) {
        if (tile == EMB_CUDA_TILE_PAIR) return cudaErrorNotSupported;
        if (tile == EMB_CUDA_TILE_AUTO) {
            tile = emb_cuda_quantized_tile(linear, batch->tokens_max, device);
        }
        return emb_cuda_int4_mma(out, in, linear, gelu, tile, batch, stream);
    }
    emb_cuda_quantized_out to = {out, {NULL, NULL, NULL}, NULL};
    return run(&to, codes, linear, gelu, tile, batch, device, stream);
}

int emb_cuda_quantized_codes(const emb_cuda_codes *out, const emb_cuda_codes *codes,
                             const float *bounds, const emb_cuda_quantized *linear, int gelu,
                             emb_cuda_tile tile, const emb_cuda_batch *batch,
                             const emb_cuda_device *device, void *stream) {
    if (linear->type != EMB_DTYPE_FP8 || linear->rows % 16) return cudaErrorInvalidValue;
    emb_cuda_quantized_out to = {NULL, *out, bounds};
    return run(&to, codes, linear, gelu, tile, batch, device, stream);
}

/* ---- what bounds an FP8 matrix's outputs ----------------------------------------------------- */

#define REACH_THREADS 1024

static __device__ __forceinline__ float magnitudes(uint32_t codes) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t code = codes >> (8 * i) & 0x7f;
        sum += code < 8 ? (float)code * 0.001953125f : __uint_as_float((code << 20) + (120u << 23));
    }
    return sum;
}

/* One block; a warp takes every 32nd row. */
static __global__ void __launch_bounds__(REACH_THREADS)
    bounds_kernel(float *bounds, const uint32_t *weight, const float *scales, const float *bias,
                  uint32_t rows, uint32_t words) {
    __shared__ float2 warps[REACH_THREADS / 32];
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float2 most = make_float2(0, 0);
    for (uint32_t row = warp; row < rows; row += REACH_THREADS / 32) {
        float sum = 0;
        for (uint32_t i = lane; i < words; i += 32) {
            sum += magnitudes(weight[(uint64_t)row * words + i]);
        }
        most.x = fmaxf(most.x, emb_warp_sum(sum) * scales[row]);
        most.y = fmaxf(most.y, fabsf(bias[row]));
    }
    if (lane == 0) warps[warp] = most;
    __syncthreads();
    if (warp) return;
    float x = emb_warp_max(warps[lane].x), y = emb_warp_max(warps[lane].y);
    if (lane == 0) bounds[0] = x, bounds[1] = y;
}

int emb_cuda_quantized_bounds(float *bounds, const emb_cuda_quantized *linear,
                              const emb_cuda_device *device, void *stream) {
    if (linear->type != EMB_DTYPE_FP8 || linear->cols % 16) return cudaErrorInvalidValue;
    if (device->capability < 89) return cudaErrorNotSupported;
    bounds_kernel<<<1, REACH_THREADS, 0, (cudaStream_t)stream>>>(
        bounds, (const uint32_t *)linear->weight, (const float *)linear->scales, linear->bias,
        linear->rows, linear->cols / 4);
    return cudaGetLastError();
}
