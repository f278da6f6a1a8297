/* pass.c - the two visitors of the walk over layers: one keeps the sums that go into the norms,
 * the other comes back over them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/pass.h"

#include <string.h>

#include "encoder/walk.h"

/* Values of a slab. */
static uint64_t slab_values(const emb_shape *shape, uint32_t tokens) {
    return (1 + 2 * (uint64_t)shape->layers) * tokens * shape->spec.hidden;
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
    emb_ledger_item(ledger, "activations");
    uint64_t values = (uint64_t)tokens * shape->spec.hidden;
    lane->slabs = sizes->slabs;
    lane->kept = lane->sums =
        emb_ledger_take(ledger, sizes->slabs * slab_values(shape, tokens), sizeof(float));
    lane->x = emb_ledger_take(ledger, values, sizeof(float));
    lane->d = emb_ledger_take(ledger, values, sizeof(float));
    if (shape->relative_buckets) {
        lane->relative = emb_ledger_take(ledger, relative, sizeof(float));
        lane->d_relative = emb_ledger_take(ledger, relative, sizeof(float));
    }
    emb_ledger_item(ledger, "block scratch");
    lane->run.ops = ops;
    lane->run.position_offset = shape->position_offset;
    ops->layout(&lane->run.scratch, &lane->spec, tokens, sizes->threads, ledger);
}

void emb_train_lane_select(emb_train_lane *lane, uint32_t slab) {
    lane->sums = lane->kept + slab * slab_values(lane->params->shape, lane->tokens_max);
}

void emb_train_lane_refresh(emb_train_lane *lane) {
    lane->spec.relative = lane->relative;
    lane->run.spec = &lane->spec;
    lane->run.d_relative = lane->d_relative;
    if (!lane->relative) return;
    emb_embed_params weights = emb_params_embed(lane->params, lane->values);
    emb_params_spread_relative(lane->relative, weights.relative, lane->params->shape,
                               lane->spec.chunk_tokens_max);
}

/* A tile on its way. */
typedef struct journey {
    emb_train_lane *lane;
    const emb_tile *tile;
} journey;

/* The sum that goes into norm number n: 0 is the embedding's, 2 l + 1 and 2 l + 2 are layer l's. */
static float *sum_at(const emb_train_lane *lane, uint32_t n) {
    return lane->sums + (size_t)n * lane->tokens_max * lane->spec.hidden;
}

/* The gain (0) or shift (1) of norm number n, in an array of the parameters' order. */
static float *norm_of(const emb_train_lane *lane, float *values, uint32_t n, uint32_t which) {
    if (n == 0) {
        emb_embed_params embed = emb_params_embed(lane->params, values);
        return which ? embed.shift : embed.gain;
    }
    emb_layer_params layer = emb_params_layer(lane->params, values, (n - 1) / 2);
    if (n % 2) return which ? layer.attention_shift : layer.attention_gain;
    return which ? layer.ffn_shift : layer.ffn_gain;
}

/* x = norm number n of its sum: the input of what comes behind it. */
static void norm(const emb_train_lane *lane, uint32_t n, const emb_tile *tile) {
    lane->run.ops->norm(&lane->run, lane->x, sum_at(lane, n), tile->tokens,
                        norm_of(lane, lane->values, n, 0), norm_of(lane, lane->values, n, 1));
    if (n == 0) lane->run.ops->drop_embedding(&lane->run, lane->x, tile);
}

static void norm_back(const emb_train_lane *lane, uint32_t n, const emb_tile *tile) {
    if (n == 0) lane->run.ops->drop_embedding(&lane->run, lane->d, tile);
    lane->run.ops->norm_back(&lane->run, norm_of(lane, lane->gradients, n, 0),
                             norm_of(lane, lane->gradients, n, 1), lane->d, sum_at(lane, n),
                             tile->tokens, norm_of(lane, lane->values, n, 0));
}

static emb_status visit(void *user, uint32_t n, emb_error *error) {
    const journey *j = user;
    emb_train_lane *lane = j->lane;
    emb_layer_params layer = emb_params_layer(lane->params, lane->values, n);
    (void)error;
    lane->run.layer = n;
    norm(lane, 2 * n, j->tile);
    lane->run.ops->attention(&lane->run, sum_at(lane, 2 * n + 1), lane->x, j->tile, &layer);
    norm(lane, 2 * n + 1, j->tile);
    lane->run.ops->ffn(&lane->run, sum_at(lane, 2 * n + 2), lane->x, j->tile, &layer);
    return EMB_OK;
}

static emb_status visit_back(void *user, uint32_t n, emb_error *error) {
    const journey *j = user;
    emb_train_lane *lane = j->lane;
    emb_layer_params layer = emb_params_layer(lane->params, lane->values, n);
    emb_layer_params gradients = emb_params_layer(lane->params, lane->gradients, n);
    (void)error;
    lane->run.layer = n;
    norm_back(lane, 2 * n + 2, j->tile);
    norm(lane, 2 * n + 1, j->tile);
    lane->run.ops->ffn_back(&lane->run, &gradients, lane->d, lane->x, j->tile, &layer);
    norm_back(lane, 2 * n + 1, j->tile);
    norm(lane, 2 * n, j->tile);
    lane->run.ops->attention_back(&lane->run, &gradients, lane->d, lane->x, j->tile, &layer);
    return EMB_OK;
}

void emb_train_forward(emb_train_lane *lane, float *vectors, const uint32_t *targets,
                       const emb_tile *tile) {
    const emb_train_ops *ops = lane->run.ops;
    uint32_t layers = lane->params->shape->layers;
    emb_embed_params weights = emb_params_embed(lane->params, lane->values);
    journey j = {lane, tile};
    emb_visitor visitor = {.user = &j, .visit = visit};
    emb_error none;
    lane->run.layer = 0;
    lane->run.rows = targets;
    ops->embed(&lane->run, sum_at(lane, 0), tile, &weights);
    emb_walk(&visitor, layers, &none);
    norm(lane, 2 * layers, tile);
    ops->pool(&lane->run, vectors, targets, lane->x, tile, &lane->pool);
}

void emb_train_backward(emb_train_lane *lane, const float *d_vectors, const uint32_t *targets,
                        const emb_tile *tile) {
    const emb_train_ops *ops = lane->run.ops;
    const emb_shape *shape = lane->params->shape;
    emb_embed_params gradients = emb_params_embed(lane->params, lane->gradients);
    uint64_t relative =
        (uint64_t)lane->spec.heads * (2 * (uint64_t)lane->spec.chunk_tokens_max - 1);
    journey j = {lane, tile};
    emb_visitor visitor = {.user = &j, .back = true, .visit = visit_back};
    emb_error none;
    lane->run.rows = targets;
    if (lane->d_relative) memset(lane->d_relative, 0, relative * sizeof(float));
    norm(lane, 2 * shape->layers, tile);
    ops->pool_back(&lane->run, lane->d, d_vectors, targets, lane->x, tile, &lane->pool);
    emb_walk(&visitor, shape->layers, &none);
    lane->run.layer = 0;
    norm_back(lane, 0, tile);
    ops->embed_back(&lane->run, &gradients, lane->d, tile);
    if (lane->d_relative)
        emb_params_gather_relative(gradients.relative, lane->d_relative, shape,
                                   lane->spec.chunk_tokens_max);
}
