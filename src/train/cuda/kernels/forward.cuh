/* forward.cuh - what training adds to the attention of a forward pass: dropout of the weights, and
 * the logarithms of their sums.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_FORWARD_CUH
#define EMB_TRAIN_CUDA_KERNELS_FORWARD_CUH

#include "backend/cuda/kernels/attention/attention.cuh"
#include "train/cuda/kernels/drop.cuh"

/* For rows lane / 4 and lane / 4 + 8 of a warp's 16; see emb_attention_alone. */
template <bool DROP> struct emb_attention_trained {
    struct params {
        float *log_sums; /* [heads, tokens_max] */
        uint32_t tokens_max;
        emb_drop_rule drop;
    };
    static constexpr int FEWER_MMA = 1, FEWER_WGMMA = DROP;
    float *log_sums;
    uint32_t row; /* in the tile */
    uint2 keys[2];

    __device__ __forceinline__ void begin(const params &p, const uint4 &tile, uint32_t head,
                                          uint32_t warp_row) {
        row = warp_row + ((threadIdx.x & 31) >> 2);
        log_sums = p.log_sums + (uint64_t)head * p.tokens_max + tile.x + tile.z;
        if (!DROP) return;
        uint64_t key = emb_drop_key(p.drop, tile.w, head);
        keys[0] = emb_drop_row(key, tile.z + row);
        keys[1] = emb_drop_row(key, tile.z + row + 8);
    }

    __device__ __forceinline__ void change(const params &p, float (&weights)[KEYS / 8][4],
                                           uint32_t first_key) const {
        if (!DROP) return;
        uint32_t key = first_key + (threadIdx.x & 3) * 2;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                weights[n][i] *= emb_drop_factor(p.drop, keys[i >> 1], key + n * 8 + (i & 1));
            }
        }
    }

    __device__ __forceinline__ void end(const params &, const float (&largest)[2],
                                        const float (&sums)[2], float scale, uint32_t rows) const {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t r = row + half * 8;
            if ((threadIdx.x & 3) == 0 && r < rows) {
                log_sums[r] = (largest[half] * scale + log2f(sums[half])) * (1.0f / LOG2E);
            }
        }
    }
};

/* attention_forward_wgmma.cu: on Hopper, head_dim 32 or 64. */
int emb_cuda_train_attention_wgmma(void *out, float *log_sums, const void *qkv,
                                   const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                                   const emb_cuda_batch *batch, emb_dtype type,
                                   const emb_cuda_device *device, void *stream);

#endif
