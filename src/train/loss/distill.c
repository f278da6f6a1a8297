/* distill.c - the cosines of a batch's texts are to be a teacher's (relational distillation, Park
 * et al. 2019): all pairs, a tile of them at a time. Texts of one example are related, and almost
 * all others are not: the mean over pairs inside examples counts as much as that over all others.
 *
 * One pass: each pair is looked at from both of its texts, by threads that each take texts, so that
 * no two threads add to the same row.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/loss/loss.h"

typedef struct distillation {
    const emb_loss_room *room;
    uint32_t rows, examples, teacher_width;
    float inside, others; /* weights of a pair, looked at from one side */
    float *d;
} distillation;

/* Turns a tile's cosines into the gradient by them, and adds up the losses. */
static void compare(const distillation *x, const emb_loss_tile *t, const float *wanted) {
    for (uint32_t i = 0; i < t->rows; i++) {
        float *row = t->scores + (size_t)i * EMB_LOSS_COLUMNS;
        const float *right = wanted + (size_t)i * EMB_LOSS_COLUMNS;
        uint32_t a = t->row + i, example = a % x->examples;
        double sum = 0;
        for (uint32_t j = 0; j < t->columns; j++) {
            uint32_t b = t->column + j;
            float weight = b % x->examples == example ? x->inside : x->others;
            float away = a == b ? 0 : row[j] - right[j];
            sum += (double)weight * away * away;
            row[j] = 4 * weight * away; /* twice for the square, and for both sides */
        }
        x->room->losses[a] += (float)sum;
    }
}

static void add_gradient(const distillation *x, const emb_loss_tile *t) {
    uint32_t width = x->room->width;
    emb_matmul product = {.m = t->rows,
                          .n = width,
                          .k = t->columns,
                          .a = t->scores,
                          .a_row = EMB_LOSS_COLUMNS,
                          .a_col = 1,
                          .b = x->room->units + (size_t)t->column * width,
                          .b_row = width,
                          .c = x->d + (size_t)t->row * width,
                          .c_row = width,
                          .add = true,
                          .work = t->work};
    x->room->kernels->matmul(&product);
}

static void rows_part(void *user, uint32_t index, uint32_t count) {
    const distillation *x = user;
    const emb_loss_room *room = x->room;
    emb_loss_tile t = emb_loss_tile_of(room, index);
    float *wanted = room->teacher_scores + (size_t)index * EMB_LOSS_ROWS * EMB_LOSS_COLUMNS;
    uint32_t end = emb_team_begin(x->rows, EMB_LOSS_ROWS, index + 1, count);
    for (t.row = emb_team_begin(x->rows, EMB_LOSS_ROWS, index, count); t.row < end;
         t.row += EMB_LOSS_ROWS) {
        t.rows = emb_loss_least(EMB_LOSS_ROWS, x->rows - t.row);
        for (uint32_t i = 0; i < t.rows; i++) room->losses[t.row + i] = 0;
        for (t.column = 0; t.column < x->rows; t.column += EMB_LOSS_COLUMNS) {
            t.columns = emb_loss_least(EMB_LOSS_COLUMNS, x->rows - t.column);
            emb_loss_multiply(room, &t, t.scores, room->units, room->units, room->width);
            emb_loss_multiply(room, &t, wanted, room->teacher, room->teacher, x->teacher_width);
            compare(x, &t, wanted);
            add_gradient(x, &t);
        }
    }
}

double emb_loss_distill(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, float *d) {
    uint32_t rows = batch->examples * batch->columns;
    double sum = 0, inside = (double)rows * (batch->columns - 1.0);
    double others = (double)rows * (rows - 1.0) - inside;
    distillation x = {.room = room,
                      .rows = rows,
                      .examples = batch->examples,
                      .teacher_width = loss->teacher_width,
                      .inside = inside > 0 ? (float)(1 / inside) : 0,
                      .others = others > 0 ? (float)(1 / others) : 0,
                      .d = d};
    emb_team_run(room->team, rows_part, &x);
    for (uint32_t i = 0; i < rows; i++) sum += room->losses[i];
    return sum;
}
