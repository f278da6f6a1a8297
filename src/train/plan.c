/* plan.c - what a trainer books, and how much of it: the largest tiles and the most kept
 * activations that the budget allows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "train/trainer.h"

/* What threads and the system's libraries take beside our own memory. */
#define GROWTH_BYTES (1u << 20)

/* Tokens of a tile where the memory is there; the least is one text. Larger ones leave the cache.
 */
#define TILE_TOKENS 2048

/* What is kept of a batch to save time, where no budget is stated: 50,000 tokens of six layers that
 * are 384 wide. */
#define KEPT_BYTES (1ull << 30)

void emb_trainer_layout(emb_trainer *t, const emb_train_sizes *sizes, emb_ledger *ledger) {
    const emb_model *model = t->model;
    const emb_train_options *o = &t->options;
    uint32_t texts = o->batch_examples * o->example_texts, width = model->shape.spec.hidden;
    emb_ledger_item(ledger, "parameters");
    emb_params_layout(&t->params, &model->shape, model->files, ledger);
    float *values = emb_ledger_take(ledger, t->params.values, sizeof(float));
    emb_ledger_item(ledger, "gradients");
    float *gradients = emb_ledger_take(ledger, t->params.values, sizeof(float));
    emb_optimizer_layout(&t->optimizer, &t->params, o->optimizer_bits == 8, ledger);
    emb_train_lane_layout(&t->lane, &t->params, &emb_train_cpu_ops, sizes, ledger);
    t->lane.values = values;
    t->lane.gradients = gradients;
    emb_train_batch_layout(&t->batch, model, texts, t->length_max, sizes->tokens, ledger);
    emb_ledger_item(ledger, "vectors");
    t->vectors = emb_ledger_take(ledger, (uint64_t)texts * width, sizeof(float));
    t->d_vectors = emb_ledger_take(ledger, (uint64_t)texts * width, sizeof(float));
    emb_loss_layout(&t->loss, o->batch_examples, o->example_texts, width, o->threads, ledger);
    emb_ledger_item(ledger, "reading and saving");
    emb_directory_layout(&t->directory, ledger);
    t->scratch = emb_ledger_take(ledger, emb_params_scratch_bytes(&t->params), 1);
    emb_team_layout(&t->team, o->threads, ledger);
}

static uint64_t bytes_with(emb_trainer *t, uint32_t tile_tokens, uint32_t slabs,
                           emb_ledger *ledger) {
    t->sizes = (emb_train_sizes){.tokens = tile_tokens,
                                 .slabs = slabs,
                                 .chunk_tokens_max = t->length_max,
                                 .threads = t->options.threads};
    emb_ledger_init(ledger, NULL, 0);
    emb_trainer_layout(t, &t->sizes, ledger);
    return ledger->overflow ? UINT64_MAX / 2 : ledger->bytes;
}

static void describe_plan(emb_train_plan *plan, const emb_ledger *ledger, uint64_t process,
                          uint64_t caller, uint64_t bytes) {
    emb_region *region = &plan->region;
    *region = (emb_region){.kind = EMB_REGION_HOST,
                           .devices = 1,
                           .bytes = process + caller + bytes,
                           .arena_bytes = bytes};
    region->items[region->items_count++] = (emb_item){"process", process};
    if (caller) region->items[region->items_count++] = (emb_item){"caller's buffers", caller};
    for (uint32_t i = 0; i < ledger->items_count; i++)
        region->items[region->items_count++] = ledger->items[i];
}

/* How many tiles to keep: as many as the budget allows, or without one as fit KEPT_BYTES. */
static uint32_t slabs_of(const emb_trainer *t, uint64_t rest, uint64_t slab, uint32_t tiles) {
    if (!t->options.host_bytes_max) rest = KEPT_BYTES;
    uint64_t slabs = 1 + rest / slab;
    return slabs < tiles ? (uint32_t)slabs : tiles;
}

/* The largest tiles that the budget allows, and then as many tiles kept as it allows: each spares
 * its second way through the encoder. */
emb_status emb_trainer_choose(emb_trainer *t, emb_error *error) {
    emb_train_options *o = &t->options;
    emb_ledger ledger;
    uint64_t now, peak;
    emb_process_memory(&now, &peak);
    uint64_t process = peak + GROWTH_BYTES, base = process + o->caller_bytes;
    uint64_t most = o->host_bytes_max ? o->host_bytes_max : UINT64_MAX;
    uint32_t texts = o->batch_examples * o->example_texts;
    uint64_t all = (uint64_t)texts * t->length_max;
    uint32_t tile = o->tokens_per_tile ? o->tokens_per_tile : TILE_TOKENS;
    if (tile > all) tile = (uint32_t)all;
    if (tile < t->length_max) tile = t->length_max;
    t->plan.host_bytes_min = base + bytes_with(t, t->length_max, 1, &ledger);
    while (tile > t->length_max && base + bytes_with(t, tile, 1, &ledger) > most)
        tile = tile / 2 > t->length_max ? tile / 2 : t->length_max;
    uint64_t one = bytes_with(t, tile, 1, &ledger), slab = bytes_with(t, tile, 2, &ledger) - one;
    uint64_t rest = base + one < most ? most - base - one : 0;
    uint32_t tiles = emb_train_batch_tiles(texts, t->length_max, tile);
    t->plan.tiles_kept = slabs_of(t, rest, slab, tiles);
    t->bytes = bytes_with(t, tile, t->plan.tiles_kept, &ledger);
    t->plan.struct_bytes = sizeof t->plan;
    t->plan.tokens_per_tile = tile;
    t->plan.threads = o->threads;
    t->plan.host_bytes = base + t->bytes;
    describe_plan(&t->plan, &ledger, process, o->caller_bytes, t->bytes);
    if (!o->host_bytes_max || t->plan.host_bytes <= most) return EMB_OK;
    emb_error_set(error, EMB_BUDGET,
                  "a host budget of %llu bytes is too small to train this model so; the smallest "
                  "that works is %llu bytes",
                  (unsigned long long)most, (unsigned long long)t->plan.host_bytes_min);
    if (error) error->bytes_min = t->plan.host_bytes_min;
    return EMB_BUDGET;
}
