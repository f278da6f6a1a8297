/* test_device_rows.c - rows in a GPU's memory through the public interface, on a fake device: bits,
 * budgets, ranges, every failing call, the end of the engine, fork.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "embound_experimental.h"

#define TEXTS    40
#define DIM      32
#define DIM_KEPT 7
#define PAGE     (2ull << 20)

static const char *module_path;
static unsigned long (*calls_so_far)(void);
static long (*blocks)(void);
static const emb_device_list cards = {.struct_bytes = sizeof cards, .kind = EMB_DEVICE_CUDA};
static emb_machine machine;
static emb_model *model;
static emb_error error;

/* Plans for the fake card and opens; the status of whatever failed. */
static emb_status open_engine(emb_engine **out, emb_plan *plan, uint64_t budget, uint64_t caller,
                              uint32_t dim) {
    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CUDA;
    limits.dtype = EMB_DTYPE_F32;
    limits.threads = 1;
    limits.dim = dim;
    limits.device_bytes_max = budget;
    limits.device_caller_bytes = caller;
    emb_status status = emb_plan_make(plan, model, &limits, &machine, &error);
    return status == EMB_OK ? emb_engine_open(out, model, plan, &error) : status;
}

static void submit_all(emb_engine *engine) {
    static const char words[] = "the quick brown fox jumps over a lazy dog by the old sea";
    static const uint32_t far[] = {UINT32_MAX};
    for (uint32_t i = 0; i < TEXTS; i++) {
        bool bad = i == 11;
        emb_piece piece = {bad ? (const void *)far : words, bad ? 1 : (i * 7) % sizeof words,
                           EMB_PIECE_FIRST | EMB_PIECE_LAST | (bad ? EMB_PIECE_IDS : 0u), i};
        uint32_t taken = 0;
        assert_int_equal(emb_engine_submit(engine, &piece, 1, &taken, &error), EMB_OK);
        assert_int_equal(taken, 1);
    }
    assert_int_equal(emb_engine_flush(engine), EMB_OK);
}

/* Encodes into `values` [TEXTS, dim], and if it is there into `rows` as well. */
static emb_status encode(float *values, emb_engine *engine, uint32_t dim,
                         const emb_device_rows *rows) {
    submit_all(engine);
    for (uint32_t got = 0; got < TEXTS;) {
        emb_row ready[9];
        uint32_t count = 0;
        emb_status status = emb_engine_collect(engine, ready, 9, &count, -1, &error);
        if (status != EMB_OK) return status;
        for (uint32_t i = 0; i < count; i++)
            memcpy(values + (got + i) * dim, ready[i].values, dim * sizeof *values);
        if (rows) status = emb_device_rows_put(rows, got, ready, count, &error);
        if (status != EMB_OK) return status;
        got += count;
    }
    return EMB_OK;
}

static void same_bits_as_collected(void **state) {
    (void)state;
    for (uint32_t dim = DIM_KEPT; dim <= DIM; dim += DIM - DIM_KEPT) {
        float values[TEXTS * DIM], back[TEXTS * DIM];
        emb_engine *engine;
        emb_plan plan;
        emb_device_rows rows;
        assert_int_equal(open_engine(&engine, &plan, 0, 0, dim), EMB_OK);
        assert_int_equal(emb_device_rows_open(&rows, engine, TEXTS, 0, 0, &error), EMB_OK);
        assert_int_equal(rows.dim, dim);
        assert_true(rows.bytes >= TEXTS * dim * sizeof(float) && rows.device == 0);
        assert_int_equal(encode(values, engine, dim, &rows), EMB_OK);
        assert_true(isnan(values[11 * dim]));
        assert_memory_equal(rows.values, values, TEXTS * dim * sizeof(float)); /* the fake's */
        emb_engine_close(engine);
        assert_int_equal(emb_device_rows_get(back, &rows, 0, TEXTS, &error), EMB_OK);
        assert_memory_equal(back, values, TEXTS * dim * sizeof(float));
        assert_int_equal(emb_device_rows_get(back, &rows, 3, 2, &error), EMB_OK);
        assert_memory_equal(back, values + 3 * dim, 2 * dim * sizeof(float));
        assert_int_equal(rows.struct_bytes, sizeof rows);
        emb_device_rows_close(&rows);
        assert_null(rows.values);
        emb_device_rows_close(&rows);
        emb_device_rows_close(NULL);
        assert_int_equal(blocks(), 0);
    }
}

/* Rows of the caller's own, one behind the other, at other distances, and backwards. */
static void rows_from_anywhere(void **state) {
    (void)state;
    static float own[TEXTS][DIM + 3];
    emb_engine *engine;
    emb_plan plan;
    emb_device_rows out;
    assert_int_equal(open_engine(&engine, &plan, 0, 0, 0), EMB_OK);
    assert_int_equal(emb_device_rows_open(&out, engine, TEXTS, DIM_KEPT, 0, &error), EMB_OK);
    for (uint32_t i = 0; i < TEXTS; i++)
        for (uint32_t k = 0; k < DIM + 3; k++) own[i][k] = (float)(100 * i + k);
    const uint32_t steps[] = {DIM_KEPT, DIM, DIM + 3, 1, 0};
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        emb_row rows[TEXTS] = {0};
        for (uint32_t i = 0; i < TEXTS; i++)
            rows[i].values = &own[0][0] + (uint64_t)(s % 2 ? TEXTS - 1 - i : i) * steps[s];
        assert_int_equal(emb_device_rows_put(&out, 0, rows, TEXTS, &error), EMB_OK);
        for (uint32_t i = 0; i < TEXTS; i++)
            assert_memory_equal(out.values + i * DIM_KEPT, rows[i].values, DIM_KEPT * 4);
    }
    emb_device_rows_close(&out);
    emb_engine_close(engine);
}

static void budgets(void **state) {
    (void)state;
    emb_engine *engine;
    emb_plan plan;
    emb_device_rows rows, more;
    assert_int_equal(open_engine(&engine, &plan, 0, 0, 0), EMB_OK);
    uint64_t least = plan.device_bytes_min, knee = plan.device_bytes_knee;
    emb_engine_close(engine);

    assert_int_equal(open_engine(&engine, &plan, knee, 0, 0), EMB_OK);
    assert_int_equal(emb_device_rows_open(&rows, engine, 100000, DIM, 0, &error), EMB_BUDGET);
    assert_int_equal(rows.bytes, (100000 * DIM * 4 + PAGE - 1) / PAGE * PAGE);
    assert_int_equal(error.bytes_min, least + rows.bytes);
    assert_int_equal(error.region, EMB_REGION_DEVICE);
    assert_non_null(strstr(error.message, "100000 rows"));
    assert_null(rows.values);
    emb_engine_close(engine);
    uint64_t caller = rows.bytes, needed = error.bytes_min;

    /* what the error names works, and not a byte less */
    assert_int_equal(open_engine(&engine, &plan, needed - 1, caller, 0), EMB_BUDGET);
    assert_int_equal(error.bytes_min, needed);
    assert_int_equal(open_engine(&engine, &plan, needed, caller, 0), EMB_OK);
    assert_true(plan.device_bytes <= needed && plan.device_caller_bytes == caller);
    assert_int_equal(emb_device_rows_open(&rows, engine, 100000, 0, 0, &error), EMB_OK);
    assert_int_equal(emb_device_rows_open(&more, engine, 1, 0, rows.bytes, &error), EMB_BUDGET);
    assert_int_equal(error.bytes_min, needed + PAGE);
    emb_device_rows_close(&rows);
    assert_int_equal(emb_device_rows_open(&more, engine, 1, 0, 0, &error), EMB_OK);
    assert_int_equal(more.bytes, 512);
    emb_device_rows_close(&more);
    emb_engine_close(engine);
    assert_int_equal(blocks(), 0);
}

static void what_is_refused(void **state) {
    (void)state;
    emb_engine *engine;
    emb_plan plan;
    emb_device_rows rows;
    float values[DIM];
    emb_row row = {.values = values};
    assert_int_equal(open_engine(&engine, &plan, 0, 0, 0), EMB_OK);
    assert_int_equal(emb_device_rows_open(NULL, engine, 1, 0, 0, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_open(&rows, NULL, 1, 0, 0, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_open(&rows, engine, 1, DIM + 1, 0, &error),
                     EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_open(&rows, engine, UINT64_MAX / 3, 0, 0, &error),
                     EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_open(&rows, engine, 1, 0, UINT64_MAX, &error),
                     EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_put(&rows, 0, &row, 1, &error), EMB_INVALID_ARGUMENT);
    setenv("EMB_FAKE_MEMORY", "1000", 1);
    assert_int_equal(emb_device_rows_open(&rows, engine, 100, 0, 0, &error), EMB_NO_MEMORY);
    unsetenv("EMB_FAKE_MEMORY");
    assert_int_equal(emb_device_rows_open(&rows, engine, 2, 0, 0, &error), EMB_OK);
    assert_int_equal(emb_device_rows_put(&rows, 2, &row, 1, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_put(&rows, UINT64_MAX, &row, 1, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_put(&rows, 0, NULL, 1, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_get(values, &rows, 1, 2, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_get(NULL, &rows, 0, 1, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_device_rows_put(&rows, 2, NULL, 0, &error), EMB_OK);
    assert_int_equal(emb_device_rows_get(NULL, &rows, 2, 0, &error), EMB_OK);
    emb_device_rows_close(&rows);
    assert_int_equal(emb_device_rows_open(&rows, engine, 0, 0, 0, &error), EMB_OK);
    assert_true(rows.values == NULL && rows.bytes == 0);
    emb_device_rows_close(&rows);
    emb_engine_close(engine);

    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CPU;
    limits.device_caller_bytes = 1 << 20; /* of no GPU */
    assert_int_equal(emb_plan_make(&plan, model, &limits, &machine, &error), EMB_OK);
    assert_int_equal(plan.device_caller_bytes, 0);
    assert_int_equal(emb_engine_open(&engine, model, &plan, &error), EMB_OK);
    assert_int_equal(emb_device_rows_open(&rows, engine, 1, 0, 0, &error), EMB_UNSUPPORTED);
    emb_engine_close(engine);
}

static void every_failure_is_told(void **state) {
    (void)state;
    emb_status status = EMB_DEVICE;
    unsigned long number = 0;
    float values[TEXTS * DIM], back[TEXTS * DIM];
    for (number = 1; status != EMB_OK && number < 300; number++) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "%lu", calls_so_far() + number);
        setenv("EMB_FAKE_FAIL", wanted, 1);
        emb_engine *engine = NULL;
        emb_plan plan;
        emb_device_rows rows = {0};
        status = open_engine(&engine, &plan, 0, 0, 0);
        if (status == EMB_OK) status = emb_device_rows_open(&rows, engine, TEXTS, 0, 0, &error);
        if (status == EMB_OK) status = encode(values, engine, DIM, &rows);
        if (status == EMB_OK) status = emb_device_rows_get(back, &rows, 0, TEXTS, &error);
        emb_engine_close(engine);
        emb_device_rows_close(&rows);
        assert_true(status == EMB_OK || status == EMB_DEVICE || status == EMB_NO_MEMORY);
        assert_int_equal(blocks(), 0);
    }
    unsetenv("EMB_FAKE_FAIL");
    assert_true(status == EMB_OK && number > 10);
    assert_memory_equal(back, values, sizeof values);
}

static void the_callers_device_stays(void **state) {
    (void)state;
    int *(*current)(void);
    void *module = dlopen(module_path, RTLD_NOW);
    *(void **)&current = dlsym(module, "fake_module_current");
    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CUDA;
    limits.dtype = EMB_DTYPE_F32;
    limits.devices_max = 2;
    for (int own = -1; own < 3; own += 2) {
        emb_engine *engine;
        emb_plan plan;
        emb_device_rows rows;
        *current() = own;
        assert_int_equal(emb_machine_probe(&machine, &cards, &error), EMB_OK);
        assert_int_equal(emb_plan_make(&plan, model, &limits, &machine, &error), EMB_OK);
        assert_int_equal(plan.devices_count, 2);
        assert_int_equal(emb_engine_open(&engine, model, &plan, &error), EMB_OK);
        assert_int_equal(*current(), own);
        assert_int_equal(emb_device_rows_open(&rows, engine, 5, 0, 0, &error), EMB_OK);
        assert_int_equal(*current(), own);
        emb_engine_close(engine);
        emb_device_rows_close(&rows);
        assert_int_equal(*current(), own);
    }
    *current() = -1;
    dlclose(module);
}

static void *close_rows(void *rows) {
    emb_device_rows_close(rows);
    return NULL;
}

static void another_thread_and_a_child(void **state) {
    (void)state;
    emb_engine *engine;
    emb_plan plan;
    emb_device_rows rows;
    pthread_t thread;
    float values[DIM];
    assert_int_equal(open_engine(&engine, &plan, 0, 0, 0), EMB_OK);
    assert_int_equal(emb_device_rows_open(&rows, engine, 1, 0, 0, &error), EMB_OK);
    emb_engine_close(engine);
    assert_int_equal(blocks(), 1);
    pid_t child = fork();
    if (child == 0) {
        bool refused = emb_device_rows_get(values, &rows, 0, 1, &error) == EMB_DEVICE;
        emb_device_rows_close(&rows);
        _exit(refused && blocks() == 1 && !rows.values ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pthread_create(&thread, NULL, close_rows, &rows), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(blocks(), 0);
}

static uint64_t mapped_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A child gives back all that the parent's engine had mapped of the host's memory. */
static void forgotten_in_a_child(void **state) {
    (void)state;
    emb_engine *engine;
    emb_plan plan;
    uint64_t arenas = 0;
    static float values[TEXTS * DIM];
    assert_int_equal(open_engine(&engine, &plan, 0, 0, 0), EMB_OK);
    for (uint32_t i = 0; i < plan.regions_count; i++)
        if (plan.regions[i].kind != EMB_REGION_DEVICE) arenas += plan.regions[i].arena_bytes;
    assert_int_equal(plan.regions_count, 3);
    pid_t child = fork();
    if (child == 0) {
        mapped_bytes(); /* what reading takes is mapped already */
        uint64_t before = mapped_bytes();
        emb_engine_forget(engine);
        _exit(before && before - mapped_bytes() == arenas ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(encode(values, engine, DIM, NULL), EMB_OK);
    emb_engine_close(engine);
}

int main(int count, char **arguments) {
    assert_true(count == 2);
    module_path = arguments[1];
    setenv("EMB_CUDA_MODULE", module_path, 1);
    setenv("EMB_FAKE_DEVICES", "2", 1);
    void *module = dlopen(module_path, RTLD_NOW);
    assert_non_null(module);
    *(void **)&calls_so_far = dlsym(module, "fake_module_calls");
    *(void **)&blocks = dlsym(module, "fake_module_blocks");
    assert_int_equal(emb_machine_probe(&machine, &cards, &error), EMB_OK);
    assert_int_equal(emb_model_open(&model, "tests/data/tiny-bert", &error), EMB_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_as_collected),
        cmocka_unit_test(rows_from_anywhere),
        cmocka_unit_test(budgets),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(every_failure_is_told),
        cmocka_unit_test(another_thread_and_a_child),
        cmocka_unit_test(forgotten_in_a_child),
        cmocka_unit_test(the_callers_device_stays),
    };
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    emb_model_close(model);
    return status;
}
