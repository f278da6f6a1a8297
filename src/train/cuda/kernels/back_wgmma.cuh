/* back_wgmma.cuh - the products of the attention's backward pass by warpgroups, sm_90a: as
 * back_mma.cuh, 64 rows at a time, with operands that the tensor cores read from shared memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_BACK_WGMMA_CUH
#define EMB_TRAIN_CUDA_KERNELS_BACK_WGMMA_CUH

#include "backend/cuda/kernels/wgmma.cuh"
#include "train/cuda/kernels/back.cuh"

struct emb_back_wgmma {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static constexpr bool RUNS = true;
#else
    static constexpr bool RUNS = false;
#endif
    static constexpr int STEP = 32, PAD = 64;

    /* The 64 rows of the warp's warpgroup. */
    template <int D> struct operands {
        uint64_t first, second;

        __device__ __forceinline__ void take(uint32_t tile, uint32_t other, uint32_t warp_row) {
            uint32_t at = (warp_row & ~63u) * D * 2;
            first = emb_wgmma_operand<D>(tile + at), second = emb_wgmma_operand<D>(other + at);
        }
    };

    template <typename T, int D>
    static __device__ __forceinline__ void multiply(float (&scores)[4][4], float (&gradients)[4][4],
                                                    const operands<D> &own, uint32_t tile,
                                                    uint32_t other, uint32_t row) {
        uint64_t b = emb_wgmma_operand<D>(tile + row * D * 2);
        uint64_t c = emb_wgmma_operand<D>(other + row * D * 2);
        emb_wgmma_fence();
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            emb_wgmma_scores<T>(scores, own.first + 2 * d, b + 2 * d, d > 0);
        }
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            emb_wgmma_scores<T>(gradients, own.second + 2 * d, c + 2 * d, d > 0);
        }
        emb_wgmma_commit();
        emb_wgmma_wait<0>();
        emb_wgmma_done(scores);
        emb_wgmma_done(gradients);
    }

    template <typename T, int D, int COUNT>
    static __device__ __forceinline__ void
    add(float (&sums)[D / 8][4], const uint32_t (&a)[COUNT][4], uint32_t tile, uint32_t row) {
        uint64_t b = emb_wgmma_operand<D>(tile + row * D * 2);
        emb_wgmma_fence();
#pragma unroll
        for (int n = 0; n < COUNT; n++) emb_wgmma_values<T>(sums, a[n], b + n * 2 * D);
        emb_wgmma_commit();
    }
    template <int COUNT> static __device__ __forceinline__ void added(float (&sums)[COUNT][4]) {
        emb_wgmma_wait<0>();
        emb_wgmma_done(sums);
    }

    static __device__ __forceinline__ void barrier() {
        __syncthreads();
    }

    static __device__ __forceinline__ void publish() {
        emb_shared_publish();
    }
};

#endif
