/* quantized_mma.cu - out = codes * W^T + bias (and GELU) on tensor cores: u8 by s8 on sm_75 and up,
 * E4M3 on sm_89 and up.
 *
 * As linear_mma.cu, 32 columns of K a step. Integer sums are exact; those of E4M3 add K in order.
 * Legend: M tokens, N rows of W, K columns of W; B* tile of the block, W* tile of a warp.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/linear_mma.cuh"
#include "backend/cuda/kernels/quantized/codes.cuh"

/* Operands of a product as a kernel sees them. */
struct product {
    emb_cuda_quantized_out to; /* [M, N] */
    emb_cuda_codes codes;
    const void *weight;         /* [N, K] */
    const float *scales, *bias; /* [N] */
    const int32_t *sums;        /* [N], or NULL */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

/* What a thread needs of its columns c and c + 1. */
struct column_pair {
    float2 bias, scale;
    int2 sum;
};

static __device__ __forceinline__ column_pair load_columns(const product &p, uint32_t place) {
    column_pair c = {};
    if (place < p.N) {
        c.bias = *reinterpret_cast<const float2 *>(p.bias + place);
        c.scale = *reinterpret_cast<const float2 *>(p.scales + place);
        if (p.sums) c.sum = *reinterpret_cast<const int2 *>(p.sums + place);
    }
    return c;
}

/* A warp's staged codes to [rows, N], in 16-byte pieces. */
template <typename S>
static __device__ __forceinline__ void store_codes(const product &p, const unsigned char *staged,
                                                   uint32_t first_m, uint32_t first_n,
                                                   uint32_t rows) {
    constexpr int PIECES = S::WN / 16, STEP = 32 / PIECES;
    uint32_t lane = threadIdx.x & 31, piece = lane % PIECES * 16;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < S::WM; i += STEP) {
        uint32_t r = i + lane / PIECES, m = first_m + r, n = first_n + piece;
        if (r < S::WM && m < rows && n < p.N) {
            *reinterpret_cast<uint4 *>((char *)p.to.codes.values + (uint64_t)m * p.N + n) =
                *reinterpret_cast<const uint4 *>(staged + r * (S::WN + 16) + piece);
        }
    }
}

/* What a thread needs of its rows: row + 8 m for m = 0..ROWS - 1. */
template <int ROWS> struct row_factors {
    float scale[ROWS], factor[ROWS]; /* factor: of codes */
    int32_t zero[ROWS];
};

template <typename T, int ROWS, bool CODES>
static __device__ __forceinline__ row_factors<ROWS> load_rows(const product &p, uint32_t first_m,
                                                              uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31;
    row_factors<ROWS> f;
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        uint32_t token = first_m + m * 8 + (lane >> 2);
        f.scale[m] = token < rows ? p.codes.scales[token] : 0.0f;
        f.zero[m] = T::exact && token < rows ? p.codes.zeros[token] : 0;
        if (!CODES) continue;
        float2 range = emb_code_bound(f.scale[m], p.to.bounds);
        f.factor[m] = range.y;
        if (first_n == 0 && lane % 4 == 0 && token < rows) p.to.codes.scales[token] = range.x;
    }
    return f;
}

/* Scales, bias and GELU, then through shared memory, so that rows leave in 16-byte pieces. */
template <typename T, typename S, bool CODES>
static __device__ __forceinline__ void finish(typename T::sum (&sums)[S::WM / 16][S::WN / 8][4],
                                              unsigned char *staged, const product &p,
                                              uint32_t first_m, uint32_t first_n, uint32_t rows) {
    constexpr int STRIDE = CODES ? S::WN + 16 : 2 * S::OUT_STRIDE; /* bytes */
    constexpr int VALUE = CODES ? 1 : 2;
    uint32_t lane = threadIdx.x & 31, row = lane >> 2, col = (lane & 3) * 2;
    row_factors<S::WM / 8> f = load_rows<T, S::WM / 8, CODES>(p, first_m, first_n, rows);
#pragma unroll
    for (int n = 0; n < S::WN / 8; n++) {
        column_pair c = load_columns(p, first_n + n * 8 + col);
#pragma unroll
        for (int m = 0; m < S::WM / 16; m++) {
            float v[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                v[i] = emb_code_value(sums[m][n][i], i % 2 ? c.scale.y : c.scale.x,
                                      i % 2 ? c.sum.y : c.sum.x, i % 2 ? c.bias.y : c.bias.x,
                                      f.scale[2 * m + i / 2], f.zero[2 * m + i / 2]);
            }
            if (p.gelu) emb_gelu_fast(v);
            unsigned char *to = staged + (m * 16 + row) * STRIDE + (n * 8 + col) * VALUE;
            if constexpr (CODES) {
                float upper = f.factor[2 * m], lower = f.factor[2 * m + 1];
                *(uint16_t *)to = emb_pack_fp8(__fmul_rn(v[0], upper), __fmul_rn(v[1], upper));
                *(uint16_t *)(to + 8 * STRIDE) =
                    emb_pack_fp8(__fmul_rn(v[2], lower), __fmul_rn(v[3], lower));
            } else {
                *(uint32_t *)to = emb_pack<emb_f16>(v[0], v[1]);
                *(uint32_t *)(to + 8 * STRIDE) = emb_pack<emb_f16>(v[2], v[3]);
            }
        }
    }
    if constexpr (CODES) {
        store_codes<S>(p, staged, first_m, first_n, rows);
    } else {
        store_staged<emb_f16, S>((emb_f16 *)p.to.out, (const emb_f16 *)staged, first_m, first_n,
                                 rows, p.N);
    }
}

template <typename T, typename S, bool CODES>
static __global__ void __launch_bounds__(THREADS, 2) quantized_kernel(product p) {
    extern __shared__ __align__(128) unsigned char memory[];
    uint32_t rows = p.counts[0], warp = threadIdx.x >> 5;
    block_place at = place_of_block<S>();
    if (at.m >= rows) {
        emb_kernel_begin();
        return;
    }
    typename T::sum sums[S::WM / 16][S::WN / 8][4] = {};
    multiply_all<T, S>(sums, emb_shared(memory), at, {p.codes.values, p.weight, rows, p.N, p.K});
    finish<T, S, CODES>(sums, memory + warp * S::WM * S::OUT_STRIDE * 2, p, at.m + at.warp_m,
                        at.n + at.warp_n, rows);
}

template <typename T, bool CODES>
static int quantized_tiled(const product &p, emb_cuda_tile tile, const emb_cuda_batch *batch,
                           cudaStream_t stream) {
    if (tile == EMB_CUDA_TILE_SMALL)
        return launch_tiles<small_tile>(quantized_kernel<T, small_tile, CODES>, p, batch, stream);
    if (tile == EMB_CUDA_TILE_MEDIUM)
        return launch_tiles<medium_tile>(quantized_kernel<T, medium_tile, CODES>, p, batch, stream);
    return launch_tiles<large_tile>(quantized_kernel<T, large_tile, CODES>, p, batch, stream);
}

int emb_cuda_quantized_mma(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
                           const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                           const emb_cuda_batch *batch, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 16 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    bool exact = linear->type == EMB_DTYPE_INT8;
    product p = {*out,           *codes,
                 linear->weight, (const float *)linear->scales,
                 linear->bias,   exact ? linear->sums : NULL,
                 batch->counts,  linear->rows,
                 linear->cols,   gelu};
    if (exact && !out->bounds) return quantized_tiled<emb_u8, false>(p, tile, batch, s);
    if (linear->type != EMB_DTYPE_FP8) return cudaErrorInvalidValue;
    if (out->bounds) return quantized_tiled<emb_e4m3, true>(p, tile, batch, s);
    return quantized_tiled<emb_e4m3, false>(p, tile, batch, s);
}
