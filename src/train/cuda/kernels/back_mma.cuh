/* back_mma.cuh - the products of the attention's backward pass by warps, sm_80 and up.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_BACK_MMA_CUH
#define EMB_TRAIN_CUDA_KERNELS_BACK_MMA_CUH

#include "train/cuda/kernels/back.cuh"

struct emb_back_mma {
#if __CUDA_ARCH__ >= 800
    static constexpr bool RUNS = true;
#else
    static constexpr bool RUNS = false;
#endif
    static constexpr int STEP = 16; /* rows walked at a time */
    static constexpr int PAD = 16;  /* rows of tiles are zeros to a multiple of it */

    /* A warp's 16 rows of two tiles, as left operands: held in registers, or read again. */
    template <int D> struct operands {
        static constexpr bool HELD = D == 32;
        uint32_t held[2][HELD ? D / 16 : 1][4], tiles[2], row;

        __device__ __forceinline__ void load(uint32_t (&a)[4], int which, int d) const {
            uint32_t lane = threadIdx.x & 31;
            emb_ldmatrix(a,
                         tiles[which] + emb_swizzle<D / 8>(row + (lane & 15), 2 * d + (lane >> 4)));
        }
        __device__ __forceinline__ void take(uint32_t tile, uint32_t other, uint32_t warp_row) {
            tiles[0] = tile, tiles[1] = other, row = warp_row;
            if constexpr (HELD) {
#pragma unroll
                for (int i = 0; i < 2 * D / 16; i++) load(held[i & 1][i / 2], i & 1, i / 2);
            }
        }
        __device__ __forceinline__ void read(uint32_t (&a)[4], int which, int d) const {
            if constexpr (HELD) {
#pragma unroll
                for (int i = 0; i < 4; i++) a[i] = held[which][d][i];
            } else {
                load(a, which, d);
            }
        }
    };

    template <typename T, int D>
    static __device__ __forceinline__ void multiply_one(float (&sums)[2][4], const operands<D> &own,
                                                        int which, uint32_t tile, uint32_t row) {
        uint32_t lane = threadIdx.x & 31;
        row += ((lane >> 4) << 3) + (lane & 7);
#pragma unroll
        for (int i = 0; i < 4; i++) sums[0][i] = sums[1][i] = 0;
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t a[4], b[4];
            own.read(a, which, d);
            emb_ldmatrix(b, tile + emb_swizzle<D / 8>(row, 2 * d + ((lane >> 3) & 1)));
            emb_mma<T>(sums[0], a, b[0], b[1]);
            emb_mma<T>(sums[1], a, b[2], b[3]);
        }
    }

    /* scores [16, STEP] = own rows of the first tile * rows of `tile`^T from `row` on; gradients
     * likewise, of the second and `other`. */
    template <typename T, int D>
    static __device__ __forceinline__ void multiply(float (&scores)[2][4], float (&gradients)[2][4],
                                                    const operands<D> &own, uint32_t tile,
                                                    uint32_t other, uint32_t row) {
        multiply_one<T, D>(scores, own, 0, tile, row);
        multiply_one<T, D>(gradients, own, 1, other, row);
    }

    /* sums [16, D] += a [16, STEP] * rows [STEP, D] of a tile from `row` on. */
    template <typename T, int D>
    static __device__ __forceinline__ void add(float (&sums)[D / 8][4], const uint32_t (&a)[1][4],
                                               uint32_t tile, uint32_t row) {
        uint32_t lane = threadIdx.x & 31;
        row += lane & 15;
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t b[4];
            emb_ldmatrix_transposed(b, tile + emb_swizzle<D / 8>(row, 2 * d + (lane >> 4)));
            emb_mma<T>(sums[2 * d], a[0], b[0], b[1]);
            emb_mma<T>(sums[2 * d + 1], a[0], b[2], b[3]);
        }
    }
    /* What `add` began is there. */
    template <int COUNT> static __device__ __forceinline__ void added(float (&)[COUNT][4]) {}

    /* The warps, here the lanes of one, that read one another's rows are done with them. */
    static __device__ __forceinline__ void barrier() {
        __syncwarp();
    }

    /* After a thread's copies, before the barrier that precedes the products. */
    static __device__ __forceinline__ void publish() {}
};

#endif
