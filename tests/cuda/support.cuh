/* support.cuh - what the programs of tests/cuda share: random values, guarded buffers, packs.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUDA_SUPPORT_CUH
#define TESTS_CUDA_SUPPORT_CUH

#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "backend/cuda/kernels/kernels.h"

#define REQUIRE(call)                                                                              \
    do {                                                                                           \
        int status_ = (int)(call);                                                                 \
        if (status_) {                                                                             \
            printf("%s:%d: status %d (%s) of %s\n", __FILE__, __LINE__, status_,                   \
                   cudaGetErrorString((cudaError_t)status_), #call);                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const char *const TYPE_NAMES[] = {"", "f32", "bf16", "f16", "int8", "int4", "fp8"};

static inline size_t type_bytes(emb_dtype type) {
    return type == EMB_DTYPE_F32 ? 4 : type >= EMB_DTYPE_INT8 ? 1 : 2;
}

/* ---- random values --------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252ull;

static inline uint32_t random_bits() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}
static inline uint32_t random_below(uint32_t limit) {
    return random_bits() % limit;
}
/* Uniform with this standard deviation. */
static inline float random_value(float deviation) {
    return ((float)random_bits() * (1.0f / 2147483648.0f) - 1.0f) * 1.7320508f * deviation;
}

/* The nearest value of the type. */
static inline float rounded(float v, emb_dtype type) {
    if (type == EMB_DTYPE_F16) return __half2float(__float2half_rn(v));
    if (type == EMB_DTYPE_BF16) return __bfloat162float(__float2bfloat16_rn(v));
    return v;
}

static inline std::vector<float> random_values(size_t count, float deviation, emb_dtype type,
                                               float mean = 0) {
    std::vector<float> v(count);
    for (float &x : v) x = rounded(mean + random_value(deviation), type);
    return v;
}

/* ---- device memory --------------------------------------------------------------------------- */

#define GUARD_BYTES 256
#define GUARD_VALUE 0xA5

/* Device bytes between two guards; the inside starts as NaNs of any type. */
typedef struct buffer {
    unsigned char *base;
    size_t bytes;
    emb_dtype type;
} buffer;

static inline void *inside(const buffer &b) {
    return b.base + GUARD_BYTES;
}

static inline void buffer_poison(const buffer &b) {
    REQUIRE(cudaMemset(inside(b), 0xff, b.bytes));
}

static inline buffer buffer_open(size_t count, emb_dtype type) {
    buffer b = {NULL, count * type_bytes(type), type};
    REQUIRE(cudaMalloc((void **)&b.base, b.bytes + 2 * GUARD_BYTES));
    REQUIRE(cudaMemset(b.base, GUARD_VALUE, b.bytes + 2 * GUARD_BYTES));
    buffer_poison(b);
    return b;
}
static inline void buffer_close(buffer &b) {
    REQUIRE(cudaFree(b.base));
}

static inline std::vector<unsigned char> to_bytes(const std::vector<float> &v, emb_dtype type) {
    std::vector<unsigned char> raw(v.size() * type_bytes(type));
    for (size_t i = 0; i < v.size(); i++) {
        if (type == EMB_DTYPE_F32) {
            memcpy(&raw[4 * i], &v[i], 4);
        } else if (type == EMB_DTYPE_F16) {
            __half h = __float2half_rn(v[i]);
            memcpy(&raw[2 * i], &h, 2);
        } else {
            __nv_bfloat16 h = __float2bfloat16_rn(v[i]);
            memcpy(&raw[2 * i], &h, 2);
        }
    }
    return raw;
}

static inline buffer buffer_from(const std::vector<float> &v, emb_dtype type) {
    buffer b = buffer_open(v.size(), type);
    std::vector<unsigned char> raw = to_bytes(v, type);
    REQUIRE(cudaMemcpy(inside(b), raw.data(), raw.size(), cudaMemcpyHostToDevice));
    return b;
}

/* Bytes as they are; f32 and f16 values too. */
template <typename V> static inline buffer buffer_copy(const std::vector<V> &v) {
    buffer b = buffer_open(v.size() * sizeof(V), EMB_DTYPE_INT8);
    REQUIRE(cudaMemcpy(inside(b), v.data(), b.bytes, cudaMemcpyHostToDevice));
    return b;
}

static inline std::vector<unsigned char> buffer_bytes(const buffer &b) {
    std::vector<unsigned char> raw(b.bytes);
    REQUIRE(cudaDeviceSynchronize());
    REQUIRE(cudaMemcpy(raw.data(), inside(b), b.bytes, cudaMemcpyDeviceToHost));
    return raw;
}

static inline std::vector<float> buffer_values(const buffer &b) {
    std::vector<unsigned char> raw = buffer_bytes(b);
    std::vector<float> v(b.bytes / type_bytes(b.type));
    for (size_t i = 0; i < v.size(); i++) {
        if (b.type == EMB_DTYPE_F32) {
            memcpy(&v[i], &raw[4 * i], 4);
        } else if (b.type == EMB_DTYPE_F16) {
            __half h;
            memcpy((void *)&h, &raw[2 * i], 2);
            v[i] = __half2float(h);
        } else {
            __nv_bfloat16 h;
            memcpy((void *)&h, &raw[2 * i], 2);
            v[i] = __bfloat162float(h);
        }
    }
    return v;
}

/* Whether both guards are as they were. */
static inline bool buffer_intact(const buffer &b) {
    unsigned char guards[2 * GUARD_BYTES];
    REQUIRE(cudaMemcpy(guards, b.base, GUARD_BYTES, cudaMemcpyDeviceToHost));
    REQUIRE(cudaMemcpy(guards + GUARD_BYTES, b.base + GUARD_BYTES + b.bytes, GUARD_BYTES,
                       cudaMemcpyDeviceToHost));
    for (unsigned char g : guards) {
        if (g != GUARD_VALUE) return false;
    }
    return true;
}

/* ---- packs ----------------------------------------------------------------------------------- */

/* A batch with its memory; `lengths` of what it holds now. */
typedef struct batch {
    emb_cuda_batch batch;
    std::vector<uint32_t> lengths, starts, ids;
    uint32_t *memory;
    uint32_t tokens;
} batch;

static inline batch batch_open(uint32_t tokens_max, uint32_t chunks_max) {
    batch b;
    uint64_t tiles = emb_cuda_query_tiles_words(tokens_max, chunks_max);
    uint64_t words = tiles + 2 + 2 * (uint64_t)tokens_max + 2 * (uint64_t)chunks_max + 1;
    REQUIRE(cudaMalloc((void **)&b.memory, words * 4));
    REQUIRE(cudaMemset(b.memory, 0xff, words * 4));
    uint32_t *at = b.memory;
    cudaDeviceProp properties;
    REQUIRE(cudaGetDeviceProperties(&properties, 0));
    b.batch.overlap = properties.major >= 9;
    b.batch.tokens_max = tokens_max, b.batch.chunks_max = chunks_max;
    b.batch.query_tiles = at, at += tiles;
    b.batch.counts = at, at += 2;
    b.batch.ids = at, at += tokens_max;
    b.batch.positions = at, at += tokens_max;
    b.batch.targets = at, at += chunks_max;
    b.batch.starts = at;
    return b;
}
static inline void batch_close(batch &b) {
    REQUIRE(cudaFree(b.memory));
}

static inline void upload(const uint32_t *to, const std::vector<uint32_t> &v) {
    REQUIRE(cudaMemcpy((void *)to, v.data(), v.size() * 4, cudaMemcpyHostToDevice));
}

/* Puts chunks of these lengths in, with these ids (random ones below `vocabulary` if empty). */
static inline void batch_fill(batch &b, const std::vector<uint32_t> &lengths,
                              const std::vector<uint32_t> &ids, uint32_t vocabulary) {
    b.lengths = lengths;
    b.starts.assign(1, 0);
    for (uint32_t n : lengths) b.starts.push_back(b.starts.back() + n);
    b.tokens = b.starts.back();
    b.ids = ids;
    while (b.ids.size() < b.tokens) b.ids.push_back(random_below(vocabulary));
    if (b.tokens > b.batch.tokens_max || lengths.size() > b.batch.chunks_max) {
        printf("a batch of %u tokens does not fit its bucket\n", b.tokens);
        exit(1);
    }
    std::vector<uint32_t> targets;
    for (size_t i = 0; i < lengths.size(); i++) {
        targets.push_back((uint32_t)(lengths.size() - 1 - i));
    }
    upload(b.batch.counts, {b.tokens, (uint32_t)lengths.size()});
    upload(b.batch.starts, b.starts);
    upload(b.batch.targets, targets);
    upload(b.batch.ids, b.ids);
    REQUIRE(emb_cuda_prepare(&b.batch, NULL));
    REQUIRE(cudaDeviceSynchronize()); /* a stream that does not block would run beside all this */
}

static inline batch batch_make(const std::vector<uint32_t> &lengths, uint32_t vocabulary) {
    uint32_t tokens = 0;
    for (uint32_t n : lengths) tokens += n;
    batch b = batch_open(tokens, (uint32_t)lengths.size());
    batch_fill(b, lengths, std::vector<uint32_t>(), vocabulary);
    return b;
}

#endif
