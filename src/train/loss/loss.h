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
    uint32_t width;
    float *units;    /* [rows, width] the vectors at length one */
    float *lengths;  /* [rows] */
    float *log_sums; /* [rows] */
    float *losses;   /* [rows] an anchor's */
    float *scores;   /* [threads, EMB_LOSS_ROWS, EMB_LOSS_COLUMNS] */
    float *work;     /* [threads, EMB_TRAIN_WORK] */
} emb_loss_room;

typedef struct emb_loss_batch {
    uint32_t examples, columns;
    const float *vectors; /* [columns * examples, width] */
    const float *labels;  /* [examples], or NULL */
    float *d_vectors;     /* of the same shape: written */
} emb_loss_batch;

/* Books the room for batches of at most `examples` and `columns`. */
void emb_loss_layout(emb_loss_room *room, uint32_t examples, uint32_t columns, uint32_t width,
                     uint32_t threads, emb_ledger *ledger);

/* Gives the loss, and fills batch->d_vectors with its gradient. */
double emb_loss_run(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch);

/* ---- what the losses' files give loss.c -------------------------------------------------------
 */

/* The multiple-negatives ranking loss (InfoNCE): the mean over anchors of the cross-entropy of
 * scale * cosine to all positives and negatives, where its own positive is the right one. Adds to d
 * [columns * examples, width], the gradient of the units. */
double emb_loss_ranking(emb_loss_room *room, const emb_train_loss *loss,
                        const emb_loss_batch *batch, float *d);

/* log(1 + sum of e^(scale * (cosine of pair j - cosine of pair i))) over all i and j where i has
 * the higher label. */
double emb_loss_cosent(emb_loss_room *room, const emb_train_loss *loss, const emb_loss_batch *batch,
                       float *d);

/* The mean of (cosine - label)^2. */
double emb_loss_cosine(emb_loss_room *room, const emb_loss_batch *batch, float *d);

#endif
