/* trainer.h - what the files behind embound_train.h share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_TRAINER_H
#define EMB_TRAIN_TRAINER_H

#include "package/directory.h"
#include "train/batch.h"
#include "train/loss/loss.h"
#include "train/optimizer.h"
#include "train/pass.h"

struct emb_trainer {
    const emb_model *model;
    emb_train_options options;
    uint32_t length_max; /* tokens of a text */
    uint64_t bytes;      /* of the arena */
    void *arena;
    emb_train_plan plan;
    emb_train_sizes sizes; /* that the plan comes to */
    emb_params params;
    emb_team team;
    emb_train_lane lane;
    emb_train_batch batch;
    emb_loss_room loss;
    emb_optimizer optimizer;
    float *vectors, *d_vectors; /* [texts of a batch, width] */
    void *scratch;              /* of reading parameters */
    emb_train_stats stats;      /* its counters */
    emb_directory directory;    /* being written */
};

/* ---- plan.c ---------------------------------------------------------------------------------- */

/* Books all memory of a trainer of these sizes. */
void emb_trainer_layout(emb_trainer *trainer, const emb_train_sizes *sizes, emb_ledger *ledger);

/* Fills plan, sizes and bytes. Fails: EMB_BUDGET. */
emb_status emb_trainer_choose(emb_trainer *trainer, emb_error *error);

#endif
