/* attention_mma.cu - the attention of attention_mma.cuh for inference.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/attention/attention_mma.cuh"

typedef emb_attention_alone alone;

int emb_cuda_attention_mma(void *out, const void *qkv, const emb_cuda_heads *heads,
                           const emb_cuda_batch *batch, emb_dtype type,
                           const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) {
        return attention_sized<emb_f16, alone>(out, qkv, heads, {}, batch, device, s);
    }
    if (type == EMB_DTYPE_BF16) {
        return attention_sized<emb_bf16, alone>(out, qkv, heads, {}, batch, device, s);
    }
    return cudaErrorInvalidValue;
}
