/* gradients.cuh - how the gradient of a weight is divided among blocks: the tiles of the weight
 * times the steps over tokens make one row of units, cut in equal pieces whatever tiles they meet.
 *
 * A piece of a tile leaves its sums as a partial; gradients.cu adds a tile's partials in order.
 * Feeds gradients.cu, gradients_mma.cu and gradients_wgmma.cu, which must all agree on it.
 * Legend: M rows of the weight, N its columns; a worker is a block or a pair of blocks, a part what
 * one block has of a worker's tile.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_GRADIENTS_CUH
#define EMB_TRAIN_CUDA_KERNELS_GRADIENTS_CUH

#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/gradients.h"

/* What the division depends on. */
struct emb_gradient_plan {
    uint32_t rows, cols;
    uint32_t part_m, part_n;   /* outputs of a part */
    uint32_t parts_m, parts_n; /* parts of a tile: above one another, beside one another */
    uint32_t step;             /* tokens of a unit */
    uint32_t workers_max;
    float *d_weight, *d_bias;
    float *sums; /* [slots, parts, part_m / 16, part_n / 8, 32, 4]: as products leave them */
    float *bias; /* [workers_max + tiles, parts, part_m] */

    __host__ __device__ uint32_t tiles_m() const {
        return (rows + part_m * parts_m - 1) / (part_m * parts_m);
    }
    __host__ __device__ uint32_t tiles_n() const {
        return (cols + part_n * parts_n - 1) / (part_n * parts_n);
    }
    __host__ __device__ uint32_t tiles() const { return tiles_m() * tiles_n(); }
    __host__ __device__ uint32_t parts() const { return parts_m * parts_n; }
    /* A worker leaves at most two tiles unfinished, its first and its last. */
    __host__ __device__ uint32_t slots() const {
        return tiles() < workers_max ? workers_max + tiles() : 2 * workers_max;
    }
};

/* The division for a number of tokens. */
struct emb_gradient_split {
    uint32_t tiles, steps, units, workers;
};

/* Whether so few more, or fewer, workers pay to have as many for every tile. */
static __host__ __device__ __forceinline__ bool emb_gradient_even(uint32_t even, uint32_t workers) {
    return even * 8 >= workers * 7 && even * 7 <= workers * 8;
}

/* How many workers pay: to write and read a partial costs about a seventh of a unit. With as many
 * workers for every tile none has two, and all are at the same tokens at a time, so that one reads
 * from the L2 what another had read: worth an eighth of the workers. */
static __host__ __device__ __forceinline__ uint32_t emb_gradient_workers(uint32_t tiles,
                                                                         uint32_t units,
                                                                         uint32_t most) {
    uint32_t workers = (uint32_t)sqrtf(7.0f * (float)units);
    if (workers > units) workers = units;
    if (workers > most) workers = most;
    uint32_t even = (workers + tiles / 2) / tiles * tiles;
    if (even > most || even > units) even -= tiles;
    return emb_gradient_even(even, workers) ? even : workers;
}

static __host__ __device__ __forceinline__ emb_gradient_split
emb_gradient_divide(const emb_gradient_plan &p, uint32_t tokens) {
    emb_gradient_split s = {p.tiles(), (tokens + p.step - 1) / p.step, 0, 0};
    s.units = s.tiles * s.steps;
    s.workers = emb_gradient_workers(s.tiles, s.units, p.workers_max);
    return s;
}

/* The first unit of a worker. */
static __device__ __forceinline__ uint32_t emb_gradient_begin(const emb_gradient_split &s,
                                                              uint32_t worker) {
    return worker * s.units / s.workers;
}
/* The worker of a unit. */
static __device__ __forceinline__ uint32_t emb_gradient_worker(const emb_gradient_split &s,
                                                               uint32_t unit) {
    return ((unit + 1) * s.workers - 1) / s.units;
}
/* Where a worker leaves a tile that it does not compute alone. */
static __device__ __forceinline__ uint32_t emb_gradient_slot(const emb_gradient_plan &p,
                                                             const emb_gradient_split &s,
                                                             uint32_t worker, uint32_t tile) {
    if (s.tiles < p.workers_max) return worker + tile;
    return 2 * worker + (tile != emb_gradient_begin(s, worker) / s.steps);
}

/* Steps [first, last) of a tile, from `unit` on, before unit `end`. */
struct emb_gradient_piece {
    uint32_t tile, first, last;
};
static __device__ __forceinline__ emb_gradient_piece
emb_gradient_piece_at(const emb_gradient_split &s, uint32_t unit, uint32_t end) {
    emb_gradient_piece piece = {unit / s.steps, unit % s.steps, 0};
    uint32_t left = s.steps - piece.first;
    piece.last = piece.first + (left < end - unit ? left : end - unit);
    return piece;
}

/* One part of a tile: where its outputs begin, and where its sums go. */
struct emb_gradient_place {
    uint32_t m, n, column; /* column: counts the parts from left to right */
    float *sums;           /* [part_m, part_n]; NULL: added to d_weight */
    float *bias;           /* [part_m] */
};
static __device__ __forceinline__ emb_gradient_place
emb_gradient_place_of(const emb_gradient_plan &p, const emb_gradient_split &s, uint32_t worker,
                      const emb_gradient_piece &piece, uint32_t part) {
    uint32_t tiles_n = p.tiles_n(), column = piece.tile % tiles_n * p.parts_n + part % p.parts_n;
    uint32_t row = piece.tile / tiles_n * p.parts_m + part / p.parts_n;
    uint64_t slot = (uint64_t)emb_gradient_slot(p, s, worker, piece.tile) * p.parts() + part;
    bool whole = piece.first == 0 && piece.last == s.steps;
    return {row * p.part_m, column * p.part_n, column,
            whole ? NULL : p.sums + slot * (p.part_m * p.part_n),
            p.bias + ((uint64_t)(worker + piece.tile) * p.parts() + part) * p.part_m};
}

/* Adds a lane's sums of the fragment, 16 x 8, at row m and column n of the weight to d_weight: two
 * of one row, two of the eighth after it. */
static __device__ __forceinline__ void emb_gradient_add(const emb_gradient_plan &p, uint32_t m,
                                                        uint32_t n, float4 v) {
    m += (threadIdx.x & 31) / 4, n += threadIdx.x % 4 * 2;
    if (n >= p.cols) return;
    float2 *to = reinterpret_cast<float2 *>(p.d_weight + (uint64_t)m * p.cols + n);
    float2 *below = to + (uint64_t)4 * p.cols, old = {}, old_below = {}; /* eight rows */
    if (m < p.rows) old = *to;
    if (m + 8 < p.rows) old_below = *below;
    if (m < p.rows) *to = make_float2(old.x + v.x, old.y + v.y);
    if (m + 8 < p.rows) *below = make_float2(old_below.x + v.z, old_below.y + v.w);
}

/* Leaves a warp's fragment at row m and column n of a part. */
static __device__ __forceinline__ void emb_gradient_store(const emb_gradient_plan &p,
                                                          const emb_gradient_place &at, uint32_t m,
                                                          uint32_t n, float4 v) {
    uint32_t fragment = m / 16 * (p.part_n / 8) + n / 8;
    if (at.sums) {
        reinterpret_cast<float4 *>(at.sums)[fragment * 32 + (threadIdx.x & 31)] = v;
    } else {
        emb_gradient_add(p, at.m + m, at.n + n, v);
    }
}

/* ---- the kernels that leave partials --------------------------------------------------------- */

/* Parts of 128 x 128, one a tile, steps of 32. */
int emb_cuda_gradients_mma(const emb_gradient_plan &plan, const void *d_out, const void *in,
                           const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream);
/* Hopper: parts of 128 or 192 x 192, two a tile, steps of 64. */
int emb_cuda_gradients_wgmma(const emb_gradient_plan &plan, const void *d_out, const void *in,
                             const emb_cuda_batch *batch, emb_dtype type, cudaStream_t stream);

/* The partials of either, and their sums, by this plan; its pointers are set. */
int emb_cuda_gradients_planned(const emb_gradient_plan &plan, const void *d_out, const void *in,
                               const emb_cuda_batch *batch, emb_dtype type,
                               const emb_cuda_device *device, cudaStream_t stream);

#endif
