/* embed.c - emb_engine_embed beside submit and collect on the same short texts: one JSON line with
 * texts a second and their ratio; status 1 if embed has less than 0.95 of the other's speed.
 *
 *   bench_embed MODEL [cpu|cuda] [TEXTS]
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embound.h"

#define ROUNDS 7 /* of each, in turns; the median counts */
#define PIECES 128
#define ROWS   256
#define BYTES  96 /* of a text at most */

typedef struct bench {
    emb_engine *engine;
    uint32_t count, dim;
    char (*words)[BYTES];
    emb_text *texts;
    float *rows, *others;
} bench;

static emb_error error;

static void check(emb_status status, const char *what) {
    if (status == EMB_OK) return;
    fprintf(stderr, "bench_embed: %s: %s\n", what, error.message);
    exit(2);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void make_texts(bench *b) {
    static const char *const words[] = {"river", "the", "old", "sea", "stone", "runs", "by", "a"};
    uint32_t random = 1;
    for (uint32_t i = 0; i < b->count; i++) {
        size_t length = 0;
        for (uint32_t w = 0; w < 6 + i % 9; w++) {
            random = random * 1664525u + 1013904223u;
            length +=
                (size_t)snprintf(b->words[i] + length, BYTES - length, "%s ", words[random >> 29]);
        }
        b->texts[i] = (emb_text){.data = b->words[i], .length = length};
    }
}

static uint32_t keep(bench *b, int timeout_ms) {
    emb_row rows[ROWS];
    uint32_t count;
    check(emb_engine_collect(b->engine, rows, ROWS, &count, timeout_ms, &error), "collect");
    for (uint32_t i = 0; i < count; i++)
        memcpy(b->others + rows[i].user * b->dim, rows[i].values, b->dim * sizeof(float));
    return count;
}

static void submit_and_collect(bench *b) {
    emb_piece pieces[PIECES];
    uint32_t next = 0, got = 0;
    while (next < b->count) {
        uint32_t ready = 0, sent = 0;
        for (; ready < PIECES && next < b->count; next++)
            pieces[ready++] = (emb_piece){b->texts[next].data, b->texts[next].length,
                                          EMB_PIECE_FIRST | EMB_PIECE_LAST, next};
        while (sent < ready) {
            uint32_t taken;
            check(emb_engine_submit(b->engine, pieces + sent, ready - sent, &taken, &error),
                  "submit");
            sent += taken;
            if (sent < ready) got += keep(b, -1);
        }
    }
    while (got < b->count) {
        emb_engine_flush(b->engine);
        got += keep(b, -1);
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    bench b = {.count = count > 3 ? (uint32_t)strtoul(arguments[3], NULL, 10) : 100000};
    if (count < 2 || b.count == 0) {
        fprintf(stderr, "usage: bench_embed MODEL [cpu|cuda] [TEXTS]\n");
        return 64;
    }
    bool cuda = count > 2 && strcmp(arguments[2], "cuda") == 0;
    emb_machine machine;
    emb_model *model;
    emb_plan plan;
    emb_limits limits = emb_limits_default();
    limits.device = cuda ? EMB_DEVICE_CUDA : EMB_DEVICE_CPU;
    const emb_device_list first = {.struct_bytes = sizeof first, .kind = limits.device, .count = 1};
    check(emb_machine_probe(&machine, cuda ? &first : NULL, &error), "probe");
    check(emb_model_open(&model, arguments[1], &error), arguments[1]);
    check(emb_plan_make(&plan, model, &limits, &machine, &error), "plan");
    check(emb_engine_open(&b.engine, model, &plan, &error), "open");
    b.dim = plan.dim;
    b.words = malloc((size_t)b.count * BYTES);
    b.texts = malloc(b.count * sizeof *b.texts);
    b.rows = calloc((size_t)b.count * b.dim, sizeof *b.rows);
    b.others = calloc((size_t)b.count * b.dim, sizeof *b.others);
    if (!b.words || !b.texts || !b.rows || !b.others) return 2;
    make_texts(&b);
    double embed[ROUNDS], apart[ROUNDS];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        double begun = seconds_now();
        check(emb_engine_embed(b.rows, b.engine, b.texts, b.count, &error), "embed");
        double between = seconds_now();
        submit_and_collect(&b);
        embed[i] = between - begun;
        apart[i] = seconds_now() - between;
    }
    bool same = memcmp(b.rows, b.others, (size_t)b.count * b.dim * sizeof *b.rows) == 0;
    qsort(embed, ROUNDS, sizeof *embed, by_value);
    qsort(apart, ROUNDS, sizeof *apart, by_value);
    double ratio = apart[ROUNDS / 2] / embed[ROUNDS / 2];
    bool passed = same && ratio >= 0.95;
    printf("{\"step\": \"embed\", \"device\": \"%s\", \"texts\": %u, \"readers\": %u, "
           "\"embed_texts_per_second\": %.0f, \"submit_texts_per_second\": %.0f, "
           "\"ratio\": %.3f, \"same_bits\": %s, \"passed\": %s}\n",
           cuda ? "cuda" : "cpu", b.count, plan.readers, b.count / embed[ROUNDS / 2],
           b.count / apart[ROUNDS / 2], ratio, same ? "true" : "false", passed ? "true" : "false");
    emb_engine_close(b.engine);
    emb_model_close(model);
    return passed ? 0 : 1;
}
