/* tiles.h - what the visitors of a pass share: filling a tile, gathering its word embeddings,
 * cancelling.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_TILES_H
#define EMB_ENCODER_TILES_H

#include "encoder/encoder.h"

/* The parts of a tile's block of indices. */
typedef struct emb_tile_room {
    uint32_t *indices, *starts, *ids;
} emb_tile_room;

/* Packs the cut's chunks end to end, without padding. Gives the targets. */
const uint32_t *emb_tile_fill(emb_tile *tile, const emb_tile_room *room, const emb_pass *pass,
                              const emb_tile_cut *cut);

/* Reads the embedding rows of the tile's tokens from the file; afterwards ids index these rows.
 * Fails as emb_weights_read_word does. */
emb_status emb_tile_gather(const emb_encoder *encoder, emb_lane *lane, uint32_t *ids,
                           uint32_t tokens, emb_error *error);

/* One lane's share of a pass: a visitor's `user`. */
typedef struct emb_pass_share {
    emb_encoder *encoder;
    emb_lane *lane;
    const emb_pass *pass;
    const emb_layer *layer; /* the current one, between enter and leave */
} emb_pass_share;

/* emb_visitor's enter and leave: acquire the layer from the weights, and release it. */
emb_status emb_pass_enter(void *share, uint32_t n, emb_error *error);
void emb_pass_leave(void *share, uint32_t n);

/* Makes a tile's rows from x, the last layer's output, which may be overwritten, and writes them to
 * the targets in the pass's vectors. Enqueued on a device. (outside.c) */
void emb_outside_rows(const emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                      const emb_tile *tile, const uint32_t *targets, void *x);

/* Fails: EMB_CANCELLED. */
emb_status emb_pass_check(const emb_pass *pass, emb_error *error);

/* The step that runs this lane's tiles through a layer. */
emb_layer_step emb_lane_step(const emb_encoder *encoder, emb_lane *lane);

/* This lane's share of a pass whose tiles stay on a device. (device_pass.c) */
emb_status emb_device_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                              emb_error *error);

#endif
