/* matrix_case.c - one cell of tests/cuda/matrix.tsv through the C interface: what this process did
 * before, a device, a budget; prints what came of it as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "embound.h"

#define MIB         (1ull << 20)
#define ENGINES_MAX 3

static emb_model *model;
static emb_error error;
static emb_plan plan;

static emb_status plan_with(const emb_limits *limits) {
    static emb_machine machine;
    emb_device_list devices = {.struct_bytes = sizeof devices, .kind = limits->device};
    if (devices.kind == EMB_DEVICE_CUDA) devices.count = 1;
    memset(&plan, 0, sizeof plan);
    memset(&error, 0, sizeof error);
    emb_status status = emb_machine_probe_guest(&machine, &devices, &error);
    return status == EMB_OK ? emb_plan_make(&plan, model, limits, &machine, &error) : status;
}

static emb_status open_with(emb_engine **out, const emb_limits *limits) {
    emb_status status = plan_with(limits);
    return status == EMB_OK ? emb_engine_open(out, model, &plan, &error) : status;
}

/* A figure for the GPU, or on the CPU for the process, just enough or just too little. */
static void state_budget(emb_limits *limits, const char *budget) {
    if (strcmp(budget, "none") == 0) return;
    bool cpu = limits->device == EMB_DEVICE_CPU, fits = strcmp(budget, "fits") == 0;
    bool known = plan_with(limits) == EMB_OK && (cpu || plan.device == EMB_DEVICE_CUDA);
    uint64_t least = cpu ? plan.host_bytes_min : plan.device_bytes_min;
    uint64_t bytes = !known ? (fits ? 1024 * MIB : MIB) : fits ? least + 8 * MIB : least - MIB;
    if (cpu)
        limits->host_bytes_max = bytes;
    else
        limits->device_bytes_max = bytes;
}

static const char *dtype_name(emb_dtype dtype) {
    return dtype == EMB_DTYPE_F16 ? "f16" : dtype == EMB_DTYPE_F32 ? "f32" : "another";
}

static int one_case(const char *before, const char *device, const char *budget) {
    emb_engine *engine = NULL;
    emb_limits limits = emb_limits_default();
    limits.device = strcmp(device, "cuda") == 0  ? EMB_DEVICE_CUDA
                    : strcmp(device, "cpu") == 0 ? EMB_DEVICE_CPU
                                                 : EMB_DEVICE_AUTO;
    state_budget(&limits, budget);
    emb_status status = open_with(&engine, &limits);
    if (status == EMB_OK && strcmp(before, "reopened") == 0) {
        emb_engine_close(engine);
        status = open_with(&engine, &limits);
    }
    if (status == EMB_OK) {
        const emb_text texts[] = {{.data = "one text", .length = 8}, {.data = "two", .length = 3}};
        float *rows = malloc(2 * plan.dim * sizeof *rows);
        status = rows ? emb_engine_embed(rows, engine, texts, 2, &error) : EMB_NO_MEMORY;
        free(rows);
    }
    const char *said = status != EMB_OK     ? error.message
                       : plan.device_notice ? plan.device_reason
                                            : "";
    printf("{\"pid\": %d, \"status\": \"%s\", \"device\": \"%s\", \"dtype\": \"%s\", "
           "\"stated\": %" PRIu64 ", \"planned\": %" PRIu64 ", \"said\": \"%s\"}\n",
           (int)getpid(), emb_status_name(status), plan.device == EMB_DEVICE_CUDA ? "cuda" : "cpu",
           dtype_name(plan.dtype), limits.device_bytes_max, plan.device_bytes, said);
    fflush(stdout);
    if (engine) {
        usleep(30000); /* who watches from outside sees what is held */
        emb_engine_close(engine);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: matrix_case MODEL BEFORE DEVICE BUDGET\n");
        return 64;
    }
    const char *before = arguments[2];
    if (emb_model_open(&model, arguments[1], &error) != EMB_OK) return 66;
    emb_engine *engines[ENGINES_MAX] = {0};
    int wanted = strncmp(before, "engines-", 8) == 0 ? before[8] - '0' : 0;
    if (strcmp(before, "forked") == 0) wanted = 1;
    const emb_limits limits = emb_limits_default();
    for (int i = 0; i < wanted && i < ENGINES_MAX; i++)
        if (open_with(&engines[i], &limits) != EMB_OK) return 69;
    int status = 0;
    if (strcmp(before, "forked") == 0) {
        pid_t child = fork();
        if (child == 0) _exit(one_case(before, arguments[3], arguments[4]));
        waitpid(child, &status, 0);
    } else {
        status = one_case(before, arguments[3], arguments[4]);
    }
    for (int i = 0; i < ENGINES_MAX; i++)
        if (engines[i]) emb_engine_close(engines[i]);
    emb_model_close(model);
    return status ? 70 : 0;
}
