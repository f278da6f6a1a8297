/* linear_gelu_back_wgmma.cu - a product whose epilogue is the way back through GELU: out = (in *
 * W^T)
 * * GELU'(before), and GELU(before) beside it; on Hopper's warpgroup products, sm_90a only.
 *
 * By pairs of blocks (pairs_wgmma.cuh). A warp copies what lies before GELU to shared memory, two
 * pieces of 16 x 64 ahead, and sends both results back through the same place.
 * Legend: M tokens, N rows of W, K columns of W; tile 128 x 192, K in stages of 64.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/linear/pairs_wgmma.cuh"
#include "train/cuda/kernels/gelu_back.cuh"

/* The layout of shared memory, as offsets from its first multiple of 1,024. */
#define RING_STAGES 4
#define AHEAD       2 /* pieces that are copied while another is at work */
#define PLACES      (AHEAD + 1)
#define OUT_AT      (RING_STAGES * STAGE_BYTES)
#define PARTS       (TILE_N / OUT_COLS)
typedef emb_ring<RING_STAGES, PAIR, 1, OUT_AT + 8 * PLACES * OUT_BYTES> ring;
#define BYTES (1024 + ring::END)

template <typename T> struct product {
    T *out, *activated; /* [M, N] */
    const T *before;    /* [M, N] */
    const uint32_t *counts;
    uint32_t N, K;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* A warp's 16 rows of each half of a tile, seen from one lane: its first place in global memory,
 * and how many rows and columns there are from it on. */
struct tile_place {
    uint64_t first;
    int left_m, left_n;
};

/* Found again wherever it is needed: registers are for the sums. */
static __device__ __forceinline__ tile_place place_of(const emb_pairs_schedule &s, uint32_t tile,
                                                      uint32_t rows, uint32_t N) {
    uint32_t thread = emb_thread(), lane = thread & 31;
    uint32_t m = (tile / s.tiles_n * PAIR + s.rank) * TILE_M + thread / 32 % 4 * 16 + lane / 8;
    uint32_t n = tile % s.tiles_n * TILE_N + lane % 8 * 8;
    return {(uint64_t)m * N + n, (int)(rows - m), (int)(N - n)};
}

/* Starts to copy the tile's next piece to `to`; a group of copies even where there is none. */
template <typename T>
static __device__ __forceinline__ void load_piece(uint32_t to, const product<T> &p,
                                                  const tile_place &at, int piece) {
    uint32_t lane = threadIdx.x & 31;
    int row = piece / PARTS * 64, col = piece % PARTS * OUT_COLS;
    if (piece < 2 * PARTS) {
        to += (lane / 8 * OUT_STRIDE + lane % 8 * 8) * 2;
#pragma unroll
        for (int i = 0; i < 16; i += 4) {
            bool valid = row + i < at.left_m && col < at.left_n;
            const T *from = p.before + at.first + (uint64_t)(row + i) * p.N + col;
            emb_copy16(to + i * OUT_STRIDE * 2, valid ? from : p.before, valid);
        }
    }
    emb_copy_commit();
}

/* A piece's sums and what lies before GELU, to both results: d in the place of that, the activated
 * values at `beside`. */
template <typename T>
static __device__ __forceinline__ void finish_piece(float *sums, uint32_t before, uint32_t beside) {
    uint32_t lane = threadIdx.x & 31, at = ((lane & 15) * OUT_STRIDE + lane / 16 * 8) * 2;
#pragma unroll
    for (int j = 0; j < OUT_COLS / 8; j += 2) {
        uint32_t raw[4], d_packed[4];
        emb_ldmatrix(raw, before + at + j * 16);
        float x[8], d[8]; /* as many at a time as hide one another's latencies */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 pair = emb_unpack<T>(raw[i]);
            x[2 * i] = pair.x, x[2 * i + 1] = pair.y;
            d[2 * i] = sums[j * 4 + 2 * i], d[2 * i + 1] = sums[j * 4 + 2 * i + 1];
        }
        emb_gelu_back<T>(d, x);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            raw[i] = emb_pack<T>(x[2 * i], x[2 * i + 1]);
            d_packed[i] = emb_pack<T>(d[2 * i], d[2 * i + 1]);
        }
        emb_shared_store_matrix(beside + at + j * 16, raw);
        emb_shared_store_matrix(before + at + j * 16, d_packed);
    }
}

/* A piece of both results to global memory, in 128 bytes of a row at a time. */
template <typename T>
static __device__ __forceinline__ void store_piece(const product<T> &p, uint32_t from,
                                                   uint32_t beside, const tile_place &at, int row,
                                                   int col) {
    uint32_t own = (emb_thread() / 8 % 4 * OUT_STRIDE + emb_thread() % 8 * 8) * 2;
    uint64_t to = at.first + (uint64_t)row * p.N + col;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
        if (row + i < at.left_m && col < at.left_n) {
            emb_store16(p.activated + to, emb_shared_load16(beside + own + i * OUT_STRIDE * 2));
            emb_store16(p.out + to, emb_shared_load16(from + own + i * OUT_STRIDE * 2));
        }
        to += 4 * p.N;
    }
    __syncwarp();
}

template <typename T>
static __device__ __forceinline__ void finish(float (&sums)[2][EMB_WGMMA_SUMS], const product<T> &p,
                                              uint32_t staged, const emb_pairs_schedule &s,
                                              uint32_t tile, uint32_t rows) {
    uint32_t beside = staged + AHEAD * OUT_BYTES;
#pragma unroll
    for (int piece = 0; piece < 2 * PARTS; piece++) {
        uint32_t place = staged + piece % AHEAD * OUT_BYTES;
        emb_copy_wait<AHEAD - 1>();
        __syncwarp();
        finish_piece<T>(&sums[piece / PARTS][piece % PARTS * (OUT_COLS / 2)], place, beside);
        tile_place at = place_of(s, tile, rows, p.N);
        store_piece(p, place, beside, at, piece / PARTS * 64, piece % PARTS * OUT_COLS);
        load_piece(place, p, at, piece + AHEAD);
    }
}

template <typename T>
static __device__ __forceinline__ void compute_tiles(uint32_t base, const emb_pairs_schedule &s,
                                                     const product<T> &p, uint32_t rows,
                                                     uint32_t group) {
    uint32_t count = group * s.steps_k;
    uint32_t staged = base + OUT_AT + (threadIdx.x / 32 - 4) * PLACES * OUT_BYTES;
    for (uint32_t tile = s.first + group * s.step; tile < s.count; tile += 2 * s.step) {
        float sums[2][EMB_WGMMA_SUMS];
        emb_turn_wait(1 + (int)group, 256);
        tile_place ahead = place_of(s, tile, rows, p.N);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) load_piece(staged + i * OUT_BYTES, p, ahead, i);
        emb_ring_multiply<T, ring>(sums, base, s.steps_k, count);
        emb_turn_give(2 - (int)group, 256);
        emb_wgmma_wait<0>();
        emb_ring_release<ring>(base, (count + s.steps_k - 1) % RING_STAGES);
        finish<T>(sums, p, staged, s, tile, rows);
        count += 2 * s.steps_k;
    }
}

#endif

template <typename T>
static __global__ void __launch_bounds__(THREADS, 1)
    linear_gelu_back_kernel(const __grid_constant__ CUtensorMap in,
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
static int launch(void *d, void *activated, const void *before, const void *d_out,
                  const emb_cuda_linear *linear, const emb_cuda_batch *batch,
                  const emb_cuda_device *device, cudaStream_t stream) {
    product<T> p = {(T *)d,        (T *)activated, (const T *)before,
                    batch->counts, linear->rows,   linear->cols};
    return emb_pairs_launch<ring, TILE_K>(linear_gelu_back_kernel<T>, p, d_out, linear->weight,
                                          linear->rows, linear->cols, linear->type, BYTES, batch,
                                          device, stream);
}

int emb_cuda_linear_gelu_back_wgmma(void *d, void *activated, const void *before, const void *d_out,
                                    const emb_cuda_linear *linear, const emb_cuda_batch *batch,
                                    const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (linear->rows % 8 || linear->cols % 8 || !linear->rows || !linear->cols) {
        return cudaErrorInvalidValue;
    }
    if (linear->type == EMB_DTYPE_F16) {
        return launch<emb_f16>(d, activated, before, d_out, linear, batch, device, s);
    }
    if (linear->type == EMB_DTYPE_BF16) {
        return launch<emb_bf16>(d, activated, before, d_out, linear, batch, device, s);
    }
    return cudaErrorNotSupported;
}
