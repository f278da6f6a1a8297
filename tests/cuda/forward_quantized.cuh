/* forward_quantized.cuh - a random encoder with int8, fp8 or int4 matrices and its forward pass
 * through the launchers, for checks and timing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUDA_FORWARD_QUANTIZED_CUH
#define TESTS_CUDA_FORWARD_QUANTIZED_CUH

#include "backend/cuda/kernels/kernels.h"
#include "cuda/forward.cuh"

typedef struct quantized_model {
    random_model m; /* what is not quantized, of f16; words are int8 with scales */
    emb_dtype type;
    emb_cuda_quantized qkv[LAYERS_MAX], attention_out[LAYERS_MAX], ffn_in[LAYERS_MAX],
        ffn_out[LAYERS_MAX];
    random_linear attention_out_f16[LAYERS_MAX]; /* instead, of FP8 */
    float *bounds[LAYERS_MAX];                   /* of ffn_in; FP8 alone */
} quantized_model;

/* Activations of f16, and codes of some. */
typedef struct quantized_activations {
    activations a;
    emb_cuda_codes codes, inner; /* of x, and of the context or the feed-forward's inside */
} quantized_activations;

/* Device bytes whose first ones repeat; never freed. */
static inline void *device_bytes(size_t count, const std::vector<unsigned char> &some) {
    unsigned char *to = NULL;
    REQUIRE(cudaMalloc((void **)&to, count));
    for (size_t at = 0; at < count; at += some.size()) {
        REQUIRE(cudaMemcpy(to + at, some.data(), std::min(some.size(), count - at),
                           cudaMemcpyHostToDevice));
    }
    return to;
}

/* Codes of a uniform matrix; E4M3 by way of its bits, which serves for random values. */
static inline const std::vector<unsigned char> &random_codes(emb_dtype type) {
    static std::vector<unsigned char> of_type[8];
    std::vector<unsigned char> &codes = of_type[type];
    if (!codes.empty()) return codes;
    codes.resize((size_t)1 << 20);
    for (unsigned char &c : codes) {
        int value = (int)random_below(255) - 127;
        uint32_t bits, most = (uint32_t)abs(value);
        float wide = (float)most * (448.0f / 127);
        memcpy(&bits, &wide, 4);
        uint32_t fp8 = most ? (bits >> 20) - (120 << 3) : 0;
        c = type == EMB_DTYPE_INT8  ? (unsigned char)(int8_t)value
            : type == EMB_DTYPE_FP8 ? (unsigned char)(fp8 | (value < 0 ? 128 : 0))
                                    : (unsigned char)random_below(256);
    }
    return codes;
}

static inline emb_cuda_quantized make_narrow(uint32_t rows, uint32_t cols, emb_dtype type) {
    emb_cuda_quantized l = {};
    float most = 1.7320508f / sqrtf((float)cols); /* of weights */
    size_t values = (size_t)rows * cols;
    l.rows = rows, l.cols = cols, l.type = type, l.group = 32;
    l.weight = device_bytes(type == EMB_DTYPE_INT4 ? values / 2 : values, random_codes(type));
    l.bias = (float *)device_values(rows, 0.1f, 0, EMB_DTYPE_F32);
    if (type == EMB_DTYPE_INT4) {
        l.scales = device_values(values / 32, 0, most / 7.5f, EMB_DTYPE_F16);
        l.zeros = (uint8_t *)device_bytes(values / 32, std::vector<unsigned char>(4096, 8));
        return l;
    }
    float scale = type == EMB_DTYPE_INT8 ? most / 127 : most / 448;
    l.scales = device_values(rows, 0, scale, EMB_DTYPE_F32);
    if (type == EMB_DTYPE_INT8) {
        std::vector<int8_t> codes(values);
        std::vector<int32_t> sums(rows);
        REQUIRE(cudaMemcpy(codes.data(), l.weight, values, cudaMemcpyDeviceToHost));
        for (size_t i = 0; i < values; i++) sums[i / cols] += codes[i];
        l.sums = (int32_t *)inside(buffer_copy(sums));
    }
    return l;
}

static inline void quantized_open(quantized_model &q) {
    random_model &m = q.m;
    uint32_t H = m.hidden, F = m.intermediate;
    std::vector<unsigned char> words((size_t)m.vocabulary * (H + 4));
    float scale = 1.7320508f / 127;
    for (size_t i = 0; i < words.size(); i++) words[i] = (unsigned char)random_bits();
    for (size_t r = 0; r < m.vocabulary; r++) memcpy(&words[r * (H + 4) + H], &scale, 4);
    m.embedding.words = device_bytes(words.size(), words);
    m.embedding.positions = (float *)device_values((size_t)m.longest * H, 1, 0, EMB_DTYPE_F32);
    m.embedding.gain = (float *)device_values(H, 0.1f, 1, EMB_DTYPE_F32);
    m.embedding.shift = (float *)device_values(H, 0.1f, 0, EMB_DTYPE_F32);
    m.embedding.epsilon = 1e-12f;
    m.norm.gain = m.embedding.gain, m.norm.shift = m.embedding.shift, m.norm.epsilon = 1e-12f;
    for (uint32_t i = 0; i < m.layers; i++) {
        q.qkv[i] = make_narrow(3 * H, H, q.type);
        if (q.type == EMB_DTYPE_FP8)
            q.attention_out_f16[i] = make_linear(H, H, EMB_DTYPE_F16);
        else
            q.attention_out[i] = make_narrow(H, H, q.type);
        q.ffn_in[i] = make_narrow(F, H, q.type);
        q.ffn_out[i] = make_narrow(H, F, q.type);
        if (q.type != EMB_DTYPE_FP8) continue;
        emb_cuda_device device;
        q.bounds[i] = (float *)device_values(2, 0, 0, EMB_DTYPE_F32);
        REQUIRE(emb_cuda_device_read(&device));
        REQUIRE(emb_cuda_quantized_bounds(q.bounds[i], &q.ffn_in[i], &device, NULL));
    }
    REQUIRE(cudaDeviceSynchronize());
}

static inline quantized_activations quantized_activations_open(const quantized_model &q,
                                                               uint32_t tokens, uint32_t chunks) {
    quantized_activations a;
    a.a = activations_open(q.m, tokens, chunks);
    REQUIRE(cudaMalloc(&a.codes.values, (size_t)tokens * q.m.hidden));
    REQUIRE(cudaMalloc(&a.inner.values, (size_t)tokens * std::max(q.m.hidden, q.m.intermediate)));
    REQUIRE(cudaMalloc((void **)&a.codes.scales, (size_t)tokens * 4));
    REQUIRE(cudaMalloc((void **)&a.codes.zeros, (size_t)tokens * 4));
    REQUIRE(cudaMalloc((void **)&a.inner.scales, (size_t)tokens * 4));
    REQUIRE(cudaMalloc((void **)&a.inner.zeros, (size_t)tokens * 4));
    return a;
}
static inline void quantized_activations_close(quantized_activations &a) {
    activations_close(a.a);
    REQUIRE(cudaFree(a.codes.values));
    REQUIRE(cudaFree(a.codes.scales));
    REQUIRE(cudaFree(a.codes.zeros));
    REQUIRE(cudaFree(a.inner.values));
    REQUIRE(cudaFree(a.inner.scales));
    REQUIRE(cudaFree(a.inner.zeros));
}

/* Where the context lies: behind queries, keys and values. */
static inline void *context_of(const quantized_model &q, const activations &a, uint32_t tokens) {
    return (char *)a.wide + (size_t)tokens * std::max(3 * q.m.hidden, q.m.intermediate) * 2;
}

/* What a pass is done with. */
typedef struct quantized_run {
    const quantized_model &q;
    const quantized_activations &x;
    const emb_cuda_batch *batch;
    const emb_cuda_device *device;
    cudaStream_t stream;
} quantized_run;

/* out = x * W^T + bias, from the codes of x; int4: from x. */
static inline void run_quantized(const quantized_run &r, void *out, const emb_cuda_quantized &l,
                                 int gelu) {
    bool whole = r.q.type == EMB_DTYPE_INT4;
    REQUIRE(emb_cuda_quantized_run(out, whole ? NULL : &r.x.codes, whole ? r.x.a.x : NULL, &l, gelu,
                                   EMB_CUDA_TILE_AUTO, r.batch, r.device, r.stream));
}

/* x = norm(x + y), and its codes if `coded`. */
static inline void run_norm(const quantized_run &r, bool coded) {
    const activations &a = r.x.a;
    uint32_t H = r.q.m.hidden;
    if (!coded) {
        REQUIRE(emb_cuda_residual_norm(a.x, a.y, a.x, &r.q.m.norm, r.batch, H, EMB_DTYPE_F16,
                                       r.stream));
        return;
    }
    REQUIRE(emb_cuda_residual_norm_codes(a.x, &r.x.codes, NULL, r.q.type, a.y, a.x, &r.q.m.norm,
                                         r.batch, H, r.device, r.stream));
}

/* y = in * W^T + bias, from the inner codes, which are made here unless they are `ready`. */
static inline void run_inner(const quantized_run &r, const void *in, bool ready,
                             const emb_cuda_quantized &l) {
    bool whole = r.q.type == EMB_DTYPE_INT4;
    if (!whole && !ready) {
        REQUIRE(
            emb_cuda_quantize(&r.x.inner, in, NULL, l.cols, r.q.type, r.batch, r.device, r.stream));
    }
    REQUIRE(emb_cuda_quantized_run(r.x.a.y, whole ? NULL : &r.x.inner, whole ? in : NULL, &l, 0,
                                   EMB_CUDA_TILE_AUTO, r.batch, r.device, r.stream));
}

static inline void forward_quantized(const quantized_run &r) {
    const random_model &m = r.q.m;
    const activations &a = r.x.a;
    emb_cuda_heads heads = {m.hidden, m.heads, m.hidden / m.heads, m.longest, m.relative};
    bool fp8 = r.q.type == EMB_DTYPE_FP8;
    const emb_cuda_codes *codes = r.q.type == EMB_DTYPE_INT4 ? NULL : &r.x.codes;
    void *context = context_of(r.q, a, r.batch->tokens_max);
    REQUIRE(emb_cuda_prepare(r.batch, r.stream));
    REQUIRE(emb_cuda_embed_codes(a.x, codes, NULL, r.q.type, r.batch, &m.embedding, m.hidden,
                                 r.device, r.stream));
    for (uint32_t i = 0; i < m.layers; i++) {
        run_quantized(r, a.wide, r.q.qkv[i], 0);
        REQUIRE(emb_cuda_attention(context, a.wide, &heads, r.batch, m.type, r.device, r.stream));
        if (fp8)
            run_linear(a.y, context, r.q.attention_out_f16[i], 0, r.batch, r.device, NULL,
                       r.stream);
        else
            run_inner(r, context, false, r.q.attention_out[i]);
        run_norm(r, codes != NULL);
        if (fp8) {
            REQUIRE(emb_cuda_quantized_codes(&r.x.inner, &r.x.codes, r.q.bounds[i], &r.q.ffn_in[i],
                                             1, EMB_CUDA_TILE_AUTO, r.batch, r.device, r.stream));
        } else {
            run_quantized(r, a.wide, r.q.ffn_in[i], 1);
        }
        run_inner(r, a.wide, fp8, r.q.ffn_out[i]);
        run_norm(r, codes != NULL && i + 1 < m.layers);
    }
    REQUIRE(emb_cuda_pool(a.rows, a.x, r.batch, m.hidden, EMB_CUDA_POOL_MEAN, 1, m.type, r.stream));
}

#endif
