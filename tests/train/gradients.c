/* gradients.c - runs token ids through a model and back, and writes vectors and gradients: for
 * comparison with another implementation (test_gradients.py, models_gradients.py).
 *
 *   gradients MODEL KERNELS THREADS IN OUT
 *
 * IN: u32 chunks, starts [chunks + 1], ids [tokens], then f32 d_vectors [chunks, hidden]. OUT: f32
 * vectors [chunks, hidden], then the gradients of all parameters. Standard output: a line a tensor,
 * "name first rows cols".
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"
#include "train/cpu/kernels.h"
#include "train/pass.h"

static void need(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "gradients: %s\n", what);
    exit(1);
}

static void *read_values(FILE *file, size_t count) {
    void *values = malloc(count * sizeof(float) + 1);
    need(values && fread(values, sizeof(float), count, file) == count, "short input");
    return values;
}

typedef struct bench {
    emb_params params;
    emb_team team;
    emb_train_lane lane;
    void *scratch;
    float *vectors;
} bench;

static void layout(bench *b, const emb_model *model, const emb_tile *tile, uint32_t threads,
                   emb_ledger *ledger) {
    emb_params_layout(&b->params, &model->shape, model->files, ledger);
    emb_team_layout(&b->team, threads, ledger);
    const emb_train_sizes sizes = {.tokens = tile->tokens,
                                   .slabs = 1,
                                   .chunk_tokens_max = model->shape.window_tokens,
                                   .threads = threads};
    emb_train_lane_layout(&b->lane, &b->params, &emb_train_cpu_ops, &sizes, ledger);
    b->lane.values = emb_ledger_take(ledger, b->params.values, sizeof(float));
    b->lane.gradients = emb_ledger_take(ledger, b->params.values, sizeof(float));
    b->scratch = emb_ledger_take(ledger, emb_params_scratch_bytes(&b->params), 1);
    b->vectors =
        emb_ledger_take(ledger, tile->chunks * (uint64_t)model->shape.spec.hidden, sizeof(float));
}

static const emb_train_kernels *kernels_named(const char *name) {
    if (!strcmp(name, "ref")) return &emb_train_ref;
    uint32_t features;
    emb_error error;
    need(emb_cpu_detect(&features, &error) == EMB_OK, error.message);
    if (!strcmp(name, "bf16")) return emb_train_kernels_of(features, EMB_DTYPE_BF16);
    const emb_train_kernels *kernels = emb_train_kernels_of(features, EMB_DTYPE_F32);
    return !strcmp(name, "best") || !strcmp(name, kernels->name) ? kernels : NULL;
}

static void print_tensors(const bench *b, const emb_model *model) {
    for (uint32_t i = 0; i < b->params.count; i++) {
        const emb_param *t = &b->params.tensors[i];
        char name[256];
        emb_model_tensor_name(name, sizeof name, model->files, t->role, t->layer);
        printf("%s %llu %u %u\n", name, (unsigned long long)t->first, t->rows, t->cols);
    }
}

int main(int argc, char **argv) {
    need(argc == 6, "usage: gradients MODEL KERNELS THREADS IN OUT");
    emb_error error;
    emb_model *model;
    need(emb_model_open(&model, argv[1], &error) == EMB_OK, "cannot open the model");
    const emb_train_kernels *kernels = kernels_named(argv[2]);
    if (!kernels) return 77;
    FILE *in = fopen(argv[4], "rb");
    need(in != NULL, "cannot open the input");
    uint32_t *head = read_values(in, 1), chunks = head[0], hidden = model->shape.spec.hidden;
    uint32_t *starts = read_values(in, chunks + 1), *ids = read_values(in, starts[chunks]);
    float *d_vectors = read_values(in, (size_t)chunks * hidden);
    fclose(in);

    emb_tile tile = {.tokens = starts[chunks], .chunks = chunks, .ids = ids, .starts = starts};
    uint32_t threads = (uint32_t)strtoul(argv[3], NULL, 10);
    bench b;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    layout(&b, model, &tile, threads, &ledger);
    uint64_t bytes = ledger.bytes;
    void *memory = emb_arena_open(bytes);
    need(memory != NULL, "no memory");
    emb_ledger_init(&ledger, memory, bytes);
    layout(&b, model, &tile, threads, &ledger);
    need(emb_params_load(b.lane.values, &b.params, b.scratch, &error) == EMB_OK, "cannot load");
    need(emb_team_open(&b.team, &error) == EMB_OK, "no threads");
    b.lane.run.team = &b.team;
    b.lane.run.kernels = kernels;
    b.lane.pool = (emb_pool_rule){model->shape.pooling, model->shape.normalizes};
    emb_train_lane_refresh(&b.lane);
    uint32_t *targets = malloc(chunks * sizeof *targets);
    for (uint32_t c = 0; c < chunks; c++) targets[c] = c;
    emb_train_forward(&b.lane, b.vectors, targets, &tile);
    emb_train_backward(&b.lane, d_vectors, targets, &tile);
    emb_team_close(&b.team);
    FILE *out = fopen(argv[5], "wb");
    need(out && fwrite(b.vectors, sizeof(float), (size_t)chunks * hidden, out) ==
                    (size_t)chunks * hidden,
         "cannot write");
    need(fwrite(b.lane.gradients, sizeof(float), b.params.values, out) == b.params.values,
         "cannot write");
    fclose(out);
    print_tensors(&b, model);
    emb_arena_close(memory, bytes);
    emb_model_close(model);
    free(head), free(starts), free(ids), free(d_vectors), free(targets);
    return 0;
}
