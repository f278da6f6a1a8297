/* loss.h - losses over the vectors of a batch, and their gradients; no square of the batch in
 * memory.
 *
 * A batch is `examples` groups of `columns` texts; the vector of text k of example i stands at row
 * k * examples + i: all anchors, then all positives, then the first hard negatives, and so on.
 * Fed by pass.c's vectors, feeds its backward. Every sum is over rows in their order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_LOSS_LOSS_H
#define EMB_TRAIN_LOSS_LOSS_H

#include "embound_train.h"
#include "train/cpu/kernels.h"
#include "train/team.h"

/* Rows and columns of the similarities that are in memory at once, a thread. */
enum { EMB_LOSS_ROWS = 64, EMB_LOSS_COLUMNS = 256 };

typedef struct emb_loss_room {
    const emb_train_kernels *kernels;
    emb_team *team;
    uint32_t width;  /* of the vectors at hand */
    float *units;    /* [rows, width] the vectors at length one */
    float *lengths;  /* [rows] */
    float *log_sums; /* [rows] */
    float *losses;   /* [rows] an anchor's */
    float *scores;   /* [threads, EMB_LOSS_ROWS, EMB_LOSS_COLUMNS] */
    float *work;     /* [threads, EMB_TRAIN_WORK] */
    /* of some losses alone, else NULL */
    float *begins, *d_begins; /* [rows, width] Matryoshka: the first values of all vectors */
    uint32_t *hardest;        /* [2, rows] batch hard: the farthest alike, the nearest other */
    float *teacher;           /* [rows, teacher_width] distillation: the teacher's units */
    float *teacher_scores;    /* as scores */
} emb_loss_room;

typedef struct emb_loss_batch {
    uint32_t examples, columns;
    const float *vectors; /* [columns * examples, width] */
    const float *targets; /* as for emb_trainer_step */
    float *d_vectors;     /* of the shape of vectors: written */
} emb_loss_batch;

/* Books the room for batches of at most `examples` and `columns`. */
void emb_loss_layout(emb_loss_room *room, const emb_train_loss *loss, uint32_t examples,
                     uint32_t columns, uint32_t width, uint32_t threads, emb_ledger *ledger);

/* Gives the loss, and fills batch->d_vectors with its gradient. */
double emb_loss_run(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch);

/* ---- what the losses' files share -------------------------------------------------------------
 */

/* A thread's tile: some rows of similarities against some columns. */
typedef struct emb_loss_tile {
    uint32_t row, rows, column, columns;
    float *scores, *work; /* [EMB_LOSS_ROWS, EMB_LOSS_COLUMNS] */
} emb_loss_tile;

emb_loss_tile emb_loss_tile_of(const emb_loss_room *room, uint32_t thread);

/* scores = the products of a's rows and b's, of `width` values each. */
void emb_loss_multiply(const emb_loss_room *room, const emb_loss_tile *tile, float *scores,
                       const float *a, const float *b, uint32_t width);

static inline uint32_t emb_loss_least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Each of these adds to d [columns * examples, width] the gradient of the units, or of `points`,
 * which are the units or, for distances of vectors as they are, the vectors. */

/* The multiple-negatives ranking loss (InfoNCE): the mean over anchors of the cross-entropy of
 * scale * cosine to all positives and negatives, where its own positive is the right one. */
double emb_loss_ranking(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, float *d);

/* log(1 + sum of e^(scale * (cosine of pair j - cosine of pair i))) over all i and j where i has
 * the higher label. */
double emb_loss_cosent(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch,
                       float *d);

/* The mean of (cosine - label)^2. */
double emb_loss_cosine(emb_loss_room *room, const emb_loss_batch *batch, float *d);

/* The mean of max(0, distance to the positive - distance to the negative + margin), over all
 * negatives of all anchors. */
double emb_loss_triplet(const emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, const float *points, float *d);

/* The same over texts, the positive being the farthest of the same class, the negative the nearest
 * of another. */
double emb_loss_batch_hard(emb_loss_room *room, const emb_train_loss *loss,
                           const emb_loss_batch *batch, const float *points, float *d);

/* The mean over pairs of texts of one example of (cosine - cosine of room->teacher)^2, if it has
 * several, and that over all other pairs. */
double emb_loss_distill(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, float *d);

#endif
