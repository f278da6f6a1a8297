/* trainer.h - what the files behind embound_train.h share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_TRAINER_H
#define EMB_TRAIN_TRAINER_H

#include "package/directory.h"
#include "train/batch.h"
#include "train/device.h"
#include "train/loss/loss.h"
#include "train/optimizer.h"
#include "train/pass.h"

struct emb_trainer {
    const emb_model *model;
    emb_train_options options;
    uint32_t length_max; /* tokens of a text */
    uint64_t bytes;      /* of the arena */
    void *arena;
    const emb_train_ops *ops;
    const emb_train_device *device; /* NULL: the CPU trains */
    emb_device_info gpu;            /* that trains */
    void *state;                    /* the device's */
    void *pinned, *region;          /* NULL, or a device's arenas */
    uint64_t pinned_bytes, region_bytes;
    bool is_pinned;
    emb_train_plan plan;
    emb_train_sizes sizes; /* that the plan comes to */
    emb_params params;     /* of the model */
    emb_lora lora;         /* if options.lora.rank is not 0 */
    emb_team team;
    emb_train_lane lane;
    emb_train_batch batch;
    emb_loss_room loss;
    emb_optimizer optimizer;
    emb_layerwise layerwise;             /* if options.layerwise */
    float *vectors, *d_vectors;          /* [texts of a batch, width] */
    void *tile_vectors, *d_tile_vectors; /* the same where passes write and read: on the device */
    uint32_t part;                       /* calls of the step at hand so far */
    bool broken;             /* the parameters gave what is not finite, or moved in part */
    void *scratch;           /* of reading parameters */
    unsigned char *staging;  /* [EMB_TRAIN_STAGING] with a device, else NULL */
    emb_train_stats stats;   /* its counters */
    emb_directory directory; /* being written */
};

/* ---- plan.c ---------------------------------------------------------------------------------- */

/* Books all memory of a trainer of these sizes. On a CPU the three ledgers are one. */
void emb_trainer_layout(emb_trainer *trainer, const emb_train_sizes *sizes, const emb_books *books);

/* Whether the loss that was asked for is computed there, without the host. */
bool emb_trainer_loss_on_device(const emb_trainer *trainer);

/* Fills plan, sizes and bytes. Fails: EMB_BUDGET. */
emb_status emb_trainer_choose(emb_trainer *trainer, emb_error *error);

/* ---- remote.c: parameters where a device may have them ----------------------------------------
 */

/* Bytes that are on their way to a device, or from it, at once. */
enum { EMB_TRAIN_STAGING = 1 << 20 };

/* Reads the model's parameters. Fails: as emb_model_read_rows. */
emb_status emb_trainer_load(emb_trainer *trainer, emb_error *error);

/* Bytes of the trainer's arrays, at most EMB_TRAIN_STAGING: where the host sees them until the next
 * call. */
const void *emb_trainer_see(const emb_trainer *trainer, const void *from, uint64_t bytes);

/* Where the host may write so many bytes that emb_trainer_put then brings to `to`. */
void *emb_trainer_room(const emb_trainer *trainer, void *to);
void emb_trainer_put(const emb_trainer *trainer, void *to, uint64_t bytes);

/* On a device: before and after the gradients of a step's tiles, those of relative positions. */
void emb_trainer_begin_relative(const emb_trainer *trainer);
void emb_trainer_gather_relative(const emb_trainer *trainer);

/* Whether the staging holds the table of relative positions. */
bool emb_trainer_relative_fits(const emb_trainer *trainer);

/* What has to be made anew after the parameters changed. */
void emb_trainer_refresh(emb_trainer *trainer);

/* Before parameters are written: they may be beyond use. Fails: EMB_NOT_FINITE. */
emb_status emb_trainer_check_finite(const emb_trainer *trainer, emb_error *error);

#endif
