/* int4_mma.cu - out = in * W^T + bias (and GELU) of F16 by int4 in groups, on tensor cores, sm_75
 * and up: for memory, not for speed.
 *
 * As linear_mma.cu; W's tile is fetched to registers a step ahead, and written to the stage as
 * F16: scale * (code - zero), rounded once.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, W* tile of a warp.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/linear/linear_mma.cuh"

#define UNIT 32 /* codes of a row that a thread takes: 16 bytes, of one group */

/* Operands of a product as a kernel sees them. */
struct product {
    emb_f16 *out;                /* [M, N] */
    const emb_f16 *in;           /* [M, K] */
    const unsigned char *weight; /* [N, K / 2] */
    const emb_f16 *scales;       /* [N, K / group] */
    const uint8_t *zeros;        /* [N, K / group] */
    const float *bias;           /* [N] */
    const uint32_t *counts;
    uint32_t N, K, group;
    int gelu;
};

/* A thread's part of a tile of W, in registers. */
struct unit {
    uint4 codes;
    emb_f16 scale;
    uint8_t zero;
};

/* Which unit of a tile is this thread's. */
template <typename S> struct unit_place {
    static constexpr int UNITS = S::ROW_BYTES / 2 / UNIT; /* in a row of a stage */
    static_assert(UNITS * S::BN == THREADS, "one for each thread");
    static __device__ __forceinline__ uint32_t row() { return threadIdx.x / UNITS; }
    static __device__ __forceinline__ uint32_t index() { return threadIdx.x % UNITS; }
};

/* Fetches; zeros past the ends. */
template <typename S>
static __device__ __forceinline__ unit fetch(const product &p, uint32_t first_n, uint32_t step) {
    uint32_t n = first_n + unit_place<S>::row();
    uint32_t k = (step * unit_place<S>::UNITS + unit_place<S>::index()) * UNIT;
    unit u = {make_uint4(0, 0, 0, 0), __float2half_rn(0.0f), 0};
    if (n < p.N && k < p.K) {
        uint64_t group = (uint64_t)n * (p.K / p.group) + k / p.group;
        u.codes = *reinterpret_cast<const uint4 *>(p.weight + ((uint64_t)n * p.K + k) / 2);
        u.scale = p.scales[group], u.zero = p.zeros[group];
    }
    return u;
}

/* Eight codes as F16 values. 0x6400 with a code in its low bits is 1024 + code. */
static __device__ __forceinline__ uint4 widen(uint32_t codes, __half2 zero, __half2 scale) {
    uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t byte = codes >> (8 * i);
        uint32_t pair = (byte & 0xf) | (byte & 0xf0) << 12 | 0x64006400u;
        __half2 v = __hmul2(__hsub2(*reinterpret_cast<__half2 *>(&pair), zero), scale);
        pairs[i] = *reinterpret_cast<uint32_t *>(&v);
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/* Writes a unit to a tile of a stage, four pieces of eight values. */
template <typename S> static __device__ __forceinline__ void put(uint32_t tile, const unit &u) {
    uint32_t codes[4] = {u.codes.x, u.codes.y, u.codes.z, u.codes.w};
    __half2 zero = __half2half2(__ushort2half_rn((unsigned short)(1024 + u.zero)));
    __half2 scale = __half2half2(u.scale);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 v = widen(codes[i], zero, scale);
        uint32_t to =
            tile + emb_swizzle<S::PIECES>(unit_place<S>::row(), unit_place<S>::index() * 4 + i);
        asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y),
                     "r"(v.z), "r"(v.w)
                     : "memory");
    }
}

template <typename S> static __global__ void __launch_bounds__(THREADS, 2) int4_kernel(product p) {
    extern __shared__ __align__(128) unsigned char memory[];
    uint32_t rows = p.counts[0];
    block_place at = place_of_block<S>();
    if (at.m >= rows) {
        emb_kernel_begin();
        return;
    }
    uint32_t ring = emb_shared(memory), warp = threadIdx.x >> 5, row_bytes = p.K * 2;
    uint32_t steps = (row_bytes + S::ROW_BYTES - 1) / S::ROW_BYTES;
    float sums[S::WM / 16][S::WN / 8][4] = {};
    for (uint32_t step = 0; step < S::STAGES - 1 && step < steps; step++) { /* W waits for none */
        put<S>(ring + step * S::STAGE_BYTES + S::IN_BYTES, fetch<S>(p, at.n, step));
    }
    emb_kernel_begin();
    load_inputs<S>(ring, p.in, at.m, rows, row_bytes, steps);
    for (uint32_t step = 0; step < steps; step++) {
        emb_copy_wait<S::STAGES - 2>();
        __syncthreads();
        uint32_t next = step + S::STAGES - 1;
        uint32_t coming = ring + next % S::STAGES * S::STAGE_BYTES;
        unit u = {};
        if (next < steps) {
            load_tile<S::BM, S::PIECES>(coming, p.in, at.m, rows, next * S::ROW_BYTES, row_bytes);
            u = fetch<S>(p, at.n, next);
        }
        emb_copy_commit();
        uint32_t stage = ring + step % S::STAGES * S::STAGE_BYTES;
        multiply<emb_f16, S>(sums, stage, stage + S::IN_BYTES, at.warp_m, at.warp_n);
        if (next < steps) put<S>(coming + S::IN_BYTES, u);
    }
    emb_copy_wait<0>();
    __syncthreads();
    finish_values<emb_f16, S>(sums,
                              reinterpret_cast<emb_f16 *>(memory) + warp * S::WM * S::OUT_STRIDE,
                              p.out, p.bias, p.N, p.gelu, at.m + at.warp_m, at.n + at.warp_n, rows);
}

int emb_cuda_int4_mma(void *out, const void *in, const emb_cuda_quantized *linear, int gelu,
                      emb_cuda_tile tile, const emb_cuda_batch *batch, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    bool grouped = linear->group == 32 || linear->group == 64;
    if (linear->type != EMB_DTYPE_INT4 || !grouped || !linear->rows || linear->rows % 8 ||
        !linear->cols || linear->cols % linear->group) {
        return cudaErrorInvalidValue;
    }
    product p = {(emb_f16 *)out,
                 (const emb_f16 *)in,
                 (const unsigned char *)linear->weight,
                 (const emb_f16 *)linear->scales,
                 linear->zeros,
                 linear->bias,
                 batch->counts,
                 linear->rows,
                 linear->cols,
                 linear->group,
                 gelu};
    if (tile == EMB_CUDA_TILE_SMALL)
        return launch_tiles<small_tile>(int4_kernel<small_tile>, p, batch, s);
    if (tile == EMB_CUDA_TILE_MEDIUM)
        return launch_tiles<medium_tile>(int4_kernel<medium_tile>, p, batch, s);
    return launch_tiles<large_tile>(int4_kernel<large_tile>, p, batch, s);
}
