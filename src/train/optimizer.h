/* optimizer.h - AdamW or SGD over all parameters, the learning rate's schedule, and clipping.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_OPTIMIZER_H
#define EMB_TRAIN_OPTIMIZER_H

#include "embound_train.h"
#include "train/cpu/kernels.h"
#include "train/params.h"

typedef struct emb_optimizer {
    const emb_train_kernels *kernels;
    emb_team *team;
    const emb_train_run *run; /* on a device; NULL on a CPU */
    const emb_params *params;
    emb_optimizer_kind kind;
    bool eight;   /* AdamW's moments are in 8 bits, else in f32 */
    float *m, *v; /* moments, in the parameters' order; SGD: m with momentum alone, else NULL */
    int8_t *m8;   /* in place of m and v, with two scales a block of EMB_PARAM_BLOCK */
    uint8_t *v8;
    float *scales;
    uint64_t step; /* done so far */
    float beta1, beta2, epsilon, momentum, weight_decay, clip_norm;
    bool nesterov;
    float learning_rate;
    float layer_decay; /* of the rate, from a layer to the one before it */
    emb_schedule schedule;
    uint64_t steps, warmup_steps;
} emb_optimizer;

void emb_optimizer_layout(emb_optimizer *optimizer, const emb_params *params,
                          const emb_train_options *options, emb_ledger *ledger);

/* An array of the state beside the parameters. */
typedef struct emb_optimizer_part {
    void *bytes;
    uint64_t count;
} emb_optimizer_part;

/* Lists all of it; those that this optimizer does not have are of no bytes. */
enum { EMB_OPTIMIZER_PARTS = 3 };
void emb_optimizer_list(emb_optimizer_part *parts, const emb_optimizer *optimizer);

/* What the options say, with the defaults of what they leave open. */
void emb_optimizer_init(emb_optimizer *optimizer, const emb_train_options *options);

/* The rate of step number `step`, from 1 on: as transformers' schedules have it. */
double emb_optimizer_rate(const emb_optimizer *optimizer, uint64_t step);

/* The length of all gradients together; not finite if one of them is not. */
double emb_optimizer_norm(const emb_optimizer *optimizer, const float *gradients);

/* A step in parts: begins the next step, and moves values [first, end), whole blocks of
 * EMB_PARAM_BLOCK, along their gradients [end - first], which are not clipped. */
void emb_optimizer_begin(emb_optimizer *optimizer);
void emb_optimizer_move(emb_optimizer *optimizer, float *values, const float *gradients,
                        uint64_t first, uint64_t end);

/* One step. `norm` is the length of the gradients. */
void emb_optimizer_update(emb_optimizer *optimizer, float *values, const float *gradients,
                          double norm);

#endif
