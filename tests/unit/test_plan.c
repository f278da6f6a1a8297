/* test_plan.c - properties of the planner, on shapes of real models without their files, and of the
 * cutting of windows into tiles.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/memory.h"
#include "model/family/family.h"

#define MIB (1ull << 20)

static emb_model shape_of(uint32_t layers, uint32_t hidden, uint32_t heads, bool mpnet) {
    emb_model model;
    memset(&model, 0, sizeof model);
    model.shape = (emb_shape){
        .family = mpnet ? &emb_family_mpnet : &emb_family_bert,
        .spec = {.hidden = hidden,
                 .heads = heads,
                 .kv_heads = heads,
                 .head_dim = hidden / heads,
                 .intermediate = 4 * hidden,
                 .norm_epsilon = 1e-12f,
                 .positions = mpnet ? EMB_POSITION_RELATIVE : EMB_POSITION_NONE},
        .output_width = hidden,
        .layers = layers,
        .vocabulary = 30527,
        .positions = 514,
        .window_tokens = 512,
        .default_tokens = mpnet ? 384 : 256,
        .relative_buckets = mpnet ? 32 : 0,
        .relative_distance = 128,
        .pooling = EMB_POOLING_MEAN,
        .normalizes = 1,
    };
    model.text.vocabulary = model.text.ids_end = 30527;
    model.text.family = &emb_text_wordpiece;
    model.text.own.wordpiece.vocabulary_bytes = 230000;
    model.text.own.wordpiece.word_chars_max = 100;
    strcpy(model.info.architecture, mpnet ? "mpnet" : "bert");
    model.info.special_tokens = 2;
    model.text.specials = (emb_specials){.before = 1, .after = 1};
    model.info.description_bytes = 20000;
    return model;
}

static emb_machine two_cores(void) {
    emb_machine machine;
    memset(&machine, 0, sizeof machine);
    machine.struct_bytes = sizeof machine;
    machine.cores = 2;
    machine.page_bytes = 4096;
    machine.process_base_bytes = 4 * MIB;
    return machine;
}

static void a_plan_adds_up(const emb_plan *plan) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->regions[0].items_count; i++)
        sum += plan->regions[0].items[i].bytes;
    assert_int_equal(sum, plan->regions[0].bytes);
    assert_int_equal(sum, plan->host_bytes);
    assert_int_equal(plan->regions[0].arena_bytes % 4096, 0);
    assert_true(plan->window_tokens >= plan->chunk_tokens_max);
    assert_true(plan->tokens_per_tile >= plan->chunk_tokens_max);
    assert_true(plan->lanes >= 1 && plan->windows >= 2);
    assert_true(plan->host_bytes_min <= plan->host_bytes);
}

/* Every budget from below the floor to beyond the knee: kept, or refused with a minimum that works;
 * and more bytes never give a later rung with the same lanes. */
static void every_budget_is_kept_or_refused(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    for (int mpnet = 0; mpnet < 2; mpnet++) {
        emb_model model = mpnet ? shape_of(12, 768, 12, true) : shape_of(6, 384, 12, false);
        emb_rung last = EMB_RUNG_STREAM;
        uint32_t last_lanes = 0;
        for (uint64_t mib = 1; mib < 600; mib += mib / 8 + 1) {
            emb_limits limits = emb_limits_default();
            limits.host_bytes_max = mib * MIB;
            emb_plan plan;
            emb_error error;
            emb_status status = emb_plan_make(&plan, &model, &limits, &machine, &error);
            if (status == EMB_BUDGET) {
                assert_true(error.bytes_min > limits.host_bytes_max);
                limits.host_bytes_max = error.bytes_min;
                assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
                a_plan_adds_up(&plan);
                limits.host_bytes_max--;
                assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error),
                                 EMB_BUDGET);
                continue;
            }
            assert_int_equal(status, EMB_OK);
            assert_true(plan.host_bytes <= limits.host_bytes_max);
            a_plan_adds_up(&plan);
            assert_true(plan.lanes > last_lanes || plan.rung <= last);
            last = plan.rung;
            last_lanes = plan.lanes;
        }
        assert_int_equal(last, EMB_RUNG_FULL);
    }
}

static void no_budget_means_the_knee(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    emb_model model = shape_of(6, 384, 12, false);
    emb_limits limits = emb_limits_default();
    emb_plan plan, at_knee;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
    assert_int_equal(plan.rung, EMB_RUNG_FULL);
    assert_int_equal(plan.host_bytes, plan.host_bytes_knee);
    limits.host_bytes_max = plan.host_bytes_knee;
    assert_int_equal(emb_plan_make(&at_knee, &model, &limits, &machine, NULL), EMB_OK);
    assert_int_equal(at_knee.rung, EMB_RUNG_FULL);
    assert_int_equal(at_knee.host_bytes, plan.host_bytes);
}

/* The issue's own case: 438 MB of weights under 96 MiB. */
static void mpnet_f32_streams_under_96_mib(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    emb_model model = shape_of(12, 768, 12, true);
    emb_limits limits = emb_limits_default();
    limits.host_bytes_max = 96 * MIB;
    emb_plan plan;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
    assert_int_equal(plan.rung, EMB_RUNG_STREAM);
    assert_int_equal(plan.embeddings_resident, 0);
    assert_true(plan.weight_slots >= 1);
}

/* Nothing stated: still not more than the machine has. */
static void the_machine_bounds_the_plan(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    emb_model model = shape_of(12, 768, 12, true);
    emb_limits limits = emb_limits_default();
    emb_plan plan;
    emb_error error;
    machine.memory_bytes = 100 * MIB;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
    assert_true(plan.host_bytes <= machine.memory_bytes);
    machine.memory_bytes = 10 * MIB;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_BUDGET);
    machine = two_cores();
    machine.process_base_bytes = UINT64_MAX;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
    machine = two_cores();
    machine.devices_count = 1;
    machine.devices[0].cublaslt_bytes = UINT64_MAX; /* with its growth it would wrap to little */
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
    machine = two_cores();
    machine.cores = 1024;
    model.shape.positions = model.shape.window_tokens = limits.chunk_tokens_max = 1u << 20;
    emb_status status = emb_plan_make(&plan, &model, &limits, &machine, &error);
    assert_true(status == EMB_BUDGET || plan.window_tokens >= limits.chunk_tokens_max);
}

static void bad_limits_are_refused(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    emb_model model = shape_of(6, 384, 12, false);
    emb_plan plan;
    emb_error error;
    emb_limits limits;
    const struct {
        uint32_t chunk, dim, threads, dtype, device, pooling;
        emb_status status;
        const char *says;
    } cases[] = {
        {513, 0, 0, 0, 0, 0, EMB_INVALID_ARGUMENT, "512"},
        {2, 0, 0, 0, 0, 0, EMB_INVALID_ARGUMENT, "at least 3"},
        {0, 385, 0, 0, 0, 0, EMB_INVALID_ARGUMENT, "384"},
        {0, 0, 5000, 0, 0, 0, EMB_INVALID_ARGUMENT, "threads"},
        {0, 0, 0, EMB_DTYPE_FP8, 0, 0, EMB_UNSUPPORTED, "int8"},
        {0, 0, 0, 77, 0, 0, EMB_INVALID_ARGUMENT, "dtype"},
        {0, 0, 0, 0, EMB_DEVICE_CUDA, 0, EMB_DEVICE, "GPU"},
        {0, 0, 0, 0, 0, 9, EMB_INVALID_ARGUMENT, "pooling"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limits = emb_limits_default();
        limits.chunk_tokens_max = cases[i].chunk;
        limits.dim = cases[i].dim;
        limits.threads = cases[i].threads;
        limits.dtype = (emb_dtype)cases[i].dtype;
        limits.device = (emb_device_kind)cases[i].device;
        limits.pooling = (emb_pooling)cases[i].pooling;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), cases[i].status);
        assert_non_null(strstr(error.message, cases[i].says));
    }
    limits = emb_limits_default();
    limits.struct_bytes = 1;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_plan_make(&plan, NULL, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
}

/* ---- GPUs ------------------------------------------------------------------------------------ */

static emb_machine with_gpu(const char *name, uint32_t capability, uint64_t gpu_mib,
                            uint64_t context_mib, uint64_t host_mib) {
    emb_machine machine = two_cores();
    machine.memory_bytes = host_mib * MIB;
    machine.devices_count = 1;
    emb_device_info *gpu = &machine.devices[0];
    snprintf(gpu->name, sizeof gpu->name, "%s", name);
    gpu->compute_capability = capability;
    gpu->memory_bytes = gpu_mib * MIB;
    gpu->context_bytes = context_mib * MIB;
    gpu->host_bytes = 120 * MIB;
    return machine;
}

/* Cards that are not here: a server's, a T4, a laptop's of 4 GB. */
static emb_machine card(uint32_t index) {
    return index == 0   ? with_gpu("H200", 90, 143771, 527, 131072)
           : index == 1 ? with_gpu("T4", 75, 15110, 110, 16384)
                        : with_gpu("laptop", 86, 4096, 180, 8192);
}
#define CARDS 3

static uint64_t item_bytes(const emb_plan *plan, emb_region_kind kind, const char *name) {
    for (uint32_t i = 0; i < plan->regions_count; i++)
        for (uint32_t k = 0; plan->regions[i].kind == kind && k < plan->regions[i].items_count; k++)
            if (strcmp(plan->regions[i].items[k].name, name) == 0)
                return plan->regions[i].items[k].bytes;
    return 0;
}

/* From the fastest; with the same lanes more bytes never give a later one. */
static uint32_t place_of(const emb_plan *plan) {
    bool wide = plan->tokens_per_tile >= 2048;
    switch (plan->rung) {
    case EMB_RUNG_FULL:
        return 0;
    case EMB_RUNG_FEWER:
        return wide ? 1 : 4;
    case EMB_RUNG_PINNED_EMBEDDINGS:
        return wide ? 2 : 5;
    case EMB_RUNG_PINNED_LAYERS:
        return !plan->embeddings_pinned        ? 12 - plan->weight_slots
               : plan->lanes == 1              ? 9 - plan->weight_slots
               : plan->tokens_per_tile >= 1024 ? 3
                                               : 6;
    case EMB_RUNG_GATHER:
        return 9;
    case EMB_RUNG_STREAM:
        return plan->embeddings_pinned ? 12 : 15 - plan->weight_slots;
    }
    return 20;
}

static void a_gpu_plan_adds_up(const emb_plan *plan, const emb_model *model) {
    uint64_t sums[3] = {0};
    assert_int_equal(plan->regions_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < plan->regions[i].items_count; k++)
            sums[i] += plan->regions[i].items[k].bytes;
        assert_int_equal(sums[i], plan->regions[i].bytes);
    }
    assert_int_equal(sums[0] + sums[1], plan->host_bytes);
    assert_int_equal(sums[2], plan->device_bytes);
    const emb_shape *s = &model->shape;
    uint64_t words = (uint64_t)s->vocabulary * s->spec.hidden * 2;
    uint64_t matrices = 12ull * s->spec.hidden * s->spec.hidden * 2 * s->layers;
    uint64_t vectors = 13ull * s->spec.hidden * 4 * s->layers;
    uint64_t layers = matrices + vectors;
#if defined(__SANITIZE_ADDRESS__)
    words += 64; /* the ledger's gap behind a buffer: 12 in a layer, and the block of all */
    layers += 64 * (12 * s->layers + 1);
#endif
    assert_int_equal(item_bytes(plan, EMB_REGION_PINNED, "embeddings"),
                     plan->embeddings_pinned ? words : 0);
    assert_int_equal(item_bytes(plan, EMB_REGION_PINNED, "layers"),
                     plan->layers_pinned ? layers : 0);
    assert_true(plan->embeddings_resident + plan->embeddings_pinned <= 1);
    assert_true(!plan->layers_pinned || plan->weight_slots);
}

/* Each card and model, host budgets with and without room for copies, GPU budgets from below the
 * floor to beyond the knee. */
static void gpu_budgets_are_kept_or_refused(void **state) {
    (void)state;
    for (uint32_t n = 0; n < CARDS * 2 * 3; n++) {
        static const uint64_t host_mib[] = {0, 190, 260};
        emb_machine machine = card(n % CARDS);
        emb_model model = n / CARDS % 2 ? shape_of(12, 768, 12, true) : shape_of(6, 384, 12, false);
        emb_limits limits = emb_limits_default();
        limits.device = EMB_DEVICE_CUDA;
        limits.host_bytes_max = host_mib[n / CARDS / 2] * MIB;
        uint32_t last = 20, last_lanes = 0;
        uint64_t context = machine.devices[0].context_bytes;
        for (uint64_t mib = 1; mib < 500; mib += mib / 16 + 1) {
            limits.device_bytes_max = context + mib * MIB;
            emb_plan plan;
            emb_error error;
            emb_status status = emb_plan_make(&plan, &model, &limits, &machine, &error);
            if (status == EMB_BUDGET && error.bytes_min) {
                assert_int_equal(error.region, EMB_REGION_DEVICE);
                assert_true(error.bytes_min > limits.device_bytes_max);
                limits.device_bytes_max = error.bytes_min;
                limits.host_bytes_max = 0;
                assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
                assert_int_equal(plan.device_bytes, limits.device_bytes_max);
                limits.device_bytes_max--;
                assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error),
                                 EMB_BUDGET);
                limits.host_bytes_max = host_mib[n / CARDS / 2] * MIB;
                continue;
            }
            assert_int_equal(status, EMB_OK);
            a_gpu_plan_adds_up(&plan, &model);
            assert_true(plan.device_bytes <= limits.device_bytes_max);
            assert_true(!limits.host_bytes_max || plan.host_bytes <= limits.host_bytes_max);
            if (place_of(&plan) > last)
                print_message("%s, %llu MiB: %s, tile %u, %u lanes, after place %u, %u lanes\n",
                              machine.devices[0].name, (unsigned long long)mib,
                              emb_rung_name(plan.rung), plan.tokens_per_tile, plan.lanes, last,
                              last_lanes);
            assert_true(place_of(&plan) <= last);
            last = place_of(&plan);
            last_lanes = plan.lanes;
        }
        assert_int_equal(last, 0);
    }
}

/* all-mpnet-base-v2 in f16 inside 64 MiB beyond the context: passes that hide the copies. */
static void mpnet_streams_in_64_mib_of_a_gpu(void **state) {
    (void)state;
    emb_model model = shape_of(12, 768, 12, true);
    for (uint32_t n = 0; n < CARDS; n++) {
        emb_machine machine = card(n);
        emb_limits limits = emb_limits_default();
        limits.device = EMB_DEVICE_CUDA;
        limits.device_bytes_max = machine.devices[0].context_bytes + 64 * MIB;
        emb_plan plan;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(plan.rung, EMB_RUNG_PINNED_LAYERS);
        assert_int_equal(plan.weight_slots, 2);
        assert_true(plan.tokens_per_pass >= 8192 && plan.tokens_per_tile >= 1024);
        limits.host_bytes_max = 200 * MIB; /* no room for 162 MiB of layers */
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(plan.rung, EMB_RUNG_STREAM);
    }
}

/* ---- tiles ----------------------------------------------------------------------------------- */

#define CHUNKS    300
#define CHUNK_MAX 64
#define TILE      100

static void tiles_hold_every_chunk_once(void **state) {
    (void)state;
    uint32_t starts[CHUNKS + 1] = {0}, order[CHUNKS], counts[CHUNK_MAX + 1];
    emb_tile_cut cuts[CHUNKS];
    emb_window window;
    memset(&window, 0, sizeof window);
    window.table.starts = starts;
    window.order = order;
    window.cuts = cuts;
    srand(7);
    for (uint32_t round = 0; round < 50; round++) {
        uint32_t chunks = round < 3 ? round : (uint32_t)rand() % CHUNKS + 1;
        for (uint32_t c = 0; c < chunks; c++)
            starts[c + 1] = starts[c] + 2 + (uint32_t)rand() % (CHUNK_MAX - 1);
        window.table.chunks = chunks;
        window.table.tokens = starts[chunks];
        emb_engine_cut_window(&window, counts, CHUNK_MAX, TILE);
        bool seen[CHUNKS] = {false};
        uint32_t row = 0, at = 0, before = CHUNK_MAX, earlier = 0;
        for (uint32_t t = 0; t < window.cuts_count; t++) {
            assert_true(cuts[t].tokens <= TILE && cuts[t].chunks > 0);
            assert_int_equal(cuts[t].order0, at);
            assert_int_equal(cuts[t].row0, row);
            uint32_t tokens = 0;
            for (uint32_t i = 0; i < cuts[t].chunks; i++, at++) {
                uint32_t length = starts[order[at] + 1] - starts[order[at]];
                assert_false(seen[order[at]]);
                seen[order[at]] = true;
                assert_true(length < before || at == 0 ||
                            (length == before && order[at] > earlier));
                before = length;
                earlier = order[at];
                tokens += length;
            }
            assert_int_equal(tokens, cuts[t].tokens);
            row += tokens;
        }
        assert_int_equal(at, chunks);
        assert_int_equal(row, window.table.tokens);
    }
}

/* What the process holds on the card already is one line of every plan, and part of its figure. */
static void what_is_held_counts_once(void **state) {
    (void)state;
    emb_machine machine = card(0);
    emb_device_info *gpu = &machine.devices[0];
    emb_model model = shape_of(6, 384, 12, false);
    emb_limits limits = emb_limits_default();
    emb_plan fresh, shared, again;
    emb_error error;
    limits.device = EMB_DEVICE_CUDA;
    assert_int_equal(emb_plan_make(&fresh, &model, &limits, &machine, &error), EMB_OK);
    gpu->held_bytes = gpu->context_bytes + 100 * MIB; /* as torch's context and tensors */
    gpu->context_bytes = 0;
    assert_int_equal(emb_plan_make(&shared, &model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(shared.device_bytes, fresh.device_bytes + 100 * MIB);
    assert_int_equal(shared.device_held_bytes, gpu->held_bytes);
    assert_int_equal(item_bytes(&shared, EMB_REGION_DEVICE, "held by this process already"),
                     gpu->held_bytes);
    assert_int_equal(item_bytes(&shared, EMB_REGION_DEVICE, "CUDA context"), 0);
    limits.device_bytes_max = fresh.device_bytes; /* the tensors leave less for the engine */
    assert_int_equal(emb_plan_make(&shared, &model, &limits, &machine, &error), EMB_OK);
    assert_true(shared.device_bytes <= limits.device_bytes_max && shared.rung != EMB_RUNG_FULL);
    /* reopened: what the context has grown by is held, and grows no more */
    machine = card(0);
    limits.device_bytes_max = fresh.device_bytes_min;
    assert_int_equal(emb_plan_make(&fresh, &model, &limits, &machine, &error), EMB_OK);
    gpu->held_bytes = gpu->context_bytes + item_bytes(&fresh, EMB_REGION_DEVICE, "context growth");
    gpu->context_bytes = 0;
    assert_int_equal(emb_plan_make(&again, &model, &limits, &machine, &error), EMB_BUDGET);
    gpu->grown = gpu->grown_lanes = 1;
    assert_int_equal(emb_plan_make(&again, &model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(again.device_bytes, fresh.device_bytes);
    assert_true(again.host_bytes < fresh.host_bytes);
    gpu->grown_lanes = 0; /* the other engine is still open: a lane more, and that in whole pages */
    limits.device_bytes_max += 2 * MIB;
    assert_int_equal(emb_plan_make(&again, &model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(item_bytes(&again, EMB_REGION_DEVICE, "context growth"), 2 * MIB);
}

/* Without a figure a plan takes what is free there, less a margin; a figure beyond the card is
 * refused. */
static void a_card_that_others_fill(void **state) {
    (void)state;
    emb_machine machine = card(0);
    emb_device_info *gpu = &machine.devices[0];
    emb_model model = shape_of(6, 384, 12, false);
    emb_limits limits = emb_limits_default();
    emb_plan plan;
    emb_error error;
    uint32_t refused = 0, smaller = 0, full = 0;
    for (uint64_t mib = 1; mib < 300; mib += 3) {
        gpu->free_bytes = mib * MIB;
        emb_status status = emb_plan_make(&plan, &model, &limits, &machine, &error);
        if (status == EMB_BUDGET) {
            assert_int_equal(error.region, EMB_REGION_DEVICE);
            assert_non_null(strstr(error.message, "device cpu"));
            assert_non_null(strstr(error.message, "MiB free"));
            assert_true(smaller + full == 0);
            refused++;
            continue;
        }
        assert_int_equal(status, EMB_OK);
        assert_int_equal(plan.device, EMB_DEVICE_CUDA);
        assert_true(plan.device_bytes - gpu->context_bytes + plan.device_margin_bytes <=
                    gpu->free_bytes);
        smaller += plan.rung != EMB_RUNG_FULL;
        full += plan.rung == EMB_RUNG_FULL;
    }
    assert_true(refused && smaller && full);
    limits.device_bytes_max = gpu->memory_bytes + 1;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "143771 MiB"));
    limits.device_bytes_max--;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
}

/* The CPU only where no GPU can do it, and with the reason. */
static void auto_says_why(void **state) {
    (void)state;
    emb_machine none = two_cores(), machine = card(1);
    emb_model model = shape_of(6, 384, 12, false);
    emb_limits limits = emb_limits_default();
    emb_plan plan;
    emb_error error;
    snprintf(none.device_reason, sizeof none.device_reason, "the driver is too old");
    none.device_notice = 1;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &none, &error), EMB_OK);
    assert_int_equal(plan.device, EMB_DEVICE_CPU);
    assert_string_equal(plan.device_reason, none.device_reason);
    assert_int_equal(plan.device_notice, 1);
    limits.device_bytes_max = 1024 * MIB;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &none, &error), EMB_DEVICE);
    assert_non_null(strstr(error.message, "the driver is too old"));
    limits.device = EMB_DEVICE_CPU;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_INVALID_ARGUMENT);
    limits.device = EMB_DEVICE_AUTO; /* too small is an error, for either memory */
    limits.device_bytes_max = MIB;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_BUDGET);
    limits.device_bytes_max = 0;
    limits.host_bytes_max = 100 * MIB;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_BUDGET);
    assert_non_null(strstr(error.message, "device cpu"));
    limits.host_bytes_max = 0;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(plan.device, EMB_DEVICE_CUDA);
    assert_string_equal(plan.device_reason, "");
    limits.output = EMB_OUTPUT_TOKENS; /* what no GPU does */
    limits.long_rule = EMB_LONG_TRUNCATE;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(plan.device, EMB_DEVICE_CPU);
    assert_true(plan.device_notice && strstr(plan.device_reason, "vectors of tokens"));
    assert_null(strstr(plan.device_reason, "device cpu")); /* a reason is no advice */
    limits.device = EMB_DEVICE_CUDA;
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "use the device cpu"));
    limits.device = EMB_DEVICE_AUTO;
    limits.output = EMB_OUTPUT_TEXT;
    limits.dtype = EMB_DTYPE_FP8; /* nor the CPU: both reasons */
    assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "not available on a CPU"));
    assert_non_null(strstr(error.message, "8.9"));
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + EMB_ALIGN - 1) / EMB_ALIGN * EMB_ALIGN;
}

/* A text's row may be narrower or wider than the layers: what holds rows, and how many of their
 * values may be asked for, follows it; what holds tokens does not. */
static void rows_have_a_width_of_their_own(void **state) {
    (void)state;
    emb_machine machine = two_cores();
    for (uint32_t width = 128; width <= 1024; width *= 8) {
        emb_model model = shape_of(6, 384, 12, false), alike = model;
        model.shape.output_width = width;
        emb_limits limits = emb_limits_default();
        emb_plan plan, same;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(emb_plan_make(&same, &alike, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(plan.dim, width);
        assert_int_equal(plan.window_chunks, same.window_chunks);
        uint64_t vectors = item_bytes(&plan, EMB_REGION_HOST, "vectors");
        uint64_t values = plan.windows * aligned((uint64_t)plan.window_chunks * width * 4);
        /* a sanitizer's build has a gap after each buffer */
        assert_true(vectors == values || vectors == values + plan.windows * EMB_ALIGN);
        assert_int_equal(item_bytes(&plan, EMB_REGION_HOST, "lane buffers"),
                         item_bytes(&same, EMB_REGION_HOST, "lane buffers"));
        assert_int_equal(item_bytes(&plan, EMB_REGION_HOST, "layers"),
                         item_bytes(&same, EMB_REGION_HOST, "layers"));
        a_plan_adds_up(&plan);

        limits.dim = width + 1;
        emb_error error;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, &error),
                         EMB_INVALID_ARGUMENT);
        limits.dim = width - 1;
        limits.normalize = EMB_SWITCH_ON;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(plan.normalize_kept, 1);

        limits = emb_limits_default();
        limits.output = EMB_OUTPUT_TOKENS;
        limits.long_rule = EMB_LONG_TRUNCATE;
        assert_int_equal(emb_plan_make(&plan, &model, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(emb_plan_make(&same, &alike, &limits, &machine, NULL), EMB_OK);
        assert_int_equal(plan.dim, 384);
        assert_int_equal(plan.host_bytes, same.host_bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_budget_is_kept_or_refused),
        cmocka_unit_test(no_budget_means_the_knee),
        cmocka_unit_test(rows_have_a_width_of_their_own),
        cmocka_unit_test(mpnet_f32_streams_under_96_mib),
        cmocka_unit_test(the_machine_bounds_the_plan),
        cmocka_unit_test(bad_limits_are_refused),
        cmocka_unit_test(gpu_budgets_are_kept_or_refused),
        cmocka_unit_test(what_is_held_counts_once),
        cmocka_unit_test(a_card_that_others_fill),
        cmocka_unit_test(auto_says_why),
        cmocka_unit_test(mpnet_streams_in_64_mib_of_a_gpu),
        cmocka_unit_test(tiles_hold_every_chunk_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
