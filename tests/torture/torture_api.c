/* torture_api.c - fails the n-th allocation or file call inside open, plan, encode and close, for
 * n = 1, 2, 3, ... until a run is left untouched, once and for ever, in one process. Interrupted
 * and short reads (EINTR, one byte) have to go unnoticed.
 *
 *   LD_PRELOAD=interpose.so torture_api STRIDE MODEL...
 *
 * Every n up to 100, then every STRIDE-th: 1 fails each call there is.
 *
 * After each failed run: a status and a message, nothing kept (blocks, mappings, descriptors), and
 * the next untouched run gives the same bits as before.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/run.h"
#include "torture/interpose.h"

#define TEXTS      6
#define DIM_MAX    256
#define ROUNDS_MAX 100000
#define ALWAYS     100

typedef struct torture_case {
    const char *path;
    emb_limits limits;
    const emb_machine *machine;
    const char *name;
} torture_case;

static interpose_calls interpose;
static uint64_t stride, passed, failed;
static float expected[TEXTS * DIM_MAX];

static const run_text *texts(void) {
    static char long_text[900];
    static run_text all[TEXTS] = {{"a text", 6},
                                  {"", 0},
                                  {"na\xc3\xafve [MASK]", 12},
                                  {"\xff\xfe", 2},
                                  {long_text, sizeof long_text},
                                  {"last", 4}};
    for (size_t i = 0; i < sizeof long_text; i++) long_text[i] = i % 6 == 5 ? ' ' : 'a' + i % 23;
    return all;
}

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    while (folder && readdir(folder)) count++;
    if (folder) closedir(folder);
    return count;
}

static emb_status once(const torture_case *scene, float *values, emb_error *error) {
    run open;
    run_row rows[TEXTS];
    emb_status status = run_open(&open, scene->path, &scene->limits, scene->machine, error);
    if (status != EMB_OK) return status;
    status = run_texts(&open, texts(), TEXTS, 500, rows, values, error);
    for (uint32_t i = 0; status == EMB_OK && i < TEXTS; i++) status = rows[i].status;
    run_close(&open);
    return status;
}

static bool says_why(emb_status status, const emb_error *error) {
    return status == EMB_NO_MEMORY || status == EMB_IO || status == EMB_NOT_FOUND
               ? strlen(error->message) > 10
               : false;
}

static void complain(const torture_case *scene, interpose_mode mode, interpose_class which,
                     uint64_t n, const char *what, emb_status status, const emb_error *error) {
    failed++;
    if (failed > 20) return;
    static const char *const modes[] = {"", "fails once", "fails for ever", "is interrupted",
                                        "is short"};
    printf("FAILED: %s %s, %s call %" PRIu64 " %s: %s (%s: %s)\n", scene->path, scene->name,
           which == INTERPOSE_MEMORY ? "memory" : "file", n, modes[mode], what,
           emb_status_name(status), error->message);
}

/* What is wrong with how a run ended, or NULL. */
static const char *judge(interpose_mode mode, emb_status status, const float *values,
                         const emb_error *error) {
    uint64_t failures = interpose.look()->failed;
    if (status == EMB_OK) return memcmp(values, expected, sizeof expected) ? "other values" : NULL;
    if (failures == 0) return "fails untouched";
    if (mode >= INTERPOSE_INTERRUPTED) return "an interruption is not survived";
    return says_why(status, error) ? NULL : "unclear error";
}

/* One failure; gives false once the run made fewer calls than n. */
static bool round_of(const torture_case *scene, interpose_mode mode, interpose_class which,
                     uint64_t n) {
    static float values[TEXTS * DIM_MAX];
    emb_error error = {0};
    memset(values, 0, sizeof values);
    int open_before = descriptors();
    int64_t balance = interpose.look()->balance;
    interpose.arm(mode, which, n);
    emb_status status = once(scene, values, &error);
    bool reached = interpose.look()->calls[which] >= n;
    const char *wrong = judge(mode, status, values, &error);
    bool touched = interpose.look()->failed > 0;
    interpose.arm(INTERPOSE_OFF, which, 0);
    if (!wrong && interpose.look()->balance != balance) wrong = "memory is not given back";
    if (!wrong && descriptors() != open_before) wrong = "a descriptor stays open";
    emb_error after = {0};
    memset(values, 0, sizeof values);
    if (!wrong && touched &&
        (once(scene, values, &after) != EMB_OK || memcmp(values, expected, sizeof values) != 0)) {
        wrong = "the next run is not correct";
    }
    if (wrong) {
        complain(scene, mode, which, n, wrong, status, &error);
    } else if (touched) {
        passed++;
    }
    return reached;
}

static void torture(const torture_case *scene) {
    emb_error error = {0};
    memset(expected, 0, sizeof expected);
    if (once(scene, expected, &error) != EMB_OK) {
        printf("FAILED: %s %s, untouched: %s\n", scene->path, scene->name, error.message);
        failed++;
        return;
    }
    for (interpose_class which = INTERPOSE_MEMORY; which < INTERPOSE_CLASSES; which++) {
        interpose_mode last = which == INTERPOSE_FILES ? INTERPOSE_SHORT : INTERPOSE_FOREVER;
        for (interpose_mode mode = INTERPOSE_ONCE; mode <= last; mode++) {
            uint64_t n = 1;
            while (n < ROUNDS_MAX && failed < 1000 && round_of(scene, mode, which, n)) {
                n += n < ALWAYS ? 1 : stride;
            }
        }
    }
}

int main(int count, char **arguments) {
    if (!interpose_find(&interpose) || count < 3) {
        printf("0 passed, 0 failed, 1 skipped\n");
        return 77;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    stride = strtoul(arguments[1], NULL, 10);
    if (stride == 0) stride = 1;
    emb_error error = {0};
    emb_machine machine;
    if (emb_machine_probe(&machine, NULL, &error) != EMB_OK) return 1;
    for (int i = 2; i < count; i++) {
        torture_case full = {arguments[i], emb_limits_default(), &machine, "f32"};
        full.limits.threads = 1;
        torture(&full);
        torture_case half = full;
        half.limits.dtype = EMB_DTYPE_BF16;
        half.name = "bf16";
        torture(&half);
        emb_model *model = NULL;
        emb_plan plan;
        torture_case small = full;
        small.limits.host_bytes_max = 1;
        small.name = "smallest plan";
        if (emb_model_open(&model, arguments[i], &error) != EMB_OK) return 1;
        emb_plan_make(&plan, model, &small.limits, &machine, &error);
        emb_model_close(model);
        small.limits.host_bytes_max = error.bytes_min;
        torture(&small);
    }
    printf("%" PRIu64 " of %" PRIu64 " failures met cleanly\n", passed, passed + failed);
    printf("%" PRIu64 " passed, %" PRIu64 " failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}
