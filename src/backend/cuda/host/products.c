/* products.c - a layer's four products, whatever the dtype of the matrix: by own kernels, or by
 * cuBLASLt where the plan says so.
 *
 * int8 and fp8 multiply codes, made from a product's input by a kernel of their own or by the norm
 * before it; int4 multiplies the f16 input itself. cuBLASLt's algorithm is chosen once per product,
 * for a fixed number of tokens, so that bits depend on neither bucket nor budget.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/products.h"

#define CHOICE_TOKENS 16384 /* for which algorithms are chosen */

/* ---- as launchers take it -------------------------------------------------------------------- */

static emb_cuda_linear linear_of(const emb_cuda_view *v, const emb_linear *l) {
    return (emb_cuda_linear){l->packed, l->bias, l->rows, l->cols, v->type};
}

emb_cuda_quantized emb_cuda_quantized_of(const emb_linear *l) {
    return (emb_cuda_quantized){
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

/* ---- tiles ----------------------------------------------------------------------------------- */

uint32_t emb_cuda_tuning_tokens(const emb_cuda_view *v) {
    return EMB_TUNING_TOKENS << emb_cuda_tuning_row(v->batch.tokens_max);
}

/* The tile found fastest for the product, or AUTO. */
static emb_cuda_tile tuned_tile(const emb_cuda_view *v, emb_cuda_product which) {
    uint32_t row = emb_cuda_tuning_row(v->batch.tokens_max);
    return (emb_cuda_tile)v->queue->tuning.kernels[row][which];
}

/* The same, with AUTO resolved. */
static emb_cuda_tile linear_tile(const emb_cuda_view *v, emb_cuda_product which,
                                 const emb_cuda_linear *linear) {
    emb_cuda_tile tile = tuned_tile(v, which);
    if (tile != EMB_CUDA_TILE_AUTO) return tile;
    return v->queue->launch->linear_tile(linear, emb_cuda_tuning_tokens(v), &v->queue->device);
}

/* The same; also the default where a table tuned for another type names a tile that this type
 * lacks. */
static emb_cuda_tile quantized_tile(const emb_cuda_view *v, emb_cuda_product which,
                                    const emb_cuda_quantized *matrix) {
    emb_cuda_tile tile = tuned_tile(v, which);
    bool one = matrix->type == EMB_DTYPE_FP8 && v->queue->device.capability == 90;
    bool none = matrix->type == EMB_DTYPE_INT4 && tile == EMB_CUDA_TILE_PAIR;
    if (tile != EMB_CUDA_TILE_AUTO && !one && !none) return tile;
    return v->queue->launch->quantized_tile(matrix, emb_cuda_tuning_tokens(v), &v->queue->device);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static bool takes_codes(const emb_linear *l) {
    return l->dtype == EMB_DTYPE_INT8 || l->dtype == EMB_DTYPE_FP8;
}

bool emb_cuda_leaves_codes(const emb_linear *qkv) {
    return takes_codes(qkv) && !qkv->smooth;
}

emb_cuda_operand emb_cuda_ready(const emb_cuda_view *v, const emb_linear *l, const void *in,
                                void *codes_at, void *room) {
    emb_cuda_queue *queue = v->queue;
    if (takes_codes(l)) {
        emb_cuda_codes codes = emb_cuda_codes_of(v, codes_at);
        emb_cuda_note(queue, queue->launch->quantize(&codes, in, l->smooth, l->cols, l->dtype,
                                                     &v->batch, &queue->device, queue->stream));
        return (emb_cuda_operand){.codes = codes_at};
    }
    if (l->dtype != EMB_DTYPE_INT4 || !l->smooth) return (emb_cuda_operand){.values = in};
    emb_cuda_note(queue,
                  queue->launch->smooth(room, in, l->smooth, l->cols, &v->batch, queue->stream));
    return (emb_cuda_operand){.values = room};
}

/* ---- products -------------------------------------------------------------------------------- */

/* Keeps the lane's first failure, with cuBLASLt's own status. */
static bool noted(emb_cuda_queue *queue, int status) {
    if (status && !queue->failure) queue->failure = queue->blas_status = status;
    return status != 0;
}

static void multiply_library(const emb_cuda_view *v, emb_cuda_product which, void *out,
                             const void *in, const emb_linear *l) {
    emb_cuda_queue *queue = v->queue;
    const emb_cuda_launch *launch = queue->launch;
    emb_cuda_blas_choice *choice = &queue->choices[which];
    emb_cuda_linear weights = linear_of(v, l);
    if (l->bias_typed) weights.bias = l->bias_typed;
    /* happens while lanes are warmed up, so before open returns */
    if (!choice->rows &&
        noted(queue, launch->blas_choose(choice, &queue->blas, &weights, CHOICE_TOKENS, 0)))
        return;
    if (noted(queue, launch->blas_run(out, in, &weights, &queue->blas, choice, v->batch.tokens_max,
                                      queue->stream)))
        return;
    if (which == EMB_CUDA_FFN_IN)
        emb_cuda_note(queue, launch->gelu(out, l->rows, &v->batch, v->type, queue->stream));
}

static void multiply_quantized(const emb_cuda_view *v, emb_cuda_product which, void *out,
                               emb_cuda_operand in, const emb_linear *l) {
    emb_cuda_queue *queue = v->queue;
    emb_cuda_quantized matrix = emb_cuda_quantized_of(l);
    emb_cuda_codes codes = emb_cuda_codes_of(v, in.codes);
    emb_cuda_note(queue, queue->launch->quantized_run(out, in.codes ? &codes : NULL, in.values,
                                                      &matrix, which == EMB_CUDA_FFN_IN,
                                                      quantized_tile(v, which, &matrix), &v->batch,
                                                      &queue->device, queue->stream));
}

void emb_cuda_multiply(const emb_cuda_view *v, emb_cuda_product which, void *out,
                       emb_cuda_operand in, const emb_linear *l) {
    emb_cuda_queue *queue = v->queue;
    if (emb_dtype_quantized(l->dtype)) {
        multiply_quantized(v, which, out, in, l);
        return;
    }
    if (queue->blas.handle) {
        multiply_library(v, which, out, in.values, l);
        return;
    }
    emb_cuda_linear weights = linear_of(v, l);
    emb_cuda_note(queue,
                  queue->launch->linear_run(out, in.values, &weights, which == EMB_CUDA_FFN_IN,
                                            linear_tile(v, which, &weights), &v->batch,
                                            &queue->device, queue->stream));
}

/* fp8's product writes codes itself: E4M3 can afford a scale that is known beforehand. */
static emb_cuda_operand multiply_to_codes(const emb_cuda_view *v, void *codes_at,
                                          emb_cuda_operand in, const emb_linear *l) {
    emb_cuda_queue *queue = v->queue;
    emb_cuda_quantized matrix = emb_cuda_quantized_of(l);
    emb_cuda_codes from = emb_cuda_codes_of(v, in.codes), to = emb_cuda_codes_of(v, codes_at);
    emb_cuda_note(queue, queue->launch->quantized_codes(&to, &from, l->bounds, &matrix, 1,
                                                        quantized_tile(v, EMB_CUDA_FFN_IN, &matrix),
                                                        &v->batch, &queue->device, queue->stream));
    return (emb_cuda_operand){.codes = codes_at};
}

emb_cuda_operand emb_cuda_multiply_inner(const emb_cuda_view *v, emb_cuda_operand in,
                                         const emb_linear *l, const emb_linear *next) {
    const emb_cuda_lane *lane = &v->lane;
    if (l->dtype == EMB_DTYPE_FP8) return multiply_to_codes(v, lane->inner_codes, in, l);
    emb_cuda_multiply(v, EMB_CUDA_FFN_IN, lane->wide, in, l);
    return emb_cuda_ready(v, next, lane->wide, lane->inner_codes, lane->wide);
}

static void run_epilogue(const emb_cuda_view *v, void *out, uint32_t hidden,
                         const emb_cuda_epilogue *e) {
    emb_cuda_queue *queue = v->queue;
    if (!e->codes) {
        emb_cuda_note(queue,
                      queue->launch->residual_norm(out, e->room, e->residual, &e->norm, &v->batch,
                                                   hidden, v->type, queue->stream));
        return;
    }
    emb_cuda_codes codes = emb_cuda_codes_of(v, e->codes);
    emb_cuda_note(queue, queue->launch->residual_norm_codes(
                             out, &codes, e->smooth, e->type, e->room, e->residual, &e->norm,
                             &v->batch, hidden, &queue->device, queue->stream));
}

/* In one kernel where the module has such; the product's buffer must not overlap any other in
 * use. */
void emb_cuda_multiply_norm(const emb_cuda_view *v, emb_cuda_product which, void *out,
                            emb_cuda_operand in, const emb_linear *l, const emb_cuda_epilogue *e) {
    emb_cuda_queue *queue = v->queue;
    if (!v->lane.projected || queue->blas.handle) {
        emb_cuda_multiply(v, which, e->room, in, l);
        run_epilogue(v, out, l->rows, e);
        return;
    }
    emb_cuda_linear weights = linear_of(v, l);
    emb_cuda_note(queue, queue->launch->linear_norm(out, in.values, &weights, e->residual, &e->norm,
                                                    e->room, tuned_tile(v, which),
                                                    emb_cuda_tuning_tokens(v), &v->batch,
                                                    &queue->device, queue->stream));
}
