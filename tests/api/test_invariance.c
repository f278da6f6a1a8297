/* test_invariance.c - a text has the same bits alone and in any batch, order, cut, budget, rung and
 * number of threads (per dtype and instruction set).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/run.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TEXTS      16 /* these builds are many times slower */
#define LONG_BYTES 4000
#else
#define TEXTS      48
#define LONG_BYTES 30000
#endif
#define DIM_MAX    64
#define BUDGETS    5
#define POOL_BYTES 40000

static char pool[POOL_BYTES];
static run_text texts[TEXTS];
static float alone[TEXTS * DIM_MAX];
static emb_machine machine;
static emb_error error;
static uint32_t random_state = 1;

static uint32_t next_random(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % below;
}

static void make_texts(void) {
    static const char *const words[] = {"the",      "of",        "memory",
                                        "bounded",  "unaffable", "caf\xc3\xa9",
                                        "42",       "[MASK]",    "\xe6\x9d\xb1\xe4\xba\xac",
                                        "\xff\xc3", "naive",     "x,y;z",
                                        "\xcc\x81", "embedding"};
    size_t at = 0;
    while (at < POOL_BYTES - 20) {
        const char *word = words[next_random(sizeof words / sizeof *words)];
        memcpy(pool + at, word, strlen(word));
        at += strlen(word);
        pool[at++] = ' ';
    }
    static const size_t lengths[] = {0, 1, 2, 10, 60, 200, 700, 1000, 2000, 4000};
    for (uint32_t i = 0; i < TEXTS; i++) {
        size_t length = lengths[i % 10] + next_random(9);
        texts[i] = (run_text){pool + next_random((uint32_t)(at - length)), length};
    }
    texts[0].length = 0;
    texts[TEXTS / 2] = (run_text){pool, LONG_BYTES};
}

static void shuffled(uint32_t *order, bool reverse) {
    for (uint32_t i = 0; i < TEXTS; i++) order[i] = reverse ? TEXTS - 1 - i : i;
    for (uint32_t i = TEXTS - 1; !reverse && i > 0; i--) {
        uint32_t j = next_random(i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* All texts in that order, through an engine already open; each row beside the same text alone. */
static uint32_t differing(run *open, const uint32_t *order, size_t piece_bytes) {
    static float values[TEXTS * DIM_MAX];
    static run_row rows[TEXTS];
    static run_text sent[TEXTS];
    uint32_t dim = open->plan.dim, different = 0;
    for (uint32_t i = 0; i < TEXTS; i++) sent[i] = texts[order[i]];
    memset(values, 0xA5, sizeof values);
    emb_status status = run_texts(open, sent, TEXTS, piece_bytes, rows, values, &error);
    if (status != EMB_OK) print_message("%s: %s\n", emb_status_name(status), error.message);
    assert_int_equal(status, EMB_OK);
    for (uint32_t i = 0; i < TEXTS; i++) {
        assert_int_equal(rows[i].user, 1000 + i); /* rows come in the order submitted */
        if (memcmp(rows[i].values, alone + (size_t)order[i] * dim, sizeof(float) * dim) != 0) {
            if (different++ == 0) {
                print_message("text %u (%zu bytes) differs: rung %s, %u lanes, cut %zu\n", order[i],
                              sent[i].length, emb_rung_name(open->plan.rung), open->plan.lanes,
                              piece_bytes);
            }
        }
    }
    return different;
}

static void encode_alone(const char *path, const emb_limits *limits) {
    run open;
    assert_int_equal(run_open(&open, path, limits, &machine, &error), EMB_OK);
    assert_true(open.plan.dim <= DIM_MAX);
    for (uint32_t i = 0; i < TEXTS; i++) {
        emb_text text = {.data = texts[i].data, .length = texts[i].length};
        float *row = alone + (size_t)i * open.plan.dim;
        assert_int_equal(emb_engine_embed(row, open.engine, &text, 1, &error), EMB_OK);
    }
    run_close(&open);
}

/* The budgets to try: none, the least, and steps between the least and the knee. */
static uint32_t budgets(const char *path, const emb_limits *limits, uint64_t out[BUDGETS]) {
    emb_model *model = NULL;
    emb_plan plan;
    assert_int_equal(emb_model_open(&model, path, &error), EMB_OK);
    assert_int_equal(emb_plan_make(&plan, model, limits, &machine, &error), EMB_OK);
    emb_model_close(model);
    uint64_t span = plan.host_bytes_knee - plan.host_bytes_min;
    out[0] = 0;
    out[1] = plan.host_bytes_min;
    out[2] = plan.host_bytes_knee - (16 << 10); /* fewer tokens */
    out[3] = plan.host_bytes_min + span / 2;
    out[4] = plan.host_bytes_min + span / 8;
    return BUDGETS;
}

/* streams: the model is deep enough that its smallest plan streams layers. */
static void same_bits(const char *path, emb_dtype dtype, emb_pooling pooling, bool streams) {
    static const size_t cuts[] = {0, 1, 3, 64, 4096};
    uint32_t order[TEXTS], rungs = 0, different = 0, tried = 0;
    emb_limits limits = emb_limits_default();
    limits.dtype = dtype;
    limits.pooling = pooling;
    limits.threads = 1;
    encode_alone(path, &limits);
    for (limits.threads = 1; limits.threads <= 2; limits.threads++) {
        uint64_t bytes[BUDGETS];
        uint32_t count = budgets(path, &limits, bytes);
        for (uint32_t i = 0; i < count; i++) {
            run open;
            limits.host_bytes_max = bytes[i];
            emb_status status = run_open(&open, path, &limits, &machine, &error);
            if (status != EMB_OK) print_message("%s\n", error.message);
            assert_int_equal(status, EMB_OK);
            rungs |= 1u << open.plan.rung;
            for (uint32_t cut = 0; cut < 2; cut++, tried++) {
                shuffled(order, tried % 4 == 0);
                different += differing(&open, order, cuts[tried % 5]);
            }
            run_close(&open);
        }
        limits.host_bytes_max = 0;
    }
    print_message("%s, dtype %d, pooling %d: %u engines x orders, rungs %s%s%s%s\n", path, dtype,
                  pooling, tried, rungs & 2 ? "1" : "", rungs & 4 ? "2" : "", rungs & 8 ? "3" : "",
                  rungs & 16 ? "4" : "");
    assert_int_equal(different, 0);
    assert_true(rungs & (1u << EMB_RUNG_FULL));
    assert_true(rungs & (1u << EMB_RUNG_FEWER));
    assert_true(rungs & (1u << (streams ? EMB_RUNG_STREAM : EMB_RUNG_GATHER)));
}

static void bert_f32(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-bert", EMB_DTYPE_F32, EMB_POOLING_MODEL, false);
}

static void bert_bf16(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-bert", EMB_DTYPE_BF16, EMB_POOLING_CLS, false);
}

static void mpnet_f32(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-mpnet", EMB_DTYPE_F32, EMB_POOLING_MODEL, false);
}

static void mpnet_bf16(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-mpnet", EMB_DTYPE_BF16, EMB_POOLING_MAX, false);
}

static void bert_int8(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-bert", EMB_DTYPE_INT8, EMB_POOLING_MODEL, false);
}

static void bert_int4(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-bert", EMB_DTYPE_INT4, EMB_POOLING_MEAN, false);
}

static void mpnet_int8(void **unused) {
    (void)unused;
    same_bits("tests/data/tiny-mpnet", EMB_DTYPE_INT8, EMB_POOLING_MODEL, false);
}

static const char *deep_model, *deep_int8_model;

static void deep_f32(void **unused) {
    (void)unused;
    if (!deep_model) skip();
    same_bits(deep_model, EMB_DTYPE_F32, EMB_POOLING_MODEL, true);
}

static void deep_bf16(void **unused) {
    (void)unused;
    if (!deep_model) skip();
    same_bits(deep_model, EMB_DTYPE_BF16, EMB_POOLING_MEAN, true);
}

static void deep_int8(void **unused) {
    (void)unused;
    if (!deep_int8_model) skip();
    same_bits(deep_int8_model, EMB_DTYPE_INT8, EMB_POOLING_MEAN, true);
}

static int probe(void **unused) {
    (void)unused;
    make_texts();
    return emb_machine_probe(&machine, NULL, &error) == EMB_OK ? 0 : -1;
}

int main(int count, char **arguments) {
    if (count > 1) deep_model = arguments[1];
    if (count > 2) deep_int8_model = arguments[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert_f32),   cmocka_unit_test(bert_bf16), cmocka_unit_test(mpnet_f32),
        cmocka_unit_test(mpnet_bf16), cmocka_unit_test(deep_f32),  cmocka_unit_test(deep_bf16),
        cmocka_unit_test(bert_int8),  cmocka_unit_test(bert_int4), cmocka_unit_test(mpnet_int8),
        cmocka_unit_test(deep_int8),
    };
    return cmocka_run_group_tests(tests, probe, NULL);
}
