/* attention.h - attention on CUDA devices as training needs it: forwards, with dropout and the sums
 * of the softmax, and back.
 *
 * Legend and rules as in backend/cuda/kernels/launch.h. No memory grows with the square of a
 * length, and the bits of every result are the same in every run on the same device.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_ATTENTION_H
#define EMB_TRAIN_CUDA_KERNELS_ATTENTION_H

#include "backend/cuda/kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is left out of the softmax's weights: the places that the CPU leaves out, given the same
 * step, layer and texts. */
typedef struct emb_train_cuda_drop {
    float share;          /* of the weights; 0: none, and the rest is not read */
    uint64_t key;         /* emb_hash_mix(the step's key, 4 * layer + EMB_DROP_WEIGHTS) */
    const uint32_t *rows; /* [chunks]: a text's number in the batch; device pointer */
} emb_train_cuda_drop;

/* out [tokens, hidden] = attention of qkv [tokens, 3 * hidden] within each chunk; log_sums [heads,
 * tokens_max] = log(sum(exp(scaled scores + bias))) of each query. F16 and BF16 on sm_80 and up,
 * head_dim a multiple of 8 up to 128, else cudaErrorNotSupported. `batch` was prepared. */
int emb_cuda_train_attention(void *out, float *log_sums, const void *qkv,
                             const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream);

/* Bytes of the scratch of emb_cuda_train_attention_back, whatever fits in the batch's maxima;
 * `relative`: with d_relative. */
uint64_t emb_cuda_train_attention_scratch(const emb_cuda_heads *heads, const emb_cuda_batch *batch,
                                          int relative, const emb_cuda_device *device);

/* d_qkv [tokens, 3 * hidden] = the gradient of qkv, given d_out, that of `out` [tokens, hidden];
 * `out` and log_sums as the forward pass wrote them. d_relative [heads, 2 * L - 1] f32, if not
 * NULL: the bias's gradient is added. chunk_tokens_max: no chunk is longer; up to 128 saves the
 * kernels for longer ones. scratch: 16-byte aligned, of the bytes above. */
int emb_cuda_train_attention_back(void *d_qkv, float *d_relative, void *scratch, const void *d_out,
                                  const void *out, const float *log_sums, const void *qkv,
                                  const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                                  uint32_t chunk_tokens_max, const emb_cuda_batch *batch,
                                  emb_dtype type, const emb_cuda_device *device, void *stream);

#ifdef __cplusplus
}
#endif

#endif
