/* quantised.c - the blocks of a layer with int8, int4 or fp8 matrices: activations stay f16.
 *
 * int8 and fp8 multiply codes, which a pass of its own makes of a product's input, or the norm in
 * front of it; int4 multiplies the f16 input itself.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/module/module.h"

static emb_cuda_type type_of(emb_format format) {
    return format == EMB_FORMAT_I8   ? EMB_CUDA_I8
           : format == EMB_FORMAT_I4 ? EMB_CUDA_I4
                                     : EMB_CUDA_FP8;
}

emb_cuda_narrow emb_cuda_narrow_of(const emb_linear *l) {
    return (emb_cuda_narrow){
        .weight = l->packed,
        .scales = l->scales,
        .sums = l->sums,
        .zeros = l->zeros,
        .bias = l->bias,
        .rows = l->rows,
        .cols = l->cols,
        .group = l->format == EMB_FORMAT_I4 ? l->group : 0,
        .type = type_of(l->format),
    };
}

emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v) {
    return (emb_cuda_codes){v->lane.codes, v->lane.code_scales, v->lane.code_zeros};
}

/* A tuned one, or AUTO's for the row of sizes. */
static emb_cuda_tile tile_of(const emb_cuda_view *v, emb_cuda_product which,
                             const emb_cuda_narrow *narrow) {
    const emb_cuda_device *device = &v->state->device;
    emb_cuda_tile tile = emb_cuda_tuned_tile(v, which);
    bool one = narrow->type == EMB_CUDA_FP8 && device->capability == 90; /* one kernel alone */
    bool none = narrow->type == EMB_CUDA_I4 && tile == EMB_CUDA_TILE_PAIR;
    if (tile != EMB_CUDA_TILE_AUTO && !one && !none) return tile;
    return emb_cuda_narrow_tile(narrow, emb_cuda_tuning_tokens(v), device);
}

/* Whether embed and ffn_block leave the codes of what they wrote in the lane, for a layer without
 * factors. Also where nobody reads them, so that no other kernels are needed than open has run. */
static bool leaves_codes(const emb_linear *qkv) {
    return qkv->format != EMB_FORMAT_I4 && !qkv->smooth;
}

/* Readies a product's input: makes its codes, or smooths it for int4, into `room` (which may be
 * `in`). Gives what an int4 product reads. */
static const void *ready(const emb_cuda_view *v, const emb_linear *l, const void *in, void *room) {
    emb_cuda_state *state = v->state;
    if (l->format != EMB_FORMAT_I4) {
        emb_cuda_codes codes = emb_cuda_codes_of(v);
        emb_cuda_note(state, emb_cuda_quantize(&codes, in, l->smooth, l->cols, type_of(l->format),
                                               &v->pack, &state->device, state->stream));
        return NULL;
    }
    if (!l->smooth) return in;
    emb_cuda_note(state, emb_cuda_smooth(room, in, l->smooth, l->cols, &v->pack, state->stream));
    return room;
}

/* `in` as `ready` gave it. */
static void product(const emb_cuda_view *v, emb_cuda_product which, void *out, const void *in,
                    const emb_linear *l) {
    emb_cuda_state *state = v->state;
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v);
    emb_cuda_note(state, emb_cuda_narrow_run(out, in ? NULL : &codes, in, &narrow,
                                             which == EMB_CUDA_FFN_IN, tile_of(v, which, &narrow),
                                             &v->pack, &state->device, state->stream));
}

/* Whether there are factors is not known here: the codes are for a layer without. */
void emb_cuda_quantised_embed(void *out, const emb_tile *tile, const emb_embedding *embedding,
                              const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(tile, shape, embedding->format);
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
    emb_cuda_codes codes = emb_cuda_codes_of(&v);
    emb_cuda_note(v.state, emb_cuda_embed_codes(out, v.lane.codes ? &codes : NULL, NULL,
                                                type_of(embedding->format), &v.pack, &words,
                                                shape->hidden, &v.state->device, v.state->stream));
}

void emb_cuda_quantised_attention(void *out, const void *in, const emb_tile *tile,
                                  const emb_layer *layer, const emb_block_shape *shape,
                                  emb_lane_scratch *scratch) {
    (void)scratch;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, layer->qkv.format);
    emb_cuda_state *state = v.state;
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_norm norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon};
    void *context = v.lane.context, *narrow = v.lane.wide; /* free again behind attention */
    const void *input = NULL;                              /* in codes */
    /* a kept tile's are gone: other tiles used the lane in between */
    if (tile->kept || !leaves_codes(&layer->qkv)) input = ready(&v, &layer->qkv, in, context);
    product(&v, EMB_CUDA_QKV, v.lane.wide, input, &layer->qkv);
    emb_cuda_note(state, emb_cuda_attention(context, v.lane.wide, &heads, &v.pack, v.type,
                                            &state->device, state->stream));
    product(&v, EMB_CUDA_ATTENTION_OUT, narrow, ready(&v, &layer->attention_out, context, context),
            &layer->attention_out);
    /* the feed-forward's input in codes, too: ffn_block is next */
    const emb_linear *next = &layer->ffn_in;
    emb_cuda_codes codes = emb_cuda_codes_of(&v);
    emb_cuda_note(
        state, emb_cuda_residual_norm_codes(out, next->format == EMB_FORMAT_I4 ? NULL : &codes,
                                            next->smooth, type_of(next->format), narrow, in, &norm,
                                            &v.pack, shape->hidden, &state->device, state->stream));
}

void emb_cuda_quantised_ffn(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, layer->ffn_in.format);
    emb_cuda_state *state = v.state;
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    void *wide = v.lane.wide, *narrow = v.lane.codes ? wide : v.lane.context;
    const void *input = NULL; /* in codes, by attention_block */
    if (layer->ffn_in.format == EMB_FORMAT_I4)
        input = ready(&v, &layer->ffn_in, in, v.lane.context);
    product(&v, EMB_CUDA_FFN_IN, wide, input, &layer->ffn_in);
    product(&v, EMB_CUDA_FFN_OUT, narrow, ready(&v, &layer->ffn_out, wide, wide), &layer->ffn_out);
    emb_cuda_codes codes = emb_cuda_codes_of(&v);
    bool leaves = leaves_codes(&layer->qkv); /* as the next layer's */
    emb_cuda_note(state, emb_cuda_residual_norm_codes(
                             out, leaves ? &codes : NULL, NULL, type_of(layer->qkv.format), narrow,
                             in, &norm, &v.pack, shape->hidden, &state->device, state->stream));
}
