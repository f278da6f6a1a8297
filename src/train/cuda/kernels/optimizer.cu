/* optimizer.cu - one step of AdamW, with moments in f32 or in 8 bits, or of SGD; sums.
 *
 * The formulas are those of train/cpu/ref.c. Moments of 8 bits are updated by one warp per block of
 * EMB_TRAIN_BLOCK values, eight values a lane.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define THREADS 256
#define WARPS   (THREADS / 32)
/* Blocks that walk an array of any length: enough for the largest cards. */
#define BLOCKS_MAX 8192

static const emb_cuda_batch none = {}; /* these kernels are launched after all before them */

static dim3 blocks_for(uint64_t items) {
    uint64_t blocks = (items + THREADS - 1) / THREADS;
    return dim3((uint32_t)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX));
}

/* ---- AdamW ----------------------------------------------------------------------------------- */

static __device__ __forceinline__ void adamw(float &value, float &m, float &v, float gradient,
                                             const emb_adamw &s) {
    float g = gradient * s.factor;
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    value = value * s.keep - s.rate * m / (sqrtf(v) * s.spread + s.epsilon);
}

static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(float *values, float *m, float *v, const float *gradients, uint64_t count,
                 emb_adamw step) {
    emb_kernel_begin();
    uint64_t index = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    uint64_t apart = (uint64_t)gridDim.x * THREADS, fours = count / 4;
    for (uint64_t i = index; i < fours; i += apart) {
        float4 value = reinterpret_cast<float4 *>(values)[i];
        float4 first = reinterpret_cast<float4 *>(m)[i], second = reinterpret_cast<float4 *>(v)[i];
        float4 gradient = reinterpret_cast<const float4 *>(gradients)[i];
        adamw(value.x, first.x, second.x, gradient.x, step);
        adamw(value.y, first.y, second.y, gradient.y, step);
        adamw(value.z, first.z, second.z, gradient.z, step);
        adamw(value.w, first.w, second.w, gradient.w, step);
        reinterpret_cast<float4 *>(values)[i] = value;
        reinterpret_cast<float4 *>(m)[i] = first;
        reinterpret_cast<float4 *>(v)[i] = second;
    }
    uint64_t rest = 4 * fours + index;
    if (rest < count) adamw(values[rest], m[rest], v[rest], gradients[rest], step);
}

int emb_cuda_train_adamw(float *values, float *m, float *v, const float *gradients, uint64_t count,
                         const emb_adamw *step, void *stream) {
    if (!count) return 0;
    return emb_launch(adamw_kernel, blocks_for((count + 3) / 4), THREADS, 0, &none,
                      (cudaStream_t)stream, values, m, v, gradients, count, *step);
}

static __global__ void __launch_bounds__(THREADS)
    sgd_kernel(float *values, float *m, const float *gradients, uint64_t count, emb_sgd step) {
    emb_kernel_begin();
    uint64_t apart = (uint64_t)gridDim.x * THREADS;
    for (uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += apart) {
        float g = gradients[i] * step.factor + step.decay * values[i];
        if (m) {
            float first = m[i] = step.momentum * m[i] + g;
            g = step.nesterov ? g + step.momentum * first : first;
        }
        values[i] -= step.rate * g;
    }
}

int emb_cuda_train_sgd(float *values, float *m, const float *gradients, uint64_t count,
                       const emb_sgd *step, void *stream) {
    if (!count) return 0;
    return emb_launch(sgd_kernel, blocks_for((count + 3) / 4), THREADS, 0, &none,
                      (cudaStream_t)stream, values, m, gradients, count, *step);
}

/* ---- moments in 8 bits ----------------------------------------------------------------------- */

static __device__ __forceinline__ float warp_most(float v) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v = fmaxf(v, __shfl_xor_sync(EMB_FULL_WARP, v, step));
    }
    return v;
}

/* Eight codes of each moment. */
union eight_codes {
    uint2 raw;
    int8_t m[8];
    uint8_t v[8];
};

static __device__ __forceinline__ void decode(float (&first)[8], float (&second)[8], eight_codes m,
                                              eight_codes v, float2 scales) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float a = (float)m.m[i] / 127, b = (float)v.v[i] / 255;
        first[i] = scales.x * a * fabsf(a) * (a * a);
        second[i] = scales.y * (b * b) * (b * b);
    }
}

static __device__ __forceinline__ void encode(eight_codes &m, eight_codes &v,
                                              const float (&first)[8], const float (&second)[8],
                                              float2 most) {
    float to_m = most.x > 0 ? 1 / most.x : 0, to_v = most.y > 0 ? 1 / most.y : 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float a = sqrtf(sqrtf(fabsf(first[i]) * to_m)) * 127;
        m.m[i] = (int8_t)rintf(copysignf(a, first[i]));
        /* to the nearest: upwards the moments would grow with every step. But never 0, which would
         * make the next step huge */
        v.v[i] = (uint8_t)fmaxf(rintf(sqrtf(sqrtf(second[i] * to_v)) * 255), 1.0f);
    }
}

static __global__ void __launch_bounds__(THREADS)
    adamw8_kernel(float *values, int8_t *m, uint8_t *v, float *scales, const float *gradients,
                  uint64_t blocks, emb_adamw step) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31;
    for (uint64_t block = (uint64_t)blockIdx.x * WARPS + (threadIdx.x >> 5); block < blocks;
         block += (uint64_t)gridDim.x * WARPS) {
        uint64_t at = block * EMB_TRAIN_BLOCK + lane * 8;
        float first[8], second[8], value[8], gradient[8];
        eight_codes codes_m, codes_v;
        codes_m.raw = *reinterpret_cast<const uint2 *>(m + at);
        codes_v.raw = *reinterpret_cast<const uint2 *>(v + at);
        emb_load8(value, values + at);
        emb_load8(gradient, gradients + at);
        float2 *scale = reinterpret_cast<float2 *>(scales) + block, most = make_float2(0, 0);
        decode(first, second, codes_m, codes_v, *scale);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            adamw(value[i], first[i], second[i], gradient[i], step);
            most.x = fmaxf(most.x, fabsf(first[i]));
            most.y = fmaxf(most.y, second[i]);
        }
        most = make_float2(warp_most(most.x), warp_most(most.y));
        encode(codes_m, codes_v, first, second, most);
        emb_store8(values + at, value);
        *reinterpret_cast<uint2 *>(m + at) = codes_m.raw;
        *reinterpret_cast<uint2 *>(v + at) = codes_v.raw;
        __syncwarp(); /* all lanes have read the scales */
        if (lane == 0) *scale = most;
    }
}

int emb_cuda_train_adamw8(float *values, int8_t *m, uint8_t *v, float *scales,
                          const float *gradients, uint64_t count, const emb_adamw *step,
                          void *stream) {
    if (count % EMB_TRAIN_BLOCK) return cudaErrorInvalidValue;
    if (!count) return 0;
    return emb_launch(adamw8_kernel, blocks_for(count / 8), THREADS, 0, &none, (cudaStream_t)stream,
                      values, m, v, scales, gradients, count / EMB_TRAIN_BLOCK, *step);
}

/* ---- the length of all gradients ------------------------------------------------------------- */

/* Sum over the block in a fixed order, for thread 0. */
template <int COUNT> static __device__ double block_sum(double value) {
    __shared__ double sums[COUNT];
    sums[threadIdx.x] = value;
    for (uint32_t half = COUNT / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return sums[0];
}

/* Squares of four values are summed in f32, all else in f64. */
static __global__ void __launch_bounds__(THREADS)
    squares_kernel(double *partials, const float *values, uint64_t count) {
    emb_kernel_begin();
    uint64_t index = (uint64_t)blockIdx.x * THREADS + threadIdx.x, fours = count / 4;
    const uint64_t apart = (uint64_t)EMB_CUDA_TRAIN_PARTIALS * THREADS;
    double sum = 0;
#pragma unroll 4
    for (uint64_t i = index; i < fours; i += apart) {
        float4 x = reinterpret_cast<const float4 *>(values)[i];
        sum += (double)(x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w));
    }
    uint64_t rest = 4 * fours + index;
    if (rest < count) sum += (double)(values[rest] * values[rest]);
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(EMB_CUDA_TRAIN_PARTIALS)
    partials_kernel(double *out, const double *partials) {
    emb_kernel_begin();
    double sum = block_sum<EMB_CUDA_TRAIN_PARTIALS>(partials[threadIdx.x]);
    if (threadIdx.x == 0) *out = sum;
}

int emb_cuda_train_square_sum(double *out, double *partials, const float *values, uint64_t count,
                              void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = emb_launch(squares_kernel, dim3(EMB_CUDA_TRAIN_PARTIALS), THREADS, 0, &none, s,
                            partials, values, count);
    if (status) return status;
    return emb_launch(partials_kernel, dim3(1), EMB_CUDA_TRAIN_PARTIALS, 0, &none, s, out,
                      partials);
}

static __global__ void __launch_bounds__(EMB_CUDA_TRAIN_PARTIALS)
    sum_kernel(double *out, const float *values, uint32_t count) {
    emb_kernel_begin();
    double sum = 0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < count; i += EMB_CUDA_TRAIN_PARTIALS) sum += values[i];
    sum = block_sum<EMB_CUDA_TRAIN_PARTIALS>(sum);
    if (threadIdx.x == 0) *out = sum;
}

int emb_cuda_train_sum(double *out, const float *values, uint32_t count, void *stream) {
    return emb_launch(sum_kernel, dim3(1), EMB_CUDA_TRAIN_PARTIALS, 0, &none, (cudaStream_t)stream,
                      out, values, count);
}
