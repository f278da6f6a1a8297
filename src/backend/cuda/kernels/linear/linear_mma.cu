/* linear_mma.cu - out = in * W^T + bias (and GELU) on tensor cores, for 16-bit types, sm_75 and up.
 *
 * A block of four warps computes a tile of outputs; tiles of both operands pass through a ring in
 * shared memory. Each output adds K in steps of 16 from first to last whatever the tile's shape, so
 * the shapes differ in speed alone.
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
    uint32_t rows = p.counts[0], block_m = blockIdx.y * S::BM, block_n = blockIdx.x * S::BN;
    if (block_m >= rows) {
        emb_kernel_begin();
        return;
    }
    uint32_t ring = emb_shared(memory), warp = threadIdx.x >> 5;
    uint32_t warp_m = warp / S::WARPS_N * S::WM, warp_n = warp % S::WARPS_N * S::WN;
    uint32_t row_bytes = p.K * sizeof(T), steps = (row_bytes + S::ROW_BYTES - 1) / S::ROW_BYTES;
    float sums[S::WM / 16][S::WN / 8][4] = {};
    for (uint32_t step = 0; step < S::STAGES - 1 && step < steps; step++) { /* W waits for none */
        load_tile<S::BN, S::PIECES>(ring + step * S::STAGE_BYTES + S::IN_BYTES, p.weight, block_n,
                                    p.N, step * S::ROW_BYTES, row_bytes);
    }
    emb_kernel_begin();
    for (uint32_t step = 0; step < S::STAGES - 1; step++) {
        if (step < steps) {
            load_tile<S::BM, S::PIECES>(ring + step * S::STAGE_BYTES, p.in, block_m, rows,
                                        step * S::ROW_BYTES, row_bytes);
        }
        emb_copy_commit();
    }
    for (uint32_t step = 0; step < steps; step++) {
        emb_copy_wait<S::STAGES - 2>();
        __syncthreads();
        uint32_t next = step + S::STAGES - 1;
        if (next < steps) {
            uint32_t stage = ring + next % S::STAGES * S::STAGE_BYTES;
            load_tile<S::BM, S::PIECES>(stage, p.in, block_m, rows, next * S::ROW_BYTES, row_bytes);
            load_tile<S::BN, S::PIECES>(stage + S::IN_BYTES, p.weight, block_n, p.N,
                                        next * S::ROW_BYTES, row_bytes);
        }
        emb_copy_commit();
        uint32_t stage = ring + step % S::STAGES * S::STAGE_BYTES;
        multiply<T, S>(sums, stage, stage + S::IN_BYTES, warp_m, warp_n);
    }
    emb_copy_wait<0>();
    __syncthreads();
    finish_values<T, S>(sums, reinterpret_cast<T *>(memory) + warp * S::WM * S::OUT_STRIDE, p.out,
                        p.bias, p.N, p.gelu, block_m + warp_m, block_n + warp_n, rows);
}

template <typename T, typename S>
static int linear_run(const product<T> &p, const emb_cuda_pack *pack, cudaStream_t stream) {
    dim3 grid((p.N + S::BN - 1) / S::BN, (pack->tokens_max + S::BM - 1) / S::BM);
    return emb_launch(linear_kernel<T, S>, grid, THREADS, S::BYTES, pack, stream, p);
}

template <typename T>
static int linear_tiled(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_pack *pack, cudaStream_t stream) {
    product<T> p = {(T *)out,     (const T *)in, (const T *)linear->weight,
                    linear->bias, pack->counts,  linear->rows,
                    linear->cols, gelu};
    if (tile == EMB_CUDA_TILE_SMALL) {
        return linear_run<T, small_tile>(p, pack, stream);
    }
    if (tile == EMB_CUDA_TILE_MEDIUM) {
        return linear_run<T, medium_tile>(p, pack, stream);
    }
    return linear_run<T, large_tile>(p, pack, stream);
}

int emb_cuda_linear_mma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_pack *pack, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 8 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_F16) {
        return linear_tiled<emb_f16>(out, in, linear, gelu, tile, pack, s);
    }
    if (linear->type == EMB_DTYPE_BF16) {
        return linear_tiled<emb_bf16>(out, in, linear, gelu, tile, pack, s);
    }
    return cudaErrorInvalidValue;
}
