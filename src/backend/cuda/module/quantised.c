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

emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v, void *values) {
    const emb_cuda_lane *lane = &v->lane;
    if (values == lane->inner_codes)
        return (emb_cuda_codes){values, lane->inner_scales, lane->inner_zeros};
    return (emb_cuda_codes){values, lane->code_scales, lane->code_zeros};
}

/* The tuned one, or AUTO: a table may be of another type. */
static emb_cuda_tile usable_tile(const emb_cuda_view *v, emb_cuda_product which,
                                 const emb_cuda_narrow *narrow) {
    emb_cuda_tile tile = emb_cuda_tuned_tile(v, which);
    bool one = narrow->type == EMB_CUDA_FP8 && v->state->device.capability == 90;
    bool none = narrow->type == EMB_CUDA_I4 && tile == EMB_CUDA_TILE_PAIR;
    return one || none ? EMB_CUDA_TILE_AUTO : tile;
}

/* Whether embed and ffn_block leave the codes of what they wrote in the lane, for a layer without
 * factors. Also where nobody reads them, so that no other kernels are needed than open has run. */
static bool leaves_codes(const emb_linear *qkv) {
    return qkv->format != EMB_FORMAT_I4 && !qkv->smooth;
}

/* Makes the codes of a product's input. */
static void encode(const emb_cuda_view *v, void *codes_at, const emb_linear *l, const void *in) {
    emb_cuda_state *state = v->state;
    emb_cuda_codes codes = emb_cuda_codes_of(v, codes_at);
    emb_cuda_note(state, emb_cuda_quantize(&codes, in, l->smooth, l->cols, type_of(l->format),
                                           &v->pack, &state->device, state->stream));
}

/* The input of an int4 product: smoothed, if it has factors, in `room`, which may be `in`. */
static const void *smoothed(const emb_cuda_view *v, const emb_linear *l, const void *in,
                            void *room) {
    if (!l->smooth) return in;
    emb_cuda_note(v->state,
                  emb_cuda_smooth(room, in, l->smooth, l->cols, &v->pack, v->state->stream));
    return room;
}

/* Of codes, or of an int4 product's `in`. */
static void product(const emb_cuda_view *v, emb_cuda_product which, void *out, void *codes_at,
                    const void *in, const emb_linear *l) {
    emb_cuda_state *state = v->state;
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v, codes_at);
    emb_cuda_tile tile = usable_tile(v, which, &narrow);
    if (tile == EMB_CUDA_TILE_AUTO)
        tile = emb_cuda_narrow_tile(&narrow, emb_cuda_tuning_tokens(v), &state->device);
    emb_cuda_note(state, emb_cuda_narrow_run(out, in ? NULL : &codes, in, &narrow,
                                             which == EMB_CUDA_FFN_IN, tile, &v->pack,
                                             &state->device, state->stream));
}

/* The feed-forward's first product, from codes to codes: int8 alone. */
static void product_codes(const emb_cuda_view *v, const emb_linear *l, const float *smooth) {
    emb_cuda_state *state = v->state;
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v, v->lane.middle_codes);
    emb_cuda_codes out = emb_cuda_codes_of(v, v->lane.inner_codes);
    emb_cuda_note(state, emb_cuda_narrow_quantize(&out, smooth, &codes, &narrow, 1, v->lane.wide,
                                                  emb_cuda_tuned_tile(v, EMB_CUDA_FFN_IN),
                                                  emb_cuda_tuning_tokens(v), &v->pack,
                                                  &state->device, state->stream));
}

/* What stands behind a product. */
typedef struct behind {
    const void *residual;
    const emb_cuda_norm *norm;
    void *codes;         /* of what is written; NULL: none */
    const float *smooth; /* for them */
    void *room;          /* [tokens, hidden] f16, not the product's input */
} behind;

/* out = norm(residual + product), of codes or of an int4 product's `in`. */
static void product_norm(const emb_cuda_view *v, emb_cuda_product which, void *out, void *codes_at,
                         const void *in, const emb_linear *l, const behind *b) {
    emb_cuda_state *state = v->state;
    const emb_cuda_device *device = &state->device;
    if (in) {
        product(v, which, b->room, NULL, in, l);
        emb_cuda_note(state, emb_cuda_residual_norm(out, b->room, b->residual, b->norm, &v->pack,
                                                    l->rows, v->type, state->stream));
        return;
    }
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v, codes_at), next = emb_cuda_codes_of(v, b->codes);
    emb_cuda_note(
        state, emb_cuda_narrow_norm(out, b->codes ? &next : NULL, b->smooth, &codes, &narrow,
                                    b->residual, b->norm, b->room, usable_tile(v, which, &narrow),
                                    emb_cuda_tuning_tokens(v), &v->pack, device, state->stream));
}

/* Whether there are factors is not known here: the codes are for a layer without. */
void emb_cuda_quantised_embed(void *out, const emb_tile *tile, const emb_embedding *embedding,
                              const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(tile, shape, embedding->format);
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
    emb_cuda_codes codes = emb_cuda_codes_of(&v, v.lane.layer_codes);
    emb_cuda_note(v.state, emb_cuda_embed_codes(out, codes.values ? &codes : NULL, NULL,
                                                type_of(embedding->format), &v.pack, &words,
                                                shape->hidden, &v.state->device, v.state->stream));
}

void emb_cuda_quantised_attention(void *out, const void *in, const emb_tile *tile,
                                  const emb_layer *layer, const emb_block_shape *shape,
                                  emb_lane_scratch *scratch) {
    (void)scratch;
    const emb_linear *first = &layer->qkv, *last = &layer->attention_out;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, first->format);
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_norm norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon};
    emb_cuda_lane *lane = &v.lane;
    bool plain = first->format == EMB_FORMAT_I4; /* no codes */
    const void *input = plain ? smoothed(&v, first, in, lane->context) : NULL;
    /* a kept tile's codes are gone: other tiles used the lane in between */
    if (!plain && (tile->kept || !leaves_codes(first))) encode(&v, lane->layer_codes, first, in);
    product(&v, EMB_CUDA_QKV, lane->wide, lane->layer_codes, input, first);
    emb_cuda_note(v.state, emb_cuda_attention(lane->context, lane->wide, &heads, &v.pack, v.type,
                                              &v.state->device, v.state->stream));
    input = plain ? smoothed(&v, last, lane->context, lane->context) : NULL;
    if (!plain) encode(&v, lane->inner_codes, last, lane->context);
    const behind b = {in, &norm, lane->middle_codes, layer->ffn_in.smooth, lane->wide};
    product_norm(&v, EMB_CUDA_ATTENTION_OUT, out, lane->inner_codes, input, last, &b);
}

void emb_cuda_quantised_ffn(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    const emb_linear *first = &layer->ffn_in, *last = &layer->ffn_out;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, first->format);
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    emb_cuda_lane *lane = &v.lane;
    bool plain = first->format == EMB_FORMAT_I4; /* no codes */
    const void *input = plain ? smoothed(&v, first, in, lane->context) : NULL;
    if (first->format == EMB_FORMAT_I8) {
        product_codes(&v, first, last->smooth);
    } else {
        product(&v, EMB_CUDA_FFN_IN, lane->wide, lane->middle_codes, input, first);
        input = plain ? smoothed(&v, last, lane->wide, lane->wide) : NULL;
        if (!plain) encode(&v, lane->inner_codes, last, lane->wide);
    }
    void *codes = leaves_codes(&layer->qkv) ? lane->layer_codes : NULL; /* as of the next layer */
    const behind b = {in, &norm, codes, NULL, plain ? lane->context : lane->wide};
    product_norm(&v, EMB_CUDA_FFN_OUT, out, lane->inner_codes, input, last, &b);
}
