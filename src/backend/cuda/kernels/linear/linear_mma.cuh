/* linear_mma.cuh - what products on tensor cores share, sm_75 and up: tile shapes, copying tiles to
 * shared memory, multiplying a stage. Feeds linear_mma.cu, quantized_mma.cu and int4_mma.cu.
 *
 * Rows of a stage are BYTES long whatever the type: a step of the tensor cores takes 32 bytes of K,
 * 16 values of 16 bits or 32 codes, whose fragments lie alike.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, W* tile of a warp.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_LINEAR_LINEAR_MMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_LINEAR_LINEAR_MMA_CUH

#include "backend/cuda/kernels/device.cuh"

#define THREADS 128

/* Constant sizes of one tile shape. */
template <int BM_, int BN_, int BYTES_, int WM_, int WN_, int STAGES_> struct tile_shape {
    static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr int ROW_BYTES = BYTES_, PIECES = BYTES_ / 16;
    static constexpr int WARPS_N = BN / WN;
    static constexpr int IN_BYTES = BM * ROW_BYTES, STAGE_BYTES = (BM + BN) * ROW_BYTES;
    static constexpr int OUT_STRIDE = WN + 8; /* values a row of a warp's staged outputs */
    static constexpr int OUT_BYTES = 4 * WM * OUT_STRIDE * 2;
    static constexpr int BYTES = STAGES * STAGE_BYTES > OUT_BYTES ? STAGES *STAGE_BYTES : OUT_BYTES;
    static_assert((BM / WM) * (BN / WN) * 32 == THREADS, "four warps");
};
typedef tile_shape<32, 32, 256, 16, 16, 4> small_tile;
typedef tile_shape<64, 64, 128, 32, 32, 4> medium_tile;
typedef tile_shape<128, 128, 64, 64, 64, 4> large_tile;

/* Copies ROWS rows of [rows, row_bytes] from `first`, bytes k0.., into a stage; zeros past the
 * ends. */
template <int ROWS, int PIECES>
static __device__ __forceinline__ void load_tile(uint32_t stage, const void *from, uint32_t first,
                                                 uint32_t rows, uint32_t k0, uint32_t row_bytes) {
    constexpr int STEP = THREADS / PIECES;
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    uint32_t k = k0 + piece * 16;
    bool inside = k < row_bytes;
    const char *source = (const char *)from + (uint64_t)(first + row) * row_bytes + k;
#pragma unroll
    for (int i = 0; i < ROWS; i += STEP) {
        bool valid = inside && first + row + i < rows;
        emb_copy16(stage + emb_swizzle<PIECES>(row + i, piece),
                   valid ? (const void *)(source + (uint64_t)i * row_bytes) : from, valid);
    }
}

/* Adds one stage to a warp's sums. */
template <typename T, typename S, typename SUM>
static __device__ __forceinline__ void multiply(SUM (&sums)[S::WM / 16][S::WN / 8][4],
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

/* Where a block's tile of outputs begins, and within it a warp's part. */
struct block_place {
    uint32_t m, n, warp_m, warp_n;
};

template <typename S> static __device__ __forceinline__ block_place place_of_block() {
    uint32_t warp = threadIdx.x >> 5;
    return {blockIdx.y * S::BM, blockIdx.x * S::BN, warp / S::WARPS_N * S::WM,
            warp % S::WARPS_N * S::WN};
}

/* What a product reads. */
struct operands {
    const void *in, *weight; /* [rows, row_bytes], [N, row_bytes] */
    uint32_t rows, N, row_bytes;
};

/* Starts loading the input of all stages but one; each is a group of copies, the first with the
 * copies of W started before. */
template <typename S>
static __device__ __forceinline__ void load_inputs(uint32_t ring, const void *in, uint32_t first,
                                                   uint32_t rows, uint32_t row_bytes,
                                                   uint32_t steps) {
    for (uint32_t step = 0; step < S::STAGES - 1; step++) {
        if (step < steps) {
            load_tile<S::BM, S::PIECES>(ring + step * S::STAGE_BYTES, in, first, rows,
                                        step * S::ROW_BYTES, row_bytes);
        }
        emb_copy_commit();
    }
}

/* Adds all of K to a warp's sums. Afterwards the ring is free. */
template <typename T, typename S, typename SUM>
static __device__ __forceinline__ void multiply_all(SUM (&sums)[S::WM / 16][S::WN / 8][4],
                                                    uint32_t ring, const block_place &at,
                                                    const operands &o) {
    uint32_t steps = (o.row_bytes + S::ROW_BYTES - 1) / S::ROW_BYTES;
    for (uint32_t step = 0; step < S::STAGES - 1 && step < steps; step++) { /* W waits for none */
        load_tile<S::BN, S::PIECES>(ring + step * S::STAGE_BYTES + S::IN_BYTES, o.weight, at.n, o.N,
                                    step * S::ROW_BYTES, o.row_bytes);
    }
    emb_kernel_begin();
    load_inputs<S>(ring, o.in, at.m, o.rows, o.row_bytes, steps);
    for (uint32_t step = 0; step < steps; step++) {
        emb_copy_wait<S::STAGES - 2>();
        __syncthreads();
        uint32_t next = step + S::STAGES - 1;
        if (next < steps) {
            uint32_t stage = ring + next % S::STAGES * S::STAGE_BYTES;
            load_tile<S::BM, S::PIECES>(stage, o.in, at.m, o.rows, next * S::ROW_BYTES,
                                        o.row_bytes);
            load_tile<S::BN, S::PIECES>(stage + S::IN_BYTES, o.weight, at.n, o.N,
                                        next * S::ROW_BYTES, o.row_bytes);
        }
        emb_copy_commit();
        uint32_t stage = ring + step % S::STAGES * S::STAGE_BYTES;
        multiply<T, S>(sums, stage, stage + S::IN_BYTES, at.warp_m, at.warp_n);
    }
    emb_copy_wait<0>();
    __syncthreads();
}

/* A warp's staged outputs to `out` [rows, N], in 16-byte pieces. */
template <typename T, typename S>
static __device__ __forceinline__ void store_staged(T *out, const T *staged, uint32_t first_m,
                                                    uint32_t first_n, uint32_t rows, uint32_t N) {
    uint32_t lane = threadIdx.x & 31;
    __syncwarp();
    constexpr int PIECES = S::WN / 8, STEP = 32 / PIECES;
    uint32_t piece = lane % PIECES;
#pragma unroll
    for (int i = 0; i < S::WM; i += STEP) {
        uint32_t r = i + lane / PIECES, m = first_m + r, n = first_n + piece * 8;
        if (m < rows && n < N) {
            *reinterpret_cast<uint4 *>(out + (uint64_t)m * N + n) =
                *reinterpret_cast<const uint4 *>(staged + r * S::OUT_STRIDE + piece * 8);
        }
    }
}

/* Bias and GELU, then through shared memory, so that rows are written in 16-byte pieces. */
template <typename T, typename S>
static __device__ __forceinline__ void
finish_values(float (&sums)[S::WM / 16][S::WN / 8][4], T *staged, T *out, const float *bias,
              uint32_t N, int gelu, uint32_t first_m, uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = lane >> 2, col = (lane & 3) * 2;
#pragma unroll
    for (int n = 0; n < S::WN / 8; n++) {
        uint32_t place = first_n + n * 8 + col;
        float2 add = make_float2(0, 0);
        if (place < N) add = *reinterpret_cast<const float2 *>(bias + place);
#pragma unroll
        for (int m = 0; m < S::WM / 16; m++) {
            float v[4] = {sums[m][n][0] + add.x, sums[m][n][1] + add.y, sums[m][n][2] + add.x,
                          sums[m][n][3] + add.y};
            if (gelu) emb_gelu_fast(v);
            T *to = staged + (m * 16 + row) * S::OUT_STRIDE + n * 8 + col;
            *reinterpret_cast<uint32_t *>(to) = emb_pack<T>(v[0], v[1]);
            *reinterpret_cast<uint32_t *>(to + 8 * S::OUT_STRIDE) = emb_pack<T>(v[2], v[3]);
        }
    }
    store_staged<T, S>(out, staged, first_m, first_n, rows, N);
}

/* Launches a kernel whose blocks compute one tile of shape S each; p has N and whatever else. */
template <typename S, typename P>
static int launch_tiles(void (*kernel)(P), const P &p, const emb_cuda_batch *batch,
                        cudaStream_t stream) {
    dim3 grid((p.N + S::BN - 1) / S::BN, (batch->tokens_max + S::BM - 1) / S::BM);
    return emb_launch(kernel, grid, THREADS, S::BYTES, batch, stream, p);
}

#endif
