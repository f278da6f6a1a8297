/* attention_forward.cu - training's attention, forwards: inference's on the same tensor cores, with
 * what forward.cuh adds. Without dropout the bits of `out` are inference's.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/attention/attention_mma.cuh"
#include "train/cuda/kernels/forward.cuh"

template <typename T, bool DROP>
static int trained(void *out, float *log_sums, const void *qkv, const emb_cuda_heads *heads,
                   const emb_train_cuda_drop *drop, const emb_cuda_batch *batch,
                   const emb_cuda_device *device, cudaStream_t stream) {
    typedef emb_attention_trained<DROP> extra;
    typename extra::params x = {log_sums, batch->tokens_max, emb_drop_rule_make(drop)};
    return attention_sized<T, extra>(out, qkv, heads, x, batch, device, stream);
}

template <typename T>
static int run(void *out, float *log_sums, const void *qkv, const emb_cuda_heads *heads,
               const emb_train_cuda_drop *drop, const emb_cuda_batch *batch,
               const emb_cuda_device *device, cudaStream_t s) {
    if (drop->share > 0) {
        return trained<T, true>(out, log_sums, qkv, heads, drop, batch, device, s);
    }
    return trained<T, false>(out, log_sums, qkv, heads, drop, batch, device, s);
}

int emb_cuda_train_attention(void *out, float *log_sums, const void *qkv,
                             const emb_cuda_heads *heads, const emb_train_cuda_drop *drop,
                             const emb_cuda_batch *batch, emb_dtype type,
                             const emb_cuda_device *device, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = emb_cuda_train_attention_supports(heads, type, device);
    if (status) return status;
    if (device->capability == 90 && (heads->head_dim == 32 || heads->head_dim == 64)) {
        return emb_cuda_train_attention_wgmma(out, log_sums, qkv, heads, drop, batch, type, device,
                                              stream);
    }
    if (type == EMB_DTYPE_F16) {
        return run<emb_f16>(out, log_sums, qkv, heads, drop, batch, device, s);
    }
    return run<emb_bf16>(out, log_sums, qkv, heads, drop, batch, device, s);
}
