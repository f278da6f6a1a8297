/* products.h - what a block does with a matrix: makes an input ready for it, multiplies, adds the
 * residual and norms. Each enqueues on the view's queue; failures are noted there. No CUDA in here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_PRODUCTS_H
#define EMB_BACKEND_CUDA_HOST_PRODUCTS_H

#include "backend/cuda/host/lane.h"

/* A product's input as its kernel takes it: I8 and FP8 take codes, all others values. */
typedef struct emb_cuda_operand {
    const void *values;
    void *codes; /* in the lane, which has their scales beside them */
} emb_cuda_operand;

/* Makes `in` [tokens, cols] ready for a matrix: I8, FP8: in codes at `codes`; I4 with factors:
 * smoothed in `room`, which may be `in`; else as it is. */
emb_cuda_operand emb_cuda_ready(const emb_cuda_view *v, const emb_linear *linear, const void *in,
                                void *codes, void *room);

/* Whether embed and ffn_block leave the codes of what they wrote in the lane, for the layer behind
 * them: for one that has no factors, as embed knows of none. Also where nobody reads them, so that
 * no other kernels are needed than open has run. */
bool emb_cuda_leaves_codes(const emb_linear *qkv);

/* out [tokens, rows] = in * W^T + bias, then GELU if it belongs to the product. */
void emb_cuda_multiply(const emb_cuda_view *v, emb_cuda_product which, void *out,
                       emb_cuda_operand in, const emb_linear *linear);

/* The feed-forward's first product and, where its outputs are needed in codes, those: the input of
 * `next`. They lie in wide, codes in inner_codes. */
emb_cuda_operand emb_cuda_multiply_inner(const emb_cuda_view *v, emb_cuda_operand in,
                                         const emb_linear *linear, const emb_linear *next);

/* What stands behind a product: out = norm(residual + product), and codes of what is written. */
typedef struct emb_cuda_behind {
    const void *residual;
    emb_cuda_norm norm;
    void *room;          /* for the product */
    void *codes;         /* in the lane; NULL: none */
    const float *smooth; /* for them */
    emb_dtype type;      /* of them */
} emb_cuda_behind;

/* out [tokens, rows] = norm(residual + in * W^T + bias); out may be the residual. */
void emb_cuda_multiply_norm(const emb_cuda_view *v, emb_cuda_product which, void *out,
                            emb_cuda_operand in, const emb_linear *linear,
                            const emb_cuda_behind *behind);

/* A matrix, and a lane's codes, as launchers take them. */
emb_cuda_quantized emb_cuda_quantized_of(const emb_linear *linear);
emb_cuda_codes emb_cuda_codes_of(const emb_cuda_view *v, void *values);

/* What sizes of batches kernels are chosen by: those that open has run are all there are. */
uint32_t emb_cuda_tuning_tokens(const emb_cuda_view *v);

#endif
