/* forward.cuh - a random encoder and its forward pass through the launchers, for checks and timing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUDA_FORWARD_CUH
#define TESTS_CUDA_FORWARD_CUH

#include "cuda/support.cuh"

#define LAYERS_MAX 12

typedef struct random_linear {
    emb_cuda_linear own;     /* bias in f32 */
    emb_cuda_linear library; /* bias of the type */
    emb_cuda_blas_choice choice;
    int has_choice;
} random_linear;

typedef struct random_model {
    const char *name;
    uint32_t layers, hidden, heads, intermediate, vocabulary, longest;
    emb_dtype type;
    emb_cuda_embedding embedding;
    emb_cuda_norm norm;
    const float *relative;
    random_linear qkv[LAYERS_MAX], attention_out[LAYERS_MAX], ffn_in[LAYERS_MAX],
        ffn_out[LAYERS_MAX];
} random_model;

/* What a pass writes; `wide` holds queries, keys and values, then the feed-forward's inside. */
typedef struct activations {
    void *x, *y, *wide;
    float *rows;
} activations;

/* Never freed: the programs end soon after. */
static inline void *device_values(size_t count, float deviation, float mean, emb_dtype type) {
    void *to = NULL;
    size_t block = std::min(count, (size_t)1 << 20);
    std::vector<float> v = random_values(block, deviation, EMB_DTYPE_F32, mean);
    std::vector<unsigned char> raw = to_bytes(v, type);
    REQUIRE(cudaMalloc(&to, count * type_bytes(type)));
    for (size_t at = 0; at < count; at += block) {
        REQUIRE(cudaMemcpy((char *)to + at * type_bytes(type), raw.data(),
                           std::min(block, count - at) * type_bytes(type), cudaMemcpyHostToDevice));
    }
    return to;
}

static inline random_linear make_linear(uint32_t rows, uint32_t cols, emb_dtype type) {
    random_linear l;
    std::vector<float> bias = random_values(rows, 0.1f, type);
    l.own.weight = device_values((size_t)rows * cols, 1 / sqrtf((float)cols), 0, type);
    l.own.bias = (float *)inside(buffer_from(bias, EMB_DTYPE_F32));
    l.own.rows = rows, l.own.cols = cols, l.own.type = type;
    l.library = l.own;
    l.library.bias = (float *)inside(buffer_from(bias, type));
    l.has_choice = 0;
    return l;
}

static inline void model_open(random_model &m) {
    uint32_t H = m.hidden, F = m.intermediate;
    m.embedding.words = device_values((size_t)m.vocabulary * H, 1, 0, m.type);
    m.embedding.positions = (float *)device_values((size_t)m.longest * H, 1, 0, EMB_DTYPE_F32);
    m.embedding.gain = (float *)device_values(H, 0.1f, 1, EMB_DTYPE_F32);
    m.embedding.shift = (float *)device_values(H, 0.1f, 0, EMB_DTYPE_F32);
    m.embedding.epsilon = 1e-12f;
    m.norm.gain = m.embedding.gain, m.norm.shift = m.embedding.shift, m.norm.epsilon = 1e-12f;
    for (uint32_t i = 0; i < m.layers; i++) {
        m.qkv[i] = make_linear(3 * H, H, m.type);
        m.attention_out[i] = make_linear(H, H, m.type);
        m.ffn_in[i] = make_linear(F, H, m.type);
        m.ffn_out[i] = make_linear(H, F, m.type);
    }
}

static inline activations activations_open(const random_model &m, uint32_t tokens,
                                           uint32_t chunks) {
    activations a;
    size_t bytes = (size_t)tokens * type_bytes(m.type);
    REQUIRE(cudaMalloc(&a.x, bytes * m.hidden));
    REQUIRE(cudaMalloc(&a.y, bytes * m.hidden));
    REQUIRE(cudaMalloc(&a.wide, bytes * (std::max(3 * m.hidden, m.intermediate) + m.hidden)));
    REQUIRE(cudaMalloc((void **)&a.rows, (size_t)chunks * m.hidden * sizeof(float)));
    REQUIRE(cudaMemset(a.x, 0, bytes * m.hidden));
    REQUIRE(cudaDeviceSynchronize()); /* as in batch_fill */
    return a;
}
static inline void activations_close(activations &a) {
    REQUIRE(cudaFree(a.x));
    REQUIRE(cudaFree(a.y));
    REQUIRE(cudaFree(a.wide));
    REQUIRE(cudaFree(a.rows));
}

/* How own products that a norm follows are done, for comparing. */
typedef enum forward_choice { CHOSEN, APART, IN_ONE } forward_choice;

/* A product by our own kernels, or by the library if `blas` is not NULL. */
static inline void run_linear(void *out, const void *in, const random_linear &l, int gelu,
                              const emb_cuda_batch *batch, const emb_cuda_device *device,
                              const emb_cuda_blas *blas, cudaStream_t stream) {
    if (!blas) {
        REQUIRE(
            emb_cuda_linear_run(out, in, &l.own, gelu, EMB_CUDA_TILE_AUTO, batch, device, stream));
        return;
    }
    REQUIRE(emb_cuda_blas_run(out, in, &l.library, blas, &l.choice, batch->tokens_max, stream));
    if (gelu) REQUIRE(emb_cuda_gelu(out, l.own.rows, batch, l.own.type, stream));
}

/* x = norm(x + in * W^T + bias). */
static inline void run_linear_norm(const random_model &m, const activations &a, const void *in,
                                   const random_linear &l, const emb_cuda_batch *batch,
                                   const emb_cuda_device *device, const emb_cuda_blas *blas,
                                   cudaStream_t stream, forward_choice choice) {
    if (!blas && choice == IN_ONE) {
        REQUIRE(emb_cuda_linear_norm_wgmma(a.x, in, &l.own, a.x, &m.norm, batch, device, stream));
        return;
    }
    if (!blas && choice == CHOSEN) {
        REQUIRE(emb_cuda_linear_norm(a.x, in, &l.own, a.x, &m.norm, a.y, EMB_CUDA_TILE_AUTO,
                                     batch->tokens_max, batch, device, stream));
        return;
    }
    run_linear(a.y, in, l, 0, batch, device, blas, stream);
    REQUIRE(emb_cuda_residual_norm(a.x, a.y, a.x, &m.norm, batch, m.hidden, m.type, stream));
}

static inline void forward(const random_model &m, const activations &a, const emb_cuda_batch *batch,
                           const emb_cuda_device *device, const emb_cuda_blas *blas,
                           cudaStream_t stream, forward_choice choice = CHOSEN) {
    emb_cuda_heads heads = {m.hidden, m.heads, m.hidden / m.heads, m.longest, m.relative};
    size_t tokens = batch->tokens_max;
    char *context =
        (char *)a.wide + tokens * std::max(3 * m.hidden, m.intermediate) * type_bytes(m.type);
    REQUIRE(emb_cuda_prepare(batch, stream));
    REQUIRE(emb_cuda_embed(a.x, batch, &m.embedding, m.hidden, m.type, stream));
    for (uint32_t i = 0; i < m.layers; i++) {
        run_linear(a.wide, a.x, m.qkv[i], 0, batch, device, blas, stream);
        REQUIRE(emb_cuda_attention(context, a.wide, &heads, batch, m.type, device, stream));
        run_linear_norm(m, a, context, m.attention_out[i], batch, device, blas, stream, choice);
        run_linear(a.wide, a.x, m.ffn_in[i], 1, batch, device, blas, stream);
        run_linear_norm(m, a, a.wide, m.ffn_out[i], batch, device, blas, stream, choice);
    }
    REQUIRE(emb_cuda_pool(a.rows, a.x, batch, m.hidden, EMB_CUDA_POOL_MEAN, 1, m.type, stream));
}

#endif
