/* products.h - what a block does with a matrix: prepares its input, multiplies, adds the residual
 * and norms. Each enqueues on the view's queue; failures are noted there. No CUDA here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_PRODUCTS_H
#define EMB_BACKEND_CUDA_HOST_PRODUCTS_H

#include "backend/cuda/host/lane.h"

/* A product's input as its kernel takes it: I8 and FP8 take codes, all others values. */
typedef struct emb_cuda_operand {
    const void *values;
    void *codes; /* in the lane, which has their scales too */
} emb_cuda_operand;

/* Prepares `in` [tokens, cols] for a matrix. I8, FP8: codes, at `codes`; I4 with factors: smoothed,
 * in `room`, which may be `in`; else `in` itself. */
emb_cuda_operand emb_cuda_ready(const emb_cuda_view *v, const emb_linear *linear, const void *in,
                                void *codes, void *room);

/* Whether embed and ffn_block leave the codes of their output in the lane for the next layer: if it
 * has no factors, which embed does not know. They do so even if no layer reads them, so that only
 * kernels already run at open are needed. */
bool emb_cuda_leaves_codes(const emb_linear *qkv);

/* out [tokens, rows] = in * W^T + bias, then GELU if it belongs to the product. */
void emb_cuda_multiply(const emb_cuda_view *v, emb_cuda_product which, void *out,
                       emb_cuda_operand in, const emb_linear *linear);

/* The feed-forward's first product, as the input of `next`: values in wide or, where `next` needs
 * codes, codes in inner_codes. */
emb_cuda_operand emb_cuda_multiply_inner(const emb_cuda_view *v, emb_cuda_operand in,
                                         const emb_linear *linear, const emb_linear *next);

/* What follows a product: out = norm(residual + product), and the codes of out. */
typedef struct emb_cuda_epilogue {
    const void *residual;
    emb_cuda_norm norm;
    void *room;          /* for the product */
    void *codes;         /* in the lane; NULL: none */
    const float *smooth; /* for them */
    emb_dtype type;      /* of them */
} emb_cuda_epilogue;

/* out [tokens, rows] = norm(residual + in * W^T + bias); out may be the residual. */
void emb_cuda_multiply_norm(const emb_cuda_view *v, emb_cuda_product which, void *out,
                            emb_cuda_operand in, const emb_linear *linear,
                            const emb_cuda_epilogue *epilogue);

/* A matrix, and a lane's codes, as launchers take them. */
emb_cuda_quantized emb_cuda_quantized_of(const emb_linear *linear);
emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v, void *values);

/* The batch size by which kernels are chosen: one that open has run. */
uint32_t emb_cuda_tuning_tokens(const emb_cuda_view *v);

#endif
