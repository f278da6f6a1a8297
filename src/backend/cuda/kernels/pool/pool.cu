/* pool.cu - one vector per chunk: mean, first token or maximum, then its length set to 1.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/pool/pool.cuh"

int emb_cuda_pool(float *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                  emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    switch (type) {
    case EMB_DTYPE_F32:
        return pool_sized<float, float>(rows, in, batch, hidden, pooling, normalize, s);
    case EMB_DTYPE_BF16:
        return pool_sized<emb_bf16, float>(rows, in, batch, hidden, pooling, normalize, s);
    case EMB_DTYPE_F16:
        return pool_sized<emb_f16, float>(rows, in, batch, hidden, pooling, normalize, s);
    default:
        return cudaErrorInvalidValue;
    }
}
