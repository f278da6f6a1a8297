/* rows.h - what training does between the products on CUDA devices: residual, dropout, norm.
 *
 * Legend and rules as in backend/cuda/kernels/launch.h; types F16 and BF16; hidden a multiple of 8.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_ROWS_H
#define EMB_TRAIN_CUDA_KERNELS_ROWS_H

#include "train/cuda/kernels/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* sum [tokens, hidden] = x + product, of which dropout leaves out its share; x = norm(sum as
 * rounded). `product` and `sum` may be the same. */
int emb_cuda_train_add_norm(void *x, void *sum, const void *product, const emb_cuda_norm *norm,
                            const emb_train_cuda_drop *drop, const emb_cuda_batch *batch,
                            uint32_t hidden, emb_dtype type, void *stream);

/* out [tokens, hidden] = in, less what dropout leaves out; out may be in. */
int emb_cuda_train_drop(void *out, const void *in, const emb_train_cuda_drop *drop,
                        const emb_cuda_batch *batch, uint32_t hidden, emb_dtype type, void *stream);

/* out [tokens, hidden] += a */
int emb_cuda_train_add(void *out, const void *a, const emb_cuda_batch *batch, uint32_t hidden,
                       emb_dtype type, void *stream);

#ifdef __cplusplus
}
#endif

#endif
