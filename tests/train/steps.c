/* steps.c - trains on a table of texts in its own order and prints a JSON line a step: for
 * comparison with another implementation.
 *
 *   steps MODEL TABLE LOSS BATCH STEPS RATE WARMUP TILE LENGTH [DIR]
 *
 * TABLE: lines of texts with tabs between; for LOSS cosent or cosine the last is a score. With
 * STEPS_WAIT each step waits for a line on standard input.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embound_train.h"

enum { COLUMNS_MAX = 8 };

static void need(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "steps: %s\n", what);
    exit(1);
}

typedef struct table {
    char *bytes;
    emb_text *texts;
    float *labels;
    uint32_t rows, columns;
} table;

static void read_table(table *t, const char *path, bool scored) {
    FILE *file = fopen(path, "rb");
    need(file && fseek(file, 0, SEEK_END) == 0, "cannot open the table");
    size_t length = (size_t)ftell(file), lines = 0;
    rewind(file);
    t->bytes = malloc(length + 1);
    need(t->bytes && fread(t->bytes, 1, length, file) == length, "cannot read the table");
    fclose(file);
    t->bytes[length] = 0;
    for (size_t i = 0; i < length; i++) lines += t->bytes[i] == '\n';
    t->texts = calloc(lines * COLUMNS_MAX + 1, sizeof *t->texts);
    t->labels = calloc(lines + 1, sizeof *t->labels);
    need(t->texts && t->labels, "no memory");
    char *rest = t->bytes;
    for (char *line; (line = strsep(&rest, "\n")) && *line; t->rows++) {
        uint32_t columns = 0;
        for (char *cell; (cell = strsep(&line, "\t")); columns++) {
            if (scored && columns == 2) {
                t->labels[t->rows] = strtof(cell, NULL);
                continue;
            }
            uint32_t per_row = t->columns ? t->columns : COLUMNS_MAX;
            if (columns < per_row)
                t->texts[(size_t)t->rows * (t->columns ? t->columns : 0) + columns] =
                    (emb_text){.data = cell, .length = strlen(cell)};
        }
        if (!t->columns) t->columns = columns - scored;
        need(columns - scored == t->columns, "rows differ in columns");
    }
}

int main(int argc, char **argv) {
    need(argc >= 10, "usage: steps MODEL TABLE LOSS BATCH STEPS RATE WARMUP TILE LENGTH [DIR]");
    const char *const names[] = {"ranking", "cosent", "cosine"};
    emb_train_options options = {.struct_bytes = sizeof options, .clip_norm = 1};
    for (uint32_t i = 0; i < 3; i++)
        if (!strcmp(argv[3], names[i])) options.loss.kind = (emb_loss_kind)i;
    table t = {0};
    read_table(&t, argv[2], options.loss.kind != EMB_LOSS_RANKING);
    options.batch_examples = (uint32_t)strtoul(argv[4], NULL, 10);
    options.example_texts = t.columns;
    options.steps = strtoul(argv[5], NULL, 10);
    options.learning_rate = strtof(argv[6], NULL);
    options.warmup_steps = strtoul(argv[7], NULL, 10);
    options.tokens_per_tile = (uint32_t)strtoul(argv[8], NULL, 10);
    options.max_length = (uint32_t)strtoul(argv[9], NULL, 10);
    if (getenv("STEPS_BF16")) options.dtype = EMB_DTYPE_BF16;
    if (getenv("STEPS_THREADS")) options.threads = (uint32_t)atoi(getenv("STEPS_THREADS"));
    if (getenv("STEPS_BUDGET")) options.host_bytes_max = strtoull(getenv("STEPS_BUDGET"), NULL, 10);
    if (getenv("STEPS_BITS")) options.optimizer_bits = (uint32_t)atoi(getenv("STEPS_BITS"));
    emb_error error = {0};
    emb_model *model;
    emb_trainer *trainer;
    need(emb_model_open(&model, argv[1], &error) == EMB_OK, error.message);
    need(emb_trainer_open(&trainer, model, &options, &error) == EMB_OK, error.message);
    for (uint64_t n = 0, row = 0; n < options.steps; n++) {
        uint32_t left = t.rows - (uint32_t)row, count = options.batch_examples;
        if (count > left) count = left;
        emb_train_step step;
        if (getenv("STEPS_WAIT"))
            for (int c = 0; c != '\n' && c != EOF;) c = getchar();
        need(emb_trainer_step(&step, trainer, t.texts + row * t.columns, t.labels + row, count,
                              &error) == EMB_OK,
             error.message);
        printf("{\"step\":%llu,\"loss\":%.9g,\"norm\":%.9g,\"rate\":%.9g,\"tokens\":%llu,"
               "\"seconds\":%.6f}\n",
               (unsigned long long)step.step, step.loss, step.gradient_norm, step.learning_rate,
               (unsigned long long)step.tokens, step.seconds);
        fflush(stdout);
        row = row + count == t.rows ? 0 : row + count;
    }
    if (argc > 10) need(emb_trainer_save(trainer, argv[10], 1, &error) == EMB_OK, error.message);
    emb_trainer_close(trainer);
    emb_model_close(model);
    free(t.bytes), free(t.texts), free(t.labels);
    return 0;
}
