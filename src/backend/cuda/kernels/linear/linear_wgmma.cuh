/* linear_wgmma.cuh - what the persistent products on Hopper share: a ring of stages filled by
 * tensor copies for a whole cluster, and one warpgroup's product of a tile from it.
 *
 * Feeds linear_wgmma.cu, linear_norm_wgmma.cu and quantized_wgmma.cu; sm_90a.
 * Legend: M tokens, N rows of W, K columns of W; tile 128 x 192, K in stages of 128 bytes: 64
 * values, or 128 codes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_LINEAR_LINEAR_WGMMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_LINEAR_LINEAR_WGMMA_CUH

#include "backend/cuda/kernels/wgmma.cuh"

#define TILE_M       128
#define TILE_N       EMB_WGMMA_COLS
#define TILE_K       64
#define THREADS      384
#define IN_BYTES     (TILE_M * TILE_K * 2)
#define WEIGHT_BYTES (TILE_N * TILE_K * 2)
#define STAGE_BYTES  (IN_BYTES + WEIGHT_BYTES)

/* STAGES stages from the start of shared memory, each a tile of the input and one of W; barriers
 * from BARRIERS_AT. The cluster's ROWS x COLS blocks compute neighbouring tiles: block (r, c) loads
 * the c-th share of the input for all of row r, and the r-th share of W for all of column c. So its
 * stage is free for others' shares when all blocks of its row and its column are done with it. */
template <int STAGES_, int ROWS_, int COLS_, int BARRIERS_AT> struct emb_ring {
    static constexpr int STAGES = STAGES_, ROWS = ROWS_, COLS = COLS_, BLOCKS = ROWS * COLS;
    static constexpr int FULL_AT = BARRIERS_AT, EMPTY_AT = FULL_AT + STAGES * 8;
    static constexpr int END = EMPTY_AT + STAGES * 8;
    static constexpr int IN_SHARE = TILE_M / COLS, WEIGHT_SHARE = TILE_N / ROWS; /* rows */
};

template <typename RING> static __device__ __forceinline__ void emb_ring_init(uint32_t base) {
    for (uint32_t i = 0; i < RING::STAGES; i++) {
        emb_barrier_init(base + RING::FULL_AT + i * 8, 1);
        emb_barrier_init(base + RING::EMPTY_AT + i * 8, RING::ROWS + RING::COLS - 1);
    }
}

/* The loader's position in the ring. */
struct emb_ring_place {
    uint32_t stage, phase;
};

/* Starts the copies of this block's shares of the next stage; the tile of the input begins at
 * `row`, that of W at `weight_row`. */
template <typename RING>
static __device__ __forceinline__ void
emb_ring_load(uint32_t base, emb_ring_place &place, const CUtensorMap *in,
              const CUtensorMap *weight, int col, int row, int weight_row) {
    uint32_t rank = emb_cluster_rank(), r = rank / RING::COLS, c = rank % RING::COLS;
    uint32_t at = base + place.stage * STAGE_BYTES, full = base + RING::FULL_AT + place.stage * 8;
    uint32_t in_at = at + c * RING::IN_SHARE * 128;
    uint32_t weight_at = at + IN_BYTES + r * RING::WEIGHT_SHARE * 128;
    row += (int)(c * RING::IN_SHARE), weight_row += (int)(r * RING::WEIGHT_SHARE);
    emb_barrier_wait(base + RING::EMPTY_AT + place.stage * 8, place.phase);
    emb_barrier_expect(full, STAGE_BYTES);
    if (RING::COLS == 1) {
        emb_tensor_load(in_at, in, col, row, full);
    } else {
        uint16_t mask = (uint16_t)(((1 << RING::COLS) - 1) << (r * RING::COLS));
        emb_tensor_share(in_at, in, col, row, full, mask);
    }
    if (RING::ROWS == 1) {
        emb_tensor_load(weight_at, weight, col, weight_row, full);
    } else {
        uint16_t mask = (uint16_t)((1 | 1 << RING::COLS) << c); /* two rows */
        emb_tensor_share(weight_at, weight, col, weight_row, full, mask);
    }
    if (++place.stage == RING::STAGES) place.stage = 0, place.phase ^= 1;
}

/* Signals the loaders of this block's row and column that this warpgroup is done with a stage. */
template <typename RING>
static __device__ __forceinline__ void emb_ring_release(uint32_t base, uint32_t stage) {
    static_assert(RING::ROWS <= 2, "at most one more block in a column");
    uint32_t thread = threadIdx.x % 128;
    if (thread >= RING::ROWS + RING::COLS - 1) return;
    uint32_t rank = RING::ROWS == 1 ? 0 : emb_cluster_rank();
    uint32_t mate = (rank + RING::COLS) % RING::BLOCKS; /* the other of the column */
    uint32_t to = thread < RING::COLS ? rank / RING::COLS * RING::COLS + thread : mate;
    emb_barrier_arrive(base + RING::EMPTY_AT + stage * 8, to);
}

/* sums = one tile's product; `place` counts stages from the first tile of the block. The last
 * stage is neither waited for nor released. */
template <typename T, typename RING, typename S>
static __device__ __forceinline__ void
emb_ring_multiply(S (&sums)[2][EMB_WGMMA_SUMS], uint32_t base, uint32_t steps, uint32_t place) {
    uint32_t stage = place % RING::STAGES, phase = place / RING::STAGES & 1;
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t at = base + stage * STAGE_BYTES;
        emb_barrier_wait(base + RING::FULL_AT + stage * 8, phase);
        uint64_t a = emb_wgmma_operand(at), b = emb_wgmma_operand(at + IN_BYTES);
        emb_wgmma_fence();
#pragma unroll
        for (int i = 0; i < TILE_K / 16; i++) {
            emb_wgmma<T>(sums[0], a + 2 * i, b + 2 * i, k + i > 0);
            emb_wgmma<T>(sums[1], a + 2 * i + (64 * 128 >> 4), b + 2 * i, k + i > 0);
        }
        emb_wgmma_commit();
        emb_wgmma_wait<1>();
        if (k) emb_ring_release<RING>(base, stage ? stage - 1 : RING::STAGES - 1);
        if (++stage == RING::STAGES) stage = 0, phase ^= 1;
    }
}

#endif
