/* linear_f32.cu - out = in * W^T + bias (and GELU) in f32: FFMA, no reduced-precision products.
 *
 * Each output is one chain of fused multiply-adds over K from first to last, whatever the tile.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, T* outputs of a thread.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"

#define BK 16

struct product {
    float *out;          /* [M, N] */
    const float *in;     /* [M, K] */
    const float *weight; /* [N, K] */
    const float *bias;   /* [N] */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

/* Four columns k.. of row `row`, zeros outside. K is a multiple of 4. */
static __device__ __forceinline__ float4 read4(const float *from, uint32_t row, uint32_t rows,
                                               uint32_t k, uint32_t K) {
    if (row >= rows || k >= K) return make_float4(0, 0, 0, 0);
    return *reinterpret_cast<const float4 *>(from + (uint64_t)row * K + k);
}

/* A tile of SIZE rows and BK columns, held transposed: [BK][SIZE + 4]. */
template <int SIZE, int THREADS> struct operand {
    static constexpr int EACH = SIZE * BK / 4 / THREADS;
    static constexpr int STRIDE = SIZE + 4;
    float4 held[EACH];

    __device__ __forceinline__ void fetch(const float *from, uint32_t first, uint32_t rows,
                                          uint32_t k0, uint32_t K) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t at = threadIdx.x + i * THREADS;
            held[i] = read4(from, first + at / 4, rows, k0 + at % 4 * 4, K);
        }
    }
    __device__ __forceinline__ void store(float *to) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            uint32_t at = threadIdx.x + i * THREADS, row = at / 4, k = at % 4 * 4;
            to[(k + 0) * STRIDE + row] = held[i].x;
            to[(k + 1) * STRIDE + row] = held[i].y;
            to[(k + 2) * STRIDE + row] = held[i].z;
            to[(k + 3) * STRIDE + row] = held[i].w;
        }
    }
};

/* One step of BK columns: a thread owns groups of four rows and of four columns. */
template <int TM, int TN, int LANES_M, int LANES_N, int STRIDE_M, int STRIDE_N>
static __device__ __forceinline__ void multiply(float (&sums)[TM][TN], const float *in_tile,
                                                const float *weight_tile, uint32_t lane_m,
                                                uint32_t lane_n) {
#pragma unroll
    for (int k = 0; k < BK; k++) {
        float a[TM], b[TN];
#pragma unroll
        for (int i = 0; i < TM; i += 4) {
            *reinterpret_cast<float4 *>(a + i) = *reinterpret_cast<const float4 *>(
                in_tile + k * STRIDE_M + (i / 4 * LANES_M + lane_m) * 4);
        }
#pragma unroll
        for (int i = 0; i < TN; i += 4) {
            *reinterpret_cast<float4 *>(b + i) = *reinterpret_cast<const float4 *>(
                weight_tile + k * STRIDE_N + (i / 4 * LANES_N + lane_n) * 4);
        }
#pragma unroll
        for (int m = 0; m < TM; m++) {
#pragma unroll
            for (int n = 0; n < TN; n++) sums[m][n] = fmaf(a[m], b[n], sums[m][n]);
        }
    }
}

template <int TM, int TN, int LANES_M, int LANES_N>
static __device__ __forceinline__ void finish(const float (&sums)[TM][TN], const product &p,
                                              uint32_t first_m, uint32_t first_n, uint32_t rows,
                                              uint32_t lane_m, uint32_t lane_n) {
#pragma unroll
    for (int m = 0; m < TM; m++) {
        uint32_t row = first_m + (m / 4 * LANES_M + lane_m) * 4 + m % 4;
        if (row >= rows) continue;
#pragma unroll
        for (int n = 0; n < TN; n += 4) {
            uint32_t col = first_n + (n / 4 * LANES_N + lane_n) * 4;
            if (col >= p.N) continue;
            float4 bias = *reinterpret_cast<const float4 *>(p.bias + col);
            float v[4] = {sums[m][n] + bias.x, sums[m][n + 1] + bias.y, sums[m][n + 2] + bias.z,
                          sums[m][n + 3] + bias.w};
            if (p.gelu) {
                for (int i = 0; i < 4; i++) v[i] = emb_gelu_exact(v[i]);
            }
            *reinterpret_cast<float4 *>(p.out + (uint64_t)row * p.N + col) =
                make_float4(v[0], v[1], v[2], v[3]);
        }
    }
}

template <int BM, int BN, int TM, int TN>
static __global__ void __launch_bounds__((BM / TM) * (BN / TN)) linear_kernel(product p) {
    constexpr int LANES_M = BM / TM, LANES_N = BN / TN, THREADS = LANES_M * LANES_N;
    typedef operand<BM, THREADS> in_operand;
    typedef operand<BN, THREADS> weight_operand;
    __shared__ __align__(16) float in_tile[2][BK * in_operand::STRIDE];
    __shared__ __align__(16) float weight_tile[2][BK * weight_operand::STRIDE];
    emb_kernel_begin();
    uint32_t rows = p.counts[0], block_m = blockIdx.y * BM, block_n = blockIdx.x * BN;
    if (block_m >= rows) return;
    uint32_t lane_m = threadIdx.x / LANES_N, lane_n = threadIdx.x % LANES_N;
    float sums[TM][TN] = {};
    in_operand in;
    weight_operand weight;
    in.fetch(p.in, block_m, rows, 0, p.K);
    weight.fetch(p.weight, block_n, p.N, 0, p.K);
    uint32_t steps = (p.K + BK - 1) / BK;
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t stage = step & 1;
        in.store(in_tile[stage]);
        weight.store(weight_tile[stage]);
        __syncthreads();
        if (step + 1 < steps) {
            in.fetch(p.in, block_m, rows, (step + 1) * BK, p.K);
            weight.fetch(p.weight, block_n, p.N, (step + 1) * BK, p.K);
        }
        multiply<TM, TN, LANES_M, LANES_N, in_operand::STRIDE, weight_operand::STRIDE>(
            sums, in_tile[stage], weight_tile[stage], lane_m, lane_n);
    }
    finish<TM, TN, LANES_M, LANES_N>(sums, p, block_m, block_n, rows, lane_m, lane_n);
}

template <int BM, int BN, int TM, int TN>
static int linear_run(const product &p, const emb_cuda_batch *batch, cudaStream_t stream) {
    dim3 grid((p.N + BN - 1) / BN, (batch->tokens_max + BM - 1) / BM);
    return emb_launch(linear_kernel<BM, BN, TM, TN>, grid, (BM / TM) * (BN / TN), 0, batch, stream,
                      p);
}

int emb_cuda_linear_f32(float *out, const float *in, const emb_cuda_linear *linear, int gelu,
                        emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    product p = {
        out,          in,  (const float *)linear->weight, linear->bias, batch->counts, linear->rows,
        linear->cols, gelu};
    if (linear->rows % 4 || linear->cols % 4 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (tile == EMB_CUDA_TILE_SMALL) return linear_run<32, 32, 4, 4>(p, batch, s);
    if (tile == EMB_CUDA_TILE_MEDIUM) return linear_run<64, 64, 4, 4>(p, batch, s);
    return linear_run<128, 128, 8, 8>(p, batch, s);
}
