/* units.cu - vectors to the length one, and the gradient back through it; one warp per row.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define WARPS 4

static const emb_cuda_batch none = {}; /* these kernels are launched after all before them */

/* Eight columns of lane v * 32 + lane, zeros past the width. */
template <typename T, int VECTORS>
static __device__ __forceinline__ void load_row(float (&x)[VECTORS][8], const T *row,
                                                uint32_t width) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + (threadIdx.x & 31)) * 8;
        for (int i = 0; i < 8; i++) x[v][i] = 0;
        if (col < width) emb_load8(x[v], row + col);
    }
}

template <typename T, int VECTORS>
static __device__ __forceinline__ void store_row(T *row, const float (&x)[VECTORS][8],
                                                 uint32_t width) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + (threadIdx.x & 31)) * 8;
        if (col < width) emb_store8(row + col, x[v]);
    }
}

template <int VECTORS>
static __device__ __forceinline__ float multiply(const float (&a)[VECTORS][8],
                                                 const float (&b)[VECTORS][8]) {
    float sum = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < 8; i++) sum = fmaf(a[v][i], b[v][i], sum);
    }
    return emb_warp_sum(sum);
}

template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * WARPS)
    units_kernel(T *vectors, float *lengths, uint32_t rows, uint32_t width) {
    emb_kernel_begin();
    uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (row >= rows) return;
    T *vector = vectors + (uint64_t)row * width;
    float x[VECTORS][8];
    load_row<T, VECTORS>(x, vector, width);
    float squares = multiply<VECTORS>(x, x);
    float length = fmaxf(sqrtf(squares), 1e-12f) + emb_not_overflown(squares);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < 8; i++) x[v][i] /= length;
    }
    store_row<T, VECTORS>(vector, x, width);
    if ((threadIdx.x & 31) == 0) lengths[row] = length;
}

/* What of a unit's gradient goes along it changes nothing. */
template <typename T, int VECTORS>
static __global__ void __launch_bounds__(32 * WARPS)
    units_back_kernel(T *d, const T *units, const float *lengths, uint32_t rows, uint32_t width) {
    emb_kernel_begin();
    uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (row >= rows) return;
    float unit[VECTORS][8], x[VECTORS][8];
    load_row<T, VECTORS>(unit, units + (uint64_t)row * width, width);
    load_row<T, VECTORS>(x, d + (uint64_t)row * width, width);
    float along = multiply<VECTORS>(unit, x), length = lengths[row];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < 8; i++) x[v][i] = (x[v][i] - along * unit[v][i]) / length;
    }
    store_row<T, VECTORS>(d + (uint64_t)row * width, x, width);
}

template <typename T>
static int units_run(void *vectors, float *lengths, uint32_t rows, uint32_t width,
                     cudaStream_t stream) {
    if (width == 0 || width % 8 || width > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    if (!rows) return 0;
    void (*kernel)(T *, float *, uint32_t, uint32_t) = width <= 512    ? units_kernel<T, 2>
                                                       : width <= 1024 ? units_kernel<T, 4>
                                                                       : units_kernel<T, 6>;
    return emb_launch(kernel, dim3((rows + WARPS - 1) / WARPS), 32 * WARPS, 0, &none, stream,
                      (T *)vectors, lengths, rows, width);
}

int emb_cuda_train_units(void *vectors, float *lengths, uint32_t rows, uint32_t width,
                         emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) return units_run<emb_f16>(vectors, lengths, rows, width, s);
    if (type == EMB_DTYPE_BF16) return units_run<emb_bf16>(vectors, lengths, rows, width, s);
    return cudaErrorInvalidValue;
}

template <typename T>
static int units_back_run(void *d, const void *units, const float *lengths, uint32_t rows,
                          uint32_t width, cudaStream_t stream) {
    if (width == 0 || width % 8 || width > EMB_CUDA_HIDDEN_MAX) return cudaErrorInvalidValue;
    if (!rows) return 0;
    void (*kernel)(T *, const T *, const float *, uint32_t, uint32_t) =
        width <= 512    ? units_back_kernel<T, 2>
        : width <= 1024 ? units_back_kernel<T, 4>
                        : units_back_kernel<T, 6>;
    return emb_launch(kernel, dim3((rows + WARPS - 1) / WARPS), 32 * WARPS, 0, &none, stream,
                      (T *)d, (const T *)units, lengths, rows, width);
}

int emb_cuda_train_units_back(void *d, const void *units, const float *lengths, uint32_t rows,
                              uint32_t width, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) return units_back_run<emb_f16>(d, units, lengths, rows, width, s);
    if (type == EMB_DTYPE_BF16) return units_back_run<emb_bf16>(d, units, lengths, rows, width, s);
    return cudaErrorInvalidValue;
}
