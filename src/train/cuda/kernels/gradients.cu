/* gradients.cu - d_weight += d_out^T * in and d_bias += column sums: chooses the kernel for the
 * device and the parts for the shape, then adds the partials that it left, in order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/gradients.cuh"

#define THREADS   256
#define BIAS_ROWS 32

/* ---- the partials of a tile ------------------------------------------------------------------ */

static __device__ __forceinline__ float4 sum_of(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* Adds four neighbouring values of one part: the `group`th of it. */
static __device__ __forceinline__ void add_weights(const emb_gradient_plan &p,
                                                   const emb_gradient_split &s, uint32_t part,
                                                   uint32_t group) {
    uint32_t parts = p.parts(), tile = part / parts, size = p.part_m * p.part_n;
    emb_gradient_piece whole = {tile, 0, s.steps};
    emb_gradient_place at = emb_gradient_place_of(p, s, 0, whole, part % parts);
    uint32_t m = at.m + group * 4 / p.part_n, n = at.n + group * 4 % p.part_n;
    uint32_t first = emb_gradient_worker(s, tile * s.steps);
    uint32_t last = emb_gradient_worker(s, (tile + 1) * s.steps - 1);
    if (m >= p.rows || n >= p.cols || first == last) return; /* one worker added it itself */
    float4 *to = reinterpret_cast<float4 *>(p.d_weight + (uint64_t)m * p.cols + n);
    const float *from = p.sums + (uint64_t)(part % parts) * size + group * 4;
    float4 old = *to, sum = make_float4(0, 0, 0, 0);
    for (uint32_t w = first; w <= last; w += 4) {
        float4 next[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            next[i] = make_float4(0, 0, 0, 0);
            if (w + i > last) continue;
            uint64_t slot = emb_gradient_slot(p, s, w + i, tile);
            next[i] = *reinterpret_cast<const float4 *>(from + slot * parts * size);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) sum = sum_of(sum, next[i]);
    }
    *to = sum_of(old, sum);
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
    uint32_t groups = p.part_m * p.part_n / 4 / THREADS, block = blockIdx.x - bias_blocks;
    add_weights(p, s, block / groups, block % groups * THREADS + threadIdx.x);
}

/* ---- host ------------------------------------------------------------------------------------ */

/* The plan but for its pointers. */
static emb_gradient_plan plan_of(uint32_t rows, uint32_t cols, uint32_t tokens_max,
                                 const emb_cuda_device *device) {
    emb_gradient_plan p = {};
    p.rows = rows, p.cols = cols, p.parts_m = p.parts_n = 1;
    if (device->capability == 90) {
        p.part_m = EMB_GRADIENT_WGMMA_M, p.part_n = EMB_GRADIENT_WGMMA_N, p.step = 64;
        p.parts_m = 2, p.workers_max = device->multiprocessors / 2;
        uint32_t above = p.tiles();
        p.parts_m = 1, p.parts_n = 2;
        /* less to load where parts lie above one another */
        if (above <= p.tiles()) p.parts_m = 2, p.parts_n = 1;
    } else {
        p.part_m = EMB_GRADIENT_MMA_M, p.part_n = EMB_GRADIENT_MMA_N, p.step = 32;
        p.workers_max = device->multiprocessors * 2;
    }
    uint32_t most = emb_gradient_divide(p, tokens_max).workers;
    if (most < p.workers_max) p.workers_max = most;
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

int emb_cuda_train_gradients(float *d_weight, float *d_bias, const void *d_out, const void *in,
                             uint32_t rows, uint32_t cols, float *partials,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
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
    int status = device->capability == 90 ? emb_cuda_gradients_wgmma(p, d_out, in, batch, type, s)
                                          : emb_cuda_gradients_mma(p, d_out, in, batch, type, s);
    if (status) return status;
    uint32_t bias_blocks = d_bias ? (rows + BIAS_ROWS - 1) / BIAS_ROWS : 0;
    uint32_t blocks = p.tiles() * p.parts() * (p.part_m * p.part_n / 4 / THREADS);
    return emb_launch(add_kernel, dim3(bias_blocks + blocks), THREADS, 0, batch, s, p,
                      batch->counts, bias_blocks);
}
