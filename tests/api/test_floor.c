/* test_floor.c - the floor of all programs without the command line: a session, a run with a source
 * and a display of its own, rows into a sink.
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
#include <unistd.h>

#include "common/describe.h"
#include "common/run.h"
#include "sink/sink.h"
#include "source/pieces.h"

#define BERT    "tests/data/tiny-bert"
#define TEXTS   700
#define FAILING 3 /* the text that the source fails */

typedef struct job {
    emb_session session;
    emb_source source;
    emb_sink sink;
    emb_run run;
    uint32_t given; /* texts */
    char path[64];
} job;

static job shared;
static int begun, drawn, cleared;

static void begin(void) {
    begun++;
}

static void draw(const emb_run *run, bool last) {
    (void)run;
    drawn += last;
}

static void clear(void) {
    cleared++;
}

static emb_status next_text(emb_source *source, emb_piece *pieces, uint32_t capacity,
                            uint32_t *count, emb_error *error) {
    job *own = source->own;
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    emb_status status = EMB_OK;
    while (status == EMB_OK && own->given < TEXTS && !emb_piece_list_full(&list)) {
        emb_source_add(source, &list, "a b c", own->given % 5 + 1);
        if (own->given++ == FAILING) {
            emb_source_end_bad(source, &list);
            strcpy(error->message, "said by the source");
            status = EMB_BAD_TEXT;
        } else {
            status = emb_source_end(source, &list, error);
        }
    }
    *count = list.count;
    return status;
}

static emb_status take_rows(void *user, const emb_row *rows, uint32_t count, emb_error *error) {
    return emb_sink_rows(user, rows, count, error);
}

static int open_job(void **unused) {
    (void)unused;
    static const emb_source_ops ops = {.next = next_text};
    static const emb_run_display display = {.begin = begin, .draw = draw, .clear = clear};
    emb_session_settings settings = {
        .limits = emb_limits_default(), .devices.kind = EMB_DEVICE_CPU, .quiet = true};
    emb_source_options options = {0};
    emb_error error = {0};
    emb_session *session = &shared.session;
    settings.limits.threads = 2;
    settings.limits.device = EMB_DEVICE_CPU;
    snprintf(shared.path, sizeof shared.path, "/tmp/embound-floor-%d.npy", (int)getpid());
    assert_int_equal(emb_session_probe(session, &settings, false, &error), EMB_OK);
    assert_int_equal(emb_session_open_model(session, BERT, &error), EMB_OK);
    uint64_t bytes = emb_run_bytes() + emb_session_round(emb_sink_bytes(session->info.dim));
    assert_int_equal(emb_session_plan(session, &settings, bytes, &error), EMB_OK);
    assert_int_equal(emb_session_open_block(session, &error), EMB_OK);
    assert_int_equal(emb_session_open_engine(session, &error), EMB_OK);
    emb_source_init(&shared.source, &ops, &shared, &options);
    void *memory = emb_session_take(session, emb_sink_bytes(session->info.dim));
    assert_int_equal(
        emb_sink_open(&shared.sink, EMB_SINK_NPY, shared.path, session->plan.dim, memory, &error),
        EMB_OK);
    emb_run_bind(&shared.run, session);
    shared.run.source = &shared.source;
    shared.run.rows_callback = take_rows;
    shared.run.user = &shared.sink;
    shared.run.quiet = true;
    shared.run.display = &display;
    return 0;
}

static int close_job(void **unused) {
    (void)unused;
    emb_session_close(&shared.session);
    unlink(shared.path);
    return 0;
}

static void runs(void **unused) {
    (void)unused;
    emb_error error = {0};
    emb_engine_stats_t stats;
    assert_int_equal(emb_run_all(&shared.run, &error), EMB_OK);
    assert_int_equal(emb_sink_finish(&shared.sink, &error), EMB_OK);
    emb_run_stats(&shared.run, &stats);
    assert_int_equal(stats.texts, TEXTS);
    assert_int_equal(stats.texts_failed, 1);
    assert_int_equal(shared.sink.rows_written, TEXTS);
    assert_true(begun == 1 && drawn == 1 && cleared >= 1);
}

/* Rows of equal texts are equal, that of the failed one is NaN. */
static void writes_rows(void **unused) {
    (void)unused;
    uint32_t dim = shared.session.plan.dim;
    size_t row = dim * sizeof(float);
    float *rows = malloc(TEXTS * row);
    FILE *file = fopen(shared.path, "rb");
    assert_true(rows && file && fseek(file, 128, SEEK_SET) == 0);
    assert_int_equal(fread(rows, row, TEXTS, file), TEXTS);
    fclose(file);
    for (uint32_t i = 0; i < TEXTS; i++) {
        uint32_t like = i % 5 == FAILING ? FAILING + 5 : i % 5;
        if (i != FAILING) assert_memory_equal(rows + i * dim, rows + like * dim, row);
    }
    assert_true(rows[FAILING * dim] != rows[FAILING * dim]);
    free(rows);
}

static void describes(void **unused) {
    (void)unused;
    static char buffer[16384];
    emb_writer writer; /* never full, so that it needs no output */
    emb_writer_init(&writer, NULL, buffer, sizeof buffer);
    emb_describe_plan(&writer, &shared.session);
    assert_true(writer.used < sizeof buffer);
    buffer[writer.used] = '\0';
    assert_non_null(strstr(buffer, "{\"fits\":true,\"model\":\"tiny-bert\""));
    assert_non_null(strstr(buffer, "\"numerics_id\":\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(runs), cmocka_unit_test(writes_rows),
                                       cmocka_unit_test(describes)};
    return cmocka_run_group_tests(tests, open_job, close_job);
}
