/* gradients.cu - d_weight += d_out^T * in and d_bias += column sums: chooses the kernel for the
 * device and the parts for the shape, then adds the partials that it left, in order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/gradients.cuh"

#define THREADS   256
#define BIAS_ROWS 32
#define AHEAD     8 /* partials of a sum that are loaded before the first is added */

/* ---- the partials of a tile ------------------------------------------------------------------ */

static __device__ __forceinline__ float4 sum_of(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* Adds a warp's fragment of one part, the `fragment`th of it. */
static __device__ __forceinline__ void add_weights(const emb_gradient_plan &p,
                                                   const emb_gradient_split &s, uint32_t part,
                                                   uint32_t fragment) {
    uint32_t parts = p.parts(), tile = part / parts, fragments_n = p.part_n / 8;
    emb_gradient_place at = emb_gradient_place_of(p, s, 0, {tile, 0, s.steps}, part % parts);
    uint32_t m = at.m + fragment / fragments_n * 16, n = at.n + fragment % fragments_n * 8;
    uint32_t first = emb_gradient_worker(s, tile * s.steps);
    uint32_t last = emb_gradient_worker(s, (tile + 1) * s.steps - 1);
    if (m >= p.rows || n >= p.cols || first == last) return; /* one worker added it itself */
    const float4 *from = reinterpret_cast<const float4 *>(p.sums) + fragment * 32;
    uint64_t size = p.part_m * p.part_n / 4;
    float4 sum = make_float4(0, 0, 0, 0);
    from += part % parts * size + (threadIdx.x & 31);
    for (uint32_t w = first; w <= last; w += AHEAD) {
        float4 next[AHEAD];
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            next[i] = make_float4(0, 0, 0, 0);
            if (w + i > last) continue;
            next[i] = from[emb_gradient_slot(p, s, w + i, tile) * parts * size];
        }
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) sum = sum_of(sum, next[i]);
    }
    emb_gradient_add(p, m, n, sum);
}

/* Adds BIAS_ROWS sums of columns. A warp takes every eighth of a tile's partials, of all the tiles
 * beside one another. */
static __device__ __forceinline__ void add_bias(const emb_gradient_plan &p,
                                                const emb_gradient_split &s, uint32_t block) {
    __shared__ float sums[THREADS / 32][BIAS_ROWS];
    uint32_t lane = threadIdx.x & 31, warp = threadIdx.x / 32, row = block * BIAS_ROWS + lane;
    uint32_t tiles_n = p.tiles_n(), tile = row / (p.part_m * p.parts_m) * tiles_n;
    uint32_t part = row / p.part_m % p.parts_m * p.parts_n;
    uint64_t part_at = (uint64_t)part * p.part_m + row % p.part_m;
    float sum = 0;
    for (uint32_t n = 0; n < tiles_n; n++, tile++) {
        uint32_t last = emb_gradient_worker(s, (tile + 1) * s.steps - 1);
        uint32_t w = emb_gradient_worker(s, tile * s.steps) + warp;
        for (; w <= last; w += THREADS / 32) {
            const float *from = p.bias + (uint64_t)(w + tile) * p.parts() * p.part_m + part_at;
            sum += *from;
            if (p.parts_n > 1) sum += from[p.part_m];
        }
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp || row >= p.rows) return;
    for (uint32_t i = 1; i < THREADS / 32; i++) sum += sums[i][lane];
    p.d_bias[row] += sum;
}

static __global__ void __launch_bounds__(THREADS)
    add_kernel(emb_gradient_plan p, const uint32_t *counts, uint32_t bias_blocks) {
    emb_kernel_begin();
    emb_gradient_split s = emb_gradient_divide(p, counts[0]);
    if (s.units == 0) return;
    if (blockIdx.x < bias_blocks) { /* they take longest */
        add_bias(p, s, blockIdx.x);
        return;
    }
    uint32_t fragments = p.part_m * p.part_n / 128;
    uint32_t warp = (blockIdx.x - bias_blocks) * (THREADS / 32) + threadIdx.x / 32;
    add_weights(p, s, warp / fragments, warp % fragments);
}

/* ---- host ------------------------------------------------------------------------------------ */

/* A plan for Hopper with parts of this height: beside one another, but where less of the tiles lies
 * outside the weight if they are above one another. */
static emb_gradient_plan pair_plan(uint32_t rows, uint32_t cols, uint32_t part_m,
                                   const emb_cuda_device *device) {
    emb_gradient_plan beside = {rows, cols, part_m, 192, 1, 2, 64}, above = beside;
    above.parts_m = 2, above.parts_n = 1;
    beside.workers_max = above.workers_max = device->multiprocessors / 2;
    return above.tiles() < beside.tiles() ? above : beside;
}

static bool divides_evenly(const emb_gradient_plan &p) {
    uint32_t most = p.workers_max / p.tiles() * p.tiles();
    return emb_gradient_even(most, p.workers_max);
}

/* The plan but for its pointers. But for the number of partials it depends on the shape alone, so
 * the bits do not depend on tokens_max. Low parts leave less to add, high ones need less bandwidth:
 * seen with `check_gradients bench`. */
static emb_gradient_plan plan_of(uint32_t rows, uint32_t cols, uint32_t tokens_max,
                                 const emb_cuda_device *device) {
    emb_gradient_plan p = {rows, cols, 128, 128, 1, 1, 32};
    p.workers_max = device->multiprocessors * 2;
    if (device->capability == 90) {
        emb_gradient_plan high = pair_plan(rows, cols, 192, device);
        p = pair_plan(rows, cols, 128, device);
        bool few = high.tiles() <= high.workers_max / 2; /* else high parts need most memory */
        if (few && !divides_evenly(p) && divides_evenly(high)) p = high;
    }
    /* as many as fewer tokens can have, too */
    uint64_t units = (uint64_t)p.tiles() * ((tokens_max + p.step - 1) / p.step);
    uint64_t most = (uint64_t)sqrt(7.0 * (double)units) + p.tiles();
    if (most > units) most = units;
    if (most < p.workers_max) p.workers_max = (uint32_t)most;
    return p;
}

static uint64_t sums_of(const emb_gradient_plan &p) {
    return (uint64_t)p.slots() * p.parts() * p.part_m * p.part_n;
}

uint64_t emb_cuda_train_gradients_bytes(uint32_t rows, uint32_t cols, uint32_t tokens_max,
                                        const emb_cuda_device *device) {
    emb_gradient_plan p = plan_of(rows, cols, tokens_max, device);
    return 4 * (sums_of(p) + (uint64_t)(p.workers_max + p.tiles()) * p.parts() * p.part_m);
}

int emb_cuda_gradients_planned(const emb_gradient_plan &plan, const void *d_out, const void *in,
                               const emb_cuda_batch *batch, emb_dtype type,
                               const emb_cuda_device *device, cudaStream_t stream) {
    int status = device->capability == 90
                     ? emb_cuda_gradients_wgmma(plan, d_out, in, batch, type, stream)
                     : emb_cuda_gradients_mma(plan, d_out, in, batch, type, stream);
    if (status) return status;
    uint32_t bias_blocks = plan.d_bias ? (plan.rows + BIAS_ROWS - 1) / BIAS_ROWS : 0;
    uint32_t fragments = plan.tiles() * plan.parts() * (plan.part_m * plan.part_n / 128);
    return emb_launch(add_kernel, dim3(bias_blocks + fragments / (THREADS / 32)), THREADS, 0, batch,
                      stream, plan, batch->counts, bias_blocks);
}

int emb_cuda_train_gradients(float *d_weight, float *d_bias, const void *d_out, const void *in,
                             uint32_t rows, uint32_t cols, float *partials,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream) {
    if (rows % 8 || cols % 8 || !rows || !cols) return cudaErrorInvalidValue;
    if (type != EMB_DTYPE_F16 && (type != EMB_DTYPE_BF16 || device->capability < 80)) {
        return cudaErrorNotSupported;
    }
    emb_gradient_plan p = plan_of(rows, cols, batch->tokens_max, device);
    uint64_t units = (uint64_t)p.tiles() * ((batch->tokens_max + p.step - 1) / p.step);
    if (!units) return 0;
    if ((units + 1) * p.workers_max > UINT32_MAX) return cudaErrorInvalidValue;
    p.d_weight = d_weight, p.d_bias = d_bias;
    p.sums = partials, p.bias = partials + sums_of(p);
    return emb_cuda_gradients_planned(p, d_out, in, batch, type, device, (cudaStream_t)stream);
}
