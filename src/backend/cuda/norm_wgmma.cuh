/* norm_wgmma.cuh - a row's sums for a norm, from where warpgroup products leave its values.
 *
 * Feeds linear_norm_wgmma.cu, which adds in the order of emb_norm_tree; sm_90a. A thread holds two
 * values of each group of eight columns, in two rows; its quad holds the groups.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_NORM_WGMMA_CUH
#define EMB_BACKEND_CUDA_NORM_WGMMA_CUH

#include "backend/cuda/linear_wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Adds what a row's four threads hold. */
static __device__ __forceinline__ float emb_quad_sum(float v) {
    v += __shfl_xor_sync(EMB_FULL_WARP, v, 1);
    return v + __shfl_xor_sync(EMB_FULL_WARP, v, 2);
}

/* What stands before and after is not mixed: a wait that is over long since, but whose loop the
 * compiler moves nothing across. It would fetch all at once, for which there are no registers. */
static __device__ __forceinline__ void emb_keep_apart(uint32_t loaded, uint32_t phase) {
    emb_barrier_wait(loaded, phase);
}

/* This thread's part of two rows' sums, while groups of 16 columns come in order. */
struct emb_row_sums {
    float total[2], four[2], two[2];
};

/* Adds columns [16 n, 16 n + 16): `pairs` are sums of two, upper and lower row of the first eight
 * columns, then of the second. */
static __device__ __forceinline__ void emb_row_sums_add(emb_row_sums &s, int n,
                                                        const float (&pairs)[4]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = pairs[i] + pairs[i + 2];
        sum = n % 2 ? s.two[i] + sum : sum;
        s.two[i] = sum;
        if (n % 4 == 1) s.four[i] = sum;
        if (n % 4 == 3) sum = s.four[i] + sum, s.total[i] = n < 4 ? sum : s.total[i] + sum;
    }
}

/* Mean of 192 columns of one row and the sum of squares about it; `sum` is this thread's part of
 * the row's sum and `v` its first value. */
static __device__ __forceinline__ float2 emb_judge_row(float sum, const float *v) {
    float mean = __fmul_rn(emb_quad_sum(sum), 1.0f / EMB_NORM_BLOCK);
    return make_float2(mean, emb_quad_sum(emb_norm_tree([&](int j) {
                           float first = v[4 * j] - mean, second = v[4 * j + 1] - mean;
                           return fmaf(second, second, __fmul_rn(first, first));
                       })));
}

#endif

#endif
