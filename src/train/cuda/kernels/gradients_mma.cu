/* gradients_mma.cu - partial sums of d_out^T * in on tensor cores, for 16-bit types, sm_75 and up.
 *
 * Four warps compute a tile of 128 x 128; tokens pass through a ring in shared memory as they lie,
 * 32 rows of both operands a stage, and are turned as they are read from it.
 * Legend: M rows of the weight, N its columns; A is d_out, B is in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/gradients.cuh"

#define THREADS     128
#define STEP        32 /* tokens of a stage */
#define STAGES      3
#define PIECES      16 /* of 16 bytes, in a row of a stage's operand */
#define OPERAND     (STEP * PIECES * 16)
#define STAGE_BYTES (2 * OPERAND)
#define BYTES       (STAGES * STAGE_BYTES)
#define WARP_TILE   64

/* What a block reads, of a tile that begins at m and n. */
template <typename T> struct source {
    const T *d_out, *in;
    uint32_t rows, cols, tokens, m, n;
};

/* Copies tokens from `first` on, columns `col` on, of [tokens, width]; zeros past the ends. */
template <typename T>
static __device__ __forceinline__ void load_operand(uint32_t to, const T *from, uint32_t first,
                                                    uint32_t tokens, uint32_t col, uint32_t width) {
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    bool inside = col + piece * 8 < width;
#pragma unroll
    for (uint32_t i = 0; i < STEP; i += THREADS / PIECES) {
        uint32_t token = first + row + i;
        bool valid = inside && token < tokens;
        const T *at = from + (uint64_t)token * width + col + piece * 8;
        emb_copy16(to + emb_swizzle<PIECES>(row + i, piece), valid ? at : from, valid);
    }
}

template <typename T>
static __device__ __forceinline__ void load_stage(uint32_t ring, const source<T> &o, uint32_t step,
                                                  uint32_t last, uint32_t turn) {
    uint32_t stage = ring + turn % STAGES * STAGE_BYTES;
    if (step < last) {
        load_operand(stage, o.d_out, step * STEP, o.tokens, o.m, o.rows);
        load_operand(stage + OPERAND, o.in, step * STEP, o.tokens, o.n, o.cols);
    }
    emb_copy_commit();
}

/* Adds one stage to a warp's sums; both operands are turned on the way to the registers. */
template <typename T>
static __device__ __forceinline__ void multiply(float (&sums)[4][8][4], uint32_t stage,
                                                uint32_t warp_m, uint32_t warp_n) {
    uint32_t lane = threadIdx.x & 31;
    uint32_t a_token = (lane & 7) + (lane >> 4) * 8, a_piece = warp_m / 8 + (lane >> 3 & 1);
    uint32_t b_token = (lane & 15), b_piece = warp_n / 8 + (lane >> 4);
#pragma unroll
    for (uint32_t k = 0; k < STEP; k += 16) {
        uint32_t a[4][4], b[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t b_at = emb_swizzle<PIECES>(k + b_token, b_piece + 2 * i);
            emb_ldmatrix_transposed(a[i],
                                    stage + emb_swizzle<PIECES>(k + a_token, a_piece + 2 * i));
            emb_ldmatrix_transposed(b[i], stage + OPERAND + b_at);
        }
#pragma unroll
        for (int m = 0; m < 4; m++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                emb_mma<T>(sums[m][2 * n], a[m], b[n][0], b[n][1]);
                emb_mma<T>(sums[m][2 * n + 1], a[m], b[n][2], b[n][3]);
            }
        }
    }
}

/* Adds a stage of A to the sums of its columns: a thread has every eighth token of eight. */
template <typename T>
static __device__ __forceinline__ void add_columns(float (&columns)[8],
                                                   const unsigned char *stage) {
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
#pragma unroll
    for (uint32_t i = 0; i < STEP; i += THREADS / PIECES) {
        float v[8];
        emb_load8(v, reinterpret_cast<const T *>(stage + emb_swizzle<PIECES>(row + i, piece)));
        for (int j = 0; j < 8; j++) columns[j] += v[j];
    }
}

/* The threads' sums of columns through shared memory to `out` [128]. */
static __device__ __forceinline__ void store_columns(float *out, const float (&columns)[8],
                                                     float *shared) {
    uint32_t piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    float sum = 0;
    __syncthreads();
    for (int j = 0; j < 8; j++) shared[row * THREADS + piece * 8 + j] = columns[j];
    __syncthreads();
    for (int i = 0; i < THREADS / PIECES; i++) sum += shared[i * THREADS + threadIdx.x];
    out[threadIdx.x] = sum;
    __syncthreads();
}

/* Computes one piece of a tile. */
template <typename T>
static __device__ __forceinline__ void
compute(const emb_gradient_plan &p, const source<T> &o, const emb_gradient_piece &piece,
        const emb_gradient_place &at, unsigned char *memory) {
    uint32_t ring = emb_shared(memory), warp = threadIdx.x / 32;
    uint32_t warp_m = warp / 2 * WARP_TILE, warp_n = warp % 2 * WARP_TILE;
    uint32_t columns_n = p.tiles_n();
    float sums[4][8][4] = {}, columns[8] = {};
    for (uint32_t i = 0; i < STAGES - 1; i++) {
        load_stage(ring, o, piece.first + i, piece.last, i);
    }
    for (uint32_t step = piece.first, turn = 0; step < piece.last; step++, turn++) {
        emb_copy_wait<STAGES - 2>();
        __syncthreads();
        load_stage(ring, o, step + STAGES - 1, piece.last, turn + STAGES - 1);
        uint32_t stage = turn % STAGES * STAGE_BYTES;
        if (p.d_bias && step % columns_n == at.column) add_columns<T>(columns, memory + stage);
        multiply<T>(sums, ring + stage, warp_m, warp_n);
    }
    emb_copy_wait<0>();
    if (p.d_bias) store_columns(at.bias, columns, reinterpret_cast<float *>(memory));
    __syncthreads();
#pragma unroll
    for (int m = 0; m < 4; m++) {
#pragma unroll
        for (int n = 0; n < 8; n++) {
            float4 v = {sums[m][n][0], sums[m][n][1], sums[m][n][2], sums[m][n][3]};
            emb_gradient_store(p, at, warp_m + m * 16, warp_n + n * 8, v);
        }
    }
}

template <typename T>
static __global__ void __launch_bounds__(THREADS, 2)
    gradients_kernel(emb_gradient_plan p, const T *d_out, const T *in, const uint32_t *counts) {
    extern __shared__ __align__(128) unsigned char memory[];
    emb_kernel_begin();
    uint32_t tokens = counts[0], worker = blockIdx.x;
    emb_gradient_split s = emb_gradient_divide(p, tokens);
    if (worker >= s.workers) return;
    uint32_t end = emb_gradient_begin(s, worker + 1);
    for (uint32_t unit = emb_gradient_begin(s, worker); unit < end;) {
        emb_gradient_piece piece = emb_gradient_piece_at(s, unit, end);
        emb_gradient_place at = emb_gradient_place_of(p, s, worker, piece, 0);
        source<T> o = {d_out, in, p.rows, p.cols, tokens, at.m, at.n};
        compute<T>(p, o, piece, at, memory);
        unit += piece.last - piece.first;
    }
}

int emb_cuda_gradients_mma(const emb_gradient_plan &plan, const void *d_out, const void *in,
                           const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream) {
    if (type == EMB_DTYPE_F16) {
        return emb_launch(gradients_kernel<emb_f16>, dim3(plan.workers_max), THREADS, BYTES, batch,
                          stream, plan, (const emb_f16 *)d_out, (const emb_f16 *)in, batch->counts);
    }
    return emb_launch(gradients_kernel<emb_bf16>, dim3(plan.workers_max), THREADS, BYTES, batch,
                      stream, plan, (const emb_bf16 *)d_out, (const emb_bf16 *)in, batch->counts);
}
