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

static emb_status check_options(const emb_train_options *o, const emb_model *model,
                                emb_error *error) {
    const char *beyond = emb_spec_beyond_bert(&model->shape.spec);
    if (o->struct_bytes != sizeof *o)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "struct_bytes differs: state sizeof(emb_train_options), and compile "
                             "against this library's header");
    if (emb_dtype_quantized(model->info.stored_dtype))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s is quantized; train the original, and quantize the result",
                             model->info.name);
    if (beyond)
        return emb_error_set(error, EMB_UNSUPPORTED, "training does not compute %s", beyond);
    if (o->batch_examples < 1 || o->example_texts < 2)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a batch has one example at least, and an example two texts");
    if ((uint64_t)o->batch_examples * o->example_texts > UINT32_MAX / 2)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "%u examples of %u texts are too many",
                             o->batch_examples, o->example_texts);
    if (o->loss.kind > EMB_LOSS_COSINE)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "no loss has the number %d",
                             (int)o->loss.kind);
    if (o->loss.kind != EMB_LOSS_RANKING && o->example_texts != 2)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "this loss is of two texts and a score, not of %u texts",
                             o->example_texts);
    if (o->dtype != EMB_DTYPE_DEFAULT && o->dtype != EMB_DTYPE_F32 && o->dtype != EMB_DTYPE_BF16)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "training in %s: f32 and bf16 are possible", emb_dtype_name(o->dtype));
    if (o->optimizer_bits != 0 && o->optimizer_bits != 8 && o->optimizer_bits != 32)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "an optimizer of %u bits: 32 and 8 are possible", o->optimizer_bits);
    if (!(o->dropout >= 0 && o->dropout < 1) ||
        !(o->attention_dropout >= 0 && o->attention_dropout < 1))
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "dropout is a share from 0 to below 1");
    if (!(o->learning_rate > 0) || !isfinite(o->learning_rate) || !(o->loss.scale >= 0))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "learning_rate must be above 0, the loss's scale 0 or above");
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
    EMB_TRY(emb_cuda_open(&module, error));
    if (!module->train)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "this CUDA module does not train; train on the CPU");
    if (t->model->shape.relative_buckets)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "on a GPU, training does not compute a relative position bias; train "
                             "on the CPU");
    t->ops = module->train;
    t->device = t->ops->device;
    t->gpu = machine->devices[0];
    t->state = calloc(1, t->device->state_bytes);
    if (!t->state) return emb_error_set(error, EMB_NO_MEMORY, "no memory for a trainer");
    return t->device->attach(t->state, t->gpu.index, error);
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
    EMB_TRY(emb_cpu_detect(&features, error));
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
    t->loss.kernels = t->optimizer.kernels = exact;
    t->lane.pool = (emb_pool_rule){t->model->shape.pooling, t->model->shape.normalizes};
    emb_optimizer_init(&t->optimizer, &t->options);
    if (t->device) {
        EMB_TRY(t->device->open(&t->lane.run, error));
        t->optimizer.run = &t->lane.run;
    }
    return emb_trainer_load(t, error);
}

/* Between these the device is current on the caller's thread, who may use it himself. */
static void enter(const emb_trainer *t, emb_device_thread *before) {
    if (t->device) t->device->calls->enter(before, t->gpu.index);
}

static void leave(const emb_trainer *t, const emb_device_thread *before) {
    if (t->device) t->device->calls->leave(before);
}

static emb_status open_trainer(emb_trainer *t, emb_error *error) {
    emb_device_thread before = {0};
    EMB_TRY(choose_device(t, error));
    enter(t, &before);
    emb_status status = emb_trainer_choose(t, error);
    if (status == EMB_OK) status = take_memory(t, error);
    if (status == EMB_OK) status = start(t, error);
    leave(t, &before);
    return status;
}

bool emb_trainer_loss_on_device(const emb_trainer *t) {
    uint32_t width = t->model->shape.spec.hidden;
    return t->options.loss.kind == EMB_LOSS_RANKING && width % 64 == 0 && width <= 1024;
}

emb_status emb_trainer_open(emb_trainer **out, const emb_model *model,
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
    if (t->options.dtype == EMB_DTYPE_DEFAULT) t->options.dtype = EMB_DTYPE_F32;
    if (t->options.loss.scale == 0) t->options.loss.scale = 20;
    t->length_max = options->max_length ? options->max_length : model->shape.default_tokens;
    emb_status status = open_trainer(t, error);
    if (status != EMB_OK) {
        emb_trainer_close(t);
        return status;
    }
    *out = t;
    return EMB_OK;
}

void emb_trainer_close(emb_trainer *t) {
    if (!t) return;
    emb_device_thread before = {0};
    emb_team_close(&t->team);
    if (t->device) {
        enter(t, &before);
        t->device->close(&t->lane.run);
        if (t->region) t->device->calls->give(t->region);
        if (t->is_pinned) t->device->calls->unpin(t->pinned);
        leave(t, &before);
    }
    if (t->pinned) emb_arena_close(t->pinned, t->pinned_bytes);
    if (t->arena) emb_arena_close(t->arena, t->bytes);
    free(t->state);
    free(t);
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

/* Tile number `index` of the batch, where the passes read it. */
static const uint32_t *begin_tile(emb_trainer *t, emb_tile *tile, uint32_t index) {
    const uint32_t *targets;
    emb_train_batch_tile(&t->batch, tile, &targets, index);
    if (t->device) t->device->begin(&t->lane.run, tile, &targets);
    select_slab(t, index);
    return targets;
}

/* Vectors of all texts. */
static void embed_batch(emb_trainer *t) {
    emb_tile tile;
    for (uint32_t i = 0; i < t->batch.tiles; i++) {
        const uint32_t *targets = begin_tile(t, &tile, i);
        emb_train_forward(&t->lane, t->tile_vectors, targets, &tile);
    }
}

/* From the last tile to the first: the last still has its sums in the shared slab. */
static void gather_gradients(emb_trainer *t) {
    emb_tile tile;
    uint64_t bytes = t->params.values * sizeof(float);
    if (t->device)
        t->device->clear(&t->lane.run, t->lane.gradients, bytes);
    else
        memset(t->lane.gradients, 0, bytes);
    for (uint32_t i = t->batch.tiles; i-- > 0;) {
        const uint32_t *targets = begin_tile(t, &tile, i);
        bool gone = i + 1 < t->batch.tiles && i + 1 >= t->lane.slabs;
        if (gone) emb_train_forward(&t->lane, t->tile_vectors, targets, &tile);
        emb_train_backward(&t->lane, t->d_tile_vectors, targets, &tile);
    }
}

/* The loss, and the gradient of the vectors where the passes read it. */
static double find_loss(emb_trainer *t, const float *labels, uint32_t examples) {
    uint32_t columns = t->options.example_texts;
    uint64_t values = (uint64_t)examples * columns * t->model->shape.spec.hidden;
    if (t->device && emb_trainer_loss_on_device(t)) {
        emb_train_vectors batch = {examples, columns, t->tile_vectors, t->d_tile_vectors};
        return t->device->ranking(&t->lane.run, &t->options.loss, &batch);
    }
    emb_loss_batch batch = {examples, columns, t->vectors, labels, t->d_vectors};
    if (t->device) t->device->read_vectors(&t->lane.run, t->vectors, t->tile_vectors, values);
    double loss = emb_loss_run(&t->loss, &t->options.loss, &batch);
    if (t->device) t->device->write_vectors(&t->lane.run, t->d_tile_vectors, t->d_vectors, values);
    return loss;
}

static emb_status check_step(const emb_trainer *t, const emb_text *texts, const float *labels,
                             uint32_t examples, emb_error *error) {
    const emb_train_options *o = &t->options;
    bool scored = o->loss.kind != EMB_LOSS_RANKING;
    if (!texts || examples < 1 || examples > o->batch_examples)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a step takes 1 to %u examples (batch_examples), not %u",
                             o->batch_examples, examples);
    if (scored && !labels)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "this loss needs a score per example");
    for (uint32_t i = 0; scored && i < examples; i++) {
        if (isfinite(labels[i])) continue;
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "the score of example %u is not finite",
                             i);
    }
    return EMB_OK;
}

/* Texts stand by column: all anchors, then all positives, and so on. */
static emb_status read_examples(emb_trainer *t, const emb_text *texts, uint32_t examples,
                                emb_error *error) {
    uint32_t columns = t->options.example_texts;
    emb_train_batch_begin(&t->batch);
    for (uint32_t k = 0; k < columns; k++)
        for (uint32_t i = 0; i < examples; i++)
            EMB_TRY(emb_train_batch_add(&t->batch, &texts[(size_t)i * columns + k], error));
    emb_train_batch_end(&t->batch);
    return EMB_OK;
}

static emb_status not_finite(const emb_trainer *t, const char *what, emb_error *error) {
    if (t->device) EMB_TRY(t->device->finish(&t->lane.run, error));
    return emb_error_set(error, EMB_NOT_FINITE, "step %llu: %s is not finite; nothing was changed",
                         (unsigned long long)t->optimizer.step + 1, what);
}

static emb_status compute_step(emb_train_step *out, emb_trainer *t, const float *labels,
                               uint32_t examples, emb_error *error) {
    emb_trainer_refresh(t);
    t->lane.run.dropout = (emb_dropout){t->options.dropout, t->options.attention_dropout,
                                        emb_hash_mix(t->options.seed, t->optimizer.step)};
    embed_batch(t);
    out->loss = find_loss(t, labels, examples);
    if (!isfinite(out->loss)) return not_finite(t, "the loss", error);
    gather_gradients(t);
    out->gradient_norm = emb_optimizer_norm(&t->optimizer, t->lane.gradients);
    if (!isfinite(out->gradient_norm)) return not_finite(t, "a gradient", error);
    out->learning_rate = emb_optimizer_rate(&t->optimizer, t->optimizer.step + 1);
    emb_optimizer_update(&t->optimizer, t->lane.values, t->lane.gradients, out->gradient_norm);
    return t->device ? t->device->finish(&t->lane.run, error) : EMB_OK;
}

emb_status emb_trainer_step(emb_train_step *out, emb_trainer *t, const emb_text *texts,
                            const float *labels, uint32_t examples, emb_error *error) {
    double started = emb_process_seconds();
    emb_device_thread before = {0};
    EMB_TRY(check_step(t, texts, labels, examples, error));
    EMB_TRY(read_examples(t, texts, examples, error));
    *out = (emb_train_step){0};
    enter(t, &before);
    emb_status status = compute_step(out, t, labels, examples, error);
    leave(t, &before);
    if (status != EMB_OK) return status;
    out->step = t->optimizer.step;
    out->tokens = t->batch.tokens;
    out->truncated = t->batch.truncated;
    out->seconds = emb_process_seconds() - started;
    t->stats.steps++;
    t->stats.examples += examples;
    t->stats.tokens += out->tokens;
    t->stats.truncated += out->truncated;
    t->stats.seconds += out->seconds;
    return EMB_OK;
}

/* ---- vectors --------------------------------------------------------------------------------- */

emb_status emb_trainer_encode(const float **vectors, emb_trainer *t, const emb_text *texts,
                              uint32_t count, emb_error *error) {
    uint32_t most = t->options.batch_examples * t->options.example_texts;
    if (!vectors || !texts || count < 1 || count > most)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "encode takes 1 to %u texts (those of a batch), not %u", most, count);
    emb_train_batch_begin(&t->batch);
    for (uint32_t i = 0; i < count; i++) EMB_TRY(emb_train_batch_add(&t->batch, &texts[i], error));
    emb_train_batch_end(&t->batch);
    emb_device_thread before = {0};
    emb_status status = EMB_OK;
    enter(t, &before);
    emb_trainer_refresh(t);
    t->lane.run.dropout = (emb_dropout){0};
    embed_batch(t);
    if (t->device) {
        uint64_t values = (uint64_t)count * t->model->shape.spec.hidden;
        t->device->read_vectors(&t->lane.run, t->vectors, t->tile_vectors, values);
        status = t->device->finish(&t->lane.run, error);
    }
    leave(t, &before);
    *vectors = t->vectors;
    return status;
}
