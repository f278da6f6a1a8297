/* ranking.c - the multiple-negatives ranking loss: each anchor against all positives and negatives
 * of the batch, a tile of similarities at a time (as Inf-CL does, arXiv 2410.17243).
 *
 * Three passes over the tiles: the logarithms of the sums; the gradient of the anchors, by threads
 * that each take anchors; that of the candidates, by threads that each take candidates. So no two
 * threads add to the same row.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/loss/loss.h"

typedef struct ranking {
    const emb_loss_room *room;
    uint32_t anchors, candidates; /* the right candidate of anchor i is number i */
    const float *a, *b;           /* their units */
    float *d_a, *d_b;
    float scale, weight; /* of similarities; of an anchor's loss */
} ranking;

static void multiply(const ranking *r, const emb_loss_tile *t) {
    emb_loss_multiply(r->room, t, t->scores, r->a, r->b, r->room->width);
}

/* The logarithm of the sum of e^(scale * similarity) of each anchor, with the running maximum of
 * an online softmax; and its loss. */
static void sums_part(void *user, uint32_t index, uint32_t count) {
    const ranking *r = user;
    emb_loss_tile t = emb_loss_tile_of(r->room, index);
    uint32_t end = emb_team_begin(r->anchors, EMB_LOSS_ROWS, index + 1, count);
    for (t.row = emb_team_begin(r->anchors, EMB_LOSS_ROWS, index, count); t.row < end;
         t.row += EMB_LOSS_ROWS) {
        t.rows = emb_loss_least(EMB_LOSS_ROWS, r->anchors - t.row);
        for (t.column = 0; t.column < r->candidates; t.column += EMB_LOSS_COLUMNS) {
            t.columns = emb_loss_least(EMB_LOSS_COLUMNS, r->candidates - t.column);
            multiply(r, &t);
            for (uint32_t i = 0; i < t.rows; i++) {
                float *row = t.scores + (size_t)i * EMB_LOSS_COLUMNS;
                uint32_t anchor = t.row + i, right = anchor - t.column;
                float own = anchor >= t.column && right < t.columns ? r->scale * row[right] : 0;
                float *log_sum = &r->room->log_sums[anchor], *loss = &r->room->losses[anchor];
                float part = r->room->kernels->softmax(row, row, NULL, t.columns, r->scale);
                float high = t.column ? fmaxf(*log_sum, part) : part;
                if (t.column) part = high + logf(expf(*log_sum - high) + expf(part - high));
                *log_sum = part;
                *loss = (t.column ? *loss : 0) - own;
            }
        }
        for (uint32_t i = 0; i < t.rows; i++)
            r->room->losses[t.row + i] += r->room->log_sums[t.row + i];
    }
}

/* Turns a tile's similarities into the gradient of the loss by them. */
static void scores_back(const ranking *r, const emb_loss_tile *t) {
    for (uint32_t i = 0; i < t->rows; i++) {
        float *row = t->scores + (size_t)i * EMB_LOSS_COLUMNS;
        uint32_t anchor = t->row + i, right = anchor - t->column;
        r->room->kernels->softmax_again(row, row, NULL, t->columns, r->scale,
                                        r->room->log_sums[anchor]);
        if (anchor >= t->column && right < t->columns) row[right] -= 1.0f;
        for (uint32_t j = 0; j < t->columns; j++) row[j] *= r->weight * r->scale;
    }
}

/* Adds to d_a, or to d_b, what a tile's similarities give. */
static void add_gradient(const ranking *r, const emb_loss_tile *t, bool of_anchors) {
    uint32_t width = r->room->width;
    multiply(r, t);
    scores_back(r, t);
    emb_matmul product = {.n = width, .a = t->scores, .b_row = width, .c_row = width};
    size_t anchors = (size_t)t->row * width, candidates = (size_t)t->column * width;
    product.m = of_anchors ? t->rows : t->columns;
    product.k = of_anchors ? t->columns : t->rows;
    product.a_row = of_anchors ? EMB_LOSS_COLUMNS : 1;
    product.a_col = of_anchors ? 1 : EMB_LOSS_COLUMNS;
    product.b = of_anchors ? r->b + candidates : r->a + anchors;
    product.c = of_anchors ? r->d_a + anchors : r->d_b + candidates;
    product.add = true;
    product.work = t->work;
    r->room->kernels->matmul(&product);
}

static void anchors_part(void *user, uint32_t index, uint32_t count) {
    const ranking *r = user;
    emb_loss_tile t = emb_loss_tile_of(r->room, index);
    uint32_t end = emb_team_begin(r->anchors, EMB_LOSS_ROWS, index + 1, count);
    for (t.row = emb_team_begin(r->anchors, EMB_LOSS_ROWS, index, count); t.row < end;
         t.row += EMB_LOSS_ROWS) {
        t.rows = emb_loss_least(EMB_LOSS_ROWS, r->anchors - t.row);
        for (t.column = 0; t.column < r->candidates; t.column += EMB_LOSS_COLUMNS) {
            t.columns = emb_loss_least(EMB_LOSS_COLUMNS, r->candidates - t.column);
            add_gradient(r, &t, true);
        }
    }
}

static void candidates_part(void *user, uint32_t index, uint32_t count) {
    const ranking *r = user;
    emb_loss_tile t = emb_loss_tile_of(r->room, index);
    uint32_t end = emb_team_begin(r->candidates, EMB_LOSS_COLUMNS, index + 1, count);
    for (t.column = emb_team_begin(r->candidates, EMB_LOSS_COLUMNS, index, count); t.column < end;
         t.column += EMB_LOSS_COLUMNS) {
        t.columns = emb_loss_least(EMB_LOSS_COLUMNS, r->candidates - t.column);
        for (t.row = 0; t.row < r->anchors; t.row += EMB_LOSS_ROWS) {
            t.rows = emb_loss_least(EMB_LOSS_ROWS, r->anchors - t.row);
            add_gradient(r, &t, false);
        }
    }
}

static double run(const ranking *r) {
    double sum = 0;
    void *user = (void *)(uintptr_t)r;
    emb_team_run(r->room->team, sums_part, user);
    emb_team_run(r->room->team, anchors_part, user);
    emb_team_run(r->room->team, candidates_part, user);
    for (uint32_t i = 0; i < r->anchors; i++) sum += r->room->losses[i];
    return sum * r->weight;
}

double emb_loss_ranking(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, float *d) {
    uint32_t n = batch->examples;
    size_t anchors = (size_t)n * room->width;
    ranking r = {
        .room = room,
        .anchors = n,
        .candidates = n * (batch->columns - 1),
        .a = room->units,
        .b = room->units + anchors,
        .d_a = d,
        .d_b = d + anchors,
        .scale = loss->scale,
        .weight = (loss->symmetric ? 0.5f : 1.0f) / (float)n,
    };
    double result = run(&r);
    if (!loss->symmetric) return result;
    ranking back = r;
    back.candidates = n; /* a positive finds its anchor among all anchors */
    back.a = r.b;
    back.b = r.a;
    back.d_a = r.d_b;
    back.d_b = r.d_a;
    return result + run(&back);
}
