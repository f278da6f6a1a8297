/* blocks.c - a layer on a device, for every dtype: launches enqueued on the tile's lane.
 *
 * Grids are sized by the tile; a row's arithmetic depends on nothing outside its chunk.
 * emb_cuda_lane says where each value is, and which buffers overlap.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/blocks.h"

#include "backend/cuda/host/products.h"

void emb_cuda_block_embed(const emb_backend *self, emb_lane_scratch *lane, void *out,
                          const emb_tile *tile, const emb_embedding *embedding,
                          const emb_layer_spec *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    emb_cuda_queue *queue = v.queue;
    const emb_cuda_launch *launch = queue->launch;
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
    if (!emb_dtype_quantized(self->dtype)) {
        emb_cuda_note(queue,
                      launch->embed(out, &v.batch, &words, shape->hidden, v.type, queue->stream));
        return;
    }
    /* whether the next layer has factors is not known here: the codes are for one without */
    emb_cuda_codes codes = emb_cuda_codes_of(&v, v.lane.layer_codes);
    emb_cuda_note(queue, launch->embed_codes(out, codes.values ? &codes : NULL, NULL,
                                             embedding->dtype, &v.batch, &words, shape->hidden,
                                             &queue->device, queue->stream));
}

void emb_cuda_block_attention(const emb_backend *self, emb_lane_scratch *scratch, void *out,
                              const void *in, const emb_tile *tile, const emb_layer *layer,
                              const emb_layer_spec *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, scratch, tile, shape);
    emb_cuda_queue *queue = v.queue;
    const emb_cuda_lane *lane = &v.lane;
    const emb_linear *first = &layer->qkv, *last = &layer->attention_out;
    emb_cuda_operand input = {.codes = lane->layer_codes};
    /* a kept tile's codes are lost: other tiles used the lane in between */
    if (tile->kept || !emb_cuda_leaves_codes(first))
        input = emb_cuda_ready(&v, first, in, lane->layer_codes, lane->context);
    emb_cuda_multiply(&v, EMB_CUDA_QKV, lane->wide, input, first);
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_note(queue, queue->launch->attention(lane->context, lane->wide, &heads, &v.batch,
                                                  v.type, &queue->device, queue->stream));
    input = emb_cuda_ready(&v, last, lane->context, lane->inner_codes, lane->context);
    const emb_cuda_epilogue epilogue = {
        .residual = in,
        .norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon},
        .room = lane->projected ? lane->projected : lane->wide,
        .codes = lane->middle_codes,
        .smooth = layer->ffn_in.smooth,
        .type = first->dtype,
    };
    emb_cuda_multiply_norm(&v, EMB_CUDA_ATTENTION_OUT, out, input, last, &epilogue);
}

void emb_cuda_block_ffn(const emb_backend *self, emb_lane_scratch *scratch, void *out,
                        const void *in, const emb_tile *tile, const emb_layer *layer,
                        const emb_layer_spec *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, scratch, tile, shape);
    const emb_cuda_lane *lane = &v.lane;
    const emb_linear *first = &layer->ffn_in, *last = &layer->ffn_out;
    emb_cuda_operand input = {.codes = lane->middle_codes}; /* from attention's norm */
    if (!lane->middle_codes) input = emb_cuda_ready(&v, first, in, NULL, lane->context);
    input = emb_cuda_multiply_inner(&v, input, first, last);
    /* not where the product's input is */
    void *room = lane->inner_codes ? lane->wide : lane->context;
    const emb_cuda_epilogue epilogue = {
        .residual = in,
        .norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon},
        .room = lane->projected ? lane->projected : room,
        .codes = emb_cuda_leaves_codes(&layer->qkv) ? lane->layer_codes : NULL,
        .type = first->dtype, /* as the next layer's */
    };
    emb_cuda_multiply_norm(&v, EMB_CUDA_FFN_OUT, out, input, last, &epilogue);
}

void emb_cuda_block_pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                         const uint32_t *targets, const void *in, const emb_tile *tile,
                         const emb_pool_rule *rule, const emb_layer_spec *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    emb_cuda_queue *queue = v.queue;
    (void)targets; /* the device has its own copy */
    emb_cuda_pooling pooling = rule->pooling == EMB_POOLING_CLS   ? EMB_CUDA_POOL_CLS
                               : rule->pooling == EMB_POOLING_MAX ? EMB_CUDA_POOL_MAX
                                                                  : EMB_CUDA_POOL_MEAN;
    emb_cuda_note(queue, queue->launch->pool(rows, in, &v.batch, shape->hidden, pooling,
                                             (int)rule->normalize, v.type, queue->stream));
}
