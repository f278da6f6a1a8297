/* linear_mma.cu - out = in * W^T + bias (and GELU) on tensor cores, for 16-bit types, sm_75 and up.
 *
 * A block of four warps computes a tile of outputs; tiles of both operands pass through a ring in
 * shared memory. Each output adds K in steps of 16 from first to last whatever the tile's shape, so
 * the shapes differ only in speed.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, W* tile of a warp.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/linear_mma.cuh"

/* Operands of a product as a kernel sees them. */
template <typename T> struct product {
    T *out;            /* [M, N] */
    const T *in;       /* [M, K] */
    const T *weight;   /* [N, K] */
    const float *bias; /* [N] */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

template <typename T, typename S>
static __global__ void __launch_bounds__(THREADS, 2) linear_kernel(product<T> p) {
    extern __shared__ __align__(128) unsigned char memory[];
    uint32_t rows = p.counts[0], warp = threadIdx.x >> 5;
    block_place at = place_of_block<S>();
    if (at.m >= rows) {
        emb_kernel_begin();
        return;
    }
    float sums[S::WM / 16][S::WN / 8][4] = {};
    multiply_all<T, S>(sums, emb_shared(memory), at,
                       {p.in, p.weight, rows, p.N, p.K * (uint32_t)sizeof(T)});
    finish_values<T, S>(sums, reinterpret_cast<T *>(memory) + warp * S::WM * S::OUT_STRIDE, p.out,
                        p.bias, p.N, p.gelu, at.m + at.warp_m, at.n + at.warp_n, rows);
}

template <typename T>
static int linear_tiled(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch, cudaStream_t stream) {
    product<T> p = {(T *)out,     (const T *)in, (const T *)linear->weight,
                    linear->bias, batch->counts, linear->rows,
                    linear->cols, gelu};
    if (tile == EMB_CUDA_TILE_SMALL) {
        return launch_tiles<small_tile>(linear_kernel<T, small_tile>, p, batch, stream);
    }
    if (tile == EMB_CUDA_TILE_MEDIUM) {
        return launch_tiles<medium_tile>(linear_kernel<T, medium_tile>, p, batch, stream);
    }
    return launch_tiles<large_tile>(linear_kernel<T, large_tile>, p, batch, stream);
}

int emb_cuda_linear_mma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 8 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_F16) {
        return linear_tiled<emb_f16>(out, in, linear, gelu, tile, batch, s);
    }
    if (linear->type == EMB_DTYPE_BF16) {
        return linear_tiled<emb_bf16>(out, in, linear, gelu, tile, batch, s);
    }
    return cudaErrorInvalidValue;
}
