/* quantized_wgmma.cu - out = codes * W^T + bias (and GELU) on Hopper's warpgroup products, u8 by s8
 * and E4M3, whose outputs may be codes; sm_90a only.
 *
 * As linear_wgmma.cu, with 128 codes of K where that has 64 values. A tile's scales and zeros are
 * copied to shared memory with the bias.
 * Legend: M tokens, N rows of W, K columns of W; tile 128 x 192, K in stages of 128.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/pairs_wgmma.cuh"
#include "backend/cuda/kernels/quantized/codes.cuh"

#define STAGE_CODES 128              /* of K */
#define CODE_COLS   64               /* columns of codes that a warp stages at once */
#define CODE_STRIDE (CODE_COLS + 16) /* no two rows' pairs in one bank */

/* The layout of shared memory, as offsets from its first multiple of 1,024. Each warpgroup has its
 * tile's columns' bias, scales and sums, and its tokens' scales and zeros. */
#define OUT_AT       (STAGES * STAGE_BYTES)
#define FACTORS_AT   (OUT_AT + 8 * OUT_BYTES)
#define SCALES       (TILE_N * 4)     /* offsets after the bias */
#define SUMS         (2 * TILE_N * 4) /* of the rows of W */
#define TOKENS       (3 * TILE_N * 4) /* scales; TILE_M * 4 further on, zeros */
#define FACTOR_BYTES (3 * TILE_N * 4 + 2 * TILE_M * 4)
typedef emb_ring<STAGES, PAIR, 1, FACTORS_AT + 2 * FACTOR_BYTES> ring;
#define BYTES (1024 + ring::END)

struct product {
    emb_cuda_quantized_out to;  /* [M, N] */
    const float *bias, *scales; /* [N] */
    const int32_t *sums;        /* [N]; u8 only */
    const float *token_scales;  /* [M] */
    const int32_t *token_zeros; /* [M]; u8 only */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Starts copying what a warpgroup's tile needs besides its product to shared memory. If the tile is
 * a row's first, writes the scales of its output codes. */
template <typename T, bool CODES>
static __device__ __forceinline__ void load_factors(uint32_t to, const product &p, uint32_t first_m,
                                                    uint32_t first_n, uint32_t rows) {
    uint32_t thread = emb_thread() % 128, n = first_n + thread * 4, m = first_m + thread;
    if (thread < TILE_N / 4 && n < p.N) {
        emb_copy16(to + thread * 16, p.bias + n, true);
        emb_copy16(to + SCALES + thread * 16, p.scales + n, true);
        if (T::exact) emb_copy16(to + SUMS + thread * 16, p.sums + n, true);
    }
    if (m < rows) {
        emb_copy4(to + TOKENS + thread * 4, p.token_scales + m);
        if (T::exact) emb_copy4(to + TOKENS + (TILE_M + thread) * 4, p.token_zeros + m);
    }
    emb_copy_commit();
    if (CODES && first_n == 0 && m < rows) {
        p.to.codes.scales[m] = emb_code_bound(p.token_scales[m], p.to.bounds).x;
    }
}

static __device__ __forceinline__ void store2(uint32_t to, uint16_t v) {
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
}

/* Two rows' scales and zeros: what a thread has of 16 rows. */
struct token_pair {
    float scale[2];
    int32_t zero[2];
};

template <typename T>
static __device__ __forceinline__ token_pair load_tokens(uint32_t factors, uint32_t row) {
    token_pair t = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t at = factors + TOKENS + (row + i * 8) * 4;
        t.scale[i] = __uint_as_float(emb_shared_load(at));
        if constexpr (T::exact) t.zero[i] = (int32_t)emb_shared_load(at + TILE_M * 4);
    }
    return t;
}

/* What eight columns need, this thread's two of them. */
struct column_pair {
    float2 bias, scale, sum; /* sum: bits of two integers */
};

template <typename T> static __device__ __forceinline__ column_pair load_columns(uint32_t at) {
    column_pair c = {};
    c.bias = emb_shared_load2(at);
    c.scale = emb_shared_load2(at + SCALES);
    if constexpr (T::exact) c.sum = emb_shared_load2(at + SUMS);
    return c;
}

/* Values of eight columns of 16 rows, four a thread. */
template <typename T, bool GELU>
static __device__ __forceinline__ void finish_eight(float (&v)[4], const typename T::sum *sums,
                                                    const column_pair &c, const token_pair &t) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = emb_code_value(sums[i], i % 2 ? c.scale.y : c.scale.x,
                              __float_as_int(i % 2 ? c.sum.y : c.sum.x),
                              i % 2 ? c.bias.y : c.bias.x, t.scale[i / 2], t.zero[i / 2]);
    }
    if (GELU) emb_gelu_fast(v);
}

/* Values, then by way of shared memory, so that rows leave in pieces of 128 bytes. */
template <typename T, bool GELU>
static __device__ __forceinline__ void finish(typename T::sum (&sums)[2][EMB_WGMMA_SUMS],
                                              const product &p, uint32_t staged, uint32_t factors,
                                              uint32_t first_m, uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = lane / 8, col = lane % 8 * 8;
    uint32_t columns = factors + (lane & 3) * 8, tile_row = threadIdx.x / 32 % 4 * 16 + lane / 4;
    uint32_t to = staged + ((lane & 15) * OUT_STRIDE + lane / 16 * 8) * 2;
    uint32_t from = staged + (row * OUT_STRIDE + col) * 2;
    int left_m = (int)(rows - first_m - row), left_n = (int)(p.N - first_n - col);
    emb_f16 *out = (emb_f16 *)p.to.out + (uint64_t)(first_m + row) * p.N + first_n + col;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        token_pair tokens = load_tokens<T>(factors, tile_row + half * 64);
        column_pair next = load_columns<T>(columns);
#pragma unroll
        for (int part = 0; part < TILE_N / OUT_COLS; part++) {
#pragma unroll
            for (int j = 0; j < OUT_COLS / 8; j += 2) {
                int group = part * (OUT_COLS / 8) + j;
                uint32_t packed[4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    column_pair now = next;
                    if (group + i + 1 < TILE_N / 8) {
                        next = load_columns<T>(columns + (group + i + 1) * 32);
                    }
                    float v[4];
                    finish_eight<T, GELU>(v, &sums[half][(group + i) * 4], now, tokens);
                    packed[2 * i] = emb_pack<emb_f16>(v[0], v[1]);
                    packed[2 * i + 1] = emb_pack<emb_f16>(v[2], v[3]);
                }
                emb_shared_store_matrix(to + j * 16, packed);
            }
            emb_pairs_store(out, from, p.N, half * 64, part * OUT_COLS, left_m, left_n);
        }
        out += (uint64_t)64 * p.N;
    }
}

/* The same to codes: a thread's two neighbours are two bytes, a row's pieces of 16. */
template <typename T, bool GELU>
static __device__ __forceinline__ void
finish_codes(typename T::sum (&sums)[2][EMB_WGMMA_SUMS], const product &p, uint32_t staged,
             uint32_t factors, uint32_t first_m, uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, columns = factors + (lane & 3) * 8;
    uint32_t tile_row = threadIdx.x / 32 % 4 * 16 + lane / 4, row = lane / 4, col = lane % 4 * 16;
    uint32_t from = staged + row * CODE_STRIDE + col;
    int left_m = (int)(rows - first_m - row), left_n = (int)(p.N - first_n - col);
    char *out = (char *)p.to.codes.values + (uint64_t)(first_m + row) * p.N + first_n + col;
    uint32_t to = staged + lane / 4 * CODE_STRIDE + (lane & 3) * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        token_pair tokens = load_tokens<T>(factors, tile_row + half * 64);
        column_pair next = load_columns<T>(columns);
        float factor[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            factor[i] = emb_code_bound(tokens.scale[i], p.to.bounds).y;
        }
#pragma unroll
        for (int part = 0; part < TILE_N / CODE_COLS; part++) {
#pragma unroll
            for (int j = 0; j < CODE_COLS / 8; j++) {
                int group = part * (CODE_COLS / 8) + j;
                column_pair now = next;
                float v[4];
                if (group + 1 < TILE_N / 8) next = load_columns<T>(columns + (group + 1) * 32);
                finish_eight<T, GELU>(v, &sums[half][group * 4], now, tokens);
                store2(to + j * 8,
                       emb_pack_fp8(__fmul_rn(v[0], factor[0]), __fmul_rn(v[1], factor[0])));
                store2(to + 8 * CODE_STRIDE + j * 8,
                       emb_pack_fp8(__fmul_rn(v[2], factor[1]), __fmul_rn(v[3], factor[1])));
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint4 v = emb_shared_load16(from + i * 8 * CODE_STRIDE);
                if (half * 64 + i * 8 < left_m && part * CODE_COLS < left_n) {
                    emb_store16(out + (uint64_t)(i * 8) * p.N + part * CODE_COLS, v);
                }
            }
            __syncwarp();
        }
        out += (uint64_t)64 * p.N;
    }
}

template <typename T, bool CODES>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const emb_pairs_schedule &s,
                                                     const product &p, uint32_t rows,
                                                     uint32_t group) {
    uint32_t place = group * s.steps_k;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        typename T::sum sums[2][EMB_WGMMA_SUMS];
        uint32_t factors = base + FACTORS_AT + group * FACTOR_BYTES, n = tile % s.tiles_n * TILE_N;
        uint32_t tile_m = (tile / s.tiles_n * PAIR + s.rank) * TILE_M;
        emb_turn_wait(1 + (int)group, 256); /* the group is done with the last tile's factors */
        load_factors<T, CODES>(factors, p, tile_m, n, rows);
        emb_ring_multiply<T, ring>(sums, base, s.steps_k, place);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_copy_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<ring>(base, (place + s.steps_k - 1) % STAGES);
        uint32_t warp = threadIdx.x / 32 - 4, m = tile_m + warp % 4 * 16;
        uint32_t staged = base + OUT_AT + warp * OUT_BYTES;
        if constexpr (CODES) {
            if (p.gelu) {
                finish_codes<T, true>(sums, p, staged, factors, m, n, rows);
            } else {
                finish_codes<T, false>(sums, p, staged, factors, m, n, rows);
            }
        } else if (p.gelu) {
            finish<T, true>(sums, p, staged, factors, m, n, rows);
        } else {
            finish<T, false>(sums, p, staged, factors, m, n, rows);
        }
        place += 2 * s.steps_k;
    }
}

#endif

template <typename T, bool CODES>
static __global__ void __launch_bounds__(THREADS, 1)
    quantized_kernel(const __grid_constant__ CUtensorMap in,
                     const __grid_constant__ CUtensorMap weight, product p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    uint32_t rows = p.counts[0];
    emb_pairs_run<ring, STAGE_CODES>(
        &in, &weight, rows, p.N, p.K,
        [&](uint32_t base, const emb_pairs_schedule &s, uint32_t group) {
            compute_tiles<T, CODES>(base, s, p, rows, group);
        });
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T, bool CODES>
static int quantized_launch(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
                            const emb_cuda_quantized *linear, int gelu, const emb_cuda_batch *batch,
                            const emb_cuda_device *device, cudaStream_t stream) {
    product p = {*out,          linear->bias,  (const float *)linear->scales,
                 linear->sums,  codes->scales, codes->zeros,
                 batch->counts, linear->rows,  linear->cols,
                 gelu};
    return emb_pairs_launch<ring, STAGE_CODES>(quantized_kernel<T, CODES>, p, codes->values,
                                               linear->weight, linear->rows, linear->cols,
                                               linear->type, BYTES, batch, device, stream);
}

int emb_cuda_quantized_wgmma(const emb_cuda_quantized_out *out, const emb_cuda_codes *codes,
                             const emb_cuda_quantized *linear, int gelu,
                             const emb_cuda_batch *batch, const emb_cuda_device *device,
                             void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 16 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_INT8 && !out->bounds) {
        return quantized_launch<emb_u8, false>(out, codes, linear, gelu, batch, device, s);
    }
    if (linear->type != EMB_DTYPE_FP8) return cudaErrorInvalidValue;
    if (out->bounds) {
        return quantized_launch<emb_e4m3, true>(out, codes, linear, gelu, batch, device, s);
    }
    return quantized_launch<emb_e4m3, false>(out, codes, linear, gelu, batch, device, s);
}
