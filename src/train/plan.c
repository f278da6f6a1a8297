/* plan.c - what a trainer books, and how much of it: the largest tiles and, of the activations,
 * those kept that the budget allows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "train/keep.h"
#include "train/trainer.h"

/* What threads and the system's libraries take beside our own memory; what a GPU's context grows by
 * when kernels run for the first time. */
#define GROWTH_BYTES        (1u << 20)
#define DEVICE_GROWTH_BYTES (24u << 20)

/* Tokens of a tile where the memory is there; the least is one text. On a CPU larger ones leave the
 * cache; a GPU has more processors to give work to. */
#define TILE_TOKENS        2048
#define DEVICE_TILE_TOKENS 32768

/* What is kept of a batch to save time, where no budget is stated. With it, 64 pairs of 128 tokens
 * take less than a quarter of what PyTorch holds for them (bench/training_cpu.py). */
#define KEPT_BYTES (512ull << 20)

/* ---- booking --------------------------------------------------------------------------------- */

/* The host's part of vectors and loss: a device has the ranking loss to itself. */
static void layout_vectors(emb_trainer *t, const emb_books *books) {
    const emb_train_options *o = &t->options;
    uint32_t texts = o->batch_examples * o->example_texts, width = t->model->shape.spec.hidden;
    uint64_t values = (uint64_t)texts * width, bytes = t->ops->activation_bytes;
    bool host_loss = !t->device || !emb_trainer_loss_on_device(t);
    emb_ledger_item(books->host, "vectors");
    t->vectors = t->rank ? NULL : emb_ledger_take(books->host, values, sizeof(float));
    t->d_vectors = host_loss ? emb_ledger_take(books->host, values, sizeof(float)) : NULL;
    t->tile_vectors = t->vectors;
    t->d_tile_vectors = t->d_vectors;
    if (host_loss)
        emb_loss_layout(&t->loss, &o->loss, o->batch_examples, o->example_texts, width, o->threads,
                        books->host);
    if (!t->device) return;
    emb_ledger_item(books->device, "vectors");
    t->tile_vectors = t->lane.gradients;
    if (o->accumulate > 1) t->tile_vectors = emb_ledger_take(books->device, values, bytes);
    t->d_tile_vectors = emb_ledger_take(books->device, values, bytes);
}

/* On a device vectors lie where gradients will be: the loss is done with them before. Not with
 * parts of a step, whose gradients stay. */
static float *layout_gradients(emb_trainer *t, uint64_t values, const emb_books *books) {
    const emb_train_options *o = &t->options;
    uint64_t bytes = values * sizeof(float), texts = o->batch_examples;
    uint64_t vectors = texts * o->example_texts * t->model->shape.spec.hidden;
    vectors *= t->ops->activation_bytes;
    emb_ledger_item(books->device, "gradients");
    if (t->device && o->accumulate <= 1 && vectors > bytes) bytes = vectors;
    return emb_ledger_take(books->device, bytes, 1);
}

static void layout_device(emb_trainer *t, const emb_train_sizes *sizes, const emb_books *books) {
    const emb_train_options *o = &t->options;
    const emb_layer_spec *spec = &t->model->shape.spec;
    uint32_t qkv = emb_spec_qkv_rows(spec), ffn = emb_spec_ffn_rows(spec);
    uint64_t begin = t->params.layers_first;
    emb_train_device_sizes device = {
        .tokens = sizes->tokens,
        .texts = o->batch_examples * o->example_texts,
        .width = spec->hidden,
        .cols_max = qkv > ffn ? qkv : ffn,
        .matrices_first = begin,
        .matrices_values = t->params.values - begin,
    };
    t->device->layout(&t->lane.run, &device, books->pinned, books->device);
    emb_ledger_item(books->host, "reading and saving");
    t->staging = emb_ledger_take(books->host, EMB_TRAIN_STAGING, 1);
}

/* Only the first of several encodes for its caller, and may then get all texts of a batch. */
static uint32_t texts_read(const emb_trainer *t) {
    uint32_t examples = t->rank ? emb_trainer_share_max(t) : t->options.batch_examples;
    return examples * t->options.example_texts;
}

static void layout_batch(emb_trainer *t, const emb_train_sizes *sizes, emb_ledger *host) {
    uint32_t texts = texts_read(t);
    emb_train_batch_layout(&t->batch, t->model, texts, t->length_max, sizes->tokens, host);
    if (!t->rank && !t->group.count) return;
    t->rows = emb_ledger_take(host, texts < sizes->tokens ? texts : sizes->tokens, sizeof *t->rows);
}

/* What reads and writes files, and the threads: of several GPUs the first has it. */
static void layout_files(emb_trainer *t, emb_ledger *host) {
    if (t->group.count) {
        emb_ledger_item(host, "other GPUs");
        emb_team_layout(&t->group.team, t->group.count, host);
    }
    if (!t->rank) {
        emb_ledger_item(host, "reading and saving");
        emb_directory_layout(&t->directory, host);
        t->scratch = emb_ledger_take(host, emb_params_scratch_bytes(&t->params), 1);
    }
    emb_team_layout(&t->team, t->options.threads, host);
}

void emb_trainer_layout(emb_trainer *t, const emb_train_sizes *sizes, const emb_books *books) {
    const emb_model *model = t->model;
    const emb_train_options *o = &t->options;
    bool lora = o->lora.rank > 0;
    emb_ledger_item(books->host, "parameters");
    if (lora) {
        emb_lora_layout(&t->lora, &model->shape, model->files, &o->lora, sizes->tokens, o->threads,
                        books->host);
        t->params = t->lora.base;
    } else {
        emb_params_layout(&t->params, &model->shape, model->files, books->host);
        emb_ledger_item(books->device, "parameters");
    }
    const emb_params *trained = lora ? &t->lora.trained : &t->params;
    float *values = emb_ledger_take(books->device, trained->values, sizeof(float));
    uint64_t count = o->layerwise ? emb_layerwise_count(trained) : trained->values;
    float *gradients = layout_gradients(t, count, books);
    emb_optimizer_layout(&t->optimizer, trained, o, books->device);
    emb_train_lane_layout(&t->lane, &t->params, t->ops, sizes, books->device);
    t->lane.lora = lora ? &t->lora : NULL;
    t->layerwise = (emb_layerwise){.optimizer = &t->optimizer,
                                   .params = trained,
                                   .values = values,
                                   .gradients = gradients,
                                   .count = count};
    t->lane.layerwise = o->layerwise ? &t->layerwise : NULL;
    t->lane.values = values;
    t->lane.gradients = gradients;
    layout_batch(t, sizes, books->host);
    layout_vectors(t, books);
    if (t->device) layout_device(t, sizes, books);
    layout_files(t, books->host);
}

uint32_t emb_trainer_share_max(const emb_trainer *t) {
    uint32_t devices = t->device ? t->options.machine->devices_count : 1;
    uint32_t examples = t->options.batch_examples;
    return examples / devices + (examples % devices != 0);
}

/* ---- weighing -------------------------------------------------------------------------------- */

/* What sizes come to. */
typedef struct weight {
    emb_ledger host, pinned, device;
    uint64_t others_host, others_pinned; /* of the other GPUs' trainers */
    uint64_t host_bytes, device_bytes;   /* of the whole process */
} weight;

/* What is taken besides, and the most that may be. */
typedef struct limits {
    uint64_t process, host_base, device_taken, device_base, host_most, device_most;
} limits;

/* What a GPU's trainer that is not the first one takes of host memory; of its GPU the same. */
static void weigh_member(weight *w, emb_trainer *t, const emb_train_sizes *sizes) {
    emb_train_group group = t->group;
    emb_train_sizes own = *sizes;
    emb_books books = {&w->host, &w->pinned, &w->device};
    uint32_t threads = t->options.threads;
    own.threads = t->options.threads = t->rank = 1;
    t->group.count = 0;
    emb_ledger_init(&w->host, NULL, 0);
    emb_ledger_init(&w->pinned, NULL, 0);
    emb_ledger_init_foreign(&w->device, NULL, 0);
    emb_trainer_layout(t, &own, &books);
    t->rank = 0;
    t->options.threads = threads;
    t->group = group;
    t->group.host_bytes = w->host.bytes;
    t->group.pinned_bytes = w->pinned.bytes;
    w->others_host = (t->group.count - 1) * w->host.bytes;
    w->others_pinned = (t->group.count - 1) * w->pinned.bytes;
}

static void weigh(weight *w, emb_trainer *t, const limits *l, const emb_train_sizes *sizes) {
    bool device = t->device != NULL;
    emb_books books = {&w->host, device ? &w->pinned : &w->host, device ? &w->device : &w->host};
    w->others_host = w->others_pinned = 0;
    if (t->group.count) weigh_member(w, t, sizes);
    emb_ledger_init(&w->host, NULL, 0);
    emb_ledger_init(&w->pinned, NULL, 0);
    emb_ledger_init_foreign(&w->device, NULL, 0);
    t->sizes = *sizes;
    emb_trainer_layout(t, sizes, &books);
    bool overflow = w->host.overflow || w->pinned.overflow || w->device.overflow;
    uint64_t taken = w->host.bytes + w->pinned.bytes + w->others_host + w->others_pinned;
    w->host_bytes = overflow ? UINT64_MAX : l->host_base + taken;
    w->device_bytes = l->device_base + w->device.bytes;
}

/* Of several GPUs the one with the least room counts. */
static limits limits_of(const emb_trainer *t) {
    const emb_train_options *o = &t->options;
    uint64_t now, peak;
    emb_process_memory(&now, &peak);
    limits l = {.process = peak + GROWTH_BYTES, .host_most = UINT64_MAX, .device_most = UINT64_MAX};
    l.host_base = l.process + o->caller_bytes;
    if (o->host_bytes_max) l.host_most = o->host_bytes_max;
    for (uint32_t i = 0; t->device && i < o->machine->devices_count; i++) {
        const emb_device_info *gpu = &o->machine->devices[i];
        uint64_t taken = gpu->context_bytes + gpu->held_bytes;
        if (taken > l.device_taken) l.device_taken = taken;
        if (gpu->free_bytes && taken + gpu->free_bytes < l.device_most)
            l.device_most = taken + gpu->free_bytes;
    }
    if (!t->device) return l;
    l.device_base = l.device_taken + DEVICE_GROWTH_BYTES + t->group.device_bytes;
    if (o->device_bytes_max) l.device_most = o->device_bytes_max;
    return l;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* Bytes of the region that activations are in. */
static uint64_t bytes_of(const emb_trainer *t, const weight *w) {
    return t->device ? w->device_bytes : w->host_bytes;
}

static bool fits(const limits *l, const weight *w) {
    return w->host_bytes <= l->host_most && w->device_bytes <= l->device_most;
}

static bool sizes_fit(emb_trainer *t, const limits *l, const emb_train_sizes *sizes) {
    weight w;
    weigh(&w, t, l, sizes);
    return fits(l, &w);
}

/* With the smallest tiles: every how many layers a sum is kept. The most that fits, else what takes
 * least. */
static void thin_out(emb_trainer *t, emb_train_sizes *sizes, const limits *l) {
    emb_train_sizes with = *sizes;
    uint64_t least = UINT64_MAX;
    for (with.every = t->model->shape.layers; with.every >= 1; with.every--) {
        weight w;
        weigh(&w, t, l, &with);
        if (bytes_of(t, &w) < least) {
            least = bytes_of(t, &w);
            *sizes = with;
        }
        if (fits(l, &w)) return;
    }
}

static uint32_t first_tile(const emb_trainer *t) {
    const emb_train_options *o = &t->options;
    uint64_t all = (uint64_t)emb_trainer_share_max(t) * o->example_texts * t->length_max;
    uint32_t tile = t->device ? DEVICE_TILE_TOKENS : TILE_TOKENS;
    if (o->tokens_per_tile) tile = o->tokens_per_tile;
    if (tile > all || o->layerwise) tile = (uint32_t)all;
    return tile > t->length_max ? tile : t->length_max;
}

/* Bytes for what is kept, beside sizes of one slab. */
static uint64_t rest_of(emb_trainer *t, const limits *l, const emb_train_sizes *sizes) {
    weight w;
    weigh(&w, t, l, sizes);
    if (t->device) return l->device_most - w.device_bytes;
    return t->options.host_bytes_max ? l->host_most - w.host_bytes : KEPT_BYTES;
}

static uint32_t tiles_of(const emb_trainer *t, uint32_t tile_tokens) {
    uint32_t texts = emb_trainer_share_max(t) * t->options.example_texts;
    return emb_train_batch_tiles(texts, t->length_max, tile_tokens);
}

/* The largest tiles that fit, and what is kept of them. */
static emb_train_sizes choose_sizes(emb_trainer *t, const limits *l) {
    uint32_t layers = t->model->shape.layers, tile = first_tile(t);
    uint32_t least = t->options.layerwise ? tile : t->length_max;
    emb_train_sizes sizes = {.tokens = tile,
                             .slabs = 1,
                             .chunk_tokens_max = t->length_max,
                             .threads = t->options.threads,
                             .every = layers,
                             .state = t->state};
    while (sizes.tokens > least && !sizes_fit(t, l, &sizes)) {
        uint32_t half = sizes.tokens / 2;
        sizes.tokens = half > least ? half : least;
    }
    if (sizes.tokens == least) thin_out(t, &sizes, l);
    if (!sizes_fit(t, l, &sizes) || sizes.every < layers) return sizes;
    emb_keep_costs costs = emb_train_keep_costs(&t->lane, tiles_of(t, sizes.tokens));
    emb_train_keep_choose(&sizes, &costs, rest_of(t, l, &sizes));
    return sizes;
}

static void describe(emb_region *region, emb_region_kind kind, const emb_ledger *ledger,
                     uint64_t bytes) {
    region->kind = kind;
    region->devices = 1;
    region->bytes = bytes;
    region->arena_bytes = ledger->bytes;
    for (uint32_t i = 0; i < ledger->items_count; i++)
        region->items[region->items_count++] = ledger->items[i];
}

static void add_item(emb_region *region, const char *name, uint64_t bytes) {
    emb_item item = {.bytes = bytes};
    if (!bytes) return;
    snprintf(item.name, sizeof item.name, "%s", name);
    region->items[region->items_count++] = item;
}

static void describe_plan(emb_trainer *t, const limits *l, const weight *w) {
    emb_train_plan *plan = &t->plan;
    plan->struct_bytes = sizeof *plan;
    plan->tokens_per_tile = t->sizes.tokens;
    plan->tiles = tiles_of(t, t->sizes.tokens);
    plan->tiles_kept = t->sizes.slabs;
    plan->attention_kept = t->sizes.attention_slabs;
    plan->ffn_kept = t->sizes.ffn_slabs;
    plan->layers = t->model->shape.layers;
    plan->layers_apart = t->sizes.every;
    plan->threads = t->options.threads;
    emb_keep_costs costs = emb_train_keep_costs(&t->lane, plan->tiles);
    plan->passes = emb_train_keep_passes(&t->sizes, &costs, plan->layers);
    if (t->lane.lora)
        plan->passes -= emb_train_keep_weights(&t->lane.spec) * emb_lora_spares(t->lane.lora);
    plan->host_bytes = w->host_bytes;
    add_item(&plan->region, "process", l->process);
    add_item(&plan->region, "caller's buffers", t->options.caller_bytes);
    uint64_t pinned = w->pinned.bytes + w->others_pinned;
    add_item(&plan->region, "other GPUs' trainers", w->others_host);
    describe(&plan->region, EMB_REGION_HOST, &w->host, w->host_bytes - pinned);
    t->bytes = w->host.bytes;
    if (!t->device) return;
    plan->device_bytes = w->device_bytes;
    add_item(&plan->pinned, "other GPUs' trainers", w->others_pinned);
    describe(&plan->pinned, EMB_REGION_PINNED, &w->pinned, pinned);
    uint64_t held = t->gpu.held_bytes < l->device_taken ? t->gpu.held_bytes : l->device_taken;
    add_item(&plan->device, "CUDA context", l->device_taken - held + DEVICE_GROWTH_BYTES);
    add_item(&plan->device, "held by this process", held);
    add_item(&plan->device, "NCCL", t->group.device_bytes);
    describe(&plan->device, EMB_REGION_DEVICE, &w->device, w->device_bytes);
    if (t->group.count) plan->device.devices = t->group.count;
    t->pinned_bytes = w->pinned.bytes;
    t->region_bytes = w->device.bytes;
}

static emb_status refuse(const emb_trainer *t, const limits *l, emb_error *error) {
    bool host = t->plan.host_bytes > l->host_most;
    uint64_t most = host ? l->host_most : l->device_most;
    uint64_t least = host ? t->plan.host_bytes_min : t->plan.device_bytes_min;
    bool stated = host || t->options.device_bytes_max;
    emb_error_set(error, EMB_BUDGET,
                  "%s of %llu bytes is too small to train this model so; the smallest that works "
                  "is %llu bytes",
                  host     ? "a host budget"
                  : stated ? "a budget on the GPU"
                           : "the GPU's free memory",
                  (unsigned long long)most, (unsigned long long)least);
    if (!error) return EMB_BUDGET;
    error->bytes_min = least;
    error->region = host ? EMB_REGION_HOST : EMB_REGION_DEVICE;
    return EMB_BUDGET;
}

emb_status emb_trainer_choose(emb_trainer *t, emb_error *error) {
    limits l = limits_of(t), none = l;
    weight w;
    none.host_most = none.device_most = 0;
    emb_train_sizes sizes = choose_sizes(t, &none); /* the smallest */
    weigh(&w, t, &l, &sizes);
    t->plan.host_bytes_min = w.host_bytes;
    t->plan.device_bytes_min = w.device_bytes;
    sizes = choose_sizes(t, &l);
    weigh(&w, t, &l, &sizes);
    describe_plan(t, &l, &w);
    return fits(&l, &w) ? EMB_OK : refuse(t, &l, error);
}
