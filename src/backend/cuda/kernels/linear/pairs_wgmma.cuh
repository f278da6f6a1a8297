/* pairs_wgmma.cuh - the walk of products by pairs of blocks on Hopper, whatever ends a tile.
 *
 * Persistent blocks in pairs: both take the same columns, each its own 128 tokens, and each loads
 * half of W's tile for both. One warp loads; two warpgroups compute whole tiles in turn, so that
 * one finishes while the other multiplies. Feeds linear_wgmma.cu and quantized_wgmma.cu; sm_90a.
 * Legend: M tokens, N rows of W, K columns of W; RING with COLS of 1; STAGE_K values of K a stage.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_LINEAR_PAIRS_WGMMA_CUH
#define EMB_BACKEND_CUDA_KERNELS_LINEAR_PAIRS_WGMMA_CUH

#include "backend/cuda/kernels/linear/linear_wgmma.cuh"

#define PAIR       2 /* blocks above one another */
#define STAGES     5
#define OUT_COLS   64             /* columns of 16 bits that a warp stages at once */
#define OUT_STRIDE (OUT_COLS + 8) /* values */
#define OUT_BYTES  (16 * OUT_STRIDE * 2)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* The tiles of a pair of blocks: `first`, `first` + `step`, ... below `count`. */
struct emb_pairs_schedule {
    uint32_t first, step, count, tiles_n, steps_k, rank;
};

template <typename RING, int STAGE_K>
static __device__ __forceinline__ void emb_pairs_load(uint32_t base, const emb_pairs_schedule &s,
                                                      const CUtensorMap *in,
                                                      const CUtensorMap *weight) {
    emb_ring_place place = {0, 1}; /* the first wait on an empty stage passes at once */
    for (uint32_t tile = s.first; tile < s.count; tile += s.step) {
        int row = (int)((tile / s.tiles_n * PAIR + s.rank) * TILE_M);
        for (uint32_t k = 0; k < s.steps_k; k++) {
            emb_ring_load<RING>(base, place, in, weight, (int)(k * STAGE_K), row,
                                (int)(tile % s.tiles_n * TILE_N));
        }
    }
}

/* A warp's 16 staged rows of OUT_COLS values, so that they leave in pieces of 128 bytes. `from` and
 * `out` are this lane's; `row` and `col` count from where left_m rows and left_n columns are. */
template <typename T>
static __device__ __forceinline__ void emb_pairs_store(T *out, uint32_t from, uint32_t N, int row,
                                                       int col, int left_m, int left_n) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 v = emb_shared_load16(from + i * 4 * OUT_STRIDE * 2);
        if (row + i * 4 < left_m && col < left_n) emb_store16(out + (uint64_t)(i * 4) * N + col, v);
    }
    __syncwarp();
}

/* The kernel's inside for M = `rows`: compute(base, schedule, group) is called by each of the two
 * warpgroups that compute. */
template <typename RING, int STAGE_K, typename F>
static __device__ __forceinline__ void emb_pairs_run(const CUtensorMap *in,
                                                     const CUtensorMap *weight, uint32_t rows,
                                                     uint32_t N, uint32_t K, F compute) {
    extern __shared__ unsigned char memory[];
    uint32_t base = (emb_shared(memory) + 1023) & ~1023u;
    uint32_t tiles_n = (N + TILE_N - 1) / TILE_N;
    emb_pairs_schedule s = {blockIdx.x / PAIR,
                            gridDim.x / PAIR,
                            (rows + PAIR * TILE_M - 1) / (PAIR * TILE_M) * tiles_n,
                            tiles_n,
                            (K + STAGE_K - 1) / STAGE_K,
                            emb_cluster_rank()};
    if (threadIdx.x == 0) {
        emb_ring_init<RING>(base);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    emb_cluster_sync();
    emb_kernel_begin();
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) emb_pairs_load<RING, STAGE_K>(base, s, in, weight);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        uint32_t group = threadIdx.x / 128 - 1;
        if (group == 1) emb_turn_give(1, 256); /* the first turn is group 0's */
        compute(base, s, group);
    }
    emb_cluster_sync(); /* no block leaves while another may still reach into it */
}

#endif

/* Launches a kernel of (map of the input, map of W, P) for in [M, cols] and W [rows, cols]. */
template <typename RING, int STAGE_K, typename P>
static int emb_pairs_launch(void (*kernel)(const CUtensorMap, const CUtensorMap, P), const P &p,
                            const void *in, const void *weight, uint32_t rows, uint32_t cols,
                            emb_dtype type, size_t shared_bytes, const emb_cuda_batch *batch,
                            const emb_cuda_device *device, cudaStream_t stream) {
    CUtensorMap in_map, weight_map;
    uint32_t pairs = (batch->tokens_max + PAIR * TILE_M - 1) / (PAIR * TILE_M);
    uint32_t tiles = pairs * ((rows + TILE_N - 1) / TILE_N);
    uint32_t resident = device->multiprocessors / PAIR;
    int status =
        emb_tensor_describe(&in_map, in, batch->tokens_max, cols, RING::IN_SHARE, STAGE_K, type);
    if (!status) {
        status =
            emb_tensor_describe(&weight_map, weight, rows, cols, RING::WEIGHT_SHARE, STAGE_K, type);
    }
    if (status) return status;
    return emb_launch<PAIR>(kernel, dim3((tiles < resident ? tiles : resident) * PAIR), THREADS,
                            shared_bytes, batch, stream, in_map, weight_map, p);
}

#endif
