/* walk.c - the only loop that computes layers, and the only place that orders a layer's blocks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "encoder/walk.h"

#include "base/error.h"

emb_status emb_walk(const emb_visitor *visitor, uint32_t layers, emb_error *error) {
    for (uint32_t i = 0; i < layers; i++) {
        uint32_t n = visitor->back ? layers - 1 - i : i;
        if (visitor->enter) EMB_TRY(visitor->enter(visitor->user, n, error));
        EMB_TRY(visitor->visit(visitor->user, n, error));
        if (visitor->leave) visitor->leave(visitor->user, n);
    }
    return EMB_OK;
}

static void keep(const emb_layer_step *step, emb_block_kind block, const void *x,
                 const emb_tile *tile) {
    if (step->inputs) step->inputs->keep(step->inputs->user, block, x, tile);
}

void emb_walk_layer(const emb_layer_step *step, void *out, const void *in, const emb_tile *tile,
                    const emb_layer *layer) {
    const emb_backend *backend = step->backend;
    keep(step, EMB_BLOCK_ATTENTION, in, tile);
    backend->attention_block(backend, step->lane, out, in, tile, layer, step->spec);
    keep(step, EMB_BLOCK_FFN, out, tile);
    backend->ffn_block(backend, step->lane, out, out, tile, layer, step->spec);
}
