/* latency.c - how long one text of so many tokens takes, through the public interface alone.
 *
 *   latency MODEL TOKENS DTYPE THREADS [cpu|cuda [auto|on|off]]    (the last: CUDA graphs)
 *
 * For each number N read from standard input, encodes the text N times and prints N times in
 * milliseconds on one line. Waits for the next number, so that a driver can interleave programs.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embound.h"

#define TOKENS_MAX 8192
#define ID_FIRST   1000 /* of ordinary words in BERT's vocabulary; which ones does not matter */
#define ID_COUNT   20000

typedef struct bench {
    emb_model *model;
    emb_engine *engine;
    emb_model_info info;
    float *row;
    uint32_t ids[TOKENS_MAX];
} bench;

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static emb_dtype read_dtype(const char *name) {
    if (strcmp(name, "f32") == 0) return EMB_DTYPE_F32;
    if (strcmp(name, "bf16") == 0) return EMB_DTYPE_BF16;
    if (strcmp(name, "int8") == 0) return EMB_DTYPE_INT8;
    if (strcmp(name, "int4") == 0) return EMB_DTYPE_INT4;
    return EMB_DTYPE_DEFAULT;
}

static emb_switch read_graphs(const char *name) {
    return strcmp(name, "on") == 0    ? EMB_SWITCH_ON
           : strcmp(name, "off") == 0 ? EMB_SWITCH_OFF
                                      : EMB_SWITCH_MODEL;
}

static emb_status open_bench(bench *b, int count, char **arguments, emb_error *error) {
    emb_machine machine;
    emb_limits limits = emb_limits_default();
    limits.device = EMB_DEVICE_CPU;
    if (count > 5 && strcmp(arguments[5], "cuda") == 0) limits.device = EMB_DEVICE_CUDA;
    if (count > 6) limits.graphs = read_graphs(arguments[6]);
    emb_device_list devices = {.struct_bytes = sizeof devices, .kind = limits.device, .count = 1};
    emb_status status = emb_machine_probe(&machine, &devices, error);
    if (status == EMB_OK) status = emb_model_open(&b->model, arguments[1], error);
    if (status != EMB_OK) return status;
    b->info.struct_bytes = sizeof b->info;
    emb_model_describe(&b->info, b->model);
    limits.dtype = read_dtype(arguments[3]);
    limits.threads = (uint32_t)atoi(arguments[4]);
    limits.chunk_tokens_max = (uint32_t)atoi(arguments[2]);
    emb_plan plan;
    status = emb_plan_make(&plan, b->model, &limits, &machine, error);
    if (status == EMB_OK) status = emb_engine_open(&b->engine, b->model, &plan, error);
    if (status == EMB_OK) {
        fprintf(stderr, "%s %s, %s, %u lanes\n", b->info.name, arguments[3], plan.isa, plan.lanes);
    }
    return status;
}

static emb_status run(bench *b, const emb_text *text, long repeats, emb_error *error) {
    for (long i = 0; i < repeats; i++) {
        double began = now_ms();
        emb_status status = emb_engine_embed(b->row, b->engine, text, 1, error);
        if (status != EMB_OK) return status;
        printf("%s%.4f", i ? " " : "", now_ms() - began);
    }
    printf("\n");
    fflush(stdout);
    return EMB_OK;
}

int main(int count, char **arguments) {
    static bench b;
    emb_error error = {0};
    long tokens = count >= 5 ? atol(arguments[2]) : 0;
    if (tokens < 3 || tokens > TOKENS_MAX) {
        fprintf(stderr,
                "usage: latency MODEL TOKENS DTYPE THREADS [DEVICE [GRAPHS]] (3 to %d tokens)\n",
                TOKENS_MAX);
        return 64;
    }
    emb_status status = open_bench(&b, count, arguments, &error);
    if (status == EMB_OK) {
        b.row = malloc(b.info.dim * sizeof *b.row);
        if (!b.row) return 71;
        for (long i = 0; i < tokens; i++) {
            b.ids[i] = (ID_FIRST + (uint32_t)(i * 7919) % ID_COUNT) % b.info.vocabulary;
        }
        emb_text text = {
            .data = b.ids, .length = (size_t)tokens - b.info.special_tokens, .is_ids = 1};
        long repeats;
        while (status == EMB_OK && scanf("%ld", &repeats) == 1) {
            status = run(&b, &text, repeats, &error);
        }
    }
    if (status != EMB_OK) fprintf(stderr, "latency: %s\n", error.message);
    emb_engine_close(b.engine);
    emb_model_close(b.model);
    free(b.row);
    return status == EMB_OK ? 0 : 70;
}
