/* blocks.c - the blocks of an encoder on a GPU, forwards and back: which kernels, in which order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "train/cpu/random.h"
#include "train/cuda/host/train.h"

/* Cuts the next buffer off; with a base of NULL the end is the number of bytes. */
static void *cut(uintptr_t *end, uint64_t count, uint64_t size) {
    const uint64_t align = EMB_ALIGN;
    uintptr_t start = *end;
    *end += (count * size + align - 1) / align * align;
    return (void *)start;
}

static uint64_t largest(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static emb_cuda_heads heads_of(const emb_layer_spec *spec) {
    return (emb_cuda_heads){.hidden = spec->hidden,
                            .heads = spec->heads,
                            .head_dim = spec->head_dim,
                            .relative_tokens = spec->chunk_tokens_max,
                            .relative = spec->relative};
}

/* Of the largest of what uses them, one after another. */
static uint64_t partials_bytes(const emb_cuda_train *t, const emb_layer_spec *spec,
                               uint32_t tokens) {
    uint32_t hidden = spec->hidden, wide = spec->intermediate;
    const uint32_t shapes[][2] = {
        {3 * hidden, hidden}, {hidden, hidden}, {wide, hidden}, {hidden, wide}};
    uint64_t positions = (uint64_t)spec->chunk_tokens_max * hidden * sizeof(float);
    uint64_t bytes = largest(emb_cuda_train_norm_bytes(hidden), positions);
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bytes = largest(
            bytes, emb_cuda_train_gradients_bytes(shapes[i][0], shapes[i][1], tokens, &t->device));
    return bytes;
}

static uint64_t attention_bytes(const emb_cuda_train *t, const emb_layer_spec *spec,
                                uint32_t tokens) {
    emb_cuda_heads heads = heads_of(spec);
    emb_cuda_batch batch = {.tokens_max = tokens, .chunks_max = emb_chunks_max(tokens, 1)};
    /* not by spec->relative, which is there only once the lane is bound */
    bool relative = spec->positions == EMB_POSITION_RELATIVE;
    return emb_cuda_train_attention_scratch(&heads, &batch, relative, &t->device);
}

emb_cuda_train_buffers emb_cuda_train_cut(const emb_cuda_train *t, const emb_layer_spec *spec,
                                          uint32_t tokens, void *memory) {
    enum { VALUE = 2 };
    uintptr_t end = (uintptr_t)memory;
    uint64_t rows = (uint64_t)tokens * spec->hidden, wide = (uint64_t)tokens * spec->intermediate;
    emb_cuda_train_buffers b = {0};
    b.partials = cut(&end, partials_bytes(t, spec, tokens), 1);
    b.product = cut(&end, rows, VALUE);
    b.dropped = cut(&end, rows, VALUE);
    uintptr_t ffn = end;
    b.before = cut(&ffn, wide, VALUE);
    b.after = cut(&ffn, wide, VALUE);
    b.qkv = cut(&end, 3 * rows, VALUE);
    b.context = cut(&end, rows, VALUE);
    b.log_sums = cut(&end, (uint64_t)spec->heads * tokens, sizeof(float));
    b.d_qkv = cut(&end, 3 * rows, VALUE);
    b.d_context = cut(&end, rows, VALUE);
    b.attention = cut(&end, attention_bytes(t, spec, tokens), 1);
    b.bytes = largest(ffn, end) - (uintptr_t)memory;
    return b;
}

static void layout(emb_train_run *run, const emb_layer_spec *spec, uint32_t tokens,
                   uint32_t threads, emb_ledger *ledger) {
    uint64_t bytes = emb_cuda_train_cut(emb_cuda_train_of(run), spec, tokens, NULL).bytes;
    run->scratch = (emb_train_scratch){emb_ledger_take(ledger, bytes, 1), tokens, threads};
}

static emb_cuda_train_buffers buffers_of(const emb_train_run *run) {
    return emb_cuda_train_cut(emb_cuda_train_of(run), run->spec, run->scratch.tokens_max,
                              run->scratch.memory);
}

/* ---- products -------------------------------------------------------------------------------- */

/* A matrix in 16 bits. */
static const uint16_t *narrow_of(const emb_cuda_train *t, const float *weight) {
    return t->narrow + ((uint64_t)(weight - t->values) - t->sizes.matrices_first);
}

/* out [tokens, rows] = in [tokens, cols] * weight^T + bias */
static void linear(emb_cuda_train *t, void *out, const void *in, const float *weight,
                   const float *bias, uint32_t rows, uint32_t cols, int gelu) {
    emb_cuda_linear matrix = {narrow_of(t, weight), bias, rows, cols, t->type};
    emb_cuda_train_note(t, t->launch->linear_run(out, in, &matrix, gelu, EMB_CUDA_TILE_AUTO,
                                                 &t->batch, &t->device, t->stream));
}

/* What takes d_out [tokens, rows] to d_out * weight [tokens, cols]. */
static emb_cuda_linear transposed(const emb_cuda_train *t, const float *weight, uint32_t rows,
                                  uint32_t cols) {
    uint64_t at = (uint64_t)(weight - t->values) - t->sizes.matrices_first;
    return (emb_cuda_linear){t->transposed + at, t->zeros, cols, rows, t->type};
}

static void linear_back(emb_cuda_train *t, void *d_in, const void *d_out, const float *weight,
                        uint32_t rows, uint32_t cols) {
    emb_cuda_linear matrix = transposed(t, weight, rows, cols);
    emb_cuda_train_note(t, t->launch->linear_run(d_in, d_out, &matrix, 0, EMB_CUDA_TILE_AUTO,
                                                 &t->batch, &t->device, t->stream));
}

static void gradients(emb_cuda_train *t, const emb_cuda_train_buffers *b, float *d_weight,
                      float *d_bias, const void *d_out, const void *in, uint32_t rows,
                      uint32_t cols) {
    emb_cuda_train_note(t, emb_cuda_train_gradients(d_weight, d_bias, d_out, in, rows, cols,
                                                    b->partials, &t->batch, t->type, &t->device,
                                                    t->stream));
}

/* What the product behind a block leaves is added to its gradient by whoever reads that next: the
 * norm before it, else this. */
static void finish_gradient(emb_cuda_train *t, uint32_t hidden) {
    if (!t->unfinished) return;
    emb_cuda_train_note(
        t, emb_cuda_train_add(t->unfinished, t->more, &t->batch, hidden, t->type, t->stream));
    t->unfinished = NULL;
}

static void leave_gradient(emb_cuda_train *t, void *d, const void *more) {
    t->unfinished = d;
    t->more = more;
}

/* ---- dropout, norm --------------------------------------------------------------------------- */

static emb_train_cuda_drop drop_of(const emb_train_run *run, emb_drop_site site) {
    const emb_dropout *d = &run->dropout;
    return (emb_train_cuda_drop){
        .share = site == EMB_DROP_WEIGHTS ? d->attention : d->hidden,
        .key = emb_hash_mix(d->key, 4 * (uint64_t)run->layer + site),
        .rows = run->rows,
    };
}

static emb_cuda_norm norm_of(const emb_train_run *run, const float *gain, const float *shift) {
    return (emb_cuda_norm){gain, shift, run->spec->norm_epsilon};
}

static void drop_embedding(const emb_train_run *run, void *x, const emb_tile *tile) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_train_cuda_drop drop = drop_of(run, EMB_DROP_EMBEDDING);
    (void)tile;
    if (!(drop.share > 0)) return;
    finish_gradient(t, run->spec->hidden);
    emb_cuda_train_note(
        t, emb_cuda_train_drop(x, x, &drop, &t->batch, run->spec->hidden, t->type, t->stream));
}

/* Gives where the result is: out, or in. */
static const void *drop(const emb_train_run *run, void *out, const void *in, emb_drop_site site) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_train_cuda_drop rule = drop_of(run, site);
    if (!(rule.share > 0)) return in;
    emb_cuda_train_note(
        t, emb_cuda_train_drop(out, in, &rule, &t->batch, run->spec->hidden, t->type, t->stream));
    return out;
}

static void norm(const emb_train_run *run, void *out, const void *sum, uint32_t tokens,
                 const float *gain, const float *shift) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_norm norm = norm_of(run, gain, shift);
    (void)tokens;
    emb_cuda_train_note(
        t, emb_cuda_train_norm(out, sum, &norm, run->spec->hidden, &t->batch, t->type, t->stream));
}

static void norm_back(const emb_train_run *run, float *d_gain, float *d_shift, void *d,
                      const void *sum, uint32_t tokens, const float *gain) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    const void *more = t->unfinished == d ? t->more : NULL;
    (void)tokens;
    t->unfinished = NULL;
    emb_cuda_train_note(t, emb_cuda_train_norm_back(d, more, d_gain, d_shift, b.partials, sum, gain,
                                                    run->spec->norm_epsilon, run->spec->hidden,
                                                    &t->batch, t->type, t->stream));
}

/* The projection [hidden, cols] that ends a block. */
typedef struct projection {
    const float *weight, *bias;
    uint32_t cols;
    emb_drop_site site;
    emb_cuda_norm norm;
} projection;

/* sum = x + the projection of `in`, less what is dropped; x = norm(sum). Where sums are forgotten
 * they are not written, in one kernel if there is one. `product` is scratch. */
static void project(const emb_train_run *run, void *x, void *sum, void *product, const void *in,
                    const projection *p) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint32_t hidden = run->spec->hidden;
    emb_train_cuda_drop rule = drop_of(run, p->site);
    if (run->forgets && !(rule.share > 0)) {
        emb_cuda_linear matrix = {narrow_of(t, p->weight), p->bias, hidden, p->cols, t->type};
        emb_cuda_train_note(t, t->launch->linear_norm(x, in, &matrix, x, &p->norm, product,
                                                      EMB_CUDA_TILE_AUTO, t->batch.tokens_max,
                                                      &t->batch, &t->device, t->stream));
        return;
    }
    linear(t, product, in, p->weight, p->bias, hidden, p->cols, 0);
    emb_cuda_train_note(t, emb_cuda_train_add_norm(x, sum, product, &p->norm, &rule, &t->batch,
                                                   hidden, t->type, t->stream));
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Kept, or in the scratch: queries, keys and values, the context, the sums of the softmax. */
static void place_kept(emb_cuda_train_buffers *b, const emb_train_run *run, const void *kept) {
    uint64_t rows = (uint64_t)run->scratch.tokens_max * run->spec->hidden;
    uintptr_t end = (uintptr_t)kept;
    if (!kept) return;
    b->qkv = cut(&end, 3 * rows, 2);
    b->context = cut(&end, rows, 2);
    b->log_sums = cut(&end, (uint64_t)run->spec->heads * run->scratch.tokens_max, sizeof(float));
}

static uint64_t attention_kept(const emb_layer_spec *spec, uint32_t tokens) {
    uint64_t rows = (uint64_t)tokens * spec->hidden;
    uintptr_t end = 0;
    cut(&end, 3 * rows, 2);
    cut(&end, rows, 2);
    cut(&end, (uint64_t)spec->heads * tokens, sizeof(float));
    return end;
}

static void attend(const emb_train_run *run, const emb_cuda_train_buffers *b, const void *in,
                   const emb_layer_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_heads heads = heads_of(run->spec);
    emb_train_cuda_drop rule = drop_of(run, EMB_DROP_WEIGHTS);
    linear(t, b->qkv, in, w->qkv, w->qkv_bias, 3 * run->spec->hidden, run->spec->hidden, 0);
    emb_cuda_train_note(t, emb_cuda_train_attention(b->context, b->log_sums, b->qkv, &heads, &rule,
                                                    &t->batch, t->type, &t->device, t->stream));
}

static void attention(const emb_train_run *run, void *x, void *sum, void *kept,
                      const emb_tile *tile, const emb_layer_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    uint32_t hidden = run->spec->hidden;
    (void)tile;
    finish_gradient(t, hidden);
    place_kept(&b, run, kept);
    attend(run, &b, x, w);
    const projection out = {w->attention_out, w->attention_out_bias, hidden, EMB_DROP_ATTENTION,
                            norm_of(run, w->attention_gain, w->attention_shift)};
    project(run, x, sum, b.product, b.context, &out);
}

static void attention_back(const emb_train_run *run, const emb_layer_params *g, void *d,
                           const void *in, const void *kept, const emb_tile *tile,
                           const emb_layer_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    emb_cuda_heads heads = heads_of(run->spec);
    uint32_t hidden = run->spec->hidden;
    (void)tile;
    place_kept(&b, run, kept);
    if (!kept) attend(run, &b, in, w);
    const void *d_out = drop(run, b.dropped, d, EMB_DROP_ATTENTION);
    emb_train_cuda_drop rule = drop_of(run, EMB_DROP_WEIGHTS);
    gradients(t, &b, g->attention_out, g->attention_out_bias, d_out, b.context, hidden, hidden);
    linear_back(t, b.d_context, d_out, w->attention_out, hidden, hidden);
    emb_cuda_train_note(t, emb_cuda_train_attention_back(
                               b.d_qkv, run->d_relative, b.attention, b.d_context, b.context,
                               b.log_sums, b.qkv, &heads, &rule, run->spec->chunk_tokens_max,
                               &t->batch, t->type, &t->device, t->stream));
    gradients(t, &b, g->qkv, g->qkv_bias, b.d_qkv, in, 3 * hidden, hidden);
    linear_back(t, b.product, b.d_qkv, w->qkv, 3 * hidden, hidden);
    leave_gradient(t, d, b.product);
}

/* ---- feed-forward ---------------------------------------------------------------------------- */

/* Nothing: to keep what stands before the activation costs as much as its product made again. */
static uint64_t ffn_kept(const emb_layer_spec *spec, uint32_t tokens) {
    (void)spec, (void)tokens;
    return 0;
}

static void ffn(const emb_train_run *run, void *x, void *sum, void *kept, const emb_tile *tile,
                const emb_layer_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    uint32_t hidden = run->spec->hidden, wide = run->spec->intermediate;
    (void)tile, (void)kept;
    finish_gradient(t, hidden);
    linear(t, b.after, x, w->ffn_in, w->ffn_in_bias, wide, hidden, 1);
    const projection out = {w->ffn_out, w->ffn_out_bias, wide, EMB_DROP_FFN,
                            norm_of(run, w->ffn_gain, w->ffn_shift)};
    project(run, x, sum, b.product, b.after, &out);
}

static void ffn_back(const emb_train_run *run, const emb_layer_params *g, void *d, const void *in,
                     const void *kept, const emb_tile *tile, const emb_layer_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    uint32_t hidden = run->spec->hidden, wide = run->spec->intermediate;
    (void)tile, (void)kept;
    const void *d_out = drop(run, b.dropped, d, EMB_DROP_FFN);
    linear(t, b.before, in, w->ffn_in, w->ffn_in_bias, wide, hidden, 0);
    /* before becomes what the activation made of it, after the gradient before it */
    emb_cuda_linear ffn_out = transposed(t, w->ffn_out, hidden, wide);
    emb_cuda_train_note(t, emb_cuda_train_linear_gelu_back(b.after, b.before, b.before, d_out,
                                                           &ffn_out, &t->batch, &t->device,
                                                           t->stream));
    gradients(t, &b, g->ffn_out, g->ffn_out_bias, d_out, b.before, hidden, wide);
    gradients(t, &b, g->ffn_in, g->ffn_in_bias, b.after, in, wide, hidden);
    linear_back(t, b.product, b.after, w->ffn_in, wide, hidden);
    leave_gradient(t, d, b.product);
}

/* ---- before and behind the layers ------------------------------------------------------------ */

static void embed(const emb_train_run *run, void *x, void *sum, const emb_tile *tile,
                  const emb_embed_params *w) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint32_t hidden = run->spec->hidden;
    const float *positions = w->positions + (uint64_t)run->position_offset * hidden;
    emb_cuda_train_note(
        t, emb_cuda_train_embed(x, sum, &t->batch, w->words, positions, w->token_types, w->gain,
                                w->shift, run->spec->norm_epsilon, hidden, t->type, t->stream));
    drop_embedding(run, x, tile);
}

static void embed_back(const emb_train_run *run, const emb_embed_params *g, const void *d_sum,
                       const emb_tile *tile) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_buffers b = buffers_of(run);
    uint32_t hidden = run->spec->hidden;
    float *positions = g->positions + (uint64_t)run->position_offset * hidden;
    (void)tile;
    emb_cuda_train_note(t, emb_cuda_train_embed_back(
                               g->words, positions, g->token_types, b.partials, d_sum, &t->batch,
                               &t->words, run->spec->chunk_tokens_max, hidden, t->type, t->stream));
}

static emb_cuda_pooling pooling_of(const emb_pool_rule *rule) {
    return rule->pooling == EMB_POOLING_CLS   ? EMB_CUDA_POOL_CLS
           : rule->pooling == EMB_POOLING_MAX ? EMB_CUDA_POOL_MAX
                                              : EMB_CUDA_POOL_MEAN;
}

static void pool(const emb_train_run *run, void *vectors, const uint32_t *targets, const void *in,
                 const emb_tile *tile, const emb_pool_rule *rule) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    (void)targets, (void)tile;
    emb_cuda_train_note(t, emb_cuda_train_pool(vectors, in, &t->batch, run->spec->hidden,
                                               pooling_of(rule), rule->normalize != 0, t->type,
                                               t->stream));
}

static void pool_back(const emb_train_run *run, void *d, const void *d_vectors,
                      const uint32_t *targets, const void *in, const emb_tile *tile,
                      const emb_pool_rule *rule) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    (void)targets, (void)tile;
    emb_cuda_train_note(t, emb_cuda_train_pool_back(d, d_vectors, in, &t->batch, run->spec->hidden,
                                                    pooling_of(rule), rule->normalize != 0, t->type,
                                                    t->stream));
}

const emb_train_ops emb_cuda_train_ops = {
    .name = "cuda",
    .activation_bytes = 2,
    .device = &emb_cuda_train_device,
    .layout = layout,
    .attention_kept = attention_kept,
    .ffn_kept = ffn_kept,
    .embed = embed,
    .embed_back = embed_back,
    .drop_embedding = drop_embedding,
    .norm = norm,
    .norm_back = norm_back,
    .attention = attention,
    .attention_back = attention_back,
    .ffn = ffn,
    .ffn_back = ffn_back,
    .pool = pool,
    .pool_back = pool_back,
};
