/* plan.c - limits to bytes: checks the limits, then takes the first step of the ladder that fits.
 *
 * A pure function of model, limits and machine. Each candidate is weighed by the very layout that
 * the engine binds.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "plan/plan.h"

#define WINDOWS          3  /* read ahead, encode, deliver: 2 * devices + 1 */
#define TOKENS_PER_CHUNK 16 /* a window holds tokens / this many chunks, and at least */
#define CHUNKS_MIN       16
#define PASS_TOKENS_MAX  65536 /* beyond it the time to read a layer vanishes beside its use */
#define WINDOW_TILES     4     /* tiles per lane in a full window: keeps lanes even at its end */

/* What the C library and the kernel may still add after the probe: heap headers, page tables of
 * stdio, and the few pages by which per-CPU counters of resident memory lag behind. */
#define GROWTH_BYTES (384u << 10)

typedef struct search {
    const emb_model *model;
    const emb_machine *machine;
    const emb_backend *backend;
    emb_plan *plan;     /* the candidate at hand */
    uint32_t tile_knee; /* tokens */
    uint64_t budget;    /* UINT64_MAX: none */
} search;

emb_limits emb_limits_default(void) {
    emb_limits limits;
    memset(&limits, 0, sizeof limits);
    limits.struct_bytes = sizeof limits;
    return limits;
}

const char *emb_rung_name(emb_rung rung) {
    switch (rung) {
    case EMB_RUNG_FULL:
        return "full";
    case EMB_RUNG_FEWER:
        return "fewer tokens";
    case EMB_RUNG_GATHER:
        return "embeddings from file";
    case EMB_RUNG_STREAM:
        return "layers streamed";
    }
    return "unknown";
}

/* ---- weighing -------------------------------------------------------------------------------- */

static void set_windows(emb_plan *plan, uint32_t window_tokens) {
    plan->window_tokens = window_tokens;
    plan->window_chunks = window_tokens / TOKENS_PER_CHUNK;
    if (plan->window_chunks < CHUNKS_MIN) plan->window_chunks = CHUNKS_MIN;
    plan->tokens_per_pass = plan->weight_slots ? window_tokens : plan->tokens_per_tile;
}

static void add_item(emb_region *region, const char *name, uint64_t bytes) {
    if (!bytes || region->items_count == EMB_ITEMS_MAX) return;
    emb_item *item = &region->items[region->items_count++];
    snprintf(item->name, sizeof item->name, "%s", name);
    item->bytes = bytes;
    region->bytes += bytes;
}

/* Fills in the candidate's host region and its bytes; gives them, UINT64_MAX if they overflow. */
static uint64_t weigh(const search *s) {
    emb_plan *plan = s->plan;
    emb_memory memory;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    emb_memory_layout(&memory, s->model, plan, s->backend, &ledger);
    if (ledger.overflow) return UINT64_MAX;
    uint64_t page = s->machine->page_bytes, arena = (ledger.bytes + page - 1) / page * page;

    plan->regions_count = 1;
    emb_region *region = &plan->regions[0];
    memset(region, 0, sizeof *region);
    region->kind = EMB_REGION_HOST;
    region->arena_bytes = arena;
    add_item(region, "process", plan->process_base_bytes);
    add_item(region, "process growth", GROWTH_BYTES);
    add_item(region, "model description", s->model->info.description_bytes);
    add_item(region, "caller's buffers", plan->caller_bytes);
    for (uint32_t i = 0; i < ledger.items_count; i++)
        add_item(region, ledger.items[i].name, ledger.items[i].bytes);
    add_item(region, "page rounding", arena - ledger.bytes);
    plan->host_bytes = region->bytes;
    return region->bytes;
}

static bool fits(const search *s, uint32_t window_tokens) {
    set_windows(s->plan, window_tokens);
    return weigh(s) <= s->budget;
}

/* ---- the ladder ------------------------------------------------------------------------------ */

/* The most tokens per window between floor and ceiling that fit, in steps of 64. Bytes grow with
 * tokens, so halving finds it. */
static bool widest_window(const search *s, uint32_t floor, uint32_t ceiling) {
    if (!fits(s, floor)) return false;
    uint32_t low = 0, high = ceiling > floor ? (ceiling - floor) / 64 : 0;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (fits(s, floor + middle * 64))
            low = middle;
        else
            high = middle - 1;
    }
    return fits(s, floor + low * 64);
}

/* Layers resident: tiles from the knee down to the longest chunk, as wide windows as fit. */
static bool try_resident(const search *s, bool words) {
    emb_plan *plan = s->plan;
    plan->weight_slots = 0;
    plan->embeddings_resident = words;
    uint32_t shortest = plan->chunk_tokens_max;
    for (uint32_t tile = s->tile_knee;; tile = tile / 2 > shortest ? tile / 2 : shortest) {
        plan->tokens_per_tile = tile;
        uint32_t full = WINDOW_TILES * plan->lanes * tile;
        bool complete = tile == s->tile_knee && fits(s, full);
        /* below one tile a lane would idle; only the last try accepts that */
        if (complete || widest_window(s, tile > shortest ? plan->lanes * tile : shortest, full)) {
            plan->rung = !words ? EMB_RUNG_GATHER : complete ? EMB_RUNG_FULL : EMB_RUNG_FEWER;
            return true;
        }
        if (tile == shortest) return false;
    }
}

/* Layers streamed: as many tokens per pass as fit, so that each reading of a layer serves most. */
static bool try_streamed(const search *s, uint32_t slots) {
    emb_plan *plan = s->plan;
    plan->weight_slots = slots;
    plan->embeddings_resident = 0;
    plan->tokens_per_tile = plan->chunk_tokens_max;
    plan->rung = EMB_RUNG_STREAM;
    return widest_window(s, plan->chunk_tokens_max, PASS_TOKENS_MAX);
}

/* A lane less is worse than any rung, so the number of lanes gives way last. */
static bool descend(const search *s) {
    for (uint32_t lanes = s->plan->lanes; lanes > 0; lanes--) {
        s->plan->lanes = lanes;
        if (try_resident(s, true) || try_resident(s, false) || try_streamed(s, 2) ||
            try_streamed(s, 1))
            return true;
    }
    return false;
}

/* The smallest of all candidates: one lane, shortest tile and window, in each of the four forms. */
static uint64_t smallest(const search *s) {
    static const struct { uint32_t slots, words; } forms[] = {{0, 1}, {0, 0}, {2, 0}, {1, 0}};
    uint64_t least = UINT64_MAX;
    emb_plan *plan = s->plan;
    plan->lanes = 1;
    plan->tokens_per_tile = plan->chunk_tokens_max;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        plan->weight_slots = forms[i].slots;
        plan->embeddings_resident = forms[i].words;
        set_windows(plan, plan->chunk_tokens_max);
        uint64_t bytes = weigh(s);
        if (bytes < least) least = bytes;
    }
    return least;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static emb_status check_dtype(emb_plan *plan, const emb_limits *limits, emb_error *error) {
    plan->dtype = limits->dtype == EMB_DTYPE_DEFAULT ? EMB_DTYPE_F32 : limits->dtype;
    if (plan->dtype == EMB_DTYPE_F32 || plan->dtype == EMB_DTYPE_BF16) return EMB_OK;
    if (plan->dtype > EMB_DTYPE_FP8)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "there is no dtype %d", (int)plan->dtype);
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "this dtype is not available on a CPU yet; use f32 or bf16");
}

static emb_status check_tokens(emb_plan *plan, const emb_limits *limits, const emb_shape *shape,
                               uint32_t specials, emb_error *error) {
    plan->chunk_tokens_max =
        limits->chunk_tokens_max ? limits->chunk_tokens_max : shape->default_tokens;
    if (plan->chunk_tokens_max > shape->window_tokens)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "longest chunk %u is more than the model's window of %u tokens; state "
                             "at most %u",
                             plan->chunk_tokens_max, shape->window_tokens, shape->window_tokens);
    if (plan->chunk_tokens_max <= specials)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "longest chunk %u leaves no room for text beside %u special tokens; "
                             "state at least %u",
                             plan->chunk_tokens_max, specials, specials + 1);
    plan->dim = limits->dim ? limits->dim : shape->hidden;
    if (plan->dim > shape->hidden)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "dim %u is more than the model's %u; state at most %u", plan->dim,
                             shape->hidden, shape->hidden);
    return EMB_OK;
}

/* Checks what the limits say and copies into the plan what does not depend on the budget. */
static emb_status begin_plan(emb_plan *plan, const emb_model *model, const emb_limits *limits,
                             const emb_machine *machine, emb_error *error) {
    if (limits->device == EMB_DEVICE_CUDA)
        return emb_error_set(error, EMB_DEVICE,
                             "no CUDA module in this build; use the device cpu or auto");
    if (limits->device > EMB_DEVICE_CUDA || limits->long_rule > EMB_LONG_ERROR ||
        limits->pooling > EMB_POOLING_MAX || limits->normalize > EMB_SWITCH_OFF ||
        limits->dtype > EMB_DTYPE_FP8)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "limits hold a device, dtype, long rule, pooling or switch that does "
                             "not exist; begin with emb_limits_default()");
    if (limits->caller_bytes > UINT64_MAX / 4) /* so that no sum of bytes can wrap */
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "caller_bytes %llu is more than any machine has",
                             (unsigned long long)limits->caller_bytes);
    memset(plan, 0, sizeof *plan);
    plan->struct_bytes = sizeof *plan;
    plan->device = EMB_DEVICE_CPU;
    plan->long_rule = limits->long_rule;
    EMB_TRY(check_dtype(plan, limits, error));
    EMB_TRY(check_tokens(plan, limits, &model->shape, model->info.special_tokens, error));
    plan->pooling = limits->pooling ? limits->pooling : model->shape.pooling;
    plan->normalize = limits->normalize == EMB_SWITCH_ON ||
                      (limits->normalize == EMB_SWITCH_MODEL && model->shape.normalizes);
    plan->normalize_kept = limits->normalize == EMB_SWITCH_ON && plan->dim < model->shape.hidden;
    plan->windows = WINDOWS;
    plan->lanes = limits->threads ? limits->threads : machine->cores;
    if (plan->lanes == 0 || plan->lanes > 1024)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "threads %u: state 1 to 1024",
                             plan->lanes);
    plan->process_base_bytes = machine->process_base_bytes;
    plan->caller_bytes = limits->caller_bytes;
    plan->host_bytes_max = limits->host_bytes_max;
    snprintf(plan->isa, sizeof plan->isa, "%s", machine->isa);
    return EMB_OK;
}

static emb_status check_handles(const emb_plan *out, const emb_model *model,
                                const emb_limits *limits, const emb_machine *machine,
                                emb_error *error) {
    if (!out || !model || !limits || !machine)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "plan, model, limits and machine must not be NULL");
    if (limits->struct_bytes != sizeof *limits || machine->struct_bytes != sizeof *machine)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "struct_bytes differs: begin with emb_limits_default() and "
                             "emb_machine_probe(), and compile against this library's header");
    if (machine->page_bytes == 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "the machine's page_bytes is 0");
    return EMB_OK;
}

void emb_plan_numerics(char out[64], const emb_model *model, const emb_backend *backend) {
    snprintf(out, 64, "%s-%s", model->info.architecture, backend->numerics);
}

static uint64_t ceil_mib(uint64_t bytes) {
    return (bytes + (1u << 20) - 1) >> 20;
}

emb_status emb_plan_make(emb_plan *out, const emb_model *model, const emb_limits *limits,
                         const emb_machine *machine, emb_error *error) {
    EMB_TRY(check_handles(out, model, limits, machine, error));
    emb_plan base;
    EMB_TRY(begin_plan(&base, model, limits, machine, error));
    const emb_backend *backend =
        emb_cpu_backend(machine->isa, machine->has_bf16, emb_plan_format(base.dtype));
    if (!backend)
        return emb_error_set(error, EMB_UNSUPPORTED, "this build has no kernels for '%s'",
                             machine->isa);
    emb_plan_numerics(base.numerics_id, model, backend);

    search s = {model, machine, backend, out, backend->tokens_knee, UINT64_MAX};
    if (s.tile_knee < base.chunk_tokens_max) s.tile_knee = base.chunk_tokens_max;
    *out = base;
    uint64_t least = smallest(&s);
    *out = base;
    descend(&s);
    uint64_t knee = out->host_bytes;
    *out = base;
    if (base.host_bytes_max) s.budget = base.host_bytes_max;
    bool found = descend(&s);
    out->host_bytes_min = least;
    out->host_bytes_knee = knee;
    if (found) return EMB_OK;
    emb_error_set(error, EMB_BUDGET,
                  "a host budget of %llu bytes is too small for this model and these limits; the "
                  "smallest that works is %llu bytes (%llu MiB)",
                  (unsigned long long)base.host_bytes_max, (unsigned long long)least,
                  (unsigned long long)ceil_mib(least));
    if (error) error->bytes_min = least;
    return EMB_BUDGET;
}
