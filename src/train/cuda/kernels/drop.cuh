/* drop.cuh - which weights of the attention dropout leaves out, by their place: as
 * train/cpu/random.h and base/hash.h say it for the CPU, bit by bit.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_DROP_CUH
#define EMB_TRAIN_CUDA_KERNELS_DROP_CUH

#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/attention.h"

#define EMB_DROP_LAST 0xc2b2ae35u /* the last factor of emb_random_bits */

/* A kernel's parameter. */
struct emb_drop_rule {
    uint64_t key;
    const uint32_t *rows;
    uint32_t limit; /* bits below are dropped */
    float factor;   /* of what stays */
};

static inline emb_drop_rule emb_drop_rule_make(const emb_train_cuda_drop *drop) {
    if (!(drop->share > 0)) return {0, NULL, 0, 1.0f};
    return {drop->key, drop->rows, (uint32_t)((double)drop->share * 4294967296.0),
            1 / (1 - drop->share)};
}

/* As emb_hash_mix. */
static __device__ __forceinline__ uint64_t emb_drop_mix(uint64_t key, uint64_t value) {
    uint64_t z = key + (value + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

/* Of a head of a chunk; mixed with a query's place in the chunk it is the key of a row. */
static __device__ __forceinline__ uint64_t emb_drop_key(const emb_drop_rule &rule, uint32_t chunk,
                                                        uint32_t head) {
    return emb_drop_mix(emb_drop_mix(rule.key, rule.rows[chunk]), head);
}

/* The key of a query's row: its halves, the second as it is added after the last product. */
static __device__ __forceinline__ uint2 emb_drop_row(uint64_t key, uint32_t query) {
    uint64_t row = emb_drop_mix(key, query);
    return make_uint2((uint32_t)row, (uint32_t)(row >> 32) * EMB_DROP_LAST);
}

/* 0, or the factor of what stays, for place i of a row; as emb_random_bits. */
static __device__ __forceinline__ float emb_drop_factor(const emb_drop_rule &rule, uint2 row,
                                                        uint32_t i) {
    uint32_t x = row.x ^ (i * 0x9e3779b9u);
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * EMB_DROP_LAST + row.y;
    return (x ^ (x >> 16)) < rule.limit ? 0.0f : rule.factor;
}

/* 0, or why training's attention does not run. */
static inline int emb_cuda_train_attention_supports(const emb_cuda_heads *heads, emb_dtype type,
                                                    const emb_cuda_device *device) {
    if (!heads->heads || !heads->head_dim || heads->hidden != heads->heads * heads->head_dim) {
        return cudaErrorInvalidValue;
    }
    if (type != EMB_DTYPE_F16 && type != EMB_DTYPE_BF16) return cudaErrorNotSupported;
    if (device->capability < 80 || heads->head_dim % 8) return cudaErrorNotSupported;
    return heads->head_dim > EMB_CUDA_HEAD_DIM_MAX ? cudaErrorNotSupported : 0;
}

#endif
