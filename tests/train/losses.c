/* losses.c - computes one loss of vectors from a file, and its gradient: for comparison with
 * another implementation (models_losses.py).
 *
 *   losses KIND EXAMPLES COLUMNS WIDTH TARGETS IN OUT [NAME=VALUE ...]
 *
 * IN: f32 vectors [COLUMNS * EXAMPLES, WIDTH], all anchors first, then TARGETS f32 values. OUT: the
 * gradient, f32 of the same shape. Standard output: the loss. NAME: scale, margin, distance,
 * symmetric, teacher (its width), or width (once for each Matryoshka width, as N or N:WEIGHT).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "train/loss/loss.h"

static void need(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "losses: %s\n", what);
    exit(1);
}

static uint32_t number(const char *text) {
    return (uint32_t)strtoul(text, NULL, 10);
}

static void set(emb_train_loss *loss, const char *option) {
    const char *value = strchr(option, '=');
    need(value != NULL, "an option is NAME=VALUE");
    size_t length = (size_t)(value++ - option);
    if (strncmp(option, "scale", length) == 0) {
        loss->scale = strtof(value, NULL);
    } else if (strncmp(option, "margin", length) == 0) {
        loss->margin = strtof(value, NULL);
    } else if (strncmp(option, "distance", length) == 0) {
        loss->distance = (emb_distance)number(value);
    } else if (strncmp(option, "symmetric", length) == 0) {
        loss->symmetric = number(value);
    } else if (strncmp(option, "teacher", length) == 0) {
        loss->teacher_width = number(value);
    } else {
        const char *weight = strchr(value, ':');
        need(strncmp(option, "width", length) == 0, "unknown option");
        loss->widths[loss->widths_count] = number(value);
        loss->width_weights[loss->widths_count++] = weight ? strtof(weight + 1, NULL) : 1;
    }
}

typedef struct bench {
    emb_train_loss loss;
    uint32_t examples, columns, width;
    emb_loss_room room;
    emb_team team;
} bench;

static void layout(bench *b, emb_ledger *ledger) {
    emb_loss_layout(&b->room, &b->loss, b->examples, b->columns, b->width, 2, ledger);
    emb_team_layout(&b->team, 2, ledger);
}

static void open_bench(bench *b) {
    emb_ledger ledger;
    emb_error error = {0};
    uint32_t features = 0;
    emb_ledger_init(&ledger, NULL, 0);
    layout(b, &ledger);
    uint64_t bytes = ledger.bytes;
    void *memory = emb_arena_open(bytes);
    need(memory != NULL, "no memory");
    emb_ledger_init(&ledger, memory, bytes);
    layout(b, &ledger);
    need(emb_team_open(&b->team, &error) == EMB_OK, error.message);
    need(emb_cpu_detect(&features, &error) == EMB_OK, error.message);
    b->room.team = &b->team;
    b->room.kernels = emb_train_kernels_of(features, EMB_DTYPE_F32);
}

int main(int argc, char **argv) {
    need(argc >= 8, "usage: losses KIND EXAMPLES COLUMNS WIDTH TARGETS IN OUT [NAME=VALUE ...]");
    bench b = {.loss = {.kind = (emb_loss_kind)number(argv[1])},
               .examples = number(argv[2]),
               .columns = number(argv[3]),
               .width = number(argv[4])};
    size_t values = (size_t)b.examples * b.columns * b.width, targets = number(argv[5]);
    for (int i = 8; i < argc; i++) set(&b.loss, argv[i]);
    float *in = malloc((values + targets) * sizeof *in), *d = malloc(values * sizeof *d);
    FILE *file = fopen(argv[6], "rb");
    need(in && d && file, "cannot read");
    need(fread(in, sizeof *in, values + targets, file) == values + targets, "short input");
    fclose(file);
    open_bench(&b);
    emb_loss_batch batch = {b.examples, b.columns, in, targets ? in + values : NULL, d};
    printf("%.9g\n", emb_loss_run(&b.room, &b.loss, &batch));
    emb_team_close(&b.team);
    file = fopen(argv[7], "wb");
    need(file && fwrite(d, sizeof *d, values, file) == values && fclose(file) == 0, "cannot write");
    free(in), free(d);
    return 0;
}
