/* pass.c - the two visitors of the walk over layers: one keeps the sums that go into the norms,
 * the other comes back over them.
 *
 * A slab that keeps the sum of every k-th layer alone (Chen et al. 2016) shares the place of those
 * between with the others: the way back fills it again, segment by segment.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/pass.h"

#include <string.h>

#include "base/assert.h"
#include "encoder/walk.h"

/* No segment is in its place. */
#define HELD_NONE UINT32_MAX

/* Bytes of a row of sums, of one norm. */
static uint64_t sum_bytes(const emb_train_lane *lane) {
    return (uint64_t)lane->tokens_max * lane->spec.hidden * lane->run.ops->activation_bytes;
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + EMB_ALIGN - 1) / EMB_ALIGN * EMB_ALIGN;
}

/* Sums between two that a slab keeps. */
static uint64_t segment_bytes(const emb_train_lane *lane) {
    return (2 * (uint64_t)lane->every - 1) * sum_bytes(lane);
}

static bool segmented(const emb_train_lane *lane) {
    return lane->every < lane->params->shape->layers;
}

static void layout_slabs(emb_train_lane *lane, const emb_train_sizes *sizes, emb_ledger *ledger) {
    const emb_train_ops *ops = lane->run.ops;
    uint64_t layers = lane->params->shape->layers;
    lane->slabs = sizes->slabs;
    lane->attention_slabs = sizes->attention_slabs;
    lane->ffn_slabs = sizes->ffn_slabs;
    lane->every = sizes->every ? sizes->every : (uint32_t)layers;
    lane->attention_bytes = aligned(ops->attention_kept(&lane->spec, lane->tokens_max));
    lane->ffn_bytes = aligned(ops->ffn_kept(&lane->spec, lane->tokens_max));
    uint64_t kept = (layers / lane->every + 1) * sum_bytes(lane);
    lane->slab_bytes = aligned(segmented(lane) ? kept : kept + segment_bytes(lane));
    lane->kept = emb_ledger_take(ledger, lane->slabs, lane->slab_bytes);
    lane->segment = segmented(lane) ? emb_ledger_take(ledger, segment_bytes(lane), 1) : NULL;
    lane->attentions =
        emb_ledger_take(ledger, lane->attention_slabs * layers, lane->attention_bytes);
    lane->ffns = emb_ledger_take(ledger, lane->ffn_slabs * layers, lane->ffn_bytes);
}

void emb_train_lane_layout(emb_train_lane *lane, const emb_params *params, const emb_train_ops *ops,
                           const emb_train_sizes *sizes, emb_ledger *ledger) {
    const emb_shape *shape = params->shape;
    uint32_t tokens = sizes->tokens;
    uint64_t relative = (uint64_t)shape->spec.heads * (2 * (uint64_t)sizes->chunk_tokens_max - 1);
    memset(lane, 0, sizeof *lane);
    lane->params = params;
    lane->spec = shape->spec;
    lane->spec.chunk_tokens_max = sizes->chunk_tokens_max;
    lane->tokens_max = tokens;
    lane->run.ops = ops;
    lane->run.state = sizes->state;
    emb_ledger_item(ledger, "activations");
    layout_slabs(lane, sizes, ledger);
    lane->x = emb_ledger_take(ledger, sum_bytes(lane), 1);
    lane->d = emb_ledger_take(ledger, sum_bytes(lane), 1);
    if (shape->relative_buckets) {
        lane->relative = emb_ledger_take(ledger, relative, sizeof(float));
        lane->d_relative = emb_ledger_take(ledger, relative, sizeof(float));
    }
    emb_ledger_item(ledger, "block scratch");
    lane->run.position_offset = shape->position_offset;
    ops->layout(&lane->run, &lane->spec, tokens, sizes->threads, ledger);
}

void emb_train_lane_select(emb_train_lane *lane, uint32_t slab) {
    if (slab != lane->slab) lane->held = HELD_NONE;
    lane->slab = slab;
}

/* The model's own parameters. */
static float *model_values(const emb_train_lane *lane) {
    return lane->lora ? lane->lora->values : lane->values;
}

static emb_layer_params weights_of(const emb_train_lane *lane, uint32_t layer) {
    if (lane->lora) return emb_lora_weights(lane->lora, lane->values, layer);
    return emb_params_layer(lane->params, lane->values, layer);
}

/* The value that the gradients begin with. */
static uint64_t gradients_first(const emb_train_lane *lane) {
    return lane->layerwise ? lane->layerwise->first : 0;
}

/* Where the gradients of a layer go; NULL where they are not wanted. */
static emb_layer_params gradients_of(const emb_train_lane *lane, uint32_t layer) {
    if (lane->lora) return emb_lora_gradients(lane->lora);
    if (lane->layerwise) emb_layerwise_begin(lane->layerwise, layer);
    return emb_params_layer_from(lane->params, lane->gradients, gradients_first(lane), layer);
}

void emb_train_lane_refresh(emb_train_lane *lane) {
    lane->spec.relative = lane->relative;
    lane->run.spec = &lane->spec;
    lane->run.d_relative = lane->lora ? NULL : lane->d_relative;
    if (!lane->relative || lane->run.ops->device) return; /* a device's: remote.c */
    emb_embed_params weights = emb_params_embed(lane->params, model_values(lane));
    emb_params_spread_relative(lane->relative, weights.relative, lane->params->shape,
                               lane->spec.chunk_tokens_max);
}

/* A tile on its way. */
typedef struct journey {
    emb_train_lane *lane;
    const emb_tile *tile;
} journey;

/* The sum that goes into norm number n: 0 is the embedding's, 2 l + 1 and 2 l + 2 are layer l's. */
static void *sum_at(const emb_train_lane *lane, uint32_t n) {
    uint32_t step = 2 * lane->every, within = n % step;
    unsigned char *slab = lane->kept + lane->slab * lane->slab_bytes;
    unsigned char *segment = lane->segment ? lane->segment : slab + 2 * sum_bytes(lane);
    return within ? segment + (within - 1) * sum_bytes(lane) : slab + n / step * sum_bytes(lane);
}

/* Where the slab at hand keeps the inside of a layer's block: `slabs` at the end do. NULL: not. */
static void *inside_at(const emb_train_lane *lane, unsigned char *insides, uint32_t slabs,
                       uint64_t bytes, uint32_t layer) {
    uint64_t layers = lane->params->shape->layers;
    if (lane->slab + slabs < lane->slabs) return NULL;
    return insides + ((lane->slab + slabs - lane->slabs) * layers + layer) * bytes;
}

static void *attention_at(const emb_train_lane *lane, uint32_t layer) {
    return inside_at(lane, lane->attentions, lane->attention_slabs, lane->attention_bytes, layer);
}

static void *ffn_at(const emb_train_lane *lane, uint32_t layer) {
    return inside_at(lane, lane->ffns, lane->ffn_slabs, lane->ffn_bytes, layer);
}

/* The gain (0) or shift (1) of norm number n, in a part of an array of the parameters' order. */
static float *norm_from(const emb_train_lane *lane, float *part, uint64_t first, uint32_t n,
                        uint32_t which) {
    if (n == 0) {
        emb_embed_params embed = emb_params_embed_from(lane->params, part, first);
        return which ? embed.shift : embed.gain;
    }
    emb_layer_params layer = emb_params_layer_from(lane->params, part, first, (n - 1) / 2);
    if (n % 2) return which ? layer.attention_shift : layer.attention_gain;
    return which ? layer.ffn_shift : layer.ffn_gain;
}

static float *norm_of(const emb_train_lane *lane, uint32_t n, uint32_t which) {
    return norm_from(lane, model_values(lane), 0, n, which);
}

static float *norm_gradient(const emb_train_lane *lane, uint32_t n, uint32_t which) {
    if (lane->lora) return NULL;
    return norm_from(lane, lane->gradients, gradients_first(lane), n, which);
}

/* x = norm number n of its sum: the input of what comes behind it. */
static void norm(const emb_train_lane *lane, uint32_t n, const emb_tile *tile) {
    lane->run.ops->norm(&lane->run, lane->x, sum_at(lane, n), tile->tokens, norm_of(lane, n, 0),
                        norm_of(lane, n, 1));
    if (n == 0) lane->run.ops->drop_embedding(&lane->run, lane->x, tile);
}

static void norm_back(const emb_train_lane *lane, uint32_t n, const emb_tile *tile) {
    if (n == 0) lane->run.ops->drop_embedding(&lane->run, lane->d, tile);
    lane->run.ops->norm_back(&lane->run, norm_gradient(lane, n, 0), norm_gradient(lane, n, 1),
                             lane->d, sum_at(lane, n), tile->tokens, norm_of(lane, n, 0));
}

static emb_status visit(void *user, uint32_t n, emb_error *error) {
    const journey *j = user;
    emb_train_lane *lane = j->lane;
    emb_layer_params layer = weights_of(lane, n);
    (void)error;
    lane->run.layer = n;
    lane->run.ops->attention(&lane->run, lane->x, sum_at(lane, 2 * n + 1), attention_at(lane, n),
                             j->tile, &layer);
    lane->run.ops->ffn(&lane->run, lane->x, sum_at(lane, 2 * n + 2), ffn_at(lane, n), j->tile,
                       &layer);
    lane->held = n / lane->every;
    return EMB_OK;
}

/* Fills the place of the sums between: those of the layers up to number n. */
static void fill_segment(journey *j, uint32_t n) {
    emb_train_lane *lane = j->lane;
    uint32_t first = n - n % lane->every;
    emb_error none;
    if (!segmented(lane) || lane->held == n / lane->every) return;
    lane->run.layer = first;
    norm(lane, 2 * first, j->tile);
    for (uint32_t layer = first; layer <= n; layer++) visit(j, layer, &none);
}

static emb_status visit_back(void *user, uint32_t n, emb_error *error) {
    journey *j = user;
    emb_train_lane *lane = j->lane;
    (void)error;
    fill_segment(j, n);
    emb_layer_params layer = weights_of(lane, n), gradients = gradients_of(lane, n);
    lane->run.layer = n;
    norm_back(lane, 2 * n + 2, j->tile);
    norm(lane, 2 * n + 1, j->tile);
    lane->run.ops->ffn_back(&lane->run, &gradients, lane->d, lane->x, ffn_at(lane, n), j->tile,
                            &layer);
    norm_back(lane, 2 * n + 1, j->tile);
    norm(lane, 2 * n, j->tile);
    lane->run.ops->attention_back(&lane->run, &gradients, lane->d, lane->x, attention_at(lane, n),
                                  j->tile, &layer);
    if (lane->lora) emb_lora_project(lane->lora, lane->values, lane->gradients, n);
    if (lane->layerwise) emb_layerwise_end(lane->layerwise);
    return EMB_OK;
}

/* The tile may get other ids; the gradient's room is free on the way forward. */
static emb_embed_params embedding_of(const emb_train_lane *lane, emb_tile *tile) {
    if (!lane->lora) return emb_params_embed(lane->params, lane->values);
    EMB_ASSERT(lane->run.ops->activation_bytes == sizeof(float));
    return emb_lora_embed(lane->lora, lane->d, tile);
}

void emb_train_forward(emb_train_lane *lane, void *vectors, const uint32_t *targets,
                       const emb_tile *tile) {
    const emb_train_ops *ops = lane->run.ops;
    uint32_t layers = lane->params->shape->layers;
    emb_tile words = *tile;
    emb_embed_params weights = embedding_of(lane, &words);
    journey j = {lane, tile};
    emb_visitor visitor = {.user = &j, .visit = visit};
    emb_error none;
    lane->run.layer = 0;
    lane->run.rows = targets;
    ops->embed(&lane->run, lane->x, sum_at(lane, 0), &words, &weights);
    emb_walk(&visitor, layers, &none);
    if (vectors) ops->pool(&lane->run, vectors, targets, lane->x, tile, &lane->pool);
}

void emb_train_backward(emb_train_lane *lane, const void *d_vectors, const uint32_t *targets,
                        const emb_tile *tile) {
    const emb_train_ops *ops = lane->run.ops;
    const emb_shape *shape = lane->params->shape;
    uint64_t relative =
        (uint64_t)lane->spec.heads * (2 * (uint64_t)lane->spec.chunk_tokens_max - 1);
    journey j = {lane, tile};
    emb_visitor visitor = {.user = &j, .back = true, .visit = visit_back};
    emb_error none;
    lane->run.rows = targets;
    bool gathers = lane->d_relative && !ops->device; /* a device's: remote.c */
    if (gathers) memset(lane->d_relative, 0, relative * sizeof(float));
    fill_segment(&j, shape->layers - 1);
    norm(lane, 2 * shape->layers, tile);
    ops->pool_back(&lane->run, lane->d, d_vectors, targets, lane->x, tile, &lane->pool);
    emb_walk(&visitor, shape->layers, &none);
    if (lane->lora) return; /* there is nothing to learn before the layers */
    if (lane->layerwise) emb_layerwise_begin_outside(lane->layerwise);
    emb_embed_params gradients =
        emb_params_embed_from(lane->params, lane->gradients, gradients_first(lane));
    lane->run.layer = 0;
    norm_back(lane, 0, tile);
    ops->embed_back(&lane->run, &gradients, lane->d, tile);
    if (gathers)
        emb_params_gather_relative(gradients.relative, lane->d_relative, shape,
                                   lane->spec.chunk_tokens_max);
    if (!lane->layerwise) return;
    emb_layerwise_end(lane->layerwise);
    emb_layerwise_words(lane->layerwise, lane->d, tile);
}
