/* triplet.c - losses of distances: a positive is to be nearer than a negative by a margin; of
 * stated triplets, or of the hardest of a batch whose texts have classes (Hermans et al. 2017).
 *
 * The hardest are found a tile of similarities at a time, by threads that each take texts; what
 * they give is then added text by text.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "train/loss/loss.h"

#define NONE UINT32_MAX

/* As PyTorch's pairwise_distance: added to each difference, so that no distance is 0. */
#define APART 1e-6f

typedef struct distances {
    const emb_loss_room *room;
    const emb_loss_batch *batch;
    bool cosine;
    const float *points; /* [rows, width] */
    float *d;            /* their gradient */
} distances;

static distances distances_of(const emb_loss_room *room, const emb_train_loss *loss,
                              const emb_loss_batch *batch, const float *points, float *d) {
    return (distances){room, batch, loss->distance == EMB_DISTANCE_COSINE, points, d};
}

static float distance(const distances *x, uint32_t a, uint32_t b) {
    uint32_t width = x->room->width;
    const float *first = x->points + (size_t)a * width, *second = x->points + (size_t)b * width;
    double sum = 0;
    if (x->cosine) return 1.0f - x->room->kernels->dot(first, second, width);
    for (uint32_t i = 0; i < width; i++) {
        float away = first[i] - second[i] + APART;
        sum += (double)away * away;
    }
    return (float)sqrt(sum);
}

/* Adds the gradient of weight * distance, which is `far`. */
static void distance_back(const distances *x, uint32_t a, uint32_t b, float far, float weight) {
    uint32_t width = x->room->width;
    const float *first = x->points + (size_t)a * width, *second = x->points + (size_t)b * width;
    float *d_first = x->d + (size_t)a * width, *d_second = x->d + (size_t)b * width;
    for (uint32_t i = 0; x->cosine && i < width; i++) {
        d_first[i] -= weight * second[i];
        d_second[i] -= weight * first[i];
    }
    for (uint32_t i = 0; !x->cosine && i < width; i++) {
        float slope = weight * (first[i] - second[i] + APART) / far;
        d_first[i] += slope;
        d_second[i] -= slope;
    }
}

/* max(0, distance to p - distance to n + margin), and its gradient. */
static double triplet(const distances *x, uint32_t a, uint32_t p, uint32_t n, float margin,
                      float weight) {
    float near = distance(x, a, p), far = distance(x, a, n), value = near - far + margin;
    if (value <= 0) return 0;
    distance_back(x, a, p, near, weight);
    distance_back(x, a, n, far, -weight);
    return value;
}

double emb_loss_triplet(const emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, const float *points, float *d) {
    distances x = distances_of(room, loss, batch, points, d);
    uint32_t n = batch->examples;
    double sum = 0, count = (double)n * (batch->columns - 2);
    for (uint32_t k = 2; k < batch->columns; k++)
        for (uint32_t i = 0; i < n; i++)
            sum += triplet(&x, i, n + i, k * n + i, loss->margin, (float)(1 / count));
    return sum / count;
}

/* ---- the hardest of a batch ------------------------------------------------------------------ */

/* Of a tile: what is farther than all before it, or nearer. A row's squared distances to all others
 * have the order of |b|^2 - 2 ab. */
static void look_at(const distances *x, const emb_loss_tile *t) {
    const emb_loss_room *room = x->room;
    const float *classes = x->batch->targets;
    bool units = x->points == room->units;
    for (uint32_t i = 0; i < t->rows; i++) {
        uint32_t a = t->row + i, *alike = room->hardest + a;
        uint32_t *other = alike + x->batch->examples;
        float *farthest = &room->losses[a], *nearest = &room->log_sums[a];
        const float *row = t->scores + (size_t)i * EMB_LOSS_COLUMNS;
        for (uint32_t j = 0; j < t->columns; j++) {
            uint32_t b = t->column + j;
            float square = units ? 1.0f : room->lengths[b] * room->lengths[b];
            float far = square - 2 * row[j];
            bool same = classes[a] == classes[b];
            if (same && a != b && (*alike == NONE || far > *farthest)) {
                *alike = b;
                *farthest = far;
            }
            if (!same && (*other == NONE || far < *nearest)) {
                *other = b;
                *nearest = far;
            }
        }
    }
}

static void find_part(void *user, uint32_t index, uint32_t count) {
    const distances *x = user;
    uint32_t n = x->batch->examples, width = x->room->width;
    emb_loss_tile t = emb_loss_tile_of(x->room, index);
    uint32_t end = emb_team_begin(n, EMB_LOSS_ROWS, index + 1, count);
    for (t.row = emb_team_begin(n, EMB_LOSS_ROWS, index, count); t.row < end;
         t.row += EMB_LOSS_ROWS) {
        t.rows = emb_loss_least(EMB_LOSS_ROWS, n - t.row);
        for (uint32_t i = t.row; i < t.row + t.rows; i++)
            x->room->hardest[i] = x->room->hardest[n + i] = NONE;
        for (t.column = 0; t.column < n; t.column += EMB_LOSS_COLUMNS) {
            t.columns = emb_loss_least(EMB_LOSS_COLUMNS, n - t.column);
            emb_loss_multiply(x->room, &t, t.scores, x->points, x->points, width);
            look_at(x, &t);
        }
    }
}

double emb_loss_batch_hard(emb_loss_room *room, const emb_train_loss *loss,
                           const emb_loss_batch *batch, const float *points, float *d) {
    distances x = distances_of(room, loss, batch, points, d);
    uint32_t n = batch->examples, count = 0, *hardest = room->hardest;
    double sum = 0;
    emb_team_run(room->team, find_part, &x);
    for (uint32_t i = 0; i < n; i++) count += hardest[i] != NONE && hardest[n + i] != NONE;
    for (uint32_t i = 0; i < n; i++) {
        if (hardest[i] == NONE || hardest[n + i] == NONE) continue;
        sum += triplet(&x, i, hardest[i], hardest[n + i], loss->margin, 1.0f / (float)count);
    }
    return count ? sum / count : 0;
}
