/* attention.c - attention, forwards and back: head by head and chunk by chunk, a few queries at a
 * time against all keys of the chunk, so that no buffer grows with the square of the length.
 *
 * The backward pass computes the weights of the softmax again from the logarithms of their sums
 * (Dao et al. 2022, FlashAttention). A thread takes whole heads: what is summed over queries is
 * summed by one thread, in their order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "train/cpu/blocks.h"

typedef struct pass {
    const emb_train_run *run;
    const emb_tile *tile;
    emb_train_buffers b;
    emb_train_attended a; /* the buffers' own, or what is kept */
    bool back;
} pass;

/* One head of one chunk, by one thread. */
typedef struct head {
    const emb_train_kernels *kernels;
    uint32_t tokens, dim, longest;
    size_t stride, context_stride; /* of qkv, and of the context */
    float scale;
    const float *relative; /* of query 0 and key 0, or NULL */
    float *d_relative;
    const float *q, *k, *v;
    float *d_q, *d_k, *d_v;
    float *context, *d_context;
    float *log_sums;
    float *work, *scores, *d_scores, *dropped_scores;
    float drop; /* share of the weights that dropout leaves out */
    uint64_t key;
} head;

/* c [queries, n] = a [queries, k] * b^T [n, k], one of the products with rows of qkv. */
static void scores_of(const head *h, float *c, const float *a, size_t a_row, const float *b,
                      size_t b_row, uint32_t queries) {
    emb_matmul product = {.m = queries,
                          .n = h->tokens,
                          .k = h->dim,
                          .a = a,
                          .a_row = a_row,
                          .a_col = 1,
                          .b = b,
                          .b_row = b_row,
                          .b_transposed = true,
                          .c = c,
                          .c_row = h->longest,
                          .work = h->work};
    h->kernels->matmul(&product);
}

/* out [queries, dim] = p [queries, tokens] * b [tokens, dim] */
static void gather(const head *h, float *out, size_t out_row, const float *p, const float *b,
                   size_t b_row, uint32_t queries) {
    emb_matmul product = {.m = queries,
                          .n = h->dim,
                          .k = h->tokens,
                          .a = p,
                          .a_row = h->longest,
                          .a_col = 1,
                          .b = b,
                          .b_row = b_row,
                          .c = out,
                          .c_row = out_row,
                          .work = h->work};
    h->kernels->matmul(&product);
}

/* out [tokens, dim] += p^T * b [queries, dim] */
static void scatter(const head *h, float *out, const float *p, const float *b, size_t b_row,
                    uint32_t queries) {
    emb_matmul product = {.m = h->tokens,
                          .n = h->dim,
                          .k = queries,
                          .a = p,
                          .a_row = 1,
                          .a_col = h->longest,
                          .b = b,
                          .b_row = b_row,
                          .c = out,
                          .c_row = h->stride,
                          .add = true,
                          .work = h->work};
    h->kernels->matmul(&product);
}

/* What of the weights of queries from i0 on is left by dropout. */
static const float *drop(const head *h, uint32_t i0, uint32_t queries) {
    if (!(h->drop > 0)) return h->scores;
    for (uint32_t i = 0; i < queries; i++)
        h->kernels->drop(h->dropped_scores + (size_t)i * h->longest,
                         h->scores + (size_t)i * h->longest, h->tokens,
                         emb_hash_mix(h->key, i0 + i), h->drop);
    return h->dropped_scores;
}

static void forward(const head *h) {
    for (uint32_t i0 = 0; i0 < h->tokens; i0 += EMB_TRAIN_QUERIES) {
        uint32_t left = h->tokens - i0,
                 queries = left < EMB_TRAIN_QUERIES ? left : EMB_TRAIN_QUERIES;
        scores_of(h, h->scores, h->q + i0 * h->stride, h->stride, h->k, h->stride, queries);
        for (uint32_t i = 0; i < queries; i++) {
            float *row = h->scores + (size_t)i * h->longest;
            const float *relative = h->relative ? h->relative - (i0 + i) : NULL;
            h->log_sums[i0 + i] = h->kernels->softmax(row, row, relative, h->tokens, h->scale);
        }
        gather(h, h->context + i0 * h->context_stride, h->context_stride, drop(h, i0, queries),
               h->v, h->stride, queries);
    }
}

/* Turns the scores of queries from i0 on into weights, and the gradients of those into gradients
 * of the scores. */
static void scores_back(const head *h, uint32_t i0, uint32_t queries) {
    for (uint32_t i = 0; i < queries; i++) {
        float *p = h->scores + (size_t)i * h->longest, *d = h->d_scores + (size_t)i * h->longest;
        const float *relative = h->relative ? h->relative - (i0 + i) : NULL;
        size_t at = (i0 + i) * h->context_stride;
        float along = h->kernels->dot(h->context + at, h->d_context + at, h->dim);
        h->kernels->softmax_again(p, p, relative, h->tokens, h->scale, h->log_sums[i0 + i]);
        if (h->drop > 0) h->kernels->drop(d, d, h->tokens, emb_hash_mix(h->key, i0 + i), h->drop);
        h->kernels->softmax_back(d, p, d, h->tokens, along);
        if (h->d_relative) h->kernels->add(h->d_relative - (i0 + i), d, h->tokens);
        for (uint32_t j = 0; j < h->tokens; j++) d[j] *= h->scale;
    }
}

static void backward(const head *h) {
    for (uint32_t t = 0; t < h->tokens; t++) {
        memset(h->d_k + t * h->stride, 0, h->dim * sizeof *h->d_k);
        memset(h->d_v + t * h->stride, 0, h->dim * sizeof *h->d_v);
    }
    for (uint32_t i0 = 0; i0 < h->tokens; i0 += EMB_TRAIN_QUERIES) {
        uint32_t left = h->tokens - i0,
                 queries = left < EMB_TRAIN_QUERIES ? left : EMB_TRAIN_QUERIES;
        const float *q = h->q + i0 * h->stride;
        const float *d_context = h->d_context + i0 * h->context_stride;
        scores_of(h, h->scores, q, h->stride, h->k, h->stride, queries);
        scores_of(h, h->d_scores, d_context, h->context_stride, h->v, h->stride, queries);
        scores_back(h, i0, queries);
        scatter(h, h->d_v, drop(h, i0, queries), d_context, h->context_stride, queries);
        scatter(h, h->d_k, h->d_scores, q, h->stride, queries);
        gather(h, h->d_q + i0 * h->stride, h->stride, h->d_scores, h->k, h->stride, queries);
    }
}

static uint64_t key_of(const emb_train_run *run, uint32_t number, uint32_t chunk) {
    if (!(run->dropout.attention > 0)) return 0;
    uint64_t key = emb_hash_mix(run->dropout.key, 4 * (uint64_t)run->layer + EMB_DROP_WEIGHTS);
    return emb_hash_mix(emb_hash_mix(key, run->rows[chunk]), number);
}

static head head_of(const pass *p, uint32_t index, uint32_t number, uint32_t chunk) {
    const emb_layer_spec *spec = p->run->spec;
    const emb_train_buffers *b = &p->b;
    size_t context = emb_spec_context(spec), stride = 3 * context, start = p->tile->starts[chunk];
    size_t column = (size_t)number * spec->head_dim, from = start * stride + column;
    size_t scores = (size_t)index * EMB_TRAIN_QUERIES * b->longest;
    size_t relative =
        (size_t)number * (2 * (size_t)spec->chunk_tokens_max - 1) + spec->chunk_tokens_max - 1;
    return (head){
        .kernels = emb_train_kernels_in(p->run),
        .tokens = p->tile->starts[chunk + 1] - p->tile->starts[chunk],
        .dim = spec->head_dim,
        .longest = b->longest,
        .stride = stride,
        .context_stride = context,
        .scale = 1.0f / sqrtf((float)spec->head_dim),
        .relative = spec->relative ? spec->relative + relative : NULL,
        .d_relative = p->run->d_relative ? p->run->d_relative + relative : NULL,
        .q = p->a.qkv + from,
        .k = p->a.qkv + from + context,
        .v = p->a.qkv + from + 2 * context,
        .d_q = b->d_qkv + from,
        .d_k = b->d_qkv + from + context,
        .d_v = b->d_qkv + from + 2 * context,
        .context = p->a.context + start * context + column,
        .d_context = b->d_context + start * context + column,
        .log_sums = p->a.log_sums + (size_t)number * p->run->scratch.tokens_max + start,
        .work = b->work + (size_t)index * EMB_TRAIN_WORK,
        .scores = b->scores + scores,
        .d_scores = b->d_scores + scores,
        .dropped_scores = b->dropped_scores + scores,
        .drop = p->run->dropout.attention,
        .key = key_of(p->run, number, chunk),
    };
}

static void heads_part(void *user, uint32_t index, uint32_t count) {
    const pass *p = user;
    uint32_t heads = p->run->spec->heads;
    uint32_t end = emb_team_begin(heads, 1, index + 1, count);
    for (uint32_t n = emb_team_begin(heads, 1, index, count); n < end; n++) {
        for (uint32_t c = 0; c < p->tile->chunks; c++) {
            head h = head_of(p, index, n, c);
            if (p->back)
                backward(&h);
            else
                forward(&h);
        }
    }
}

static pass begin(const emb_train_run *run, const emb_tile *tile, const void *kept) {
    pass p = {.run = run, .tile = tile, .b = emb_train_buffers_of(run)};
    p.a = p.b.attended;
    if (kept) p.a = emb_train_cut_attended(run->spec, run->scratch.tokens_max, kept);
    return p;
}

/* Queries, keys and values, and the context. */
static void attend(pass *p, const float *in, const emb_layer_params *w) {
    uint32_t hidden = p->run->spec->hidden, context = emb_spec_context(p->run->spec);
    emb_train_linear(p->run, p->a.qkv, in, w->qkv, w->qkv_bias, p->tile->tokens, 3 * context,
                     hidden);
    emb_team_run(p->run->team, heads_part, p);
}

void emb_train_cpu_attention(const emb_train_run *run, void *x, void *sum, void *kept,
                             const emb_tile *tile, const emb_layer_params *w) {
    uint32_t hidden = run->spec->hidden, context = emb_spec_context(run->spec);
    pass p = begin(run, tile, kept);
    attend(&p, x, w);
    emb_train_linear(run, sum, p.a.context, w->attention_out, w->attention_out_bias, tile->tokens,
                     hidden, context);
    emb_train_end_block(run, x, sum, tile, EMB_DROP_ATTENTION, w->attention_gain,
                        w->attention_shift);
}

void emb_train_cpu_attention_back(const emb_train_run *run, const emb_layer_params *g, void *d,
                                  const void *in, const void *kept, const emb_tile *tile,
                                  const emb_layer_params *w) {
    uint32_t hidden = run->spec->hidden, context = emb_spec_context(run->spec);
    uint32_t tokens = tile->tokens;
    pass p = begin(run, tile, kept);
    if (!kept) attend(&p, in, w);
    const float *d_out = emb_train_drop(run, p.b.dropped, d, tile, EMB_DROP_ATTENTION);
    emb_train_linear_gradients(run, g->attention_out, g->attention_out_bias, d_out, p.a.context,
                               tokens, hidden, context);
    emb_train_linear_back(run, p.b.d_context, d_out, w->attention_out, tokens, hidden, context,
                          false);
    p.back = true;
    emb_team_run(run->team, heads_part, &p);
    emb_train_linear_gradients(run, g->qkv, g->qkv_bias, p.b.d_qkv, in, tokens, 3 * context,
                               hidden);
    emb_train_linear_back(run, d, p.b.d_qkv, w->qkv, tokens, 3 * context, hidden, true);
}
