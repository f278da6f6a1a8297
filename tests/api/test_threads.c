/* test_threads.c - one engine and several threads: statistics while others work, submit and collect
 * on threads of their own, cancel at any moment. Under the thread sanitizer a race is a failure.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embound_experimental.h"
#include "support/run.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TEXTS   150 /* these builds are many times slower */
#define CANCELS 6
#else
#define TEXTS   1500
#define CANCELS 40
#endif
#define LONG_BYTES 20000
#define DIM_MAX    64
#define PAUSE_US   50

static const char *const models[] = {"tests/data/tiny-bert", "tests/data/tiny-mpnet"};
static char words[LONG_BYTES];
static run_text texts[TEXTS];
static run_row rows[TEXTS];
static float expected[TEXTS * DIM_MAX], values[TEXTS * DIM_MAX];
static emb_error error;

static void make_texts(void) {
    for (size_t i = 0; i < sizeof words; i++) words[i] = "a stone by the sea "[i % 19];
    for (uint32_t i = 0; i < TEXTS; i++) texts[i] = (run_text){words + i % 19, (i * 37) % 300};
    texts[TEXTS / 3].length = LONG_BYTES - 19; /* longer than all windows of a small budget */
}

static void open_small(run *out, const char *model) {
    emb_limits limits = emb_limits_default();
    limits.threads = 2;
    assert_int_equal(run_open(out, model, &limits, NULL, &error), EMB_OK);
    limits.host_bytes_max = out->plan.host_bytes_min + (64u << 10);
    emb_machine machine = out->machine;
    run_close(out);
    assert_int_equal(run_open(out, model, &limits, &machine, &error), EMB_OK);
}

/* ---- statistics ------------------------------------------------------------------------------ */

typedef struct watch {
    const emb_engine *engine;
    atomic_bool stop;
    uint64_t readings, backwards;
} watch;

static void *watch_statistics(void *user) {
    watch *on = user;
    emb_engine_stats_t before = {0};
    do {
        emb_engine_stats_t now;
        emb_tuning tuning;
        emb_engine_stats(&now, on->engine);
        emb_engine_tuning(&tuning, on->engine);
        on->backwards += now.texts < before.texts || now.tokens < before.tokens ||
                         now.rows_computed < before.rows_computed || now.tiles < before.tiles ||
                         now.bytes_read < before.bytes_read || now.chunks < before.chunks ||
                         now.seconds_encode < before.seconds_encode;
        on->readings++;
        before = now;
        usleep(PAUSE_US);
    } while (!atomic_load(&on->stop)); /* at least once, however late the thread gets its turn */
    return NULL;
}

static void begin_watch(pthread_t *thread, watch *on, const emb_engine *engine) {
    memset(on, 0, sizeof *on);
    on->engine = engine;
    assert_int_equal(pthread_create(thread, NULL, watch_statistics, on), 0);
}

static void end_watch(pthread_t thread, watch *on) {
    atomic_store(&on->stop, true);
    pthread_join(thread, NULL);
    assert_true(on->readings > 0);
    assert_int_equal(on->backwards, 0);
}

static void statistics_while_others_work(void **unused) {
    (void)unused;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        run own;
        watch on;
        pthread_t thread;
        open_small(&own, models[m]);
        begin_watch(&thread, &on, own.engine);
        emb_status status = run_texts(&own, texts, TEXTS, 512, rows, values, &error);
        end_watch(thread, &on);
        assert_int_equal(status, EMB_OK);
        emb_engine_stats_t stats;
        uint64_t tokens = 0, chunks = 0;
        for (uint32_t i = 0; i < TEXTS; i++) tokens += rows[i].tokens, chunks += rows[i].chunks;
        emb_engine_stats(&stats, own.engine);
        assert_int_equal(stats.texts, TEXTS);
        assert_int_equal(stats.tokens, tokens);
        assert_int_equal(stats.rows_computed, tokens);
        assert_int_equal(stats.chunks, chunks);
        assert_true(stats.seconds_encode > 0 && stats.seconds_tokenize > 0);
        run_close(&own);
    }
}

/* ---- submit and collect apart ---------------------------------------------------------------- */

typedef struct sender {
    emb_engine *engine;
    bool withdraws;    /* some of its texts, right away */
    emb_status status; /* that ended it */
    emb_error error;
    atomic_bool done;
} sender;

static void *send_texts(void *user) {
    sender *out = user;
    for (uint32_t i = 0; i < TEXTS && out->status == EMB_OK;) {
        emb_piece piece = {texts[i].data, texts[i].length, EMB_PIECE_FIRST | EMB_PIECE_LAST, i};
        uint32_t taken = 0;
        out->status = emb_engine_submit(out->engine, &piece, 1, &taken, &out->error);
        if (taken == 0) usleep(PAUSE_US); /* until the other thread has collected */
        if (out->withdraws && taken && i % 5 == 0)
            out->status = emb_engine_withdraw(out->engine, i - i % 3, &out->error);
        i += taken;
    }
    emb_engine_flush(out->engine);
    atomic_store(&out->done, true);
    return NULL;
}

static void begin_sender(pthread_t *thread, sender *out, emb_engine *engine, bool withdraws) {
    memset(out, 0, sizeof *out);
    out->engine = engine;
    out->withdraws = withdraws;
    assert_int_equal(pthread_create(thread, NULL, send_texts, out), 0);
}

/* Collects into `values` until TEXTS rows are there; gives the status that ended it. Of a text that
 * was withdrawn the expected values are put there. */
static emb_status collect_all(const run *own, int timeout_ms, bool withdraws) {
    for (uint64_t got = 0; got < TEXTS;) {
        emb_row some[16];
        uint32_t count = 0;
        emb_status status = emb_engine_collect(own->engine, some, 16, &count, timeout_ms, &error);
        if (status != EMB_OK && status != EMB_TIMEOUT) return status;
        for (uint32_t i = 0; i < count; i++, got++) {
            assert_int_equal(some[i].text, got);
            assert_int_equal(some[i].user, got);
            bool withdrawn = some[i].status == EMB_WITHDRAWN;
            assert_true(some[i].status == EMB_OK || (withdrawn && withdraws));
            memcpy(values + got * own->plan.dim,
                   withdrawn ? expected + got * own->plan.dim : some[i].values,
                   own->plan.dim * sizeof *values);
        }
        if (count == 0) usleep(PAUSE_US);
    }
    return EMB_OK;
}

static void submit_and_collect_apart(void **unused) {
    (void)unused;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        static const int timeouts[] = {-1, 0, 1};
        run own;
        open_small(&own, models[m]);
        assert_int_equal(run_texts(&own, texts, TEXTS, 0, rows, expected, &error), EMB_OK);
        run_close(&own);
        for (size_t t = 0; t < sizeof timeouts / sizeof *timeouts; t++) {
            sender out;
            watch on;
            pthread_t sending, watching;
            open_small(&own, models[m]);
            begin_watch(&watching, &on, own.engine);
            begin_sender(&sending, &out, own.engine, t != 0);
            emb_status status = collect_all(&own, timeouts[t], t != 0);
            pthread_join(sending, NULL);
            end_watch(watching, &on);
            assert_int_equal(out.status, EMB_OK);
            assert_int_equal(status, EMB_OK);
            assert_memory_equal(values, expected, TEXTS * own.plan.dim * sizeof *values);
            run_close(&own);
        }
    }
}

/* ---- cancel ---------------------------------------------------------------------------------- */

static void cancel_at_any_moment(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < CANCELS; i++) {
        run own;
        sender out;
        watch on;
        pthread_t sending, watching;
        open_small(&own, models[i % 2]);
        begin_watch(&watching, &on, own.engine);
        begin_sender(&sending, &out, own.engine, i % 2);
        usleep(200 * i);
        if (i % 3) {
            emb_engine_cancel(own.engine);
            assert_int_equal(collect_all(&own, -1, true), EMB_CANCELLED);
        }
        end_watch(watching, &on);
        emb_engine_cancel(own.engine);
        pthread_join(sending, NULL);
        assert_true(out.status == EMB_CANCELLED || atomic_load(&out.done));
        run_close(&own);
    }
}

int main(void) {
    make_texts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_while_others_work),
        cmocka_unit_test(submit_and_collect_apart),
        cmocka_unit_test(cancel_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
