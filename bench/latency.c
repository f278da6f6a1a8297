/* latency.c - how long one text of so many tokens takes, or TEXTS of them together, through the
 * public interface alone.
 *
 *   latency MODEL [TEXTSx]TOKENS|text:WORDS DTYPE THREADS [cpu|cuda [auto|on|off]]
 *
 * text:WORDS encodes these words, from the string; otherwise from ids. The last is CUDA graphs.
 * For each number N read from standard input, encodes them N times and prints N times in
 * milliseconds on one line. Waits for the next number, so that a driver can interleave programs.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embound.h"

#define TOKENS_MAX 8192
#define TEXTS_MAX  256
#define ID_FIRST   1000 /* of ordinary words in BERT's vocabulary; which ones does not matter */
#define ID_COUNT   20000
#define WORDS      "text:"

typedef struct bench {
    emb_model *model;
    emb_engine *engine;
    emb_model_info info;
    float *rows;
    uint32_t ids[TOKENS_MAX];
    emb_text texts[TEXTS_MAX];
    uint32_t tokens, texts_count;
    const char *words; /* NULL: ids */
} bench;

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
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
    status = emb_dtype_from_name(&limits.dtype, arguments[3]);
    if (status != EMB_OK) return status;
    limits.threads = (uint32_t)atoi(arguments[4]);
    limits.chunk_tokens_max = b->tokens;
    emb_plan plan;
    status = emb_plan_make(&plan, b->model, &limits, &machine, error);
    if (status == EMB_OK) status = emb_engine_open(&b->engine, b->model, &plan, error);
    if (status == EMB_OK) {
        fprintf(stderr, "%s %s, %s, %u lanes\n", b->info.name, arguments[3], plan.isa, plan.lanes);
    }
    return status;
}

static emb_status run(bench *b, long repeats, emb_error *error) {
    for (long i = 0; i < repeats; i++) {
        double began = now_ms();
        emb_status status = emb_engine_embed(b->rows, b->engine, b->texts, b->texts_count, error);
        if (status != EMB_OK) return status;
        printf("%s%.4f", i ? " " : "", now_ms() - began);
    }
    printf("\n");
    fflush(stdout);
    return EMB_OK;
}

/* "128", or "32x128" for 32 texts. Gives whether both are in range. */
static int read_work(bench *b, const char *work) {
    if (strncmp(work, WORDS, strlen(WORDS)) == 0) {
        b->words = work + strlen(WORDS);
        b->tokens = 128;
        b->texts_count = 1;
        return 1;
    }
    const char *times = strchr(work, 'x');
    long texts = times ? atol(work) : 1, tokens = atol(times ? times + 1 : work);
    b->texts_count = (uint32_t)texts;
    b->tokens = (uint32_t)tokens;
    return texts >= 1 && texts <= TEXTS_MAX && tokens >= 3 && tokens <= TOKENS_MAX;
}

static int make_texts(bench *b) {
    b->rows = malloc((size_t)b->texts_count * b->info.dim * sizeof *b->rows);
    for (uint32_t i = 0; i < b->tokens; i++)
        b->ids[i] = (ID_FIRST + i * 7919 % ID_COUNT) % b->info.vocabulary;
    for (uint32_t i = 0; i < b->texts_count; i++)
        b->texts[i] =
            (emb_text){.data = b->ids, .length = b->tokens - b->info.special_tokens, .is_ids = 1};
    if (b->words) b->texts[0] = (emb_text){.data = b->words, .length = strlen(b->words)};
    return b->rows != NULL;
}

int main(int count, char **arguments) {
    static bench b;
    emb_error error = {0};
    if (count < 5 || !read_work(&b, arguments[2])) {
        fprintf(stderr,
                "usage: latency MODEL [TEXTSx]TOKENS|text:WORDS DTYPE THREADS [DEVICE [GRAPHS]] (3 "
                "to %d "
                "tokens, 1 to %d texts)\n",
                TOKENS_MAX, TEXTS_MAX);
        return 64;
    }
    emb_status status = open_bench(&b, count, arguments, &error);
    if (status == EMB_OK && !make_texts(&b)) return 71;
    for (long repeats; status == EMB_OK && scanf("%ld", &repeats) == 1;)
        status = run(&b, repeats, &error);
    if (status != EMB_OK) fprintf(stderr, "latency: %s\n", error.message);
    emb_engine_close(b.engine);
    emb_model_close(b.model);
    free(b.rows);
    return status == EMB_OK ? 0 : 70;
}
