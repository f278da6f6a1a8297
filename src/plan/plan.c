/* plan.c - limits to bytes: checks the limits, then takes the first rung of the ladder that fits.
 *
 * A pure function of model, limits and machine. Each candidate is measured by the same layout that
 * the engine binds, passed as a callback.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "plan/plan.h"

#define BYTES_SANE_MAX    (1ull << 56) /* below it sums of stated bytes cannot wrap */
#define WINDOWS           3            /* read ahead, encode, deliver */
#define TOKENS_PER_CHUNK  16           /* a window holds tokens / this many chunks, and at least */
#define CHUNKS_MIN        16
#define PASS_TOKENS_MAX   65536 /* beyond it the time to read a layer is negligible */
#define WINDOW_TOKENS_MAX (1u << 24)
#define WINDOW_TILES                                                                               \
    4 /* tiles per lane in a full window: so that lanes finish at about the same time */

/* What the C library and the kernel may still add after the probe: heap headers, page tables of
 * stdio, and the few pages by which per-CPU counters of resident memory lag behind. */
#define GROWTH_BYTES (384u << 10)

/* A CUDA context grows when first used: by module data and queues once, and with each lane beyond
 * the first, more if it replays recordings. Measured on an H200 with 1 to 8 lanes,
 * bench/gpu_memory.py. */
#define CUDA_HOST_GROWTH_BYTES   (6u << 20)
#define CUDA_DEVICE_GROWTH_BYTES (3u << 20)
#define CUDA_LANE_HOST_BYTES     (768u << 10)
#define CUDA_LANE_DEVICE_BYTES   (512u << 10)
#define CUDA_LANE_GRAPH_BYTES    (1024u << 10)
/* cuBLASLt where the probe has not opened it, and what it later takes for the kernels of a model's
 * products: measured with bench/gpu_speed.py. */
#define CUBLASLT_HOST_BYTES   (152u << 20)
#define CUBLASLT_GROWTH_BYTES (26u << 20)
#define CUBLASLT_DEVICE_BYTES (8u << 20)

/* A recording's nodes, as tests/cuda/check_graph.cu measures them. */
#define CUDA_NODE_HOST_BYTES   4096
#define CUDA_NODE_DEVICE_BYTES 2048
#define NODES_PER_LAYER        8 /* launches, cuBLASLt's GELU among them */
#define NODES_QUANTIZED        3 /* additional ones, to quantize or smooth the products' inputs */
#define NODES_BEFORE_LAYERS    2

#define DEVICE_PAGE_BYTES (2u << 20) /* a GPU's memory is handed out in pages of this size */
/* Left free on a shared card: the contexts that other processes have there still grow. */
#define DEVICE_MARGIN_BYTES (16u << 20)
#define DEVICE_LANES        2 /* streams: one computes while the other's host side fills */
#define DEVICE_READERS      4 /* threads that tokenise for it */

/* A pass copies every layer once and uses it once per token, so with enough tokens products hide
 * the copies. By the speeds of bus and tensor cores that takes 7,000 tokens on an H200 and 2,000 on
 * a T4, whatever the size of a layer in 16 bits. Beyond four times as many there is nothing to
 * gain; below, smaller tiles are the lesser loss. bench/gpu_encode.py shows all of these. */
#define PASS_TOKENS_HIDE   8192
#define PASS_TOKENS_PINNED 32768
#define TILE_TOKENS_WIDE                                                                           \
    2048 /* smaller ones lose more than reading embedding rows across the bus does */
#define TILE_TOKENS_SLENDER 1024 /* and these more than copying layers does */

typedef struct question {
    const emb_model *model;
    const emb_limits *limits;
    const emb_machine *machine;
    emb_plan_weigh *weigh;
} question;

typedef struct search {
    const emb_model *model;
    const emb_machine *machine;
    const emb_backend *backend;
    emb_plan_weigh *weigh;
    emb_plan *plan;                      /* the current candidate */
    uint32_t tile_knee;                  /* tokens */
    const emb_device_info *gpu;          /* the first of several; NULL on the CPU */
    uint64_t held_bytes, context_bytes;  /* of the GPU where their sum is largest */
    bool grown;                          /* all contexts have grown by what first use adds */
    uint32_t grown_lanes;                /* and by what so many lanes add */
    uint64_t cuda_host_bytes;            /* of all contexts together */
    uint64_t cuda_host_growth_bytes;     /* likewise */
    uint64_t cublaslt_bytes;             /* host bytes; 0: not used */
    uint64_t host_budget, device_budget; /* UINT64_MAX: none */
} search;

emb_limits emb_limits_default(void) {
    emb_limits limits;
    memset(&limits, 0, sizeof limits);
    limits.struct_bytes = sizeof limits;
    return limits;
}

/* ---- weighing -------------------------------------------------------------------------------- */

/* Resident weights: the lanes of all GPUs share each window. Streamed: a window belongs to one GPU,
 * and each GPU needs one being encoded and one read ahead. */
static void set_windows(emb_plan *plan, uint32_t window_tokens) {
    plan->windows = plan->weight_slots ? WINDOWS + 2 * (plan->devices_count - 1) : WINDOWS;
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

static emb_region *add_region(emb_plan *plan, emb_region_kind kind) {
    EMB_ASSERT(plan->regions_count < EMB_REGIONS_MAX);
    emb_region *region = &plan->regions[plan->regions_count++];
    memset(region, 0, sizeof *region);
    region->kind = kind;
    region->devices = kind == EMB_REGION_DEVICE ? plan->devices_count : 1;
    return region;
}

/* The region's own allocation: what the ledger booked, in whole pages. */
static void add_arena(emb_region *region, const emb_ledger *ledger, uint64_t page) {
    for (uint32_t i = 0; i < ledger->items_count; i++)
        add_item(region, ledger->items[i].name, ledger->items[i].bytes);
    region->arena_bytes = (ledger->bytes + page - 1) / page * page;
    add_item(region, "page rounding", region->arena_bytes - ledger->bytes);
}

/* Nodes of all recordings: each lane has one for each bucket of tokens. */
static uint64_t graph_nodes(const search *s) {
    const emb_plan *plan = s->plan;
    if (plan->graphs == EMB_SWITCH_OFF || plan->weight_slots) return 0;
    uint64_t buckets = 0;
    while (emb_bucket_tokens(plan->tokens_per_tile, (uint32_t)buckets)) buckets++;
    uint64_t nodes = NODES_PER_LAYER + (emb_dtype_quantized(plan->dtype) ? NODES_QUANTIZED : 0);
    return plan->lanes * buckets * (NODES_BEFORE_LAYERS + nodes * s->model->shape.layers);
}

/* For each GPU, the lanes beyond the first by which its context has yet to grow. */
static uint64_t growing_lanes(const search *s) {
    uint32_t lanes = s->plan->lanes / s->plan->devices_count;
    uint32_t known = s->grown ? s->grown_lanes : 1;
    return lanes > known ? lanes - known : 0;
}

/* On each GPU. A context already in use grows by whole pages. */
static uint64_t context_growth(const search *s, uint64_t lane_bytes) {
    uint64_t bytes = growing_lanes(s) * lane_bytes;
    if (!s->grown) return CUDA_DEVICE_GROWTH_BYTES + bytes;
    return (bytes + DEVICE_PAGE_BYTES - 1) / DEVICE_PAGE_BYTES * DEVICE_PAGE_BYTES;
}

/* Fills in the candidate's regions and bytes; false if they overflow. */
static bool weigh(const search *s) {
    emb_plan *plan = s->plan;
    bool cuda = plan->device == EMB_DEVICE_CUDA;
    emb_plan_books books;
    emb_ledger_init(&books.host, NULL, 0);
    emb_ledger_init(&books.pinned, NULL, 0);
    for (uint32_t d = 0; d < plan->devices_count; d++) emb_ledger_init(&books.devices[d], NULL, 0);
    s->weigh(&books, s->model, plan, s->backend);
    if (books.host.overflow || books.pinned.overflow || books.devices[0].overflow) return false;

    plan->regions_count = 0;
    emb_region *region = add_region(plan, EMB_REGION_HOST);
    add_item(region, "process", plan->process_base_bytes);
    if (cuda) add_item(region, "CUDA on the host", s->cuda_host_bytes);
    uint64_t devices = cuda ? plan->devices_count : 0, nodes = cuda ? graph_nodes(s) : 0;
    add_item(region, "process growth",
             GROWTH_BYTES + s->cuda_host_growth_bytes +
                 (nodes ? devices * growing_lanes(s) * CUDA_LANE_HOST_BYTES : 0));
    add_item(region, "cuBLASLt on the host", s->cublaslt_bytes);
    add_item(region, "CUDA graphs", nodes * CUDA_NODE_HOST_BYTES);
    add_item(region, "model description", s->model->info.description_bytes);
    add_item(region, "caller's buffers", plan->caller_bytes);
    add_arena(region, &books.host, s->machine->page_bytes);
    plan->host_bytes = region->bytes;
    plan->device_bytes = 0;
    if (!cuda) return true;
    region = add_region(plan, EMB_REGION_PINNED);
    add_arena(region, &books.pinned, s->machine->page_bytes);
    plan->host_bytes += region->bytes;
    region = add_region(plan, EMB_REGION_DEVICE);
    add_item(region, "held by this process already", s->held_bytes);
    add_item(region, "CUDA context", s->context_bytes);
    uint64_t lane_bytes = CUDA_LANE_DEVICE_BYTES + (nodes ? CUDA_LANE_GRAPH_BYTES : 0);
    add_item(region, "context growth", context_growth(s, lane_bytes));
    if (plan->gemm == EMB_GEMM_CUBLASLT) add_item(region, "cuBLASLt", CUBLASLT_DEVICE_BYTES);
    add_item(region, "CUDA graphs", nodes / devices * CUDA_NODE_DEVICE_BYTES);
    add_item(region, "caller's rows", plan->device_caller_bytes);
    add_arena(region, &books.devices[0], DEVICE_PAGE_BYTES);
    plan->device_bytes = region->bytes;
    return true;
}

static bool fits(const search *s, uint32_t window_tokens) {
    set_windows(s->plan, window_tokens);
    return weigh(s) && s->plan->host_bytes <= s->host_budget &&
           s->plan->device_bytes <= s->device_budget;
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

/* A shape that an engine can take: one step of the search. */
typedef struct step {
    uint32_t slots;
    enum { WORDS_IN_FILE, WORDS_RESIDENT, WORDS_PINNED } words;
    bool layers_pinned;
    uint32_t tile_least; /* smaller ones are left to later steps */
    uint32_t pass_least; /* likewise for shorter passes of streamed layers */
    bool alone;          /* one lane per GPU: the other lanes' bytes go to tokens per pass */
} step;

/* From fastest to slowest. */
static const step cpu_steps[] = {
    {0, WORDS_RESIDENT, false, 0, 0, false},
    {0, WORDS_IN_FILE, false, 0, 0, false},
    {2, WORDS_IN_FILE, false, 0, 0, false},
    {1, WORDS_IN_FILE, false, 0, 0, false},
};
/* Pinned memory is copied across the bus at tens of GB/s, in parallel with the work; the file is
 * read and converted by host threads. If a pass is so short that copies dominate, one slot, with
 * the other's bytes used for tokens, is faster. */
static const step gpu_steps[] = {
    {0, WORDS_RESIDENT, false, TILE_TOKENS_WIDE, 0, false},
    {0, WORDS_PINNED, false, TILE_TOKENS_WIDE, 0, false},
    {2, WORDS_PINNED, true, TILE_TOKENS_SLENDER, PASS_TOKENS_HIDE, false},
    {0, WORDS_RESIDENT, false, 0, 0, false},
    {0, WORDS_PINNED, false, 0, 0, false},
    {2, WORDS_PINNED, true, 0, PASS_TOKENS_HIDE, false},
    {2, WORDS_PINNED, true, 0, PASS_TOKENS_HIDE / 2, true},
    {1, WORDS_PINNED, true, 0, 0, true},
    {0, WORDS_IN_FILE, false, 0, 0, false},
    {2, WORDS_IN_FILE, true, 0, PASS_TOKENS_HIDE / 2, false},
    {1, WORDS_IN_FILE, true, 0, 0, true},
    {2, WORDS_PINNED, false, 0, 0, true},
    {2, WORDS_IN_FILE, false, 0, 0, true},
    {1, WORDS_IN_FILE, false, 0, 0, true},
};

static const step *steps_of(const search *s, size_t *count) {
    *count = s->gpu ? sizeof gpu_steps / sizeof *gpu_steps : sizeof cpu_steps / sizeof *cpu_steps;
    return s->gpu ? gpu_steps : cpu_steps;
}

static void set_form(emb_plan *plan, const step *form) {
    plan->weight_slots = form->slots;
    plan->embeddings_resident = form->words == WORDS_RESIDENT;
    plan->embeddings_pinned = form->words == WORDS_PINNED;
    plan->layers_pinned = form->layers_pinned;
    plan->rung = form->layers_pinned             ? EMB_RUNG_PINNED_LAYERS
                 : form->slots                   ? EMB_RUNG_STREAM
                 : form->words == WORDS_PINNED   ? EMB_RUNG_PINNED_EMBEDDINGS
                 : form->words == WORDS_RESIDENT ? EMB_RUNG_FEWER
                                                 : EMB_RUNG_GATHER;
}

/* Layers resident: the largest windows that fit and that the lanes can fill. */
static bool fit_tiles(const search *s, uint32_t tile) {
    emb_plan *plan = s->plan;
    uint64_t wanted = (uint64_t)WINDOW_TILES * plan->lanes * tile;
    uint32_t full = wanted < WINDOW_TOKENS_MAX ? (uint32_t)wanted : WINDOW_TOKENS_MAX;
    if (tile == s->tile_knee && fits(s, full)) {
        if (plan->rung == EMB_RUNG_FEWER) plan->rung = EMB_RUNG_FULL;
        return true;
    }
    /* below one tile per lane some lanes would idle; only the last try accepts that */
    uint32_t shortest = plan->chunk_tokens_max;
    return widest_window(s, tile > shortest ? plan->lanes * tile : shortest, full);
}

/* Layers streamed: as many tokens per pass as fit, so that each load of a layer serves the most. */
static bool fit_pass(const search *s, const step *form, uint32_t tile) {
    uint32_t shortest = s->plan->chunk_tokens_max;
    uint32_t floor = tile > shortest ? s->plan->lanes * tile : shortest;
    if (floor < form->pass_least) floor = form->pass_least;
    return widest_window(s, floor, form->layers_pinned ? PASS_TOKENS_PINNED : PASS_TOKENS_MAX);
}

/* Tiles from the knee down to the longest chunk, or to what the step accepts. With layers streamed
 * on a CPU the shortest tile is as good as any. */
static bool try_step(const search *s, const step *form) {
    emb_plan *plan = s->plan;
    if (form->slots && plan->graphs == EMB_SWITCH_ON) return false; /* needs resident layers */
    set_form(plan, form);
    uint32_t shortest = plan->chunk_tokens_max;
    uint32_t least = form->tile_least > shortest ? form->tile_least : shortest;
    uint32_t tile = form->slots && !s->gpu ? shortest : s->tile_knee;
    for (;; tile = tile / 2 > least ? tile / 2 : least) {
        plan->tokens_per_tile = tile;
        if (form->slots ? fit_pass(s, form, tile) : fit_tiles(s, tile)) return true;
        if (tile <= least) return false;
    }
}

/* Losing a lane costs more than any rung, so the number of lanes is reduced last. */
static bool descend(const search *s) {
    size_t count;
    const step *steps = steps_of(s, &count);
    uint32_t devices = s->plan->devices_count;
    if (s->plan->readers > 1) { /* only for full speed */
        if (try_step(s, &steps[0]) && s->plan->rung == EMB_RUNG_FULL) return true;
        s->plan->readers = 1;
    }
    for (uint32_t lanes = s->plan->lanes; lanes > 0; lanes -= devices) {
        for (size_t i = 0; i < count; i++) {
            s->plan->lanes = steps[i].alone ? devices : lanes;
            if (try_step(s, &steps[i])) return true;
        }
    }
    return false;
}

/* The smallest host bytes and the smallest device bytes of any candidate: one lane, shortest tile
 * and window, for each step. */
static void smallest(const search *s, uint64_t *host_bytes, uint64_t *device_bytes) {
    size_t count;
    const step *steps = steps_of(s, &count);
    emb_plan *plan = s->plan;
    *host_bytes = *device_bytes = UINT64_MAX;
    plan->lanes = plan->devices_count;
    plan->readers = 1;
    plan->tokens_per_tile = plan->chunk_tokens_max;
    for (size_t i = 0; i < count; i++) {
        set_form(plan, &steps[i]);
        set_windows(plan, plan->chunk_tokens_max);
        if (!weigh(s) || (plan->weight_slots && plan->graphs == EMB_SWITCH_ON)) continue;
        if (plan->host_bytes < *host_bytes) *host_bytes = plan->host_bytes;
        if (plan->device_bytes < *device_bytes) *device_bytes = plan->device_bytes;
    }
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* A quantized model keeps its dtype or is widened: quantizing it again to another would double its
 * error. */
static emb_status check_stored(const emb_plan *plan, emb_dtype stored, emb_error *error) {
    if (!emb_dtype_quantized(stored) || !emb_dtype_quantized(plan->dtype)) return EMB_OK;
    if (stored != plan->dtype)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the model is stored as %s and cannot be made %s: quantize the "
                             "original, or use %s, f32 or bf16",
                             emb_dtype_name(stored), emb_dtype_name(plan->dtype),
                             emb_dtype_name(stored));
    if (stored == EMB_DTYPE_FP8 && plan->device != EMB_DEVICE_CUDA)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the model is stored as fp8, which a CPU has no instructions for: use "
                             "--dtype f32 or bf16, which widen it");
    return EMB_OK;
}

static emb_status check_dtype(emb_plan *plan, const emb_limits *limits, emb_dtype stored,
                              emb_error *error) {
    bool cuda = plan->device == EMB_DEVICE_CUDA;
    emb_dtype usual = cuda ? EMB_DTYPE_F16 : EMB_DTYPE_F32;
    plan->dtype = limits->dtype ? limits->dtype : emb_dtype_quantized(stored) ? stored : usual;
    EMB_TRY(check_stored(plan, stored, error));
    if (plan->dtype == EMB_DTYPE_F32 || plan->dtype == EMB_DTYPE_BF16) return EMB_OK;
    if (cuda || plan->dtype == EMB_DTYPE_INT8 || plan->dtype == EMB_DTYPE_INT4) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "%s is not available on a CPU; use f32, bf16, int8 or int4, or a GPU",
                         emb_dtype_name(plan->dtype));
}

/* What the cols of a role's matrices must be a multiple of for a GPU's products. */
static uint32_t cols_multiple(const emb_plan *plan, const emb_model *model, emb_tensor_role role) {
    if (plan->dtype != EMB_DTYPE_INT4) return 16;
    uint32_t stored = model->files ? emb_model_stored_group(model->files, role, 0) : 0;
    return stored ? stored : EMB_QUANTIZE_GROUP;
}

/* Refuses what a GPU's quantized products cannot do. */
static emb_status check_quantized(const emb_plan *plan, const emb_model *model,
                                  const emb_device_info *gpu, emb_error *error) {
    const emb_shape *s = &model->shape;
    uint32_t capability = gpu->compute_capability;
    if (plan->gemm == EMB_GEMM_CUBLASLT)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "cuBLASLt has no products for int8, int4 and fp8 here: use own "
                             "products (--gemm own), or f16");
    if (plan->dtype == EMB_DTYPE_FP8 && capability < EMB_CUDA_FP8_CAPABILITY)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "fp8 needs a GPU of compute capability 8.9 or newer, '%s' has %u.%u: "
                             "use f16, or quantize the original to int8",
                             gpu->name, capability / 10, capability % 10);
    uint32_t in = cols_multiple(plan, model, EMB_TENSOR_QUERY);
    uint32_t out = cols_multiple(plan, model, EMB_TENSOR_FFN_OUT);
    if (s->spec.hidden % in || s->spec.intermediate % out)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "on a GPU this dtype needs a hidden size that is a multiple of %u and "
                             "an intermediate size that is one of %u, the model has %u and %u: use "
                             "f16",
                             in, out, s->spec.hidden, s->spec.intermediate);
    return EMB_OK;
}

static emb_status check_dim(emb_plan *plan, const emb_limits *limits, const emb_shape *shape,
                            emb_error *error) {
    uint32_t width = emb_row_width(shape, limits->output);
    plan->dim = limits->dim ? limits->dim : width;
    if (!limits->dim && shape->truncate_dim && limits->output == EMB_OUTPUT_TEXT)
        plan->dim = shape->truncate_dim;
    if (plan->dim <= width) return EMB_OK;
    return emb_error_set(error, EMB_INVALID_ARGUMENT,
                         "dim %u is more than the model's %u; state at most %u", plan->dim, width,
                         width);
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
    return check_dim(plan, limits, shape, error);
}

/* Bits must not depend on which GPU took a tile, so all must have the same kernels. */
static emb_status choose_gpus(emb_plan *plan, const emb_limits *limits, const emb_machine *machine,
                              emb_error *error) {
    if (machine->devices_count == 0)
        return emb_error_set(error, EMB_DEVICE,
                             "this machine has no GPU that can be used; use " EMB_ADVICE_CPU
                             " or auto");
    uint32_t wanted = limits->devices_max ? limits->devices_max : 1;
    plan->devices_count = wanted < machine->devices_count ? wanted : machine->devices_count;
    plan->compute_capability = machine->devices[0].compute_capability;
    for (uint32_t i = 0; i < plan->devices_count; i++) {
        const emb_device_info *gpu = &machine->devices[i];
        plan->devices[i] = gpu->index;
        if (gpu->compute_capability != plan->compute_capability)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "GPU %u (%s) and GPU %u (%s) differ in compute capability, and so "
                                 "in bits: use one of them, or those that are alike",
                                 machine->devices[0].index, machine->devices[0].name, gpu->index,
                                 gpu->name);
    }
    return EMB_OK;
}

/* Each GPU needs at least one lane. */
static emb_status check_lanes(emb_plan *plan, const emb_limits *limits, const emb_machine *machine,
                              emb_error *error) {
    plan->devices_count = 1;
    if (plan->device == EMB_DEVICE_CUDA) EMB_TRY(choose_gpus(plan, limits, machine, error));
    uint32_t lanes = limits->threads                   ? limits->threads
                     : plan->device == EMB_DEVICE_CUDA ? DEVICE_LANES * plan->devices_count
                                                       : machine->cores;
    if (lanes == 0 || lanes > 1024)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "threads %u: state 1 to 1024", lanes);
    plan->lanes =
        lanes < plan->devices_count ? plan->devices_count : lanes - lanes % plan->devices_count;
    /* on a CPU tokenising is under a hundredth of the work; a GPU outruns one thread */
    uint32_t readers = DEVICE_READERS * plan->devices_count;
    if (readers > machine->cores) readers = machine->cores;
    plan->readers = plan->device == EMB_DEVICE_CUDA && readers > 1 ? readers : 1;
    return EMB_OK;
}

/* The advice if a stated GPU cannot do it; auto takes the CPU by itself and gives the reason. */
static const char *instead(const emb_limits *limits) {
    return limits->device == EMB_DEVICE_CUDA ? "; use " EMB_ADVICE_CPU : "";
}

/* One vector per token fits the windows only if a text is one chunk. */
static emb_status check_output(emb_plan *plan, const emb_limits *limits, const emb_shape *shape,
                               emb_error *error) {
    plan->output = limits->output;
    if (plan->output == EMB_OUTPUT_TEXT) return EMB_OK;
    if (plan->device == EMB_DEVICE_CUDA)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "vectors of tokens are not available on a GPU yet%s", instead(limits));
    if (plan->long_rule == EMB_LONG_CHUNK || plan->dim != shape->spec.hidden)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "vectors of tokens need the long rule truncate or error, and every "
                             "dimension: leave dim at 0");
    return EMB_OK;
}

/* Checks what the limits say and copies into the plan what does not depend on the budget. */
static emb_status begin_plan(emb_plan *plan, emb_device_kind device, const emb_model *model,
                             const emb_limits *limits, const emb_machine *machine,
                             emb_error *error) {
    if (limits->device > EMB_DEVICE_CUDA || limits->long_rule > EMB_LONG_ERROR ||
        limits->pooling > EMB_POOLING_MAX || limits->normalize > EMB_SWITCH_OFF ||
        limits->dtype > EMB_DTYPE_FP8 || limits->graphs > EMB_SWITCH_OFF ||
        limits->gemm > EMB_GEMM_CUBLASLT || limits->output > EMB_OUTPUT_TOKENS)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "limits hold a device, dtype, long rule, pooling or switch that does "
                             "not exist; begin with emb_limits_default()");
    memset(plan, 0, sizeof *plan);
    plan->struct_bytes = sizeof *plan;
    plan->device = device;
    plan->long_rule = limits->long_rule;
    EMB_TRY(check_dtype(plan, limits, model->info.stored_dtype, error));
    EMB_TRY(check_tokens(plan, limits, &model->shape, model->info.special_tokens, error));
    EMB_TRY(check_output(plan, limits, &model->shape, error));
    plan->pooling = limits->pooling ? limits->pooling : model->shape.pooling;
    plan->normalize = limits->normalize == EMB_SWITCH_ON ||
                      (limits->normalize == EMB_SWITCH_MODEL && model->shape.normalizes);
    plan->normalize_kept = limits->normalize == EMB_SWITCH_ON &&
                           plan->dim < emb_row_width(&model->shape, limits->output);
    plan->gemm = plan->device == EMB_DEVICE_CUDA ? limits->gemm : EMB_GEMM_OWN;
    plan->tune = plan->device == EMB_DEVICE_CUDA && limits->tune;
    plan->tuning = limits->tuning;
    plan->graphs = plan->device == EMB_DEVICE_CUDA ? limits->graphs : EMB_SWITCH_OFF;
    EMB_TRY(check_lanes(plan, limits, machine, error));
    if (plan->device == EMB_DEVICE_CUDA && emb_dtype_quantized(plan->dtype))
        EMB_TRY(check_quantized(plan, model, &machine->devices[0], error));
    plan->process_base_bytes = machine->process_base_bytes;
    plan->caller_bytes = limits->caller_bytes;
    plan->device_caller_bytes = plan->device == EMB_DEVICE_CUDA ? limits->device_caller_bytes : 0;
    plan->host_bytes_max = limits->host_bytes_max;
    plan->device_bytes_max = limits->device_bytes_max;
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
    if (machine->page_bytes == 0 || machine->devices_count > EMB_DEVICES_MAX)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the machine's page_bytes is 0, or it has too many devices");
    uint64_t largest =
        machine->process_base_bytes | limits->caller_bytes | limits->device_caller_bytes;
    for (uint32_t i = 0; i < machine->devices_count; i++)
        largest |= machine->devices[i].context_bytes | machine->devices[i].host_bytes |
                   machine->devices[i].cublaslt_bytes | machine->devices[i].held_bytes |
                   machine->devices[i].free_bytes;
    if (largest > BYTES_SANE_MAX)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the machine or the limits state bytes beyond 2^56");
    return EMB_OK;
}

void emb_plan_numerics(char out[64], const emb_model *model, const emb_backend *backend) {
    snprintf(out, 64, "%s-%s", model->info.architecture, backend->numerics);
}

static uint64_t ceil_mib(uint64_t bytes) {
    return (bytes + (1u << 20) - 1) >> 20;
}

/* What was stated, else all that the machine has, else no limit. */
static uint64_t budget_of(uint64_t stated, uint64_t present) {
    return stated ? stated : present ? present : UINT64_MAX;
}

/* The error that other processes hold the bytes the plan would need. */
static emb_status card_too_full(const search *s, const emb_plan *plan, emb_error *error) {
    uint64_t mine = s->held_bytes + s->context_bytes;
    return emb_error_set(
        error, EMB_BUDGET,
        "GPU %u (%.40s) has %llu MiB free, and this needs %llu MiB more than the %llu MiB that "
        "this process holds there: end what fills it, or use " EMB_ADVICE_CPU,
        s->gpu->index, s->gpu->name, (unsigned long long)plan->device_free_bytes >> 20,
        (unsigned long long)ceil_mib(plan->device_bytes_min - mine + plan->device_margin_bytes),
        (unsigned long long)ceil_mib(mine));
}

static emb_status stated_too_small(const search *s, const emb_plan *plan, bool host,
                                   emb_error *error) {
    uint64_t least = host ? plan->host_bytes_min : plan->device_bytes_min;
    return emb_error_set(error, EMB_BUDGET,
                         "a %s budget of %llu bytes is too small for this model and these limits; "
                         "the smallest that works is %llu bytes (%llu MiB)%s",
                         host ? "host" : "GPU",
                         (unsigned long long)(host ? s->host_budget : s->device_budget),
                         (unsigned long long)least, (unsigned long long)ceil_mib(least),
                         s->gpu ? ", or use " EMB_ADVICE_CPU : "");
}

static emb_status too_small(const search *s, const emb_plan *plan, emb_error *error) {
    bool host = s->host_budget < plan->host_bytes_min;
    bool device = s->device_budget < plan->device_bytes_min;
    bool full = device && (!plan->device_bytes_max || s->device_budget < plan->device_bytes_max);
    if (!host && !device)
        return emb_error_set(error, EMB_BUDGET,
                             "host and GPU budget are each large enough, but not together: raise "
                             "one of them (alone, %llu MiB of host and %llu MiB of GPU work)",
                             (unsigned long long)ceil_mib(plan->host_bytes_min),
                             (unsigned long long)ceil_mib(plan->device_bytes_min));
    if (!host && full && plan->device_free_bytes)
        card_too_full(s, plan, error);
    else
        stated_too_small(s, plan, host, error);
    if (error) {
        error->bytes_min = host ? plan->host_bytes_min : plan->device_bytes_min;
        error->region = host ? EMB_REGION_HOST : EMB_REGION_DEVICE;
    }
    return EMB_BUDGET;
}

/* What the plan's GPUs cost besides the engine's own memory. */
static void weigh_gpus(search *s, emb_plan *plan) {
    for (uint32_t i = 0; s->gpu && i < plan->devices_count; i++) {
        const emb_device_info *gpu = &s->gpu[i];
        s->cuda_host_bytes += gpu->host_bytes;
        if (!gpu->grown) s->cuda_host_growth_bytes += CUDA_HOST_GROWTH_BYTES;
        s->grown = (i == 0 || s->grown) && gpu->grown;
        if (i == 0 || gpu->grown_lanes < s->grown_lanes) s->grown_lanes = gpu->grown_lanes;
        if (gpu->held_bytes + gpu->context_bytes >= s->held_bytes + s->context_bytes) {
            s->held_bytes = gpu->held_bytes;
            s->context_bytes = gpu->context_bytes;
        }
        if (i == 0 || gpu->free_bytes < plan->device_free_bytes)
            plan->device_free_bytes = gpu->free_bytes;
        if (gpu->cublaslt_bytes > s->cublaslt_bytes) s->cublaslt_bytes = gpu->cublaslt_bytes;
    }
    plan->device_held_bytes = s->held_bytes;
    plan->device_margin_bytes = plan->device_free_bytes ? DEVICE_MARGIN_BYTES : 0;
    if (!s->cublaslt_bytes) s->cublaslt_bytes = CUBLASLT_HOST_BYTES;
    s->cublaslt_bytes += CUBLASLT_GROWTH_BYTES;
    if (plan->gemm != EMB_GEMM_CUBLASLT) s->cublaslt_bytes = 0;
}

/* The budget of each GPU: what was stated, but no more than is available, as other processes may
 * hold a part. A budget larger than the card bounds nothing and is refused. */
static emb_status device_budget(search *s, const emb_plan *plan, emb_error *error) {
    uint64_t card = UINT64_MAX;
    for (uint32_t i = 0; s->gpu && i < plan->devices_count; i++) {
        uint64_t bytes = s->gpu[i].memory_bytes;
        if (bytes && bytes < card) card = bytes;
        if (bytes && plan->device_bytes_max > bytes)
            return emb_error_set(error, EMB_INVALID_ARGUMENT,
                                 "a GPU budget of %llu MiB is more than GPU %u (%.63s) has: state "
                                 "at most %llu MiB, or none",
                                 (unsigned long long)ceil_mib(plan->device_bytes_max),
                                 s->gpu[i].index, s->gpu[i].name, (unsigned long long)bytes >> 20);
    }
    s->device_budget = budget_of(plan->device_bytes_max, card);
    if (!plan->device_free_bytes) return EMB_OK;
    uint64_t room = s->held_bytes + s->context_bytes;
    if (plan->device_free_bytes > DEVICE_MARGIN_BYTES)
        room += plan->device_free_bytes - DEVICE_MARGIN_BYTES;
    if (room < s->device_budget) s->device_budget = room;
    return EMB_OK;
}

/* Fails: EMB_UNSUPPORTED, with the backend's reason. */
static emb_status choose_backend(const emb_backend **out, const emb_plan *plan,
                                 const emb_layer_spec *spec, const emb_limits *limits,
                                 const emb_machine *machine, emb_error *error) {
    emb_error why = {0};
    if (plan->device != EMB_DEVICE_CUDA) {
        *out = emb_cpu_backend(machine->cpu_features, plan->dtype, spec);
        if (*out) return EMB_OK;
        return emb_error_set(error, EMB_UNSUPPORTED, "no kernels in %s on '%s'",
                             emb_dtype_name(plan->dtype), emb_cpu_isa(machine->cpu_features));
    }
    const emb_device_info *gpu = &machine->devices[0];
    uint32_t capability = gpu->compute_capability;
    *out = emb_cuda_sizes(capability, plan->dtype, plan->gemm, spec);
    if (*out) return EMB_OK;
    emb_cuda_supports_shape(capability, plan->dtype, plan->gemm, spec, &why);
    return emb_error_set(error, EMB_UNSUPPORTED, "no kernels on '%.63s' (%u.%u): %.130s%s",
                         gpu->name, capability / 10, capability % 10, why.message, instead(limits));
}

static emb_status check_spec(const emb_backend *backend, const emb_layer_spec *spec,
                             emb_error *error) {
    const char *beyond = backend->supports(backend, spec);
    if (!beyond) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED, "the backend %s does not compute %s",
                         backend->numerics, beyond);
}

/* Plans for one kind of device; limits->device may be auto, `device` is not. */
static emb_status plan_for(emb_plan *out, emb_device_kind device, const question *q,
                           emb_error *error) {
    const emb_model *model = q->model;
    const emb_machine *machine = q->machine;
    emb_plan base;
    EMB_TRY(begin_plan(&base, device, model, q->limits, machine, error));
    const emb_device_info *gpu = base.device == EMB_DEVICE_CUDA ? &machine->devices[0] : NULL;
    const emb_backend *backend;
    EMB_TRY(choose_backend(&backend, &base, &model->shape.spec, q->limits, machine, error));
    EMB_TRY(check_spec(backend, &model->shape.spec, error));
    snprintf(base.isa, sizeof base.isa, "%s", backend->name);
    emb_plan_numerics(base.numerics_id, model, backend);

    search s = {.model = model,
                .machine = machine,
                .backend = backend,
                .weigh = q->weigh,
                .plan = out,
                .tile_knee = backend->tokens_knee,
                .gpu = gpu,
                .host_budget = UINT64_MAX,
                .device_budget = UINT64_MAX};
    weigh_gpus(&s, &base);
    if (s.tile_knee < base.chunk_tokens_max) s.tile_knee = base.chunk_tokens_max;
    *out = base;
    smallest(&s, &base.host_bytes_min, &base.device_bytes_min);
    *out = base;
    descend(&s);
    base.host_bytes_knee = out->host_bytes;
    base.device_bytes_knee = out->device_bytes;
    *out = base;
    s.host_budget = budget_of(base.host_bytes_max, machine->memory_bytes);
    EMB_TRY(device_budget(&s, &base, error));
    return descend(&s) ? EMB_OK : too_small(&s, &base, error);
}

/* Refuses options that only apply to a GPU. `why`: why there is none; NULL: the CPU was stated. */
static emb_status refuse_gpu_options(const emb_limits *limits, const char *why, emb_error *error) {
    const char *what = limits->device_bytes_max          ? "a GPU budget"
                       : limits->gemm != EMB_GEMM_OWN    ? "a library for a GPU's products"
                       : limits->graphs == EMB_SWITCH_ON ? "a GPU's graphs"
                                                         : NULL;
    if (!what) return EMB_OK;
    if (why)
        return emb_error_set(error, EMB_DEVICE, "%s is stated, but no GPU can be used: %.190s",
                             what, *why ? why : "this machine has none");
    return emb_error_set(error, EMB_INVALID_ARGUMENT,
                         "%s is stated for " EMB_ADVICE_CPU ": leave one of them out", what);
}

/* Auto: a usable GPU is used, and what does not fit there is an error. */
static emb_status plan_auto(emb_plan *out, const question *q, emb_error *error) {
    emb_error gpu = {0}, cpu = {0};
    const emb_machine *machine = q->machine;
    bool present = machine->devices_count > 0;
    emb_status status = present ? plan_for(out, EMB_DEVICE_CUDA, q, &gpu) : EMB_UNSUPPORTED;
    if (status != EMB_UNSUPPORTED) {
        if (status != EMB_OK && error) *error = gpu;
        return status;
    }
    const char *reason = present ? gpu.message : machine->device_reason;
    EMB_TRY(refuse_gpu_options(q->limits, reason, error));
    status = plan_for(out, EMB_DEVICE_CPU, q, &cpu);
    if (status == EMB_UNSUPPORTED && *reason)
        return emb_error_set(error, status, "%.130s (no GPU: %.110s)", cpu.message, reason);
    if (status != EMB_OK) {
        if (error) *error = cpu;
        return status;
    }
    snprintf(out->device_reason, sizeof out->device_reason, "%.191s", reason);
    out->device_notice = present || machine->device_notice;
    return EMB_OK;
}

emb_status emb_plan_choose(emb_plan *out, const emb_model *model, const emb_limits *limits,
                           const emb_machine *machine, emb_plan_weigh *weigher, emb_error *error) {
    EMB_TRY(check_handles(out, model, limits, machine, error));
    const question q = {model, limits, machine, weigher};
    if (limits->device == EMB_DEVICE_AUTO) return plan_auto(out, &q, error);
    if (limits->device == EMB_DEVICE_CPU) EMB_TRY(refuse_gpu_options(limits, NULL, error));
    return plan_for(out, limits->device, &q, error);
}
