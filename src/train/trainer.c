/* trainer.c - the public calls: memory once, then step by step: texts, vectors, loss, gradients,
 * update.
 *
 * A batch larger than a tile goes through the encoder twice: once for its vectors, which the loss
 * needs all together, and once more, a tile at a time, for the gradients (Gao et al. 2021,
 * GradCache). So the activations of one tile are in memory, whatever the batch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/process.h"
#include "train/cpu/random.h"
#include "train/trainer.h"

/* ---- opening ----------------------------------------------------------------------------------
 */

/* What the texts of an example must be, by loss. */
static emb_status check_texts(const emb_train_options *o, emb_error *error) {
    static const struct {
        uint32_t least, most;
        const char *what;
    } takes[] = {{2, UINT32_MAX, "an anchor, a positive and negatives, if any"},
                 {2, 2, "two texts and a score"},
                 {2, 2, "two texts and a score"},
                 {3, UINT32_MAX, "an anchor, a positive and negatives"},
                 {1, 1, "a text and its class"},
                 {1, UINT32_MAX, "any texts"}};
    if ((uint32_t)o->loss.kind >= sizeof takes / sizeof takes[0])
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "no loss has the number %d",
                             (int)o->loss.kind);
    if (o->example_texts < takes[o->loss.kind].least || o->example_texts > takes[o->loss.kind].most)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "this loss is of %s, not of %u text%s an example (example_texts)",
                             takes[o->loss.kind].what, o->example_texts,
                             o->example_texts == 1 ? "" : "s");
    return EMB_OK;
}

static emb_status check_loss(const emb_train_loss *loss, uint32_t width, emb_error *error) {
    if (!(loss->scale >= 0) || !(loss->margin >= 0) || !isfinite(loss->scale + loss->margin))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the loss's scale and margin must be 0 or above");
    if ((uint32_t)loss->distance > EMB_DISTANCE_COSINE)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "no distance has the number %d",
                             (int)loss->distance);
    if (loss->kind == EMB_LOSS_DISTILL && (!loss->teacher_width || loss->teacher_width > 1u << 20))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "teacher_width %u: state the values of a teacher's vector",
                             loss->teacher_width);
    if (loss->widths_count > EMB_TRAIN_WIDTHS)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%u Matryoshka widths: %u at most",
                             loss->widths_count, EMB_TRAIN_WIDTHS);
    for (uint32_t i = 0; i < loss->widths_count; i++) {
        if (loss->widths[i] < 1 || loss->widths[i] > width)
            return emb_error_set(error, EMB_INVALID_ARGUMENT,
                                 "Matryoshka width %u: the model's vectors have %u values",
                                 loss->widths[i], width);
        if (!(loss->width_weights[i] >= 0) || !isfinite(loss->width_weights[i]))
            return emb_error_set(error, EMB_INVALID_ARGUMENT,
                                 "the weight of a Matryoshka width must be 0 or above");
    }
    return EMB_OK;
}

static emb_status check_optimizer(const emb_train_options *o, emb_error *error) {
    if (o->optimizer_bits != 0 && o->optimizer_bits != 8 && o->optimizer_bits != 32)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "an optimizer of %u bits: 32 and 8 are possible", o->optimizer_bits);
    if (o->optimizer > EMB_OPTIMIZER_SGD)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "no optimizer has the number %d",
                             (int)o->optimizer);
    if (o->optimizer == EMB_OPTIMIZER_SGD && o->optimizer_bits == 8)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "SGD has no 8-bit state; state 32");
    if (!(o->momentum >= 0 && o->momentum < 1))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "momentum is from 0 to below 1");
    if (o->optimizer != EMB_OPTIMIZER_SGD && (o->momentum > 0 || o->nesterov))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "momentum and nesterov are SGD's alone");
    if (o->nesterov && !(o->momentum > 0))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "nesterov needs a momentum");
    if (!(o->layer_decay >= 0 && o->layer_decay <= 1))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "layer_decay is above 0, and at most 1");
    return EMB_OK;
}

static emb_status check_lora(const emb_train_lora *lora, const emb_model *model, emb_error *error) {
    if (!lora->rank && emb_dtype_quantized(model->info.stored_dtype))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s is quantized; train adapters over it (--lora 8), or train the "
                             "original and quantize the result",
                             model->info.name);
    if (!lora->rank && (lora->targets || lora->alpha != 0))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "lora has targets or an alpha, and no rank");
    if (lora->rank > model->shape.spec.hidden)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a LoRA rank of %u: at most %u, the model's width", lora->rank,
                             model->shape.spec.hidden);
    if (lora->targets & ~(uint32_t)EMB_LORA_ALL)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "lora has a target of no name");
    if (!(lora->alpha >= 0) || !isfinite(lora->alpha))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "lora's alpha must be above 0");
    return EMB_OK;
}

static emb_status check_layerwise(const emb_train_options *o, uint32_t length_max,
                                  emb_error *error) {
    uint64_t tokens = (uint64_t)o->batch_examples * o->example_texts * length_max;
    if (!o->layerwise) return EMB_OK;
    if (o->clip_norm > 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "layerwise knows no norm of all gradients before they are used: "
                             "state a clip_norm of 0");
    if (o->lora.rank || o->accumulate > 1)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "layerwise goes neither with lora, whose gradients are small, nor "
                             "with accumulate");
    if (o->machine && o->machine->devices_count)
        return emb_error_set(error, EMB_UNSUPPORTED, "layerwise trains on a CPU alone");
    if (tokens > UINT32_MAX)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "layerwise works on a batch as one tile, and %llu tokens are too many",
                             (unsigned long long)tokens);
    return EMB_OK;
}

static emb_status check_options(const emb_train_options *o, const emb_model *model,
                                emb_error *error) {
    const char *beyond = emb_spec_beyond_bert(&model->shape.spec);
    if (o->struct_bytes != sizeof *o)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "struct_bytes differs: state sizeof(emb_train_options), and compile "
                             "against this library's header");
    EMB_TRY(check_lora(&o->lora, model, error));
    EMB_TRY(check_layerwise(o, o->max_length ? o->max_length : model->shape.default_tokens, error));
    if (beyond)
        return emb_error_set(error, EMB_UNSUPPORTED, "training does not compute %s", beyond);
    if (o->batch_examples < 1 || o->example_texts < 1)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a batch has one example at least, and an example one text");
    if ((uint64_t)o->batch_examples * o->example_texts > UINT32_MAX / 2)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%u examples of %u texts are too many",
                             o->batch_examples, o->example_texts);
    EMB_TRY(check_texts(o, error));
    EMB_TRY(check_loss(&o->loss, model->shape.spec.hidden, error));
    if (o->dtype != EMB_DTYPE_DEFAULT && o->dtype != EMB_DTYPE_F32 && o->dtype != EMB_DTYPE_BF16)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "training in %s: f32 and bf16 are possible", emb_dtype_name(o->dtype));
    EMB_TRY(check_optimizer(o, error));
    if (!(o->dropout >= 0 && o->dropout < 1) ||
        !(o->attention_dropout >= 0 && o->attention_dropout < 1))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "dropout is a share from 0 to below 1");
    if (!(o->learning_rate > 0) || !isfinite(o->learning_rate))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "learning_rate must be above 0");
    uint32_t specials = model->text.specials.before + model->text.specials.after;
    if (o->max_length && o->max_length <= specials)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "max_length %u leaves no room beside %u special tokens", o->max_length,
                             specials);
    if (o->max_length > model->shape.window_tokens)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "max_length %u: the model has positions for %u tokens", o->max_length,
                             model->shape.window_tokens);
    return EMB_OK;
}

/* The GPU that the machine has, and its operations; none: the CPU's. */
static emb_status choose_device(emb_trainer *t, emb_error *error) {
    const emb_machine *machine = t->options.machine;
    const emb_cuda_module *module;
    t->ops = &emb_train_cpu_ops;
    if (!machine || !machine->devices_count) return EMB_OK;
    if (t->options.lora.rank)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "adapters (lora) are trained on a CPU alone; leave the GPU out");
    EMB_TRY(emb_cuda_open(&module, error));
    if (t->options.dtype == EMB_DTYPE_F32)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "a GPU trains in bf16, with sums and parameters in f32; state bf16, "
                             "or train on the CPU");
    if (!module->train)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "this CUDA module does not train; train on the CPU");
    if (!emb_trainer_relative_fits(t))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "on a GPU, relative positions over %u tokens are too many; state a "
                             "lower max_length, or train on the CPU",
                             t->length_max);
    t->ops = module->train;
    t->device = t->ops->device;
    t->gpu = machine->devices[t->rank];
    t->state = calloc(1, t->device->state_bytes);
    if (!t->state) return emb_error_set(error, EMB_NO_MEMORY, "no memory for a trainer");
    t->lane.run.state = t->state;
    return t->device->attach(t->state, t->gpu.index, error);
}

/* A trainer for each further GPU. They leave to the first what is done once. */
static emb_status make_group(emb_trainer *t, emb_error *error) {
    uint32_t count = t->device ? t->options.machine->devices_count : 0;
    if (count <= 1) return EMB_OK;
    if (!emb_trainer_loss_on_device(t))
        return emb_error_set(
            error, EMB_UNSUPPORTED,
            "several GPUs train with the ranking loss of whole vectors alone, of a "
            "width that is a multiple of 64; state one GPU (cuda:%u)",
            t->gpu.index);
    t->group.count = count;
    t->group.members[0] = t;
    for (uint32_t i = 1; i < count; i++) {
        emb_trainer *member = calloc(1, sizeof *member);
        if (!member) return emb_error_set(error, EMB_NO_MEMORY, "no memory for a trainer");
        t->group.members[i] = member;
        member->model = t->model;
        member->options = t->options;
        member->options.threads = 1;
        member->length_max = t->length_max;
        member->rank = i;
        EMB_TRY(choose_device(member, error));
    }
    return emb_group_meet(t, error);
}

static emb_status refused(const char *what, uint64_t bytes, emb_error *error) {
    return emb_error_set(error, EMB_NO_MEMORY, "no %s memory for the %llu bytes of training", what,
                         (unsigned long long)bytes);
}

static emb_status take_memory(emb_trainer *t, emb_error *error) {
    emb_ledger host, pinned, device;
    t->arena = emb_arena_open(t->bytes);
    if (!t->arena) return refused("host", t->bytes, error);
    if (t->device) {
        t->pinned = emb_arena_open(t->pinned_bytes);
        if (!t->pinned) return refused("host", t->pinned_bytes, error);
        t->is_pinned = t->device->calls->pin(t->pinned, t->pinned_bytes);
        t->region = t->device->calls->take(t->gpu.index, t->region_bytes);
        if (!t->region || !t->is_pinned) return refused("GPU", t->region_bytes, error);
    }
    emb_ledger_init(&host, t->arena, t->bytes);
    emb_ledger_init(&pinned, t->pinned, t->pinned_bytes);
    emb_ledger_init_foreign(&device, t->region, t->region_bytes);
    emb_books books = {&host, t->device ? &pinned : &host, t->device ? &device : &host};
    emb_train_sizes sizes = t->sizes;
    emb_trainer_layout(t, &sizes, &books);
    return EMB_OK;
}

static emb_status start(emb_trainer *t, emb_error *error) {
    uint32_t features;
    bool reads = t->rank == 0;
    EMB_TRY(emb_cpu_detect(&features, error));
    if (t->options.dtype == EMB_DTYPE_DEFAULT) t->options.dtype = EMB_DTYPE_F32;
    const emb_train_kernels *kernels = emb_train_kernels_of(features, t->options.dtype);
    const emb_train_kernels *exact = emb_train_kernels_of(features, EMB_DTYPE_F32);
    if (!kernels && !t->device)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "this CPU has no fast products of %s; train in f32",
                             emb_dtype_name(t->options.dtype));
    EMB_TRY(emb_text_load(&t->batch.tokenizer, &t->model->text, error));
    EMB_TRY(emb_team_open(&t->team, error));
    t->lane.run.team = t->loss.team = t->optimizer.team = &t->team;
    t->lane.run.kernels = kernels;
    t->loss.kernels = t->optimizer.kernels = t->lora.kernels = exact;
    t->lora.team = &t->team;
    t->lane.pool = (emb_pool_rule){t->model->shape.pooling, t->model->shape.normalizes};
    emb_optimizer_init(&t->optimizer, &t->options);
    if (t->device) {
        EMB_TRY(t->device->open(&t->lane.run, error));
        t->optimizer.run = &t->lane.run;
    }
    if (reads) return emb_trainer_load(t, error);
    t->device->clear(&t->lane.run, t->region, t->region_bytes);
    return t->device->finish(&t->lane.run, error);
}

/* Between these the device is current on the caller's thread, who may use it himself. */
static void enter(const emb_trainer *t, emb_device_thread *before) {
    if (t->device) t->device->calls->enter(before, t->gpu.index);
}

static void leave(const emb_trainer *t, const emb_device_thread *before) {
    if (t->device) t->device->calls->leave(before);
}

/* As the first one is planned. */
static emb_status open_member(emb_trainer *t, const emb_trainer *first, emb_error *error) {
    emb_device_thread before = {0};
    t->sizes = first->sizes;
    t->sizes.state = t->state;
    t->sizes.threads = t->options.threads;
    t->bytes = first->group.host_bytes;
    t->pinned_bytes = first->group.pinned_bytes;
    t->region_bytes = first->region_bytes;
    enter(t, &before);
    emb_status status = take_memory(t, error);
    if (status == EMB_OK) status = start(t, error);
    leave(t, &before);
    return status;
}

static emb_status open_group(emb_trainer *t, emb_error *error) {
    EMB_TRY(emb_team_open(&t->group.team, error));
    for (uint32_t i = 1; i < t->group.count; i++)
        EMB_TRY(open_member(t->group.members[i], t, error));
    return emb_group_copy_first(t, error);
}

/* With `works`, ready to train; else planned alone. */
static emb_status open_trainer(emb_trainer *t, bool works, emb_error *error) {
    emb_device_thread before = {0};
    EMB_TRY(choose_device(t, error));
    enter(t, &before);
    emb_status status = make_group(t, error);
    if (status == EMB_OK) status = emb_trainer_choose(t, error);
    if (works && status == EMB_OK) status = take_memory(t, error);
    if (works && status == EMB_OK) status = start(t, error);
    if (works && status == EMB_OK && t->group.count) status = open_group(t, error);
    leave(t, &before);
    return status;
}

bool emb_trainer_loss_on_device(const emb_trainer *t) {
    uint32_t width = t->model->shape.spec.hidden;
    bool plain = t->options.loss.kind == EMB_LOSS_RANKING && !t->options.loss.widths_count;
    return plain && width % 64 == 0 && width <= 1024;
}

/* A trainer of these options, with their defaults filled in, that has nothing yet. */
static emb_status make_trainer(emb_trainer **out, const emb_model *model,
                               const emb_train_options *options, emb_error *error) {
    if (!out || !model || !options)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "trainer: no parameter but error may be NULL");
    *out = NULL;
    EMB_TRY(check_options(options, model, error));
    emb_trainer *t = calloc(1, sizeof *t);
    if (!t) return emb_error_set(error, EMB_NO_MEMORY, "no memory for a trainer");
    t->model = model;
    t->options = *options;
    if (!t->options.threads) {
        emb_machine machine = {0};
        emb_process_host(&machine);
        t->options.threads = machine.cores ? machine.cores : 1;
    }
    emb_train_loss *loss = &t->options.loss;
    emb_train_lora *lora = &t->options.lora;
    if (loss->scale == 0) loss->scale = 20;
    if (loss->margin == 0) loss->margin = loss->distance == EMB_DISTANCE_COSINE ? 0.5f : 5;
    if (lora->rank && !lora->targets) lora->targets = EMB_LORA_QUERY | EMB_LORA_VALUE;
    if (lora->alpha == 0) lora->alpha = 2 * (float)lora->rank;
    if (t->options.accumulate == 0) t->options.accumulate = 1;
    t->length_max = options->max_length ? options->max_length : model->shape.default_tokens;
    *out = t;
    return EMB_OK;
}

emb_status emb_trainer_open(emb_trainer **out, const emb_model *model,
                            const emb_train_options *options, emb_error *error) {
    EMB_TRY(make_trainer(out, model, options, error));
    emb_status status = open_trainer(*out, true, error);
    if (status == EMB_OK) return EMB_OK;
    emb_trainer_close(*out);
    *out = NULL;
    return status;
}

emb_status emb_train_measure(emb_train_plan *out, const emb_model *model,
                             const emb_train_options *options, emb_error *error) {
    emb_trainer *t;
    if (!out) return emb_error_set(error, EMB_INVALID_ARGUMENT, "measure: out must not be NULL");
    EMB_TRY(make_trainer(&t, model, options, error));
    emb_status status = open_trainer(t, false, error);
    *out = t->plan;
    emb_trainer_close(t);
    return status;
}

static void close_trainer(emb_trainer *t) {
    emb_device_thread before = {0};
    emb_team_close(&t->team);
    if (t->device) {
        enter(t, &before);
        if (t->lane.run.state) t->device->close(&t->lane.run);
        if (t->region) t->device->calls->give(t->region);
        if (t->is_pinned) t->device->calls->unpin(t->pinned);
        leave(t, &before);
    }
    if (t->pinned) emb_arena_close(t->pinned, t->pinned_bytes);
    if (t->arena) emb_arena_close(t->arena, t->bytes);
    free(t->state);
    free(t);
}

void emb_trainer_close(emb_trainer *t) {
    if (!t) return;
    emb_team_close(&t->group.team);
    for (uint32_t i = 1; i < t->group.count; i++)
        if (t->group.members[i]) close_trainer(t->group.members[i]);
    close_trainer(t);
}

void emb_trainer_plan(emb_train_plan *out, const emb_trainer *t) {
    *out = t->plan;
}

void emb_trainer_stats(emb_train_stats *out, const emb_trainer *t) {
    *out = t->stats;
    out->struct_bytes = sizeof *out;
    out->host_bytes_planned = t->plan.host_bytes;
    emb_process_memory(&out->host_bytes_now, &out->host_bytes_peak);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* The slab that tile number `index` has: the last one is shared by those that are too many. */
static void select_slab(emb_trainer *t, uint32_t index) {
    emb_train_lane_select(&t->lane, index < t->lane.slabs ? index : t->lane.slabs - 1);
}

/* Where a share's texts stand in the whole batch: vectors and dropout go by that. */
static const uint32_t *whole_rows(const emb_trainer *t, const uint32_t *rows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        t->rows[i] = rows[i] / t->own * t->examples + t->first + rows[i] % t->own;
    return t->rows;
}

/* Tile number `index` of the batch, where the passes read it. */
static const uint32_t *begin_tile(emb_trainer *t, emb_tile *tile, uint32_t index) {
    const uint32_t *targets;
    emb_train_batch_tile(&t->batch, tile, &targets, index);
    if (t->own < t->examples) targets = whole_rows(t, targets, tile->chunks);
    if (t->device) t->device->begin(&t->lane.run, tile, &targets);
    select_slab(t, index);
    return targets;
}

/* Whether another tile takes its slab before the way back. */
static bool is_gone(const emb_trainer *t, uint32_t index) {
    return index + 1 < t->batch.tiles && index + 1 >= t->lane.slabs;
}

/* Vectors of all texts; with `forgets` there is no way back. */
static void embed_batch(emb_trainer *t, bool forgets) {
    emb_tile tile;
    for (uint32_t i = 0; i < t->batch.tiles; i++) {
        const uint32_t *targets = begin_tile(t, &tile, i);
        t->lane.run.forgets = forgets || is_gone(t, i);
        emb_train_forward(&t->lane, t->tile_vectors, targets, &tile);
    }
    t->lane.run.forgets = false;
}

/* From the last tile to the first: the last still has its sums in the shared slab. */
static void gather_gradients(emb_trainer *t) {
    emb_tile tile;
    uint64_t bytes = t->optimizer.params->values * sizeof(float);
    bool clears = t->part == 0 && !t->lane.layerwise;
    if (clears && t->device) t->device->clear(&t->lane.run, t->lane.gradients, bytes);
    if (clears && !t->device) memset(t->lane.gradients, 0, bytes);
    if (t->lane.layerwise) emb_layerwise_start(&t->layerwise);
    emb_trainer_begin_relative(t);
    for (uint32_t i = t->batch.tiles; i-- > 0;) {
        const uint32_t *targets = begin_tile(t, &tile, i);
        if (is_gone(t, i)) emb_train_forward(&t->lane, NULL, targets, &tile);
        emb_train_backward(&t->lane, t->d_tile_vectors, targets, &tile);
    }
    emb_trainer_gather_relative(t);
}

/* Each of several GPUs has those of its own texts. */
static void add_up_gradients(const emb_trainer *t) {
    bool several = t->group.count || t->rank;
    if (several) t->device->add_up(&t->lane.run, t->lane.gradients, t->optimizer.params->values);
}

/* A part's share of the mean. */
static void share_gradients(const emb_trainer *t, uint64_t values) {
    float share = 1.0f / (float)t->options.accumulate;
    for (uint64_t i = 0; t->options.accumulate > 1 && i < values; i++) t->d_vectors[i] *= share;
}

/* The loss, and the gradient of the vectors where the passes read it. */
static double find_loss(emb_trainer *t, const float *targets) {
    uint32_t columns = t->options.example_texts, examples = t->examples;
    uint64_t values = (uint64_t)examples * columns * t->model->shape.spec.hidden;
    if (t->device && emb_trainer_loss_on_device(t)) {
        emb_train_vectors batch = {examples,
                                   columns,
                                   t->first,
                                   t->own,
                                   1.0f / (float)t->options.accumulate,
                                   t->tile_vectors,
                                   t->d_tile_vectors};
        return t->device->ranking(&t->lane.run, &t->options.loss, &batch);
    }
    emb_loss_batch batch = {examples, columns, t->vectors, targets, t->d_vectors};
    if (t->device) t->device->read_vectors(&t->lane.run, t->vectors, t->tile_vectors, values);
    double loss = emb_loss_run(&t->loss, &t->options.loss, &batch);
    share_gradients(t, values);
    if (t->device) t->device->write_vectors(&t->lane.run, t->d_tile_vectors, t->d_vectors, values);
    return loss;
}

static emb_status check_step(const emb_trainer *t, const emb_text *texts, const float *targets,
                             uint32_t examples, emb_error *error) {
    const emb_train_options *o = &t->options;
    bool distills = o->loss.kind == EMB_LOSS_DISTILL;
    bool needs = o->loss.kind != EMB_LOSS_RANKING && o->loss.kind != EMB_LOSS_TRIPLET;
    if (!texts || examples < 1 || examples > o->batch_examples)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a step takes 1 to %u examples (batch_examples), not %u",
                             o->batch_examples, examples);
    if (!needs) return EMB_OK;
    if (!targets)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "this loss needs %s (targets)",
                             distills ? "a teacher's vectors" : "a score or class per example");
    size_t each = distills ? (size_t)o->example_texts * o->loss.teacher_width : 1;
    for (size_t i = 0; i < examples * each; i++) {
        if (isfinite(targets[i])) continue;
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%s of example %zu is not finite",
                             distills ? "the teacher's vector" : "the score or class", i / each);
    }
    return EMB_OK;
}

/* Texts stand by column: all anchors, then all positives, and so on. */
emb_status emb_trainer_read(emb_trainer *t, const emb_text *texts, uint32_t first, uint32_t own,
                            uint32_t examples, emb_error *error) {
    uint32_t columns = t->options.example_texts;
    t->first = first;
    t->own = own;
    t->examples = examples;
    emb_train_batch_begin(&t->batch);
    for (uint32_t k = 0; k < columns; k++)
        for (uint32_t i = first; i < first + own; i++)
            EMB_TRY(emb_train_batch_add(&t->batch, &texts[(size_t)i * columns + k], error));
    emb_train_batch_end(&t->batch);
    return EMB_OK;
}

/* Nothing was changed. A loss that is not finite shows that the parameters are beyond use; after a
 * gradient the step begins anew. */
static emb_status not_finite(emb_trainer *t, bool loss, const char *what, emb_error *error) {
    if (loss)
        t->broken = true;
    else
        t->part = 0;
    if (t->device) EMB_TRY(t->device->finish(&t->lane.run, error));
    return emb_error_set(error, EMB_NOT_FINITE, "step %llu: %s is not finite; nothing was changed",
                         (unsigned long long)t->optimizer.step + 1, what);
}

/* The step counts as not done, though some have moved. */
static emb_status moved_in_part(emb_trainer *t, emb_error *error) {
    unsigned long long step = t->optimizer.step--;
    t->broken = true;
    return emb_error_set(error, EMB_NOT_FINITE,
                         "step %llu: a gradient is not finite, and parameters behind it have "
                         "moved; go on from a checkpoint",
                         step);
}

/* Each part of a step has dropout of its own. */
static uint64_t dropout_key(const emb_trainer *t) {
    uint64_t key = emb_hash_mix(t->options.seed, t->optimizer.step);
    return t->part ? emb_hash_mix(key, t->part) : key;
}

static void count_step(emb_trainer *t, const emb_train_step *step, uint32_t examples) {
    t->stats.steps += step->updated;
    t->stats.examples += examples;
    t->stats.tokens += step->tokens;
    t->stats.truncated += step->truncated;
    t->stats.seconds += step->seconds;
}

emb_status emb_trainer_compute(emb_train_step *out, emb_trainer *t, const float *targets,
                               emb_error *error) {
    emb_trainer_refresh(t);
    t->lane.run.dropout =
        (emb_dropout){t->options.dropout, t->options.attention_dropout, dropout_key(t)};
    embed_batch(t, false);
    out->loss = find_loss(t, targets);
    if (!isfinite(out->loss)) return not_finite(t, true, "the loss", error);
    t->broken = false;
    out->learning_rate = emb_optimizer_rate(&t->optimizer, t->optimizer.step + 1);
    out->step = t->optimizer.step + 1;
    gather_gradients(t);
    out->updated = ++t->part == t->options.accumulate;
    if (t->lane.layerwise) {
        t->part = 0;
        out->gradient_norm = sqrt(t->layerwise.squares);
        if (!isfinite(out->gradient_norm)) return moved_in_part(t, error);
    } else if (out->updated) {
        add_up_gradients(t);
        out->gradient_norm = emb_optimizer_norm(&t->optimizer, t->lane.gradients);
        if (!isfinite(out->gradient_norm)) return not_finite(t, false, "a gradient", error);
        emb_optimizer_update(&t->optimizer, t->lane.values, t->lane.gradients, out->gradient_norm);
        t->part = 0;
    }
    return EMB_OK; /* a device may still be at the update: what fails there, the next call says */
}

static emb_status step_alone(emb_train_step *out, emb_trainer *t, const emb_text *texts,
                             const float *targets, uint32_t examples, emb_error *error) {
    emb_device_thread before = {0};
    EMB_TRY(emb_trainer_read(t, texts, 0, examples, examples, error));
    *out = (emb_train_step){.tokens = t->batch.tokens, .truncated = t->batch.truncated};
    enter(t, &before);
    emb_status status = emb_trainer_compute(out, t, targets, error);
    leave(t, &before);
    return status;
}

emb_status emb_trainer_step(emb_train_step *out, emb_trainer *t, const emb_text *texts,
                            const float *targets, uint32_t examples, emb_error *error) {
    double started = emb_process_seconds();
    EMB_TRY(check_step(t, texts, targets, examples, error));
    if (t->group.count)
        EMB_TRY(emb_group_step(out, t, texts, examples, error));
    else
        EMB_TRY(step_alone(out, t, texts, targets, examples, error));
    out->seconds = emb_process_seconds() - started;
    count_step(t, out, examples);
    return EMB_OK;
}

emb_status emb_trainer_check_finite(const emb_trainer *t, emb_error *error) {
    if (!t->broken && isfinite(emb_optimizer_norm(&t->optimizer, t->lane.values))) return EMB_OK;
    return emb_error_set(error, EMB_NOT_FINITE,
                         "after step %llu the parameters are not finite, or give what is not: "
                         "nothing was written; train with a lower learning rate",
                         (unsigned long long)t->optimizer.step);
}

/* ---- vectors --------------------------------------------------------------------------------- */

emb_status emb_trainer_encode(const float **vectors, emb_trainer *t, const emb_text *texts,
                              uint32_t count, emb_error *error) {
    uint32_t most = t->options.batch_examples * t->options.example_texts;
    if (!vectors || !texts || count < 1 || count > most)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "encode takes 1 to %u texts (those of a batch), not %u", most, count);
    t->own = t->examples = 0;
    emb_train_batch_begin(&t->batch);
    for (uint32_t i = 0; i < count; i++) EMB_TRY(emb_train_batch_add(&t->batch, &texts[i], error));
    emb_train_batch_end(&t->batch);
    emb_device_thread before = {0};
    emb_status status = EMB_OK;
    enter(t, &before);
    emb_trainer_refresh(t);
    t->lane.run.dropout = (emb_dropout){0};
    embed_batch(t, true);
    if (t->device) {
        uint64_t values = (uint64_t)count * t->model->shape.spec.hidden;
        t->device->read_vectors(&t->lane.run, t->vectors, t->tile_vectors, values);
        status = t->device->finish(&t->lane.run, error);
    }
    leave(t, &before);
    *vectors = t->vectors;
    return status;
}
