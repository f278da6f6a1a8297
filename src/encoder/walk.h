/* walk.h - the walk through a model's layers: one loop, and a visitor that says what is done in
 * each.
 *
 * Visitors: a tile with resident weights, tiles that share streamed ones, tiles of a device,
 * recording (forward.c, device_pass.c), a quantizer (quantizer/quantize.c). The walk knows nothing
 * of weights or of what is computed from them, so that training can bring its own.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_WALK_H
#define EMB_ENCODER_WALK_H

#include "backend/backend.h"

typedef struct emb_visitor {
    void *user;
    /* Prepares layer n: for example waits for its weights. NULL: nothing to do. */
    emb_status (*enter)(void *user, uint32_t n, emb_error *error);
    /* Runs layer n on everything that goes through it. */
    emb_status (*visit)(void *user, uint32_t n, emb_error *error);
    /* Releases layer n; called after a visit that succeeded. NULL: nothing to do. */
    void (*leave)(void *user, uint32_t n);
    bool back; /* from the last layer to the first, as gradients go */
} emb_visitor;

/* Visits all layers in order. Stops at the visitor's first failure, and returns it. */
emb_status emb_walk(const emb_visitor *visitor, uint32_t layers, emb_error *error);

/* The two blocks of a layer. */
typedef enum emb_block_kind { EMB_BLOCK_ATTENTION, EMB_BLOCK_FFN } emb_block_kind;

/* Called with each block's input, which a backward pass needs again. x [tokens, hidden] as the
 * backend holds activations. */
typedef struct emb_block_inputs {
    void (*keep)(void *user, emb_block_kind block, const void *x, const emb_tile *tile);
    void *user;
} emb_block_inputs;

/* What running a tile through a layer needs. */
typedef struct emb_layer_step {
    const emb_backend *backend;
    const emb_layer_spec *spec;
    emb_lane_scratch *lane;
    const emb_block_inputs *inputs; /* NULL: not wanted */
} emb_layer_step;

/* out = layer(in); out may equal in. Enqueued on a device. */
void emb_walk_layer(const emb_layer_step *step, void *out, const void *in, const emb_tile *tile,
                    const emb_layer *layer);

#endif
