/* gradients.h - the kernels of a backward pass that have no counterpart forwards: gradients of the
 * weights, of GELU and of the norm.
 *
 * As in backend/cuda/kernels/launch.h: device pointers, 16-byte aligned; `stream` is what the work
 * is enqueued on; nothing is allocated; 0 or a cudaError_t is returned; calls may be captured in a
 * graph. The batch's tokens_max and overlap are used, and on the device counts[0]: what lies past
 * the batch's tokens may hold anything, NaNs too, and is not written. Every sum has a fixed order:
 * the same input gives the same bits on the same kind of device.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_GRADIENTS_H
#define EMB_TRAIN_CUDA_KERNELS_GRADIENTS_H

#include "backend/cuda/kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the partial sums that emb_cuda_train_gradients needs for batches of up to tokens_max
 * tokens; no less for more tokens. H200: at most 30 MB. */
uint64_t emb_cuda_train_gradients_bytes(uint32_t rows, uint32_t cols, uint32_t tokens_max,
                                        const emb_cuda_device *device);

/* d_weight [rows, cols] += d_out^T * in, and d_bias [rows] += the column sums of d_out [tokens,
 * rows] (d_bias NULL: those are left out), all sums in f32; in is [tokens, cols]. rows and cols:
 * multiples of 8. BF16 (from sm_80 on) or F16, else cudaErrorNotSupported. */
int emb_cuda_train_gradients(float *d_weight, float *d_bias, const void *d_out, const void *in,
                             uint32_t rows, uint32_t cols, float *partials,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream);

/* activated [tokens, cols] = GELU(before), the erf form; d [tokens, cols] *= GELU'(before). Neither
 * waits for the other: activated may be `before`. cols: a multiple of 8. F32, BF16, F16. */
int emb_cuda_train_gelu_back(void *d, void *activated, const void *before, uint32_t cols,
                             const emb_cuda_batch *batch, emb_dtype type, void *stream);

/* The same of what a product gives: d [tokens, rows] = (d_out * W^T) * GELU'(before), activated =
 * GELU(before); d_out is [tokens, cols]. W [rows, cols] is the weight of the product after GELU,
 * turned: rows is the width between, cols that of d_out; linear->bias is zeros. On Hopper one
 * kernel for 16-bit types, which rounds d once. activated may be `before`. */
int emb_cuda_train_linear_gelu_back(void *d, void *activated, const void *before, const void *d_out,
                                    const emb_cuda_linear *linear, const emb_cuda_batch *batch,
                                    const emb_cuda_device *device, void *stream);

/* out [tokens, hidden] = norm(sum). out may be sum. hidden: a multiple of 8, at most
 * EMB_CUDA_HIDDEN_MAX, here and below. F32, BF16, F16. */
int emb_cuda_train_norm(void *out, const void *sum, const emb_cuda_norm *norm, uint32_t hidden,
                        const emb_cuda_batch *batch, emb_dtype type, void *stream);

/* Bytes of the partial sums that emb_cuda_train_norm_back needs. */
uint64_t emb_cuda_train_norm_bytes(uint32_t hidden);

/* d [tokens, hidden], to which `more` is added first unless it is NULL, the gradient of norm(sum),
 * becomes the gradient of sum; d_gain and d_shift
 * [hidden] get theirs added. The moments are computed again from `sum`. F32, BF16, F16. */
int emb_cuda_train_norm_back(void *d, const void *more, float *d_gain, float *d_shift,
                             float *partials, const void *sum, const float *gain, float epsilon,
                             uint32_t hidden, const emb_cuda_batch *batch, emb_dtype type,
                             void *stream);

#ifdef __cplusplus
}
#endif

#endif
