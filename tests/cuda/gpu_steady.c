/* gpu_steady.c - thousands of batches through one engine on a GPU, for bench/gpu_faults.py: prints
 * one JSON line with the moments (CLOCK_MONOTONIC) between which nothing may be taken, and the
 * driver's calls in between if driver_calls.so is preloaded.
 *
 *   gpu_steady MODEL BATCHES [DTYPE [DEVICE_BYTES [plain]]]
 *
 * plain: no recordings.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/driver_calls.h"
#include "support/run.h"

#define BATCH      16
#define DIM_MAX    1536
#define LONG_BYTES 60000
#define LONG_EACH  100 /* one batch in so many has a long text */

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void pause_seconds(double seconds) {
    struct timespec wait = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&wait, NULL);
}

static emb_dtype dtype_of(const char *name) {
    return strcmp(name, "f32") == 0    ? EMB_DTYPE_F32
           : strcmp(name, "bf16") == 0 ? EMB_DTYPE_BF16
                                       : EMB_DTYPE_F16;
}

static emb_status work(run *open, uint32_t batches, emb_error *error) {
    static char text[LONG_BYTES + 1];
    static run_text texts[BATCH];
    static run_row rows[BATCH];
    static float values[BATCH * DIM_MAX];
    static const char words[] = "bounded memory, naïve café — 東京 unaffable rivers; ";
    for (size_t i = 0; i < LONG_BYTES; i++) text[i] = words[i % (sizeof words - 1)];
    for (uint32_t done = 0; done < batches; done++) {
        for (uint32_t i = 0; i < BATCH; i++)
            texts[i] = (run_text){text + i, (size_t)(done * 37 + i * 131) % 900};
        if (done % LONG_EACH == 0) texts[7].length = LONG_BYTES - 100;
        emb_status status = run_texts(open, texts, BATCH, 0, rows, values, error);
        if (status != EMB_OK) return status;
    }
    return EMB_OK;
}

static void print_calls(void) {
    uint64_t (*counted)(const char **, uint32_t, int);
    *(void **)&counted = dlsym(RTLD_DEFAULT, "driver_calls_counted");
    if (!counted) {
        printf("null");
        return;
    }
    const char *comma = "", *name;
    printf("{");
    for (uint32_t i = 0; counted(&name, i, 1), name; i++) {
        uint64_t calls = counted(&name, i, 1);
        if (calls) printf("%s\"%s#%u\": %" PRIu64, comma, name, i, calls), comma = ", ";
    }
    printf("}");
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: gpu_steady MODEL BATCHES [DTYPE [DEVICE_BYTES [plain]]]\n");
        return 64;
    }
    emb_error error = {0};
    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CUDA;
    limits.dtype = dtype_of(count > 3 ? arguments[3] : "f16");
    limits.device_bytes_max = count > 4 ? strtoull(arguments[4], NULL, 10) : 0;
    if (count > 5) limits.graphs = EMB_SWITCH_OFF;
    void (*mark)(int);
    *(void **)&mark = dlsym(RTLD_DEFAULT, "driver_calls_mark");

    const emb_device_list devices = {
        .struct_bytes = sizeof devices, .kind = EMB_DEVICE_CUDA, .count = 1};
    emb_machine machine;
    run open;
    emb_status status = emb_machine_probe(&machine, &devices, &error);
    if (status == EMB_OK) status = run_open(&open, arguments[1], &limits, &machine, &error);
    if (status != EMB_OK) {
        fprintf(stderr, "gpu_steady: %s\n", error.message);
        return 69;
    }
    pause_seconds(0.1); /* the poller sees what was taken at open */
    if (mark) mark(1);
    double ready = now();
    uint32_t batches = (uint32_t)strtoul(arguments[2], NULL, 10);
    status = work(&open, batches, &error);
    double done = now();
    if (mark) mark(0);
    pause_seconds(0.1);
    if (status != EMB_OK) fprintf(stderr, "gpu_steady: %s\n", error.message);
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    emb_engine_stats(&stats, open.engine);
    printf("{\"ready\": %.6f, \"done\": %.6f, \"batches\": %u, \"texts\": %" PRIu64
           ", \"tokens\": %" PRIu64 ", \"rung\": %d, \"device_bytes\": %" PRIu64 ", \"calls\": ",
           ready, done, batches, stats.texts, stats.tokens, (int)open.plan.rung,
           open.plan.device_bytes);
    print_calls();
    printf("}\n");
    run_close(&open);
    return status == EMB_OK ? 0 : 70;
}
