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

/* Trainers of several GPUs that work as one: each a whole one of its own GPU, with the same
 * parameters, and with a share of each batch's examples. The first is the caller's, and has this.
 */
typedef struct emb_train_group {
    uint32_t count; /* 0: it trains alone */
    struct emb_trainer *members[EMB_DEVICES_MAX];
    uint64_t device_bytes;             /* that meeting takes on each GPU */
    uint64_t host_bytes, pinned_bytes; /* of a member that is not the first */
    emb_team team;                     /* a thread for each */
} emb_train_group;

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
    emb_train_group group;
    uint32_t rank;                 /* in the group that it is a member of */
    uint32_t first, own, examples; /* of the batch at hand, in a group: its share */
    uint32_t *rows;                /* [texts of a tile] in a group: their numbers in the batch */
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

/* Bytes and examples are planned for one GPU: all have the same. */
uint32_t emb_trainer_share_max(const emb_trainer *trainer);

/* ---- group.c: several GPUs ------------------------------------------------------------------- */

/* What a member does, on its own thread and with its device current. */
typedef emb_status (*emb_group_part)(void *user, emb_trainer *member, emb_error *error);

/* Runs it for all members at once. Fails: as the first of them that failed. */
emb_status emb_group_run(emb_trainer *first, emb_group_part part, void *user, emb_error *error);

/* Connects the devices of all members. Fails: EMB_DEVICE. */
emb_status emb_group_meet(emb_trainer *first, emb_error *error);

/* Gives all members the first one's parameters, moments, and place in the training.
 * Fails: EMB_DEVICE. */
emb_status emb_group_copy_first(emb_trainer *first, emb_error *error);

/* As emb_trainer_step behind its checks. */
emb_status emb_group_step(emb_train_step *out, emb_trainer *first, const emb_text *texts,
                          uint32_t examples, emb_error *error);

/* ---- trainer.c ------------------------------------------------------------------------------- */

/* Reads the trainer's share of `examples`: from example `first` on, `own` of them.
 * Fails: EMB_BAD_TEXT. */
emb_status emb_trainer_read(emb_trainer *trainer, const emb_text *texts, uint32_t first,
                            uint32_t own, uint32_t examples, emb_error *error);

/* A step, or a part of one, of what was read. Fails: EMB_NOT_FINITE, EMB_DEVICE. */
emb_status emb_trainer_compute(emb_train_step *out, emb_trainer *trainer, const float *targets,
                               emb_error *error);

/* All of a trainer's state that a checkpoint has (checkpoint.c). */
enum { EMB_TRAINER_PARTS = 1 + EMB_OPTIMIZER_PARTS };
void emb_trainer_list(emb_optimizer_part *parts, const emb_trainer *trainer);

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
