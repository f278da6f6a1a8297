/* fake_kernels.h - the kernels of the device that fake_module.c plays: loops over a tile.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_CUDA_FAKE_KERNELS_H
#define EMB_TESTS_CUDA_FAKE_KERNELS_H

#include "backend/cuda/sizes/layout.h"

/* A tile, its lane's memory, and the dtype of the weights: activations are f32 beside f32, else
 * f16. */
typedef struct fake_work {
    const emb_tile *tile;
    const emb_block_shape *shape;
    emb_cuda_lane lane;
    emb_dtype dtype;
} fake_work;

/* As the operations of emb_backend. */
void fake_embed(void *out, const emb_embedding *embedding, const fake_work *work);
void fake_attention_block(void *out, const void *in, const emb_layer *layer, const fake_work *work);
void fake_ffn_block(void *out, const void *in, const emb_layer *layer, const fake_work *work);
void fake_pool(float *rows, const uint32_t *targets, const void *in, const emb_pool_rule *rule,
               const fake_work *work);

/* Fills in linear->reach, which blocks of fp8 rely on. */
void fake_reach(const emb_linear *linear);

#endif
