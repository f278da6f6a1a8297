/* linear_mma.cu - out = in * W^T + bias (and GELU) on tensor cores, for 16-bit types, sm_75 and up.
 *
 * A block of four warps computes a tile of outputs; tiles of both operands pass through a ring in
 * shared memory. Each output adds K in steps of 16 from first to last whatever the tile's shape, so
 * the shapes differ in speed alone.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, W* tile of a warp.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/device.cuh"

#define THREADS 128

/* Constant sizes of one tile shape. */
template <int BM_, int BN_, int BK_, int WM_, int WN_, int STAGES_> struct tile_shape {
    static constexpr int BM = BM_, BN = BN_, BK = BK_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr int PIECES = BK / 8; /* of 16 bytes in a row of a stage */
    static constexpr int WARPS_N = BN / WN;
    static constexpr int STAGE_BYTES = (BM + BN) * BK * 2;
    static constexpr int OUT_STRIDE = WN + 8; /* values a row of a warp's staged outputs */
    static constexpr int OUT_BYTES = 4 * WM * OUT_STRIDE * 2;
    static constexpr int BYTES = STAGES * STAGE_BYTES > OUT_BYTES ? STAGES *STAGE_BYTES : OUT_BYTES;
    static_assert((BM / WM) * (BN / WN) * 32 == THREADS, "four warps");
};

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

/* Brings ROWS rows of [rows, K] from `first`, columns k0.., into a stage; zeros past the ends. */
template <typename T, int ROWS, int PIECES>
static __device__ __forceinline__ void load_tile(uint32_t stage, const T *from, uint32_t first,
                                                 uint32_t rows, uint32_t k0, uint32_t K) {
    constexpr int STEP = THREADS / PIECES;
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    uint32_t k = k0 + piece * 8;
    bool inside = k < K;
    const T *source = from + (uint64_t)(first + row) * K + k;
#pragma unroll
    for (int i = 0; i < ROWS; i += STEP) {
        bool valid = inside && first + row + i < rows;
        emb_copy16(stage + emb_swizzle<PIECES>(row + i, piece),
                   valid ? source + (uint64_t)i * K : from, valid);
    }
}

/* Adds one stage's BK columns to a warp's sums. */
template <typename T, typename S>
static __device__ __forceinline__ void multiply(float (&sums)[S::WM / 16][S::WN / 8][4],
                                                uint32_t in_tile, uint32_t weight_tile,
                                                uint32_t warp_m, uint32_t warp_n) {
    uint32_t lane = threadIdx.x & 31;
    uint32_t in_row = warp_m + (lane & 15), in_piece = lane >> 4;
    uint32_t weight_row = warp_n + ((lane >> 4) << 3) + (lane & 7), weight_piece = (lane >> 3) & 1;
#pragma unroll
    for (int k = 0; k < S::PIECES; k += 2) {
        uint32_t a[S::WM / 16][4], b[S::WN / 16][4];
#pragma unroll
        for (int m = 0; m < S::WM / 16; m++) {
            emb_ldmatrix(a[m], in_tile + emb_swizzle<S::PIECES>(in_row + m * 16, k + in_piece));
        }
#pragma unroll
        for (int n = 0; n < S::WN / 16; n++) {
            emb_ldmatrix(b[n], weight_tile +
                                   emb_swizzle<S::PIECES>(weight_row + n * 16, k + weight_piece));
        }
#pragma unroll
        for (int m = 0; m < S::WM / 16; m++) {
#pragma unroll
            for (int n = 0; n < S::WN / 16; n++) {
                emb_mma<T>(sums[m][2 * n], a[m], b[n][0], b[n][1]);
                emb_mma<T>(sums[m][2 * n + 1], a[m], b[n][2], b[n][3]);
            }
        }
    }
}

/* Bias and GELU, then through shared memory, so that rows leave in 16-byte pieces. */
template <typename T, typename S>
static __device__ __forceinline__ void finish(float (&sums)[S::WM / 16][S::WN / 8][4], T *staged,
                                              const product<T> &p, uint32_t first_m,
                                              uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = lane >> 2, col = (lane & 3) * 2;
#pragma unroll
    for (int n = 0; n < S::WN / 8; n++) {
        uint32_t place = first_n + n * 8 + col;
        float2 bias = make_float2(0, 0);
        if (place < p.N) bias = *reinterpret_cast<const float2 *>(p.bias + place);
#pragma unroll
        for (int m = 0; m < S::WM / 16; m++) {
            float v[4] = {sums[m][n][0] + bias.x, sums[m][n][1] + bias.y, sums[m][n][2] + bias.x,
                          sums[m][n][3] + bias.y};
            if (p.gelu) emb_gelu_fast(v);
            T *to = staged + (m * 16 + row) * S::OUT_STRIDE + n * 8 + col;
            *reinterpret_cast<uint32_t *>(to) = emb_pack<T>(v[0], v[1]);
            *reinterpret_cast<uint32_t *>(to + 8 * S::OUT_STRIDE) = emb_pack<T>(v[2], v[3]);
        }
    }
    __syncwarp();
    constexpr int PIECES = S::WN / 8, STEP = 32 / PIECES;
    uint32_t piece = lane % PIECES;
#pragma unroll
    for (int i = 0; i < S::WM; i += STEP) {
        uint32_t r = i + lane / PIECES, m = first_m + r, n = first_n + piece * 8;
        if (m < rows && n < p.N) {
            *reinterpret_cast<uint4 *>(p.out + (uint64_t)m * p.N + n) =
                *reinterpret_cast<const uint4 *>(staged + r * S::OUT_STRIDE + piece * 8);
        }
    }
}

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
    uint32_t steps = (p.K + S::BK - 1) / S::BK;
    float sums[S::WM / 16][S::WN / 8][4] = {};
    for (uint32_t step = 0; step < S::STAGES - 1 && step < steps; step++) { /* W waits for none */
        load_tile<T, S::BN, S::PIECES>(ring + step * S::STAGE_BYTES + S::BM * S::BK * 2, p.weight,
                                       block_n, p.N, step * S::BK, p.K);
    }
    emb_kernel_begin();
    for (uint32_t step = 0; step < S::STAGES - 1; step++) {
        if (step < steps) {
            load_tile<T, S::BM, S::PIECES>(ring + step * S::STAGE_BYTES, p.in, block_m, rows,
                                           step * S::BK, p.K);
        }
        emb_copy_commit();
    }
    for (uint32_t step = 0; step < steps; step++) {
        emb_copy_wait<S::STAGES - 2>();
        __syncthreads();
        uint32_t next = step + S::STAGES - 1;
        if (next < steps) {
            uint32_t stage = ring + next % S::STAGES * S::STAGE_BYTES;
            load_tile<T, S::BM, S::PIECES>(stage, p.in, block_m, rows, next * S::BK, p.K);
            load_tile<T, S::BN, S::PIECES>(stage + S::BM * S::BK * 2, p.weight, block_n, p.N,
                                           next * S::BK, p.K);
        }
        emb_copy_commit();
        uint32_t stage = ring + step % S::STAGES * S::STAGE_BYTES;
        multiply<T, S>(sums, stage, stage + S::BM * S::BK * 2, warp_m, warp_n);
    }
    emb_copy_wait<0>();
    __syncthreads();
    finish<T, S>(sums, reinterpret_cast<T *>(memory) + warp * S::WM * S::OUT_STRIDE, p,
                 block_m + warp_m, block_n + warp_n, rows);
}

template <typename T, typename S>
static int linear_run(const product<T> &p, const emb_cuda_pack *pack, cudaStream_t stream) {
    dim3 grid((p.N + S::BN - 1) / S::BN, (pack->tokens_max + S::BM - 1) / S::BM);
    return emb_launch(linear_kernel<T, S>, grid, THREADS, S::BYTES, pack, stream, p);
}

typedef tile_shape<32, 32, 128, 16, 16, 4> small_tile;
typedef tile_shape<64, 64, 64, 32, 32, 4> medium_tile;
typedef tile_shape<128, 128, 32, 64, 64, 4> large_tile;

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
    if (linear->type == EMB_CUDA_F16) {
        return linear_tiled<emb_f16>(out, in, linear, gelu, tile, pack, s);
    }
    if (linear->type == EMB_CUDA_BF16) {
        return linear_tiled<emb_bf16>(out, in, linear, gelu, tile, pack, s);
    }
    return cudaErrorInvalidValue;
}
