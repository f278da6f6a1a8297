/* linear.c - products by a team of threads: each takes rows of what comes out.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/blocks.h"

/* Rows that a thread takes at least: whole tiles of every instruction set's kernel. */
enum { ROWS_STEP = 12 };

typedef struct job {
    const emb_train_run *run;
    emb_matmul product;
    /* of a sum over tokens */
    float *total;
    const float *in;
    uint32_t tokens, cols;
} job;

static void multiply_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    emb_matmul part = j->product;
    uint32_t first = emb_team_begin(part.m, ROWS_STEP, index, count);
    uint32_t end = emb_team_begin(part.m, ROWS_STEP, index + 1, count);
    if (first == end) return;
    part.m = end - first;
    part.a += first * part.a_row;
    part.c += first * part.c_row;
    part.work = emb_train_buffers_of(j->run).work + (size_t)index * EMB_TRAIN_WORK;
    emb_train_kernels_in(j->run)->matmul(&part);
}

void emb_train_linear(const emb_train_run *run, float *out, const float *in, const float *weight,
                      const float *bias, uint32_t tokens, uint32_t rows, uint32_t cols) {
    job j = {.run = run,
             .product = {.m = tokens,
                         .n = rows,
                         .k = cols,
                         .a = in,
                         .a_row = cols,
                         .a_col = 1,
                         .b = weight,
                         .b_row = cols,
                         .b_transposed = true,
                         .c = out,
                         .c_row = rows,
                         .bias = bias}};
    emb_team_run(run->team, multiply_part, &j);
}

void emb_train_linear_back(const emb_train_run *run, float *d_in, const float *d_out,
                           const float *weight, uint32_t tokens, uint32_t rows, uint32_t cols,
                           bool add) {
    job j = {.run = run,
             .product = {.m = tokens,
                         .n = cols,
                         .k = rows,
                         .a = d_out,
                         .a_row = rows,
                         .a_col = 1,
                         .b = weight,
                         .b_row = cols,
                         .c = d_in,
                         .c_row = cols,
                         .add = add}};
    emb_team_run(run->team, multiply_part, &j);
}

static void sum_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    uint32_t first = emb_team_begin(j->cols, 16, index, count);
    uint32_t end = emb_team_begin(j->cols, 16, index + 1, count);
    for (uint32_t t = 0; t < j->tokens && first < end; t++)
        emb_train_kernels_in(j->run)->add(j->total + first, j->in + (size_t)t * j->cols + first,
                                          end - first);
}

void emb_train_linear_gradients(const emb_train_run *run, float *d_weight, float *d_bias,
                                const float *d_out, const float *in, uint32_t tokens, uint32_t rows,
                                uint32_t cols) {
    job j = {.run = run,
             .product = {.m = rows,
                         .n = cols,
                         .k = tokens,
                         .a = d_out,
                         .a_row = 1,
                         .a_col = rows,
                         .b = in,
                         .b_row = cols,
                         .c = d_weight,
                         .c_row = cols,
                         .add = true},
             .total = d_bias,
             .in = d_out,
             .tokens = tokens,
             .cols = rows};
    emb_team_run(run->team, multiply_part, &j);
    emb_team_run(run->team, sum_part, &j);
}

static void add_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    uint32_t first = emb_team_begin(j->tokens, 1, index, count);
    uint32_t end = emb_team_begin(j->tokens, 1, index + 1, count);
    size_t at = (size_t)first * j->cols;
    emb_train_kernels_in(j->run)->add(j->total + at, j->in + at, (size_t)(end - first) * j->cols);
}

void emb_train_add(const emb_train_run *run, float *out, const float *a, uint32_t tokens,
                   uint32_t cols) {
    job j = {.run = run, .total = out, .in = a, .tokens = tokens, .cols = cols};
    emb_team_run(run->team, add_part, &j);
}
