/* linear.cu - chooses the kernel and the tile of a product; every choice gives the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"

emb_cuda_tile emb_cuda_tile_for(uint32_t rows, uint32_t tokens, bool pairs,
                                const emb_cuda_device *device) {
    uint64_t multiprocessors = device->multiprocessors;
    uint64_t pair = (uint64_t)((tokens + 255) / 256) * ((rows + 191) / 192);
    uint64_t large = (uint64_t)((tokens + 127) / 128) * ((rows + 127) / 128);
    uint64_t medium = (uint64_t)((tokens + 63) / 64) * ((rows + 63) / 64);
    if (pairs && device->capability == 90 && 3 * pair >= multiprocessors) return EMB_CUDA_TILE_PAIR;
    if (large >= 2 * multiprocessors) return EMB_CUDA_TILE_LARGE;
    if (medium >= multiprocessors) return EMB_CUDA_TILE_MEDIUM;
    return EMB_CUDA_TILE_SMALL;
}

emb_cuda_tile emb_cuda_linear_tile(const emb_cuda_linear *linear, uint32_t tokens,
                                   const emb_cuda_device *device) {
    return emb_cuda_tile_for(linear->rows, tokens, linear->type != EMB_DTYPE_F32, device);
}

int emb_cuda_linear_run(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch,
                        const emb_cuda_device *device, void *stream) {
    if (tile == EMB_CUDA_TILE_AUTO) {
        tile = emb_cuda_linear_tile(linear, batch->tokens_max, device);
    }
    if (linear->type == EMB_DTYPE_F32) {
        return emb_cuda_linear_f32((float *)out, (const float *)in, linear, gelu, tile, batch,
                                   stream);
    }
    if (linear->type == EMB_DTYPE_BF16 && device->capability < 80) return cudaErrorNotSupported;
    if (tile == EMB_CUDA_TILE_PAIR) {
        if (device->capability != 90) return cudaErrorNotSupported;
        return emb_cuda_linear_wgmma(out, in, linear, gelu, batch, device, stream);
    }
    return emb_cuda_linear_mma(out, in, linear, gelu, tile, batch, stream);
}

/* Whether product and norm are faster fused: the sums are neither written nor read again, but fewer
 * tiles run at the same time. Seen with `bench_forward choices`. */
static bool fuses(const emb_cuda_linear *linear, uint32_t tokens, const emb_cuda_device *device) {
    if (linear->type == EMB_DTYPE_F32 || device->capability != 90 || linear->cols < 256)
        return false;
    if (linear->rows == 384) return 3 * (tokens / 128) >= device->multiprocessors / 2;
    return linear->rows == 768 && tokens >= 16384;
}

int emb_cuda_linear_norm(void *out, const void *in, const emb_cuda_linear *linear,
                         const void *residual, const emb_cuda_norm *norm, void *product,
                         emb_cuda_tile tile, uint32_t tokens, const emb_cuda_batch *batch,
                         const emb_cuda_device *device, void *stream) {
    if (tile == EMB_CUDA_TILE_AUTO && fuses(linear, tokens, device)) {
        return emb_cuda_linear_norm_wgmma(out, in, linear, residual, norm, batch, device, stream);
    }
    if (tile == EMB_CUDA_TILE_AUTO) tile = emb_cuda_linear_tile(linear, tokens, device);
    int status = emb_cuda_linear_run(product, in, linear, 0, tile, batch, device, stream);
    if (status) return status;
    return emb_cuda_residual_norm(out, product, residual, norm, batch, linear->rows, linear->type,
                                  stream);
}
