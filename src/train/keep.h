/* keep.h - what of a batch's activations is worth its bytes until the way back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_KEEP_H
#define EMB_TRAIN_KEEP_H

#include "train/pass.h"

/* What can be kept of a tile: its bytes, and what it spares, as a share of a pass forward. */
typedef struct emb_keep {
    uint64_t bytes;
    double share;
} emb_keep;

typedef struct emb_keep_costs {
    uint32_t tiles; /* of a batch */
    emb_keep sums, attention, ffn;
} emb_keep_costs;

/* Of the operations and sizes that the lane was laid out for. */
emb_keep_costs emb_train_keep_costs(const emb_train_lane *lane, uint32_t tiles);

/* The share of a pass that is products with weights. */
double emb_train_keep_weights(const emb_layer_spec *spec);

/* Sets slabs, attention_slabs and ffn_slabs: the step that computes least again, with so many bytes
 * beside one slab of sums. */
void emb_train_keep_choose(emb_train_sizes *sizes, const emb_keep_costs *costs, uint64_t bytes);

/* Passes forward over a batch that a step of these sizes comes to: one, two for the way back, and
 * what is done again. */
double emb_train_keep_passes(const emb_train_sizes *sizes, const emb_keep_costs *costs,
                             uint32_t layers);

#endif
