/* blocks.h - the block operations of a CUDA backend: a layer as launches.
 *
 * They are emb_backend's operations, on lanes whose state begins with an emb_cuda_queue; the module
 * and the fake device (tests/cuda) have them in their tables. No CUDA here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_BLOCKS_H
#define EMB_BACKEND_CUDA_HOST_BLOCKS_H

#include "backend/ops.h"

void emb_cuda_block_embed(const emb_backend *self, emb_lane_scratch *lane, void *out,
                          const emb_tile *tile, const emb_embedding *embedding,
                          const emb_layer_spec *shape);
void emb_cuda_block_attention(const emb_backend *self, emb_lane_scratch *lane, void *out,
                              const void *in, const emb_tile *tile, const emb_layer *layer,
                              const emb_layer_spec *shape);
void emb_cuda_block_ffn(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                        const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape);
void emb_cuda_block_pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                         const uint32_t *targets, const void *in, const emb_tile *tile,
                         const emb_pool_rule *rule, const emb_layer_spec *shape);

/* The operations' fields in a row of a table of backends. */
#define EMB_CUDA_BLOCKS                                                                            \
    .embed = emb_cuda_block_embed, .attention_block = emb_cuda_block_attention,                    \
    .ffn_block = emb_cuda_block_ffn, .pool = emb_cuda_block_pool

#endif
