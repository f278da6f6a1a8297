/* weights_parts.h - what the files that make up weights.h share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_WEIGHTS_PARTS_H
#define EMB_ENCODER_WEIGHTS_PARTS_H

#include "encoder/weights.h"

/* Whether this matrix is made int4 here, with a rounding that follows the norm that feeds it. */
bool emb_weights_balances(const emb_weights *weights, emb_tensor_role role);

/* Binds a layer inside a block of its own (NULL: measures); gives the bytes. The same offsets in
 * pinned memory and in a device's slots make one copy of a layer. */
uint64_t emb_weights_layer_in_block(emb_layer *layer, const emb_weights *weights, void *block,
                                    uint64_t bytes);

/* Reads a vector of `count` values through staging: `out` may be a device's memory. Zeros where the
 * family has no such tensor. */
emb_status emb_weights_read_vector(emb_weights *weights, emb_tensor_role role, uint32_t layer,
                                   uint32_t count, float *out, emb_error *error);

/* Books what is outside the layers, and loads it through staging. (outside.c) */
void emb_outside_layout(emb_weights *weights, const emb_weights_config *config, emb_ledger *ledger);
emb_status emb_outside_load(emb_weights *weights, emb_error *error);
void *emb_outside_words_layout(const emb_weights_config *config, emb_ledger *ledger);

/* positions.c */
emb_status emb_weights_load_positions(emb_weights *weights, emb_error *error);
emb_status emb_weights_load_relative(emb_weights *weights, emb_error *error);

/* Lanes of a device may read what was loaded only once it has arrived there. */
emb_status emb_weights_wait_uploaded(const emb_weights *weights, emb_error *error);

/* Enqueues the copy of layer `number` from pinned memory into its slot. (stream.c) */
emb_status emb_weights_copy_layer(emb_weights *weights, uint64_t number, emb_error *error);

#endif
