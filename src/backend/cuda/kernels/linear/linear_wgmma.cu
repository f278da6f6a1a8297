/* linear_wgmma.cu - out = in * W^T + bias (and GELU) on Hopper's warpgroup products; sm_90a only.
 *
 * By pairs of blocks (pairs_wgmma.cuh): what ends a tile is bias, GELU and stores. K is added in
 * steps of 16 in order.
 * Clusters of 2 x 2, with less to load but some processors idle, were slower at every size.
 * Legend: M tokens, N rows of W, K columns of W; tile 128 x 192, K in stages of 64.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/pairs_wgmma.cuh"

/* The layout of shared memory, as offsets from its first multiple of 1,024. */
#define OUT_AT  (STAGES * STAGE_BYTES)
#define BIAS_AT (OUT_AT + 8 * OUT_BYTES)
typedef emb_ring<STAGES, PAIR, 1, BIAS_AT + 2 * TILE_N * 4> ring;
#define BYTES (1024 + ring::END)

template <typename T> struct product {
    T *out;            /* [M, N] */
    const float *bias; /* [N] */
    const uint32_t *counts;
    uint32_t N, K;
    int gelu;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Starts copying a warpgroup's bias for a tile to shared memory. */
static __device__ __forceinline__ void load_bias(uint32_t to, const float *bias, uint32_t first_n,
                                                 uint32_t N) {
    uint32_t col = threadIdx.x % 128 * 4, n = first_n + col;
    if (col < TILE_N) emb_copy16(to + col * 4, n < N ? bias + n : bias, n < N);
    emb_copy_commit();
}

/* Bias and GELU of two groups of eight columns; packed as the matrix store takes them. */
template <typename T, bool GELU>
static __device__ __forceinline__ void finish_pair(uint32_t (&packed)[4], const float *sums,
                                                   float2 first, float2 second) {
    float v[8] = {sums[0] + first.x,  sums[1] + first.y,  sums[2] + first.x,  sums[3] + first.y,
                  sums[4] + second.x, sums[5] + second.y, sums[6] + second.x, sums[7] + second.y};
    if (GELU) emb_gelu_fast(v);
#pragma unroll
    for (int i = 0; i < 4; i++) packed[i] = emb_pack<T>(v[2 * i], v[2 * i + 1]);
}

/* Bias and GELU, then through shared memory, so that rows are written in pieces of 128 bytes. */
template <typename T, bool GELU>
static __device__ __forceinline__ void finish(float (&sums)[2][EMB_WGMMA_SUMS], const product<T> &p,
                                              uint32_t staged, uint32_t bias, uint32_t first_m,
                                              uint32_t first_n, uint32_t rows) {
    uint32_t lane = threadIdx.x & 31, row = lane / 8, col = lane % 8 * 8;
    uint32_t bias_at = bias + (lane & 3) * 8;
    uint32_t to = staged + ((lane & 15) * OUT_STRIDE + lane / 16 * 8) * 2;
    uint32_t from = staged + (row * OUT_STRIDE + col) * 2;
    int left_m = (int)(rows - first_m - row), left_n = (int)(p.N - first_n - col);
    T *out = p.out + (uint64_t)(first_m + row) * p.N + first_n + col;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int part = 0; part < TILE_N / OUT_COLS; part++) {
            float2 next[2] = {emb_shared_load2(bias_at + part * OUT_COLS * 4),
                              emb_shared_load2(bias_at + part * OUT_COLS * 4 + 32)};
#pragma unroll
            for (int j = 0; j < OUT_COLS / 8; j += 2) {
                float2 first = next[0], second = next[1];
                uint32_t packed[4];
                if (j + 2 < OUT_COLS / 8) {
                    next[0] = emb_shared_load2(bias_at + (part * OUT_COLS + j * 8 + 16) * 4);
                    next[1] = emb_shared_load2(bias_at + (part * OUT_COLS + j * 8 + 24) * 4);
                }
                finish_pair<T, GELU>(packed, &sums[half][(part * (OUT_COLS / 8) + j) * 4], first,
                                     second);
                emb_shared_store_matrix(to + j * 16, packed);
            }
            emb_pairs_store(out, from, p.N, half * 64, part * OUT_COLS, left_m, left_n);
        }
        out += (uint64_t)64 * p.N;
    }
}

template <typename T>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const emb_pairs_schedule &s,
                                                     const product<T> &p, uint32_t rows,
                                                     uint32_t group) {
    uint32_t place = group * s.steps_k;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        float sums[2][EMB_WGMMA_SUMS];
        uint32_t bias = base + BIAS_AT + group * TILE_N * 4, n = tile % s.tiles_n * TILE_N;
        emb_turn_wait(1 + (int)group, 256); /* the group is done with the last tile's bias */
        load_bias(bias, p.bias, n, p.N);
        emb_ring_multiply<T, ring>(sums, base, s.steps_k, place);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_copy_wait<0>();
        emb_turn_wait(3 + (int)group, 128);
        emb_ring_release<ring>(base, (place + s.steps_k - 1) % STAGES);
        uint32_t warp = threadIdx.x / 32 - 4;
        uint32_t m = (tile / s.tiles_n * PAIR + s.rank) * TILE_M + warp % 4 * 16;
        uint32_t staged = base + OUT_AT + warp * OUT_BYTES;
        if (p.gelu) {
            finish<T, true>(sums, p, staged, bias, m, n, rows);
        } else {
            finish<T, false>(sums, p, staged, bias, m, n, rows);
        }
        place += 2 * s.steps_k;
    }
}

#endif

template <typename T>
static __global__ void __launch_bounds__(THREADS, 1)
    linear_kernel(const __grid_constant__ CUtensorMap in,
                  const __grid_constant__ CUtensorMap weight, product<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    uint32_t rows = p.counts[0];
    emb_pairs_run<ring, TILE_K>(&in, &weight, rows, p.N, p.K,
                                [&](uint32_t base, const emb_pairs_schedule &s, uint32_t group) {
                                    compute_tiles<T>(base, s, p, rows, group);
                                });
#else
    __trap(); /* built without sm_90a: never a silent wrong answer */
#endif
}

/* ---- host ------------------------------------------------------------------------------------ */

template <typename T>
static int linear_launch(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                         const emb_cuda_batch *batch, const emb_cuda_device *device,
                         cudaStream_t stream) {
    product<T> p = {(T *)out, linear->bias, batch->counts, linear->rows, linear->cols, gelu};
    return emb_pairs_launch<ring, TILE_K>(linear_kernel<T>, p, in, linear->weight, linear->rows,
                                          linear->cols, linear->type, BYTES, batch, device, stream);
}

int emb_cuda_linear_wgmma(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                          const emb_cuda_batch *batch, const emb_cuda_device *device,
                          void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 8 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_F16) {
        return linear_launch<emb_f16>(out, in, linear, gelu, batch, device, s);
    }
    if (linear->type == EMB_DTYPE_BF16) {
        return linear_launch<emb_bf16>(out, in, linear, gelu, batch, device, s);
    }
    return cudaErrorInvalidValue;
}
