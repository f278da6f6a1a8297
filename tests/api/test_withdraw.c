/* test_withdraw.c - texts taken back at any moment: their rows come in their turn and say so, all
 * others keep their bits, and what was not begun is not computed. Weights resident and streamed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "support/run.h"

#define TEXTS      120
#define LONG_BYTES 9000
#define DIM_MAX    64
#define WHOLE      (EMB_PIECE_FIRST | EMB_PIECE_LAST)

static const char *path;
static char words[LONG_BYTES];
static run_text texts[TEXTS];
static float expected[TEXTS * DIM_MAX];
static emb_error error;
static run own;
static uint64_t taken_back; /* rows that said so */

static void make_texts(void) {
    for (size_t i = 0; i < sizeof words; i++) words[i] = "a stone by the sea "[i % 19];
    for (uint32_t i = 0; i < TEXTS; i++) {
        size_t length = i % 10 == 3 ? LONG_BYTES - 19 : (i * 37) % 300;
        texts[i] = (run_text){words + i % 19, length};
    }
}

/* small: with the smallest windows, in the deep model's with streamed layers. */
static void open_engine(bool small) {
    emb_limits limits = emb_limits_default();
    limits.threads = 2;
    assert_int_equal(run_open(&own, path, &limits, NULL, &error), EMB_OK);
    if (!small) return;
    emb_machine machine = own.machine;
    limits.host_bytes_max = own.plan.host_bytes_min + (16u << 10);
    run_close(&own);
    assert_int_equal(run_open(&own, path, &limits, &machine, &error), EMB_OK);
}

/* Collects what is there, or until `all` texts are, and checks each row; marks[] says of which text
 * the caller has withdrawn: those may come too late only if `late`. Gives the rows so far. */
static uint64_t collect(uint64_t got, uint64_t all, const bool *marks, bool late) {
    uint32_t dim = own.plan.dim, count;
    do {
        emb_row rows[7];
        emb_status status =
            emb_engine_collect(own.engine, rows, 7, &count, got < all ? -1 : 0, &error);
        assert_true(status == EMB_OK || (status == EMB_TIMEOUT && got >= all));
        for (uint32_t i = 0; i < count; i++, got++) {
            assert_int_equal(rows[i].text, got);
            assert_int_equal(rows[i].user, 1000 + got);
            if (marks[got] && (!late || rows[i].status != EMB_OK)) {
                assert_int_equal(rows[i].status, EMB_WITHDRAWN);
                taken_back++;
                for (uint32_t d = 0; d < dim; d++) assert_true(isnan(rows[i].values[d]));
            } else {
                assert_int_equal(rows[i].status, EMB_OK);
                assert_memory_equal(rows[i].values, expected + got * dim, dim * sizeof(float));
            }
        }
    } while (got < all && count);
    return got;
}

static void submit(const run_text *text, uint64_t number) {
    uint32_t taken = 0;
    emb_piece piece = {text->data, text->length, WHOLE, 1000 + number};
    assert_int_equal(emb_engine_submit(own.engine, &piece, 1, &taken, &error), EMB_OK);
    assert_int_equal(taken, 1);
}

static void withdraw(uint64_t text) {
    assert_int_equal(emb_engine_withdraw(own.engine, text, &error), EMB_OK);
}

/* Before their window is sent off: none of their tokens is computed. */
static void before_any_work(void **state) {
    (void)state;
    bool marks[TEXTS] = {false};
    uint64_t got = 0, tokens = 0;
    open_engine(false);
    for (uint32_t i = 0; i < TEXTS; i++) {
        if (i % 10 != 4) continue; /* few and short ones fit one window */
        memcpy(expected + got * own.plan.dim, expected + i * own.plan.dim,
               own.plan.dim * sizeof(float));
        submit(&texts[i], got++);
    }
    for (uint64_t i = 0; i < got; i += 3) {
        marks[i] = true;
        withdraw(i);
        withdraw(i); /* once more is the same */
    }
    assert_int_equal(emb_engine_withdraw(own.engine, got, &error), EMB_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "was not submitted"));
    emb_engine_flush(own.engine);
    assert_int_equal(collect(0, got, marks, false), got);
    emb_engine_stats_t stats;
    emb_engine_stats(&stats, own.engine);
    assert_int_equal(stats.texts, got);
    assert_int_equal(stats.texts_failed, (got + 2) / 3);
    for (uint64_t i = 0; i < got; i++) tokens += !marks[i];
    assert_true(stats.rows_computed < stats.tokens && stats.rows_computed >= 2 * tokens);
    run_close(&own);
}

/* Fills two windows and sends them off, and at once withdraws every step-th text of the second,
 * which waits behind the first. Says whether that came before its work, as it nearly always does.
 */
static bool queued_is_spared(const run_text *some, uint32_t count, uint32_t step) {
    bool marks[TEXTS] = {false};
    uint64_t first[2] = {0, 0}, got = 0; /* first: text of the second window, and of the third */
    emb_engine_stats_t stats = {0};
    open_engine(true);
    assert_true(own.plan.windows > 2);
    while (stats.windows < 2) {
        assert_true(got < count);
        uint64_t before = stats.windows;
        submit(&some[got], got);
        emb_engine_stats(&stats, own.engine);
        if (stats.windows > before) first[before] = got;
        got++;
    }
    for (uint64_t i = first[0]; i < first[1]; i += step) {
        marks[i] = true;
        withdraw(i);
    }
    emb_engine_flush(own.engine);
    assert_int_equal(collect(0, got, marks, true), got);
    emb_engine_stats(&stats, own.engine);
    bool spared = stats.rows_computed < stats.tokens;
    if (spared && step == 1 && own.plan.weight_slots) spared = stats.passes < stats.windows;
    run_close(&own);
    return spared;
}

/* Single texts of a window that is queued, and all of them. */
static void while_queued(void **state) {
    (void)state;
    run_text some[TEXTS];
    uint32_t count = 0, dim = 0;
    open_engine(true);
    dim = own.plan.dim;
    run_close(&own);
    for (uint32_t i = 0; i < TEXTS; i++) {
        if (texts[i].length > 300) continue; /* each lies in one window */
        some[count] = texts[i];
        memmove(expected + count++ * dim, expected + i * dim, dim * sizeof(float));
    }
    for (uint32_t step = 1; step <= 2; step++) {
        uint32_t tries = 0;
        while (!queued_is_spared(some, count, step)) assert_true(++tries < 50);
    }
}

/* At every moment, long ones over many windows among them: told, or too late. */
static void while_others_go_on(void **state) {
    (void)state;
    taken_back = 0;
    for (uint32_t round = 0; round < 4; round++) {
        bool marks[TEXTS] = {false};
        uint64_t got = 0;
        open_engine(true);
        for (uint32_t i = 0; i < TEXTS;) {
            uint32_t taken = 0;
            emb_piece piece = {texts[i].data, texts[i].length, WHOLE, 1000 + i};
            assert_int_equal(emb_engine_submit(own.engine, &piece, 1, &taken, &error), EMB_OK);
            uint64_t victim = i - (round * 5 < i ? round * 5 : i); /* the newest, or older ones */
            if ((i + round) % 4 == 0 && (taken || victim < i)) {
                marks[victim] = true;
                withdraw(victim);
            }
            if (!taken || round % 2) got = collect(got, taken ? got : got + 1, marks, true);
            i += taken;
        }
        while (got < TEXTS) {
            emb_engine_flush(own.engine);
            got = collect(got, got + 1, marks, true);
        }
        run_close(&own);
    }
    assert_true(taken_back > 10);
}

/* Between its pieces: the rest is passed over, whatever it is, and the next text begins anew. */
static void between_pieces(void **state) {
    (void)state;
    bool marks[TEXTS] = {[0] = true, [3] = true};
    uint64_t got = 0;
    open_engine(true);
    for (uint32_t i = 0; i < 6; i++) {
        emb_piece pieces[3] = {{texts[i].data, texts[i].length, EMB_PIECE_FIRST, 1000 + i},
                               {words, sizeof words, 0, 0},
                               {"", 0, EMB_PIECE_LAST, 0}};
        if (!marks[i]) pieces[1].length = 0;
        for (uint32_t p = 0; p < 3;) {
            uint32_t taken = 0;
            assert_int_equal(emb_engine_submit(own.engine, &pieces[p], 1, &taken, &error), EMB_OK);
            if (marks[i] && p == 0) withdraw(i);
            if (!taken) {
                emb_engine_flush(own.engine);
                got = collect(got, got + 1, marks, false);
            }
            p += taken;
        }
    }
    while (got < 6) {
        emb_engine_flush(own.engine);
        got = collect(got, got + 1, marks, false);
    }
    emb_engine_stats_t stats;
    emb_engine_stats(&stats, own.engine);
    assert_true(stats.bytes_read < 2 * LONG_BYTES + 2000);
    run_close(&own);
}

static void what_is_refused(void **state) {
    (void)state;
    open_engine(false);
    assert_int_equal(emb_engine_withdraw(NULL, 0, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_engine_withdraw(own.engine, 0, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_engine_withdraw(own.engine, UINT64_MAX, NULL), EMB_INVALID_ARGUMENT);
    assert_string_equal(emb_status_name(EMB_WITHDRAWN), "EMB_WITHDRAWN");
    emb_engine_cancel(own.engine);
    assert_int_equal(emb_engine_withdraw(own.engine, 0, &error), EMB_INVALID_ARGUMENT);
    run_close(&own);
}

static int set_up(void **state) {
    static run_row rows[TEXTS];
    path = *state;
    open_engine(false);
    emb_status status = run_texts(&own, texts, TEXTS, 0, rows, expected, &error);
    run_close(&own);
    return status;
}

int main(int count, char **arguments) {
    make_texts();
    int failed = 0;
    for (int i = 1; i < count; i++) {
        path = arguments[i];
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_prestate_setup_teardown(before_any_work, set_up, NULL, arguments[i]),
            cmocka_unit_test_prestate_setup_teardown(while_queued, set_up, NULL, arguments[i]),
            cmocka_unit_test_prestate_setup_teardown(while_others_go_on, set_up, NULL,
                                                     arguments[i]),
            cmocka_unit_test_prestate_setup_teardown(between_pieces, set_up, NULL, arguments[i]),
            cmocka_unit_test_prestate_setup_teardown(what_is_refused, set_up, NULL, arguments[i]),
        };
        failed += cmocka_run_group_tests_name(arguments[i], tests, NULL, NULL);
    }
    return failed;
}
