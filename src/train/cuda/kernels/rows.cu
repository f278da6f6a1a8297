/* rows.cu - residual, dropout and norm of training in one pass over the activations, a warp a
 * token.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cuda/kernels/drop.cuh"
#include "train/cuda/kernels/rows.h"

#define WARPS 4

/* A token's row of what is left out: its text is found by its chunk's first token. */
static __device__ __forceinline__ uint2 row_key(const emb_drop_rule &rule, const uint32_t *starts,
                                                uint32_t chunks, uint32_t token, uint32_t place) {
    uint32_t low = 0, high = chunks, first = token - place;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        (starts[middle] <= first ? low : high) = middle;
    }
    return emb_drop_row(emb_drop_mix(rule.key, rule.rows[low]), place);
}

static __device__ __forceinline__ void drop8(float (&v)[8], const emb_drop_rule &rule, uint2 key,
                                             uint32_t col) {
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= emb_drop_factor(rule, key, col + i);
}

template <typename T, int VECTORS, bool DROP>
static __global__ void __launch_bounds__(32 * WARPS)
    add_norm_kernel(T *x, T *sum, const T *product, emb_cuda_norm norm, emb_drop_rule rule,
                    const uint32_t *counts, const uint32_t *starts, const uint32_t *positions,
                    uint32_t hidden) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    uint64_t row = (uint64_t)token * hidden;
    float v[VECTORS][8], total = 0;
    uint2 key = {};
    if (DROP) key = row_key(rule, starts, counts[1], token, positions[token]);
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        uint32_t col = (k * 32 + lane) * 8;
        for (int i = 0; i < 8; i++) v[k][i] = 0;
        if (col >= hidden) continue;
        float in[8];
        emb_load8(v[k], product + row + col);
        emb_load8(in, x + row + col);
        if (DROP) drop8(v[k], rule, key, col);
        for (int i = 0; i < 8; i++) v[k][i] = emb_from(emb_to<T>(v[k][i] + in[i]));
        emb_store8(sum + row + col, v[k]);
        for (int i = 0; i < 8; i++) total += v[k][i];
    }
    emb_norm_row<T, VECTORS>(x + row, v, emb_warp_sum(total), norm, hidden);
}

template <typename T>
static __global__ void drop_kernel(T *out, const T *in, emb_drop_rule rule, const uint32_t *counts,
                                   const uint32_t *starts, const uint32_t *positions,
                                   uint32_t hidden) {
    emb_kernel_begin();
    uint32_t lane = threadIdx.x & 31, token = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (token >= counts[0]) return;
    uint64_t row = (uint64_t)token * hidden;
    uint2 key = row_key(rule, starts, counts[1], token, positions[token]);
    for (uint32_t col = lane * 8; col < hidden; col += 256) {
        float v[8];
        emb_load8(v, in + row + col);
        drop8(v, rule, key, col);
        emb_store8(out + row + col, v);
    }
}

template <typename T>
static __global__ void add_kernel(T *out, const T *a, const uint32_t *counts, uint32_t hidden) {
    emb_kernel_begin();
    uint64_t at = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (at >= (uint64_t)counts[0] * hidden) return;
    float v[8], w[8];
    emb_load8(v, out + at);
    emb_load8(w, a + at);
    for (int i = 0; i < 8; i++) v[i] += w[i];
    emb_store8(out + at, v);
}

/* ---- host ------------------------------------------------------------------------------------ */

static dim3 rows_grid(const emb_cuda_batch *batch) {
    return dim3((batch->tokens_max + WARPS - 1) / WARPS);
}

template <typename T, bool DROP>
static int add_norm(void *x, void *sum, const void *product, const emb_cuda_norm *norm,
                    const emb_train_cuda_drop *drop, const emb_cuda_batch *batch, uint32_t hidden,
                    cudaStream_t stream) {
    auto kernel = hidden <= 512    ? add_norm_kernel<T, 2, DROP>
                  : hidden <= 1024 ? add_norm_kernel<T, 4, DROP>
                                   : add_norm_kernel<T, 6, DROP>;
    return emb_launch(kernel, rows_grid(batch), 32 * WARPS, 0, batch, stream, (T *)x, (T *)sum,
                      (const T *)product, *norm, emb_drop_rule_make(drop), batch->counts,
                      batch->starts, batch->positions, hidden);
}

static int judge(uint32_t hidden, emb_dtype type) {
    if (hidden == 0 || hidden % 8 || hidden > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    return type == EMB_DTYPE_F16 || type == EMB_DTYPE_BF16 ? 0 : cudaErrorNotSupported;
}

int emb_cuda_train_add_norm(void *x, void *sum, const void *product, const emb_cuda_norm *norm,
                            const emb_train_cuda_drop *drop, const emb_cuda_batch *batch,
                            uint32_t hidden, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = judge(hidden, type);
    if (status) return status;
    bool f16 = type == EMB_DTYPE_F16, drops = drop->share > 0;
    auto run = f16 ? (drops ? add_norm<emb_f16, true> : add_norm<emb_f16, false>)
                   : (drops ? add_norm<emb_bf16, true> : add_norm<emb_bf16, false>);
    return run(x, sum, product, norm, drop, batch, hidden, s);
}

template <typename T>
static int drop_run(void *out, const void *in, const emb_train_cuda_drop *drop,
                    const emb_cuda_batch *batch, uint32_t hidden, cudaStream_t stream) {
    return emb_launch(drop_kernel<T>, rows_grid(batch), 32 * WARPS, 0, batch, stream, (T *)out,
                      (const T *)in, emb_drop_rule_make(drop), batch->counts, batch->starts,
                      batch->positions, hidden);
}

int emb_cuda_train_drop(void *out, const void *in, const emb_train_cuda_drop *drop,
                        const emb_cuda_batch *batch, uint32_t hidden, emb_dtype type,
                        void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = judge(hidden, type);
    if (status) return status;
    if (type == EMB_DTYPE_F16) return drop_run<emb_f16>(out, in, drop, batch, hidden, s);
    return drop_run<emb_bf16>(out, in, drop, batch, hidden, s);
}

template <typename T>
static int add_run(void *out, const void *a, const emb_cuda_batch *batch, uint32_t hidden,
                   cudaStream_t stream) {
    uint64_t vectors = (uint64_t)batch->tokens_max * hidden / 8;
    return emb_launch(add_kernel<T>, dim3((uint32_t)((vectors + 255) / 256)), 256, 0, batch, stream,
                      (T *)out, (const T *)a, batch->counts, hidden);
}

int emb_cuda_train_add(void *out, const void *a, const emb_cuda_batch *batch, uint32_t hidden,
                       emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    int status = judge(hidden, type);
    if (status) return status;
    if (type == EMB_DTYPE_F16) return add_run<emb_f16>(out, a, batch, hidden, s);
    return add_run<emb_bf16>(out, a, batch, hidden, s);
}
