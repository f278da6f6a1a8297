/* pack.h - converts weights to the form that a CUDA backend uploads; no CUDA here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_PACK_H
#define EMB_BACKEND_CUDA_HOST_PACK_H

#include "backend/backend.h"

/* Copies host bytes to the weights' final place: device memory, or pinned. */
typedef void (*emb_cuda_put)(void *to, const void *from, uint64_t bytes);

/* As emb_backend.convert. */
void emb_cuda_pack_values(void *out, emb_dtype dtype, const float *in, uint64_t rows, uint32_t cols,
                          emb_cuda_put put);

/* As emb_backend.linear_pack_quantized, in the form that emb_cuda_quantized has. */
void emb_cuda_pack_rows(emb_linear *linear, uint32_t row0, const emb_quantized_rows *rows,
                        emb_cuda_put put);

#endif
