/* gelu_back.cuh - the gradient of GELU, for gelu_back.cu and linear_gelu_back_wgmma.cu.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_GELU_BACK_CUH
#define EMB_TRAIN_CUDA_KERNELS_GELU_BACK_CUH

#include "backend/cuda/kernels/device.cuh"

/* d *= GELU'(x), x = GELU(x); GELU'(x) = Phi(x) + x * phi(x). */
template <typename T, int COUNT>
static __device__ __forceinline__ void emb_gelu_back(float (&d)[COUNT], float (&x)[COUNT]) {
    if constexpr (sizeof(T) == 4) {
        for (int i = 0; i < COUNT; i++) {
            float density = 0.398942280f * expf(x[i] * x[i] * -0.5f);
            float below = 0.5f * erfcf(x[i] * -0.70710678118654752f);
            d[i] *= fmaf(x[i], density, below);
            x[i] = emb_gelu_exact(x[i]);
        }
    } else {
        float tail[COUNT];
        emb_gelu_tail(tail, x);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float density = 0.398942280f * emb_power2(x[i] * x[i] * -0.721347520f);
            float below = x[i] > 0 ? 1 - tail[i] : tail[i];
            d[i] *= fmaf(x[i], density, below);
            x[i] = fmaf(-fabsf(x[i]), tail[i], fmaxf(x[i], 0.0f));
        }
    }
}

/* emb_cuda_train_linear_gelu_back in one kernel; Hopper, 16-bit types. */
extern "C" int emb_cuda_linear_gelu_back_wgmma(void *d, void *activated, const void *before,
                                               const void *d_out, const emb_cuda_linear *linear,
                                               const emb_cuda_batch *batch,
                                               const emb_cuda_device *device, void *stream);

#endif
