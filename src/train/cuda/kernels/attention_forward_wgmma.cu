/* attention_forward_wgmma.cu - training's attention, forwards, on Hopper: see attention_forward.cu.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/attention/attention_wgmma.cuh"
#include "train/cuda/kernels/forward.cuh"

template <typename T, bool DROP>
static int trained(void *out, float *log_sums, const void *qkv, const emb_cuda_heads *heads,
                   const emb_train_cuda_drop *drop, const emb_cuda_batch *batch, emb_dtype type,
                   const emb_cuda_device *device, cudaStream_t stream) {
    typedef emb_attention_trained<DROP> extra;
    typename extra::params x = {log_sums, batch->tokens_max, emb_drop_rule_make(drop)};
    return attention_sized<T, extra>(out, qkv, heads, x, batch, type, device, stream);
}

template <typename T>
static int run(void *out, float *log_sums, const void *qkv, const emb_cuda_heads *heads,
               const emb_train_cuda_drop *drop, const emb_cuda_batch *batch, emb_dtype type,
               const emb_cuda_device *device, cudaStream_t s) {
    if (drop->share > 0) {
        return trained<T, true>(out, log_sums, qkv, heads, drop, batch, type, device, s);
    }
    return trained<T, false>(out, log_sums, qkv, heads, drop, batch, type, device, s);
}

int emb_cuda_train_attention_wgmma(void *out, float *log_sums, const void *qkv,
                                   const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                                   const emb_cuda_batch *batch, emb_dtype type,
                                   const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) {
        return run<emb_f16>(out, log_sums, qkv, heads, drop, batch, type, device, s);
    }
    return run<emb_bf16>(out, log_sums, qkv, heads, drop, batch, type, device, s);
}
