/* quantised.c - the blocks of a layer with int8, int4 or fp8 matrices: activations stay f16.
 *
 * int8 and fp8 multiply codes, which a pass of its own makes of a product's input, or the norm in
 * front of it; int4 multiplies the f16 input itself.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/module.h"

/* Of the matrix whose outputs become codes as they are. */
emb_status emb_cuda_quantised_finish(const emb_backend *self, emb_layer *layer, uint32_t device,
                                     emb_error *error) {
    (void)self;
    emb_cuda_device about;
    const emb_linear *l = &layer->ffn_in;
    if (l->dtype != EMB_DTYPE_FP8) return EMB_OK;
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    int reason = cudaSetDevice((int)device);
    if (reason == cudaSuccess) reason = emb_cuda_device_read(&about);
    if (reason == cudaSuccess) reason = emb_cuda_narrow_reach(l->reach, &narrow, &about, NULL);
    if (reason == cudaSuccess) return EMB_OK;
    return emb_cuda_failed(error, device, "bounding a matrix failed", (cudaError_t)reason);
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
        .group = l->dtype == EMB_DTYPE_INT4 ? l->group : 0,
        .type = l->dtype,
    };
}

emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v, void *values) {
    const emb_cuda_lane *lane = &v->lane;
    if (values == lane->inner_codes)
        return (emb_cuda_codes){values, lane->inner_scales, lane->inner_zeros};
    return (emb_cuda_codes){values, lane->code_scales, lane->code_zeros};
}

/* The tuned one, or the usual: a table may be of another type. */
static emb_cuda_tile usable_tile(const emb_cuda_view *v, emb_cuda_product which,
                                 const emb_cuda_narrow *narrow) {
    emb_cuda_tile tile = emb_cuda_tuned_tile(v, which);
    bool one = narrow->type == EMB_DTYPE_FP8 && v->state->device.capability == 90;
    bool none = narrow->type == EMB_DTYPE_INT4 && tile == EMB_CUDA_TILE_PAIR;
    if (tile != EMB_CUDA_TILE_AUTO && !one && !none) return tile;
    return emb_cuda_narrow_tile(narrow, emb_cuda_tuning_tokens(v), &v->state->device);
}

/* Whether embed and ffn_block leave the codes of what they wrote in the lane, for a layer without
 * factors. Also where nobody reads them, so that no other kernels are needed than open has run. */
static bool leaves_codes(const emb_linear *qkv) {
    return qkv->dtype != EMB_DTYPE_INT4 && !qkv->smooth;
}

/* Makes the codes of a product's input. */
static void encode(const emb_cuda_view *v, void *codes_at, const emb_linear *l, const void *in) {
    emb_cuda_state *state = v->state;
    emb_cuda_codes codes = emb_cuda_codes_of(v, codes_at);
    emb_cuda_note(state, emb_cuda_quantize(&codes, in, l->smooth, l->cols, l->dtype, &v->pack,
                                           &state->device, state->stream));
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
    emb_cuda_note(state, emb_cuda_narrow_run(out, in ? NULL : &codes, in, &narrow,
                                             which == EMB_CUDA_FFN_IN, tile, &v->pack,
                                             &state->device, state->stream));
}

/* The feed-forward's first product, from codes to codes. fp8's come out of it, for E4M3 can afford
 * a scale that is known beforehand; int8's are made of the values. */
static void product_codes(const emb_cuda_view *v, const emb_linear *l, const emb_linear *next) {
    emb_cuda_state *state = v->state;
    if (l->dtype == EMB_DTYPE_INT8) {
        product(v, EMB_CUDA_FFN_IN, v->lane.wide, v->lane.middle_codes, NULL, l);
        encode(v, v->lane.inner_codes, next, v->lane.wide);
        return;
    }
    emb_cuda_narrow narrow = emb_cuda_narrow_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v, v->lane.middle_codes);
    emb_cuda_codes out = emb_cuda_codes_of(v, v->lane.inner_codes);
    emb_cuda_note(state, emb_cuda_narrow_codes(&out, &codes, l->reach, &narrow, 1,
                                               usable_tile(v, EMB_CUDA_FFN_IN, &narrow), &v->pack,
                                               &state->device, state->stream));
}

/* What stands behind a product. */
typedef struct behind {
    const void *residual;
    const emb_cuda_norm *norm;
    void *codes;         /* of what is written; NULL: none */
    const float *smooth; /* for them */
    emb_dtype type;      /* of them */
} behind;

/* out = norm(residual + in), and its codes. */
static void norm_behind(const emb_cuda_view *v, void *out, const void *in, uint32_t hidden,
                        const behind *b) {
    emb_cuda_state *state = v->state;
    if (!b->codes) {
        emb_cuda_note(state, emb_cuda_residual_norm(out, in, b->residual, b->norm, &v->pack, hidden,
                                                    v->type, state->stream));
        return;
    }
    emb_cuda_codes codes = emb_cuda_codes_of(v, b->codes);
    emb_cuda_note(state, emb_cuda_residual_norm_codes(out, &codes, b->smooth, b->type, in,
                                                      b->residual, b->norm, &v->pack, hidden,
                                                      &state->device, state->stream));
}

/* Whether there are factors is not known here: the codes are for a layer without. */
void emb_cuda_quantised_embed(const emb_cuda_view *v, void *out, const emb_embedding *embedding,
                              const emb_block_shape *shape) {
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
    emb_cuda_codes codes = emb_cuda_codes_of(v, v->lane.layer_codes);
    emb_cuda_note(v->state, emb_cuda_embed_codes(out, codes.values ? &codes : NULL, NULL,
                                                 embedding->dtype, &v->pack, &words, shape->hidden,
                                                 &v->state->device, v->state->stream));
}

void emb_cuda_quantised_attention(const emb_cuda_view *v, void *out, const void *in,
                                  const emb_tile *tile, const emb_layer *layer,
                                  const emb_block_shape *shape) {
    const emb_linear *first = &layer->qkv, *last = &layer->attention_out;
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_norm norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon};
    const emb_cuda_lane *lane = &v->lane;
    bool plain = first->dtype == EMB_DTYPE_INT4; /* no codes */
    const void *input = plain ? smoothed(v, first, in, lane->context) : NULL;
    /* a kept tile's codes are gone: other tiles used the lane in between */
    if (!plain && (tile->kept || !leaves_codes(first))) encode(v, lane->layer_codes, first, in);
    product(v, EMB_CUDA_QKV, lane->wide, lane->layer_codes, input, first);
    emb_cuda_note(v->state, emb_cuda_attention(lane->context, lane->wide, &heads, &v->pack, v->type,
                                               &v->state->device, v->state->stream));
    const behind b = {in, &norm, plain ? NULL : lane->middle_codes, layer->ffn_in.smooth,
                      first->dtype};
    if (last->dtype == EMB_DTYPE_F16) {
        emb_cuda_product_run(v, EMB_CUDA_ATTENTION_OUT, lane->wide, lane->context, last);
    } else if (plain) {
        input = smoothed(v, last, lane->context, lane->context);
        product(v, EMB_CUDA_ATTENTION_OUT, lane->wide, NULL, input, last);
    } else {
        encode(v, lane->inner_codes, last, lane->context);
        product(v, EMB_CUDA_ATTENTION_OUT, lane->wide, lane->inner_codes, NULL, last);
    }
    norm_behind(v, out, lane->wide, last->rows, &b);
}

void emb_cuda_quantised_ffn(const emb_cuda_view *v, void *out, const void *in,
                            const emb_layer *layer, const emb_block_shape *shape) {
    const emb_linear *first = &layer->ffn_in, *last = &layer->ffn_out;
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    const emb_cuda_lane *lane = &v->lane;
    bool plain = first->dtype == EMB_DTYPE_INT4;     /* no codes */
    void *room = plain ? lane->context : lane->wide; /* not where the product's input is */
    void *codes = plain || !leaves_codes(&layer->qkv) ? NULL : lane->layer_codes;
    const behind b = {in, &norm, codes, NULL, first->dtype}; /* as of the next layer */
    if (plain) {
        product(v, EMB_CUDA_FFN_IN, lane->wide, NULL, smoothed(v, first, in, lane->context), first);
        product(v, EMB_CUDA_FFN_OUT, room, NULL, smoothed(v, last, lane->wide, lane->wide), last);
    } else {
        product_codes(v, first, last);
        product(v, EMB_CUDA_FFN_OUT, room, lane->inner_codes, NULL, last);
    }
    norm_behind(v, out, room, last->rows, &b);
}
