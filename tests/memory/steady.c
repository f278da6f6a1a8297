/* steady.c - after emb_engine_open nothing is allocated: thousands of texts, counted from outside.
 *
 *   LD_PRELOAD=interpose.so steady MODEL [TEXTS]
 *
 * Also: nothing is left over after close, and the peak of the process does not grow while it works.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/run.h"
#include "torture/interpose.h"

#define LONG_BYTES 60000
#define BATCH      50
#define DIM_MAX    1024

static interpose_calls interpose;
static int failed, passed;

static void expect(bool holds, const char *what) {
    holds ? passed++ : failed++;
    if (!holds) printf("FAILED: %s\n", what);
}

static emb_status cycle(run *open, run_text *texts, run_row *rows, float *values, uint32_t number,
                        emb_error *error) {
    static const size_t cuts[] = {0, 1, 7, 4096};
    run_text kept = texts[number % BATCH];
    texts[number % BATCH] = (run_text){texts[0].data, LONG_BYTES / 10 * (number % 11)};
    emb_status status = run_texts(open, texts, BATCH, cuts[number % 4], rows, values, error);
    texts[number % BATCH] = kept;
    return status;
}

static void watch(run *open, run_text *texts, run_row *rows, float *values, uint32_t count) {
    emb_error error = {0};
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    emb_engine_stats(&stats, open->engine);
    uint64_t peak_before = stats.host_bytes_peak;
    interpose.arm(INTERPOSE_OFF, INTERPOSE_MEMORY, 0);
    emb_status status = EMB_OK;
    for (uint32_t done = 0; status == EMB_OK && done < count; done += BATCH) {
        status = cycle(open, texts, rows, values, done / BATCH, &error);
    }
    uint64_t allocations = interpose.look()->calls[INTERPOSE_MEMORY];
    emb_engine_stats(&stats, open->engine);
    printf("%s, %s: %" PRIu64 " texts, %" PRIu64 " tokens, %" PRIu64
           " allocations after open, peak grew by %" PRIu64 " bytes\n",
           emb_rung_name(open->plan.rung), open->plan.isa, stats.texts, stats.tokens, allocations,
           stats.host_bytes_peak - peak_before);
    if (status != EMB_OK) printf("%s: %s\n", emb_status_name(status), error.message);
    expect(status == EMB_OK, "every text is encoded");
    expect(stats.texts == count && stats.texts_failed == 0, "every text is counted");
    expect(stats.rows_computed == stats.tokens, "no padding");
    expect(allocations == 0, "no allocation after open");
    expect(stats.host_bytes_peak - peak_before <= 64 * 1024, "the peak does not grow");
}

static void try_plan(const char *path, const emb_limits *limits, const emb_machine *machine,
                     run_text *texts, uint32_t count) {
    static run_row rows[BATCH];
    static float values[BATCH * DIM_MAX];
    emb_error error = {0};
    run open;
    int64_t balance = interpose.look()->balance;
    emb_status status = run_open(&open, path, limits, machine, &error);
    if (status != EMB_OK) printf("open: %s\n", error.message);
    expect(status == EMB_OK, "the engine opens");
    if (status != EMB_OK) return;
    watch(&open, texts, rows, values, count);
    run_close(&open);
    expect(interpose.look()->balance == balance, "all that was taken is given back");
}

int main(int count, char **arguments) {
    if (!interpose_find(&interpose) || count < 2) {
        printf("0 passed, 0 failed, 1 skipped\n");
        return 77;
    }
    static char text[LONG_BYTES + 1];
    static run_text texts[BATCH];
    static const char words[] = "bounded memory, naïve café — 東京 [MASK] unaffable; ";
    for (size_t i = 0; i < LONG_BYTES; i++) text[i] = words[i % (sizeof words - 1)];
    for (uint32_t i = 0; i < BATCH; i++) texts[i] = (run_text){text + i, (size_t)i * 7};
    uint32_t texts_count = count > 2 ? (uint32_t)atoi(arguments[2]) : 2000;

    setvbuf(stdout, NULL, _IONBF, 0); /* or the first line would allocate while we count */
    emb_error error = {0};
    emb_machine machine;
    emb_limits limits = emb_limits_default();
    expect(emb_machine_probe(&machine, NULL, &error) == EMB_OK, "the machine is measured");
    limits.threads = 2;
    try_plan(arguments[1], &limits, &machine, texts, texts_count);
    limits.dtype = EMB_DTYPE_BF16;
    try_plan(arguments[1], &limits, &machine, texts, texts_count);
    limits.dtype = EMB_DTYPE_F32;
    limits.host_bytes_max = 1; /* the smallest plan: layers streamed */
    emb_model *model = NULL;
    emb_plan plan;
    expect(emb_model_open(&model, arguments[1], &error) == EMB_OK, "the model opens");
    expect(emb_plan_make(&plan, model, &limits, &machine, &error) == EMB_BUDGET, "1 byte refused");
    emb_model_close(model);
    limits.host_bytes_max = error.bytes_min;
    try_plan(arguments[1], &limits, &machine, texts, texts_count);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}
