/* attention_back.cu - the backward pass of attention: which kernels do it, and their scratch.
 *
 * Chunks of up to 128 tokens are done at once, longer ones in two kernels, which each make the
 * softmax's weights again. So are all chunks where the bias has a gradient, which the second kind
 * sums in a fixed order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/back.cuh"

#define WHOLE_MAX 128 /* tokens of a chunk that is done at once; head_dim up to 64 */

/* Blocks that share a head's tiles, where the bias has a gradient. */
static uint32_t groups_of(const emb_cuda_heads *heads, const emb_cuda_device *device) {
    uint32_t groups = 2 * device->multiprocessors / heads->heads;
    return groups ? groups : 1;
}

static uint64_t dots_of(const emb_cuda_heads *heads, const emb_cuda_batch *batch) {
    return ((uint64_t)heads->heads * batch->tokens_max + 3) / 4 * 4;
}

uint64_t emb_cuda_train_attention_scratch(const emb_cuda_heads *heads, const emb_cuda_batch *batch,
                                          int relative, const emb_cuda_device *device) {
    uint64_t span = 2 * (uint64_t)heads->relative_tokens - 1, values = dots_of(heads, batch);
    if (relative) values += groups_of(heads, device) * heads->heads * span;
    return values * sizeof(float);
}

template <typename T>
static int run(emb_attention_back<T> &p, float *d_relative, uint32_t chunk_tokens_max,
               const emb_cuda_batch *batch, bool hopper, cudaStream_t stream) {
    p.whole_max = d_relative || p.head_dim > 64 ? 0 : WHOLE_MAX;
    if (p.whole_max) {
        int status = emb_attention_back_whole(p, chunk_tokens_max, batch, hopper, stream);
        if (status) return status;
    }
    if (chunk_tokens_max <= p.whole_max) return 0;
    int status = emb_attention_back_queries(p, d_relative, batch, hopper, stream);
    if (status) return status;
    return emb_attention_back_keys(p, batch, hopper, stream);
}

template <typename T>
static int typed(void *d_qkv, float *d_relative, void *scratch, const void *d_out, const void *out,
                 const float *log_sums, const void *qkv, const emb_cuda_heads *heads,
                 const emb_train_cuda_drop *drop, uint32_t chunk_tokens_max,
                 const emb_cuda_batch *batch, const emb_cuda_device *device, cudaStream_t stream) {
    emb_attention_back<T> p = {};
    p.d_qkv = (T *)d_qkv, p.d_out = (const T *)d_out;
    p.out = (const T *)out, p.qkv = (const T *)qkv;
    p.log_sums = log_sums, p.dots = (float *)scratch;
    if (d_relative) p.partial = p.dots + dots_of(heads, batch);
    p.counts = batch->counts, p.starts = batch->starts;
    p.tiles = (const uint4 *)batch->query_tiles;
    p.relative = heads->relative, p.relative_tokens = heads->relative_tokens;
    p.hidden = heads->hidden, p.heads = heads->heads, p.head_dim = heads->head_dim;
    p.tokens_max = batch->tokens_max;
    p.groups = groups_of(heads, device);
    p.unscale = sqrtf((float)heads->head_dim);
    p.scale = 1.0f / p.unscale;
    p.drop = emb_drop_rule_make(drop);
    return run(p, d_relative, chunk_tokens_max, batch, device->capability == 90, stream);
}

int emb_cuda_train_attention_back(void *d_qkv, float *d_relative, void *scratch, const void *d_out,
                                  const void *out, const float *log_sums, const void *qkv,
                                  const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                                  uint32_t chunk_tokens_max, const emb_cuda_batch *batch,
                                  emb_dtype type, const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = emb_cuda_train_attention_supports(heads, type, device);
    if (status) return status;
    if (d_relative && !heads->relative) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_F16) {
        return typed<emb_f16>(d_qkv, d_relative, scratch, d_out, out, log_sums, qkv, heads, drop,
                              chunk_tokens_max, batch, device, s);
    }
    return typed<emb_bf16>(d_qkv, d_relative, scratch, d_out, out, log_sums, qkv, heads, drop,
                           chunk_tokens_max, batch, device, s);
}
