/* narrow.cu - chooses the kernel and the tile of a quantised product; every choice that a device
 * has gives the same bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/codes.cuh"

emb_cuda_tile emb_cuda_narrow_tile(const emb_cuda_narrow *linear, uint32_t tokens,
                                   const emb_cuda_device *device) {
    uint64_t multiprocessors = device->multiprocessors;
    uint64_t pair = (uint64_t)((tokens + 255) / 256) * ((linear->rows + 191) / 192);
    uint64_t large = (uint64_t)((tokens + 127) / 128) * ((linear->rows + 127) / 128);
    uint64_t medium = (uint64_t)((tokens + 63) / 64) * ((linear->rows + 63) / 64);
    if (device->capability == 90) {
        if (linear->type == EMB_CUDA_FP8) return EMB_CUDA_TILE_PAIR;
        if (linear->type == EMB_CUDA_I8 && 3 * pair >= multiprocessors) return EMB_CUDA_TILE_PAIR;
    }
    if (large >= 2 * multiprocessors) return EMB_CUDA_TILE_LARGE;
    if (medium >= multiprocessors) return EMB_CUDA_TILE_MEDIUM;
    return EMB_CUDA_TILE_SMALL;
}

int emb_cuda_narrow_run(void *out, const emb_cuda_codes *codes, const void *in,
                        const emb_cuda_narrow *linear, int gelu, emb_cuda_tile tile,
                        const emb_cuda_pack *pack, const emb_cuda_device *device, void *stream) {
    bool hopper = device->capability == 90;
    if (tile == EMB_CUDA_TILE_AUTO) {
        tile = emb_cuda_narrow_tile(linear, pack->tokens_max, device);
    }
    if (linear->type == EMB_CUDA_I4) {
        if (tile == EMB_CUDA_TILE_PAIR) return cudaErrorNotSupported;
        return emb_cuda_int4_mma(out, in, linear, gelu, tile, pack, stream);
    }
    if (tile == EMB_CUDA_TILE_PAIR) {
        if (!hopper) return cudaErrorNotSupported;
        return emb_cuda_narrow_wgmma(out, codes, linear, gelu, pack, device, stream);
    }
    if (linear->type == EMB_CUDA_FP8 && (hopper || device->capability < 89)) {
        return cudaErrorNotSupported;
    }
    return emb_cuda_narrow_mma(out, codes, linear, gelu, tile, pack, stream);
}
