/* test_streams.c - every form of an engine on a fake device gives the same bits: weights resident,
 * in pinned memory or in the file, one slot or two, lanes, devices, pass after pass.
 *
 * Lanes and copies of the fake are threads, so that what nothing orders differs (with jitter) or is
 * a race (under the thread sanitizer). The model is a copy, cut to nothing once the engine is open.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"

#define TEXTS     30
#define TOKENS    50 /* of the longest text */
#define CHUNK     16
#define DIM_MAX   64
#define FILES_MAX (8u << 20)

enum { IN_FILE, RESIDENT, PINNED };

typedef struct arrangement {
    uint32_t slots, words, layers_pinned, lanes, devices, tile, window;
} arrangement;

static char directory[] = "/tmp/embound-streams-XXXXXX";
static char weights_path[128];
static unsigned char *weights; /* of the model's file */
static size_t weights_bytes;
static emb_machine machine;
static emb_model *model;
static emb_plan base;
static emb_error error;
static uint32_t ids[TEXTS][TOKENS];
static emb_text texts[TEXTS];
static float expected[TEXTS * DIM_MAX];

/* ---- the model's copy ------------------------------------------------------------------------ */

static void write_file(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static void copy_model(const char *from) {
    static unsigned char bytes[FILES_MAX];
    static const char *const names[] = {"config.json", "vocab.txt", "tokenizer.json",
                                        "tokenizer_config.json", "model.safetensors"};
    assert_non_null(mkdtemp(directory));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", from, names[i]);
        FILE *file = fopen(path, "rb");
        if (!file) continue;
        size_t count = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        assert_true(count < sizeof bytes);
        snprintf(weights_path, sizeof weights_path, "%s/%s", directory, names[i]);
        write_file(weights_path, bytes, count);
        weights_bytes = count;
    }
    weights = bytes; /* the last one is the weights' */
}

static void remove_model(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    assert_int_equal(system(command), 0);
}

/* ---- forms ----------------------------------------------------------------------------------- */

/* The base plan in another form, with the regions that it then needs. */
static emb_plan plan_of(const arrangement *form) {
    emb_plan plan = base;
    plan.weight_slots = form->slots;
    plan.embeddings_resident = form->words == RESIDENT;
    plan.embeddings_pinned = form->words == PINNED;
    plan.layers_pinned = form->layers_pinned;
    plan.devices_count = form->devices;
    plan.devices[1] = 1;
    plan.lanes = form->lanes * form->devices;
    plan.windows = 3 + 2 * (form->devices - 1);
    plan.tokens_per_tile = form->tile;
    plan.window_tokens = form->window;
    plan.window_chunks = form->window / 2;
    emb_memory memory;
    emb_plan_books books;
    emb_ledger_init(&books.host, NULL, 0);
    emb_ledger_init(&books.pinned, NULL, 0);
    for (uint32_t d = 0; d < form->devices; d++) emb_ledger_init(&books.devices[d], NULL, 0);
    emb_engine_layout(&memory, model, &plan,
                      emb_cuda_sizes(90, EMB_DTYPE_F32, EMB_GEMM_OWN, &model->shape.spec), &books);
    for (uint32_t i = 0; i < plan.regions_count; i++) {
        emb_region *region = &plan.regions[i];
        const emb_ledger *booked = region->kind == EMB_REGION_HOST     ? &books.host
                                   : region->kind == EMB_REGION_PINNED ? &books.pinned
                                                                       : &books.devices[0];
        memcpy(region->items, booked->items, sizeof region->items);
        region->items_count = booked->items_count;
        region->arena_bytes = (booked->bytes + 4095) / 4096 * 4096;
    }
    return plan;
}

static emb_status embed(float *rows, const emb_plan *plan, uint32_t count, bool cut) {
    emb_engine *engine = NULL;
    emb_status status = emb_engine_open(&engine, model, plan, &error);
    if (status != EMB_OK) return status;
    if (cut) assert_int_equal(truncate(weights_path, 0), 0);
    status = emb_engine_embed(rows, engine, texts, count, &error);
    emb_engine_close(engine);
    if (cut) write_file(weights_path, weights, weights_bytes);
    return status;
}

static bool needs_file(const arrangement *form) {
    return form->words == IN_FILE || (form->slots && !form->layers_pinned);
}

static void try_form(const arrangement *form) {
    static float rows[TEXTS * DIM_MAX];
    emb_plan plan = plan_of(form);
    memset(rows, 0xA5, sizeof rows);
    emb_status status = embed(rows, &plan, TEXTS, !needs_file(form));
    if (status != EMB_OK || memcmp(rows, expected, TEXTS * base.dim * sizeof *rows) != 0) {
        print_message("slots %u, words %u, layers %u, lanes %u, devices %u, tile %u, window %u: "
                      "%s %s\n",
                      form->slots, form->words, form->layers_pinned, form->lanes, form->devices,
                      form->tile, form->window, emb_status_name(status),
                      status ? error.message : "other bits");
        fail();
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void same_bits_in_every_form(void **state) {
    (void)state;
    uint32_t tried = 0;
    for (uint32_t slots = 0; slots <= 2; slots++)
        for (uint32_t words = IN_FILE; words <= PINNED; words++)
            for (uint32_t pinned = 0; pinned <= (slots > 0); pinned++)
                for (uint32_t lanes = 1; lanes <= 3; lanes++)
                    for (uint32_t devices = 1; devices <= 2; devices++, tried++) {
                        /* from one chunk a tile and a pass, to more lanes than tiles */
                        uint32_t tile = tried % 2 ? 2 * CHUNK : CHUNK;
                        uint32_t window = tried % 3 == 0 ? tile : tried % 3 == 1 ? 75 : 160;
                        try_form(
                            &(arrangement){slots, words, pinned, lanes, devices, tile, window});
                    }
    print_message("%u forms\n", tried);
}

/* The same with each call of the device late by a random time. */
static void same_bits_whatever_is_late(void **state) {
    (void)state;
    setenv("EMB_FAKE_JITTER", "100", 1);
    for (uint32_t slots = 1; slots <= 2; slots++)
        for (uint32_t pinned = 0; pinned <= 1; pinned++)
            for (uint32_t words = IN_FILE; words <= PINNED; words += PINNED)
                try_form(&(arrangement){slots, words, pinned, 2, 1, CHUNK, 64});
    unsetenv("EMB_FAKE_JITTER");
}

static void a_file_that_shrinks_is_named(void **state) {
    (void)state;
    static float rows[TEXTS * DIM_MAX];
    const arrangement forms[] = {{2, PINNED, 0, 2, 1, CHUNK, 64}, {2, IN_FILE, 1, 2, 1, CHUNK, 64}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        emb_plan plan = plan_of(&forms[i]);
        emb_status status = embed(rows, &plan, TEXTS, true);
        assert_true(status == EMB_IO || status == EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "model.safetensors"));
    }
}

/* Each call of the device fails once: told, and nothing hangs. */
static void every_failure_is_told(void **state) {
    (void)state;
    static float rows[TEXTS * DIM_MAX];
    unsigned long (*calls)(void);
    void *module = dlopen(getenv("EMB_CUDA_MODULE"), RTLD_NOW);
    assert_non_null(module);
    *(void **)&calls = dlsym(module, "fake_module_calls");
    assert_non_null(calls);
    emb_plan plan = plan_of(&(arrangement){2, PINNED, 1, 2, 1, CHUNK, 600});
    emb_status status = EMB_DEVICE;
    uint32_t n = 0;
    for (; status != EMB_OK && n < 500; n++) {
        char number[32];
        snprintf(number, sizeof number, "%lu", calls() + 1 + n);
        setenv("EMB_FAKE_FAIL", number, 1);
        status = embed(rows, &plan, 3, false);
        assert_true(status == EMB_OK || status == EMB_DEVICE || status == EMB_NO_MEMORY);
        if (status == EMB_DEVICE) assert_non_null(strstr(error.message, "fake device"));
    }
    unsetenv("EMB_FAKE_FAIL");
    print_message("%u calls that can fail\n", n);
    assert_true(n > 20);
    assert_int_equal(status, EMB_OK);
}

static void cancel_ends_a_pass(void **state) {
    (void)state;
    setenv("EMB_FAKE_JITTER", "2000", 1);
    emb_plan plan = plan_of(&(arrangement){2, PINNED, 1, 2, 1, CHUNK, 64});
    emb_engine *engine = NULL;
    assert_int_equal(emb_engine_open(&engine, model, &plan, &error), EMB_OK);
    const emb_piece piece = {ids[0], TOKENS, EMB_PIECE_FIRST | EMB_PIECE_LAST | EMB_PIECE_IDS, 0};
    uint32_t taken;
    assert_int_equal(emb_engine_submit(engine, &piece, 1, &taken, &error), EMB_OK);
    emb_engine_flush(engine);
    emb_engine_cancel(engine);
    emb_row row;
    uint32_t count;
    assert_int_equal(emb_engine_collect(engine, &row, 1, &count, -1, &error), EMB_CANCELLED);
    emb_engine_close(engine);
    unsetenv("EMB_FAKE_JITTER");
}

/* Collects what is there, one row at least; each is as expected, or one of a text taken back. */
static uint32_t collect_some(emb_engine *engine, const bool *marks) {
    emb_row rows[TEXTS];
    uint32_t count;
    assert_int_equal(emb_engine_collect(engine, rows, TEXTS, &count, -1, &error), EMB_OK);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t text = rows[i].text;
        if (marks[text] && rows[i].status == EMB_WITHDRAWN) continue;
        assert_int_equal(rows[i].status, EMB_OK);
        assert_memory_equal(rows[i].values, expected + text * base.dim, base.dim * sizeof(float));
    }
    return count;
}

/* Takes texts of each window back as it is sent off: of every second one all, else every second.
 * Gives the tokens that were not computed, and the windows that took no pass. */
static uint64_t withdraw_behind(const emb_plan *plan, uint64_t *passes) {
    bool marks[TEXTS] = {false};
    uint32_t got = 0, first = 0; /* text of the window being filled */
    emb_engine *engine = NULL;
    emb_engine_stats_t stats = {0};
    assert_int_equal(emb_engine_open(&engine, model, plan, &error), EMB_OK);
    for (uint32_t i = 0; i < TEXTS;) {
        emb_piece piece = {texts[i].data, texts[i].length,
                           EMB_PIECE_FIRST | EMB_PIECE_LAST | EMB_PIECE_IDS, i};
        uint32_t taken;
        uint64_t before = stats.windows;
        assert_int_equal(emb_engine_submit(engine, &piece, 1, &taken, &error), EMB_OK);
        emb_engine_stats(&stats, engine);
        if (stats.windows > before) {
            for (uint32_t t = first; t < i; t += 1 + before % 2) {
                marks[t] = true;
                assert_int_equal(emb_engine_withdraw(engine, t, &error), EMB_OK);
            }
            first = i;
        }
        if (!taken) got += collect_some(engine, marks);
        i += taken;
    }
    emb_engine_flush(engine);
    while (got < TEXTS) got += collect_some(engine, marks);
    emb_engine_stats(&stats, engine);
    emb_engine_close(engine);
    *passes = stats.windows - stats.passes;
    return stats.tokens - stats.rows_computed;
}

/* Texts taken back while their windows wait for their turn: passes fewer, or of fewer tiles. */
static void withdrawn_while_queued(void **state) {
    (void)state;
    setenv("EMB_FAKE_JITTER", "300", 1);
    for (uint32_t slots = 1; slots <= 2; slots++)
        for (uint32_t pinned = 0; pinned <= 1; pinned++)
            for (uint32_t devices = 1; devices <= 2; devices++) {
                emb_plan plan =
                    plan_of(&(arrangement){slots, RESIDENT, pinned, 2, devices, CHUNK, 40});
                uint64_t tokens = 0, passes = 0;
                /* a try may come too late: all windows have begun */
                for (uint32_t n = 0; n < 20 && !(tokens && passes); n++)
                    tokens = withdraw_behind(&plan, &passes);
                assert_true(tokens > 0 && passes > 0);
            }
    unsetenv("EMB_FAKE_JITTER");
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct canceller {
    emb_engine *engine;
    useconds_t after;
    double at;
} canceller;

static void *cancel_later(void *user) {
    canceller *c = user;
    usleep(c->after);
    c->at = seconds_now();
    emb_engine_cancel(c->engine);
    return NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A collect that waits for a window of half a second is woken at once, not at its next look. */
static void cancel_wakes_collect(void **state) {
    (void)state;
    enum { TRIES = 15 };
    double late[TRIES];
    setenv("EMB_FAKE_JITTER", "3000", 1);
    for (uint32_t i = 0; i < TRIES; i++) {
        emb_plan plan = plan_of(&(arrangement){0, RESIDENT, 0, 1, 1, CHUNK, 600});
        canceller c = {.after = 10000 + 3000 * i};
        pthread_t thread;
        assert_int_equal(emb_engine_open(&c.engine, model, &plan, &error), EMB_OK);
        for (uint32_t t = 0; t < TEXTS; t++) {
            emb_piece piece = {texts[t].data, texts[t].length,
                               EMB_PIECE_FIRST | EMB_PIECE_LAST | EMB_PIECE_IDS, t};
            uint32_t taken;
            assert_int_equal(emb_engine_submit(c.engine, &piece, 1, &taken, &error), EMB_OK);
        }
        emb_engine_flush(c.engine);
        assert_int_equal(pthread_create(&thread, NULL, cancel_later, &c), 0);
        emb_row row;
        uint32_t count;
        emb_status status = emb_engine_collect(c.engine, &row, 1, &count, -1, &error);
        double returned = seconds_now();
        pthread_join(thread, NULL);
        late[i] = returned - c.at;
        emb_engine_close(c.engine);
        assert_int_equal(status, EMB_CANCELLED);
    }
    unsetenv("EMB_FAKE_JITTER");
    qsort(late, TRIES, sizeof *late, by_value);
    print_message("woken after %.2f ms, at most %.2f\n", 1e3 * late[TRIES / 2],
                  1e3 * late[TRIES - 1]);
    assert_true(late[TRIES / 2] < 0.010);
}

/* Embed hands whole slabs in: the readers that the plan books tokenise, and the bits stay. */
static void embed_reads_ahead(void **state) {
    (void)state;
    enum { MANY = 700 };
    static char words[MANY][64];
    static emb_text many[MANY];
    static float rows[MANY * DIM_MAX], row[DIM_MAX];
    if (base.readers < 2) skip(); /* a machine of one core */
    for (uint32_t i = 0; i < MANY; i++) {
        int length = snprintf(words[i], sizeof words[i],
                              "the old stone number %u by a sea, and another by the road", i);
        many[i] = (emb_text){.data = words[i], .length = (size_t)length};
        if (i % 50 == 7) many[i].prompt = "the ";
        if (i % 300 == 9) many[i] = texts[i % TEXTS];
    }
    emb_engine *engine = NULL;
    assert_int_equal(emb_engine_open(&engine, model, &base, &error), EMB_OK);
    assert_int_equal(emb_engine_embed(rows, engine, many, MANY, &error), EMB_OK);
    assert_true(engine->ahead.round > 3);
    for (uint32_t i = 0; i < MANY; i += 13) {
        assert_int_equal(emb_engine_embed(row, engine, &many[i], 1, &error), EMB_OK);
        assert_memory_equal(row, rows + i * base.dim, base.dim * sizeof *row);
    }
    emb_engine_close(engine);
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static void make_texts(void) {
    uint32_t random = 1;
    for (uint32_t i = 0; i < TEXTS; i++) {
        uint32_t length = i % 7 == 0 ? TOKENS : i % 13;
        for (uint32_t t = 0; t < TOKENS; t++) {
            random = random * 1664525 + 1013904223;
            ids[i][t] = (random >> 8) % model->shape.vocabulary;
        }
        texts[i] = (emb_text){.data = ids[i], .length = length, .is_ids = 1};
    }
}

static int set_up(void **state) {
    copy_model(*state);
    assert_int_equal(emb_machine_probe(&machine, NULL, &error), EMB_OK);
    machine.devices_count = 2;
    for (uint32_t d = 0; d < 2; d++)
        machine.devices[d] = (emb_device_info){.name = "fake",
                                               .index = d,
                                               .compute_capability = 90,
                                               .memory_bytes = 4ull << 30,
                                               .context_bytes = 10 << 20};
    assert_int_equal(emb_model_open(&model, directory, &error), EMB_OK);
    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CUDA;
    limits.dtype = EMB_DTYPE_F32;
    limits.chunk_tokens_max = CHUNK;
    assert_int_equal(emb_plan_make(&base, model, &limits, &machine, &error), EMB_OK);
    assert_true(base.dim <= DIM_MAX);
    make_texts();
    emb_plan plan = plan_of(&(arrangement){0, RESIDENT, 0, 1, 1, 2 * CHUNK, 160});
    assert_int_equal(embed(expected, &plan, TEXTS, true), EMB_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    emb_model_close(model);
    remove_model();
    return 0;
}

int main(int count, char **arguments) {
    assert_true(count == 3);
    setenv("EMB_CUDA_MODULE", arguments[1], 1);
    void *from = arguments[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_in_every_form),
        cmocka_unit_test(same_bits_whatever_is_late),
        cmocka_unit_test(a_file_that_shrinks_is_named),
        cmocka_unit_test(every_failure_is_told),
        cmocka_unit_test(cancel_ends_a_pass),
        cmocka_unit_test(withdrawn_while_queued),
        cmocka_unit_test(cancel_wakes_collect),
        cmocka_unit_test(embed_reads_ahead),
    };
    int status = 1;
    if (set_up(&from) == 0) status = cmocka_run_group_tests(tests, NULL, NULL);
    tear_down(NULL);
    return status;
}
