/* linear.c - products by a team of threads: each takes rows or columns of what comes out.
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

/* A part of the rows; of columns where b is turned first, if all threads get as many panels: then
 * each turns what the others do not. */
static void multiply_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    emb_matmul part = j->product;
    bool columns = part.b_transposed && part.n % ((uint64_t)EMB_TRAIN_PANEL * count) == 0;
    uint32_t all = columns ? part.n : part.m, step = columns ? EMB_TRAIN_PANEL : ROWS_STEP;
    uint32_t first = emb_team_begin(all, step, index, count);
    uint32_t end = emb_team_begin(all, step, index + 1, count);
    if (first == end) return;
    part.work = emb_train_buffers_of(j->run).work + (size_t)index * EMB_TRAIN_WORK;
    if (columns) {
        part.n = end - first;
        part.b += first * part.b_row;
        part.c += first;
        if (part.bias) part.bias += first;
    } else {
        part.m = end - first;
        part.a += first * part.a_row;
        part.c += first * part.c_row;
    }
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
    if (first < end)
        emb_train_kernels_in(j->run)->add_rows(j->total + first, j->in + first, j->cols, j->tokens,
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
    if (d_weight) emb_team_run(run->team, multiply_part, &j);
    if (d_bias) emb_team_run(run->team, sum_part, &j);
}
