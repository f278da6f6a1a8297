/* engine.c - opens and closes an engine: the one allocation, the weights, the threads.
 *
 * The path of a text: intake.c (submit) -> window -> lanes.c -> encoder -> delivery.c (collect).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "embound_experimental.h"

/* ---- status ---------------------------------------------------------------------------------- */

static void stop_loaders(emb_engine *engine) {
    for (uint32_t d = 0; d < engine->plan.devices_count; d++)
        emb_weights_stop(&engine->memory.sites[d].weights);
}

void emb_engine_fail(emb_engine *engine, emb_status status, const emb_error *error) {
    if (engine->status == EMB_OK) {
        engine->status = status;
        engine->error = *error;
    }
    engine->stop = true;
    pthread_cond_broadcast(&engine->work);
    emb_wake_tell(&engine->ready, true);
    if (engine->plan.weight_slots) stop_loaders(engine);
}

emb_status emb_engine_status(emb_engine *engine, emb_error *error) {
    if (atomic_load(&engine->cancel)) return emb_error_set(error, EMB_CANCELLED, "cancelled");
    pthread_mutex_lock(&engine->mutex);
    emb_status status = engine->status;
    if (status != EMB_OK && error) *error = engine->error;
    pthread_mutex_unlock(&engine->mutex);
    return status;
}

emb_status emb_engine_cancel(emb_engine *engine) {
    if (!engine) return EMB_INVALID_ARGUMENT;
    atomic_store(&engine->cancel, true);
    emb_wake_interrupt(&engine->ready);
    return EMB_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

static emb_status cpu_backend(const emb_backend **out, const emb_plan *plan,
                              const emb_layer_spec *spec, emb_error *error) {
    uint32_t features;
    EMB_TRY(emb_cpu_detect(&features, error));
    *out = emb_cpu_backend(features, plan->dtype, spec);
    if (*out && strcmp((*out)->name, plan->isa) != 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the plan was made for a machine with %s kernels, this one runs %s: "
                             "plan again with this machine's probe",
                             plan->isa, (*out)->name);
    return EMB_OK;
}

static emb_status cuda_backend(const emb_backend **out, const emb_plan *plan, emb_error *error) {
    const emb_cuda_module *module = NULL;
    EMB_TRY(emb_cuda_open(&module, error));
    *out = module->backend(plan->compute_capability, plan->dtype, plan->gemm);
    return EMB_OK;
}

/* The plan's kernels must be this machine's: others give other bits. */
static emb_status choose_backend(const emb_backend **out, const emb_plan *plan,
                                 const emb_model *model, emb_error *error) {
    *out = NULL;
    EMB_TRY(plan->device == EMB_DEVICE_CUDA ? cuda_backend(out, plan, error)
                                            : cpu_backend(out, plan, &model->shape.spec, error));
    char numerics[sizeof plan->numerics_id] = "none";
    if (*out) emb_plan_numerics(numerics, model, *out);
    if (strcmp(numerics, plan->numerics_id) != 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the plan's numerics are %s, this machine's are %s: plan again with "
                             "this machine's probe",
                             plan->numerics_id, numerics);
    return EMB_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The regions of an engine and their ledgers. */
typedef struct regions {
    emb_plan_books books;
    uint32_t devices;
    void *host_base, *pinned_base, *device_bases[EMB_DEVICES_MAX];
    uint64_t host_bytes, pinned_bytes, device_bytes; /* the last: of each GPU */
} regions;

static const emb_region *region_of(const emb_plan *plan, emb_region_kind kind) {
    for (uint32_t i = 0; i < plan->regions_count && i < EMB_REGIONS_MAX; i++)
        if (plan->regions[i].kind == kind) return &plan->regions[i];
    return NULL;
}

static uint64_t arena_bytes(const emb_plan *plan, emb_region_kind kind) {
    const emb_region *region = region_of(plan, kind);
    return region ? region->arena_bytes : 0;
}

/* Books everything in the regions; measures if their bases are NULL. */
static void book(emb_memory *memory, regions *r, const emb_model *model, const emb_plan *plan,
                 const emb_backend *backend) {
    emb_ledger_init(&r->books.host, r->host_base, r->host_bytes);
    emb_ledger_init(&r->books.pinned, r->pinned_base, r->pinned_bytes);
    for (uint32_t d = 0; d < plan->devices_count; d++)
        emb_ledger_init_foreign(&r->books.devices[d], r->device_bases[d], r->device_bytes);
    emb_engine_layout(memory, model, plan, backend, &r->books);
}

static bool has_item(const emb_region *region, const emb_item *item) {
    for (uint32_t i = 0; i < region->items_count && i < EMB_ITEMS_MAX; i++)
        if (region->items[i].bytes == item->bytes &&
            strncmp(region->items[i].name, item->name, sizeof item->name) == 0)
            return true;
    return item->bytes == 0;
}

/* Whether the bytes measured are those that the plan states for this region, item by item. */
static bool same_region(const emb_ledger *ledger, const emb_plan *plan, emb_region_kind kind) {
    const emb_region *region = region_of(plan, kind);
    if (!region) return ledger->bytes == 0;
    bool same = ledger->bytes <= region->arena_bytes;
    for (uint32_t i = 0; same && i < ledger->items_count; i++)
        same = has_item(region, &ledger->items[i]);
    return same;
}

/* Measures the plan's shapes for this model, so that a plan for another model does not pass. */
static emb_status check_plan(const emb_plan *plan, const emb_model *model,
                             const emb_backend *backend, emb_error *error) {
    emb_memory memory;
    regions r = {0};
    bool sites = plan->readers > 0 && plan->devices_count > 0 &&
                 plan->devices_count <= EMB_DEVICES_MAX && plan->lanes % plan->devices_count == 0 &&
                 plan->weight_slots <= 2 &&
                 (backend->device || !(plan->embeddings_pinned || plan->layers_pinned));
    if (sites) book(&memory, &r, model, plan, backend);
    const emb_shape *shape = &model->shape;
    const emb_plan_books *books = &r.books;
    if (!sites || books->host.overflow || books->pinned.overflow || books->devices[0].overflow ||
        plan->windows == 0 || plan->dim == 0 || plan->dim > emb_row_width(shape, plan->output) ||
        plan->chunk_tokens_max > shape->window_tokens ||
        !same_region(&books->host, plan, EMB_REGION_HOST) ||
        !same_region(&books->pinned, plan, EMB_REGION_PINNED) ||
        !same_region(&books->devices[0], plan, EMB_REGION_DEVICE))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the plan was not made for this model: make it again");
    return EMB_OK;
}

static void give_regions(regions *r, const emb_device_calls *device) {
    for (uint32_t d = 0; device && d < EMB_DEVICES_MAX; d++)
        if (r->device_bases[d]) device->give(r->device_bases[d]);
    if (device && r->pinned_base) device->unpin(r->pinned_base);
    emb_arena_close(r->pinned_base, r->pinned_bytes);
    emb_arena_close(r->host_base, r->host_bytes);
}

static emb_status refused(emb_error *error, const char *what, uint64_t bytes) {
    return emb_error_set(error, EMB_NO_MEMORY,
                         "the system refused the plan's %llu bytes of %s memory; free some, raise "
                         "its limit, or state a smaller budget",
                         (unsigned long long)bytes, what);
}

/* One allocation per region. */
static emb_status take_regions(regions *r, const emb_plan *plan, const emb_device_calls *device,
                               emb_error *error) {
    memset(r, 0, sizeof *r);
    r->host_bytes = arena_bytes(plan, EMB_REGION_HOST);
    r->host_base = emb_arena_open(r->host_bytes);
    if (!r->host_base) return refused(error, "host", r->host_bytes);
    if (!device) return EMB_OK;
    for (uint32_t d = 0; d < plan->devices_count; d++)
        EMB_TRY(device->open(plan->devices[d], error));
    r->pinned_bytes = arena_bytes(plan, EMB_REGION_PINNED);
    r->device_bytes = arena_bytes(plan, EMB_REGION_DEVICE);
    r->pinned_base = emb_arena_open(r->pinned_bytes);
    if (!r->pinned_base) return refused(error, "pinned host", r->pinned_bytes);
    if (!device->pin(r->pinned_base, r->pinned_bytes)) {
        emb_arena_close(r->pinned_base, r->pinned_bytes);
        r->pinned_base = NULL;
        return refused(error, "pinned host", r->pinned_bytes);
    }
    for (uint32_t d = 0; d < plan->devices_count; d++) {
        r->device_bases[d] = device->take(plan->devices[d], r->device_bytes);
        if (!r->device_bases[d]) return refused(error, "GPU", r->device_bytes);
    }
    return EMB_OK;
}

static void init_sync(emb_engine *engine) {
    engine->ready.descriptor = -1;
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->work, NULL);
    pthread_mutex_init(&engine->ahead.mutex, NULL);
    pthread_cond_init(&engine->ahead.work, NULL);
    pthread_cond_init(&engine->ahead.done, NULL);
}

static emb_engine *bind_engine(regions *r, const emb_model *model, const emb_plan *plan,
                               const emb_backend *backend) {
    emb_memory memory;
    book(&memory, r, model, plan, backend);
    emb_engine *engine = memory.engine;
    memset(engine, 0, sizeof *engine);
    engine->model = model;
    engine->backend = backend;
    engine->plan = *plan;
    engine->memory = memory;
    engine->arena = r->host_base;
    engine->arena_bytes = r->host_bytes;
    engine->pinned_arena = r->pinned_base;
    engine->pinned_bytes = r->pinned_bytes;
    memcpy(engine->device_arenas, r->device_bases, sizeof engine->device_arenas);
    engine->device_bytes = r->device_bytes;
    for (uint32_t d = 0; d < plan->devices_count; d++) {
        emb_site *site = &memory.sites[d];
        site->encoder = (emb_encoder){
            .backend = backend,
            .blocks = site->blocks,
            .pool = {plan->pooling, plan->normalize},
            .keeps_tokens = plan->output == EMB_OUTPUT_TOKENS,
            .weights = &site->weights,
            .shape = &model->shape,
        };
        emb_weights_init(&site->weights);
    }
    for (uint32_t i = 0; i < emb_row_width(&model->shape, plan->output); i++)
        memory.nan_row[i] = NAN;
    init_sync(engine);
    return engine;
}

static emb_status warm_lane(emb_engine *engine, uint32_t index, uint32_t tokens, emb_error *error) {
    emb_site *site = &engine->memory.sites[index % engine->plan.devices_count];
    emb_window *window = &engine->memory.windows[0];
    uint32_t chunk = engine->plan.chunk_tokens_max, chunks = 0;
    for (uint32_t at = 0; at < tokens && chunks < window->table.chunks_max; chunks++) {
        uint32_t length = tokens - at < chunk ? tokens - at : chunk;
        for (uint32_t i = 0; i < length; i++) window->table.ids[at + i] = i % 2;
        at += length;
        window->table.starts[chunks + 1] = at;
        window->order[chunks] = chunks;
    }
    emb_tile_cut cut = {.chunks = chunks, .tokens = window->table.starts[chunks]};
    emb_pass pass = {.table = &window->table,
                     .order = window->order,
                     .cuts = &cut,
                     .cuts_count = 1,
                     .x = site->pass_x,
                     .vectors = window->vectors,
                     .cancel = &engine->cancel};
    return emb_encoder_warm(&site->encoder, &engine->memory.lanes[index], &pass, error);
}

/* Times the kernels for one bucket on the first lane, for all lanes. */
static emb_status tune_lane(emb_engine *engine, uint32_t tokens, emb_error *error) {
    emb_site *site = &engine->memory.sites[0];
    return engine->backend->device->tune(engine->backend, &engine->memory.lanes[0].scratch,
                                         &engine->plan.tuning, tokens, &site->weights.layers[0],
                                         &site->blocks, error);
}

void emb_engine_tuning(emb_tuning *out, const emb_engine *engine) {
    if (!out) return;
    memset(out, 0, sizeof *out);
    if (engine) *out = engine->plan.tuning;
}

/* Records the forward of every bucket. If that fails and graphs were not required, the lane works
 * without; `finish` then fails unless the device still works. */
static emb_status record_lane(emb_engine *engine, uint32_t index, emb_error *error) {
    const emb_plan *plan = &engine->plan;
    emb_site *site = &engine->memory.sites[index % plan->devices_count];
    emb_lane *lane = &engine->memory.lanes[index];
    if (plan->graphs == EMB_SWITCH_OFF || plan->weight_slots) return EMB_OK;
    for (uint32_t i = 0, tokens; (tokens = emb_bucket_tokens(plan->tokens_per_tile, i)); i++) {
        emb_status status = emb_encoder_record(&site->encoder, lane, tokens, error);
        if (status != EMB_OK && plan->graphs == EMB_SWITCH_ON) return status;
        if (status != EMB_OK) break;
        engine->counts.graphs++;
    }
    return engine->backend->device->finish(&lane->scratch, error);
}

/* Runs the smallest tile and each bucket once per lane, so that a device has loaded every kernel
 * before the engine is ready. */
static emb_status open_lanes(emb_engine *engine, emb_error *error) {
    const emb_device_calls *device = engine->backend->device;
    for (uint32_t i = 0; device && i < engine->plan.lanes; i++) {
        emb_lane *lane = &engine->memory.lanes[i];
        uint32_t gpu = engine->plan.devices[i % engine->plan.devices_count];
        uint32_t most = engine->plan.tokens_per_tile;
        EMB_TRY(device->lane_open(engine->backend, &lane->scratch, gpu, error));
        device->tuned(&lane->scratch, &engine->plan.tuning);
        EMB_TRY(warm_lane(engine, i, 2, error));
        for (uint32_t b = 0, tokens; (tokens = emb_bucket_tokens(most, b)); b++) {
            EMB_TRY(warm_lane(engine, i, tokens, error));
            if (i == 0 && engine->plan.tune) EMB_TRY(tune_lane(engine, tokens, error));
        }
        device->tuned(&lane->scratch, &engine->plan.tuning);
        EMB_TRY(record_lane(engine, i, error));
        lane->rows_computed = lane->tiles = 0;
    }
    return EMB_OK;
}

static emb_status start_threads(emb_engine *engine, emb_error *error) {
    emb_thread_set *set = &engine->memory.threads;
    for (uint32_t i = 0; i < engine->plan.lanes; i++)
        EMB_TRY(emb_thread_start(set, i, emb_engine_lane, engine, error));
    for (uint32_t d = 0; engine->plan.weight_slots && d < engine->plan.devices_count; d++)
        EMB_TRY(emb_thread_start(set, engine->plan.lanes + d, emb_weights_loader,
                                 &engine->memory.sites[d].weights, error));
    for (uint32_t i = 1; i < engine->plan.readers; i++)
        EMB_TRY(emb_thread_start(set, set->count - i, emb_engine_reader, engine, error));
    return EMB_OK;
}

static emb_status open_wake(emb_engine *engine, emb_error *error) {
    if (emb_wake_open(&engine->ready)) return EMB_OK;
    return emb_error_set(error, EMB_IO,
                         "the system gives the engine no descriptor: %s; close some, or raise the "
                         "limit on open files (ulimit -n)",
                         strerror(errno));
}

int emb_engine_ready_fd(const emb_engine *engine) {
    return engine ? engine->ready.descriptor : -1;
}

static emb_status open_engine(emb_engine **out, const emb_model *model, const emb_plan *plan,
                              const emb_backend *backend, emb_error *error) {
    regions r;
    emb_status status = take_regions(&r, plan, backend->device, error);
    if (status != EMB_OK) {
        give_regions(&r, backend->device);
        return status;
    }
    emb_engine *engine = bind_engine(&r, model, plan, backend);
    status = open_wake(engine, error);
    if (status == EMB_OK) status = emb_text_load(&engine->memory.tokenizer, &model->text, error);
    for (uint32_t i = 1; status == EMB_OK && i < plan->readers; i++)
        emb_text_share(&engine->memory.readers[i].tokenizer, &engine->memory.tokenizer);
    for (uint32_t d = 0; status == EMB_OK && d < plan->devices_count; d++)
        status = emb_weights_load(&engine->memory.sites[d].weights, error);
    if (status == EMB_OK) status = open_lanes(engine, error);
    if (status == EMB_OK) status = start_threads(engine, error);
    if (status != EMB_OK) {
        emb_engine_close(engine);
        return status;
    }
    engine->opened_seconds = emb_process_seconds();
    *out = engine;
    return EMB_OK;
}

emb_status emb_engine_open(emb_engine **out, const emb_model *model, const emb_plan *plan,
                           emb_error *error) {
    if (!out || !model || !plan || plan->struct_bytes != sizeof *plan || plan->lanes == 0 ||
        plan->regions_count == 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "open: engine, model and a plan from emb_plan_make are needed");
    *out = NULL;
    const emb_backend *backend = NULL;
    EMB_TRY(choose_backend(&backend, plan, model, error));
    EMB_TRY(check_plan(plan, model, backend, error));
    const emb_device_calls *device = backend->device;
    emb_device_thread before;
    if (device) device->enter(&before, plan->devices[0]);
    emb_status status = open_engine(out, model, plan, backend, error);
    if (device) device->leave(&before);
    return status;
}

void emb_engine_close(emb_engine *engine) {
    if (!engine) return;
    atomic_store(&engine->cancel, true);
    pthread_mutex_lock(&engine->mutex);
    engine->stop = true;
    pthread_cond_broadcast(&engine->work);
    pthread_mutex_unlock(&engine->mutex);
    stop_loaders(engine);
    emb_engine_stop_readers(engine);
    emb_thread_set_join(&engine->memory.threads);
    /* lanes first: work they have enqueued may still wait for the weights' events */
    const emb_device_calls *device = engine->backend->device;
    emb_device_thread before;
    if (device) device->enter(&before, engine->plan.devices[0]);
    for (uint32_t i = 0; device && i < engine->plan.lanes; i++)
        device->lane_close(&engine->memory.lanes[i].scratch);
    for (uint32_t d = 0; d < engine->plan.devices_count; d++)
        emb_weights_close(&engine->memory.sites[d].weights);
    pthread_cond_destroy(&engine->ahead.done);
    pthread_cond_destroy(&engine->ahead.work);
    pthread_mutex_destroy(&engine->ahead.mutex);
    emb_wake_close(&engine->ready);
    pthread_cond_destroy(&engine->work);
    pthread_mutex_destroy(&engine->mutex);
    regions r = {.host_base = engine->arena,
                 .pinned_base = engine->pinned_arena,
                 .host_bytes = engine->arena_bytes,
                 .pinned_bytes = engine->pinned_bytes,
                 .device_bytes = engine->device_bytes};
    memcpy(r.device_bases, engine->device_arenas, sizeof r.device_bases);
    give_regions(&r, device);
    if (device) device->leave(&before);
}

/* Not by MADV_DONTFORK: while a child starts, the C library walks its list of threads through their
 * stacks, which are in the arena. */
void emb_engine_forget(emb_engine *engine) {
    if (!engine) return;
    emb_wake_close(&engine->ready);
    emb_arena_close(engine->pinned_arena, engine->pinned_bytes); /* the parent unpins its own */
    emb_arena_close(engine->arena, engine->arena_bytes);
}

/* ---- use ------------------------------------------------------------------------------------- */

void emb_engine_stats(emb_engine_stats_t *out, const emb_engine *engine) {
    if (!out) return;
    memset(out, 0, sizeof *out);
    if (!engine) return;
    const emb_engine_counts *counts = &engine->counts;
    *out = (emb_engine_stats_t){
        .struct_bytes = sizeof *out,
        .texts = emb_counter_read(&counts->texts),
        .texts_failed = emb_counter_read(&counts->texts_failed),
        .texts_long = emb_counter_read(&counts->texts_long),
        .chunks = emb_counter_read(&counts->chunks),
        .tokens = emb_counter_read(&counts->tokens),
        .tokens_dropped = emb_counter_read(&counts->tokens_dropped),
        .rows_computed = emb_counter_read(&counts->rows_computed),
        .bytes_read = emb_counter_read(&counts->bytes_read),
        .passes = emb_counter_read(&counts->passes),
        .windows = emb_counter_read(&counts->windows),
        .tiles = emb_counter_read(&counts->tiles),
        .graphs = counts->graphs,
        .seconds = emb_process_seconds() - engine->opened_seconds,
        .seconds_tokenize = 1e-9 * (double)emb_counter_read(&counts->tokenize_ns),
        .seconds_encode = 1e-9 * (double)emb_counter_read(&counts->encode_ns),
        .seconds_wait = 1e-9 * (double)emb_counter_read(&counts->wait_ns),
        .host_bytes_planned = engine->plan.host_bytes,
    };
    emb_process_memory(&out->host_bytes_now, &out->host_bytes_peak);
}
