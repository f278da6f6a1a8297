/* test_ready.c - the descriptor that says when collect has something to do: readable then, and only
 * then; enough to drive an engine without ever waiting in it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/run.h"

#define BERT       "tests/data/tiny-bert"
#define TEXTS      200
#define LONG_BYTES 60000
#define DIM_MAX    64
#define WHOLE      (EMB_PIECE_FIRST | EMB_PIECE_LAST)
#define PATIENCE   60000

static char words[LONG_BYTES];
static run_text texts[TEXTS];
static float expected[TEXTS * DIM_MAX], values[TEXTS * DIM_MAX];
static emb_error error;
static run own;

static void open_engine(uint64_t budget) {
    emb_limits limits = emb_limits_default();
    limits.threads = 2;
    limits.host_bytes_max = budget;
    emb_machine machine = own.machine; /* that the budget was found for */
    assert_int_equal(run_open(&own, BERT, &limits, budget ? &machine : NULL, &error), EMB_OK);
}

static bool readable(int milliseconds) {
    struct pollfd on = {.fd = emb_engine_ready_fd(own.engine), .events = POLLIN};
    int count = poll(&on, 1, milliseconds);
    assert_true(count == 0 || (count == 1 && on.revents == POLLIN));
    return count == 1;
}

static void submit(const char *data, size_t length, uint64_t user, uint32_t *taken) {
    emb_piece piece = {data, length, WHOLE, user};
    assert_int_equal(emb_engine_submit(own.engine, &piece, 1, taken, &error), EMB_OK);
}

static void readable_while_rows_are_there(void **state) {
    (void)state;
    uint32_t taken, count;
    emb_row row;
    open_engine(0);
    assert_int_equal(emb_engine_ready_fd(NULL), -1);
    assert_true(emb_engine_ready_fd(own.engine) >= 0);
    for (uint32_t round = 0; round < 50; round++) {
        assert_false(readable(0));
        for (uint32_t i = 0; i < 3; i++) submit("a text", 6, i, &taken);
        assert_false(readable(0)); /* they wait in a window that is not full */
        emb_engine_flush(own.engine);
        assert_true(readable(PATIENCE));
        for (uint32_t i = 0; i < 3; i++) { /* one at a time: there are more */
            assert_true(readable(0));
            assert_int_equal(emb_engine_collect(own.engine, &row, 1, &count, 0, &error), EMB_OK);
            assert_int_equal(count, 1);
            assert_int_equal(row.user, i);
        }
    }
    assert_false(readable(0));
    assert_int_equal(emb_engine_collect(own.engine, &row, 1, &count, -1, &error), EMB_OK);
    assert_int_equal(count, 0);
    emb_engine_cancel(own.engine);
    assert_true(readable(0));
    assert_int_equal(emb_engine_collect(own.engine, &row, 1, &count, 0, &error), EMB_CANCELLED);
    assert_true(readable(0)); /* that does not pass */
    int descriptor = emb_engine_ready_fd(own.engine);
    assert_int_equal(fcntl(descriptor, F_GETFD), FD_CLOEXEC);
    run_close(&own);
    assert_int_equal(fcntl(descriptor, F_GETFD), -1);
}

/* Never waits but in poll; a text that is longer than all windows is among the others. */
static void drives_an_engine(void **state) {
    (void)state;
    static run_row rows[TEXTS];
    uint32_t dim, sent = 0, got = 0, taken = 0;
    for (size_t i = 0; i < sizeof words; i++) words[i] = "a stone by the sea "[i % 19];
    for (uint32_t i = 0; i < TEXTS; i++) texts[i] = (run_text){words + i % 19, (i * 37) % 300};
    texts[TEXTS / 3].length = LONG_BYTES - 19;
    open_engine(0);
    dim = own.plan.dim;
    uint64_t budget = own.plan.host_bytes_min + (64u << 10);
    assert_int_equal(run_texts(&own, texts, TEXTS, 0, rows, expected, &error), EMB_OK);
    run_close(&own);
    open_engine(budget);
    while (got < TEXTS) {
        emb_row some[8];
        uint32_t count = 0;
        if (sent < TEXTS) submit(texts[sent].data, texts[sent].length, sent, &taken);
        if (sent < TEXTS && taken) {
            sent++;
            continue;
        }
        emb_engine_flush(own.engine);
        assert_true(readable(PATIENCE));
        emb_status status = emb_engine_collect(own.engine, some, 8, &count, 0, &error);
        assert_true(status == EMB_OK || status == EMB_TIMEOUT); /* of parts of the long one */
        for (uint32_t i = 0; i < count; i++, got++)
            memcpy(values + got * dim, some[i].values, dim * sizeof *values);
    }
    assert_false(readable(0));
    assert_memory_equal(values, expected, TEXTS * dim * sizeof *values);
    run_close(&own);
}

/* A child shares the descriptor until it forgets the engine; the parent's goes on. */
static void forgotten_in_a_child(void **state) {
    (void)state;
    uint32_t taken, count;
    emb_row row;
    open_engine(0);
    int descriptor = emb_engine_ready_fd(own.engine);
    pid_t child = fork();
    if (child == 0) {
        bool there = fcntl(descriptor, F_GETFD) >= 0;
        emb_engine_forget(own.engine);
        _exit(there && fcntl(descriptor, F_GETFD) < 0 ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    submit("a text", 6, 7, &taken);
    emb_engine_flush(own.engine);
    assert_true(readable(PATIENCE));
    assert_int_equal(emb_engine_collect(own.engine, &row, 1, &count, 0, &error), EMB_OK);
    assert_int_equal(row.user, 7);
    run_close(&own);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readable_while_rows_are_there),
        cmocka_unit_test(drives_an_engine),
        cmocka_unit_test(forgotten_in_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
