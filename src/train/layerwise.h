/* layerwise.h - parameters that move as soon as their gradients are complete, on the way back
 * through one tile (as LOMO does, Lv et al. 2023, here for any optimizer): so that only one layer's
 * gradients are in memory. The embeddings come last, the words a block of rows at a time.
 *
 * The numbers are those of a step that gathers all gradients first: a layer's weights are not
 * needed again behind it. But nothing can be clipped, and a gradient that is not finite is found
 * when the layers behind it have moved.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_LAYERWISE_H
#define EMB_TRAIN_LAYERWISE_H

#include "train/optimizer.h"

typedef struct emb_layerwise {
    emb_optimizer *optimizer;
    const emb_params *params;
    float *values;    /* all parameters */
    float *gradients; /* [count] of those from value `first` on */
    uint64_t count, first, end;
    double squares; /* of all gradients of the step so far; not finite: nothing moves any more */
} emb_layerwise;

/* Values that `gradients` must hold. */
uint64_t emb_layerwise_count(const emb_params *params);

/* A step begins. */
void emb_layerwise_start(emb_layerwise *layerwise);

/* The gradients of one layer, or of what is outside the layers but the words, come next: cleared.
 */
void emb_layerwise_begin(emb_layerwise *layerwise, uint32_t layer);
void emb_layerwise_begin_outside(emb_layerwise *layerwise);

/* They are complete: their parameters move. */
void emb_layerwise_end(emb_layerwise *layerwise);

/* Moves the words, given the gradient of the tokens' sums [tokens, hidden]. */
void emb_layerwise_words(emb_layerwise *layerwise, const float *d_sum, const emb_tile *tile);

#endif
