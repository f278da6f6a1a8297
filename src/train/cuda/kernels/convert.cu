/* convert.cu - between f32 and 16 bits: a step's weights with their transposes, and plain arrays.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/kernels/device.cuh"
#include "train/cuda/kernels/ends.h"

#define THREADS    256
#define BLOCKS_MAX 8192
#define TILE       64
#define TILE_ROW   (TILE + 2) /* values: odd in words, so that a column spreads over the banks */

static const emb_cuda_batch none = {}; /* these kernels are launched after all before them */

/* ---- arrays ---------------------------------------------------------------------------------- */

template <typename O, typename I>
static __global__ void __launch_bounds__(THREADS)
    convert_kernel(O *out, const I *in, uint64_t count) {
    emb_kernel_begin();
    uint64_t index = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    uint64_t apart = (uint64_t)gridDim.x * THREADS, eights = count / 8;
    for (uint64_t i = index; i < eights; i += apart) {
        float x[8];
        emb_load8(x, in + 8 * i);
        emb_store8(out + 8 * i, x);
    }
    uint64_t rest = 8 * eights + index;
    if (rest < count) out[rest] = emb_to<O>(emb_from(in[rest]));
}

template <typename O, typename I>
static int convert(O *out, const I *in, uint64_t count, cudaStream_t stream) {
    uint64_t blocks = ((count + 7) / 8 + THREADS - 1) / THREADS;
    if (!count) return 0;
    return emb_launch(convert_kernel<O, I>,
                      dim3((uint32_t)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX)), THREADS, 0,
                      &none, stream, out, in, count);
}

int emb_cuda_train_narrow_values(void *out, const float *in, uint64_t count, emb_dtype type,
                                 void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) return convert((emb_f16 *)out, in, count, s);
    if (type == EMB_DTYPE_BF16) return convert((emb_bf16 *)out, in, count, s);
    return cudaErrorInvalidValue;
}

int emb_cuda_train_widen(float *out, const void *in, uint64_t count, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (type == EMB_DTYPE_F16) return convert(out, (const emb_f16 *)in, count, s);
    if (type == EMB_DTYPE_BF16) return convert(out, (const emb_bf16 *)in, count, s);
    return cudaErrorInvalidValue;
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* A block takes a tile of 64 x 64: rows are read and written by 16 threads of four columns each,
 * rows of the transpose by eight threads of eight. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    narrow_kernel(T *out, T *transposed, const float *in, uint32_t rows, uint32_t cols) {
    __shared__ __align__(16) T tile[TILE * TILE_ROW];
    emb_kernel_begin();
    uint32_t first_row = blockIdx.y * TILE, first_col = blockIdx.x * TILE;
#pragma unroll
    for (int i = 0; i < TILE * TILE / 4 / THREADS; i++) {
        uint32_t row = (i * THREADS + threadIdx.x) / 16, col = threadIdx.x % 16 * 4;
        if (first_row + row >= rows || first_col + col >= cols) continue;
        uint64_t at = (uint64_t)(first_row + row) * cols + first_col + col;
        float4 x = *reinterpret_cast<const float4 *>(in + at);
        uint2 pairs = make_uint2(emb_pack<T>(x.x, x.y), emb_pack<T>(x.z, x.w));
        *reinterpret_cast<uint2 *>(out + at) = pairs;
        uint32_t *to = reinterpret_cast<uint32_t *>(tile + row * TILE_ROW + col);
        to[0] = pairs.x, to[1] = pairs.y;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILE * TILE / 8 / THREADS; i++) {
        uint32_t col = (i * THREADS + threadIdx.x) / 8, row = threadIdx.x % 8 * 8;
        if (first_row + row >= rows || first_col + col >= cols) continue;
        __align__(16) T x[8];
#pragma unroll
        for (int k = 0; k < 8; k++) x[k] = tile[(row + k) * TILE_ROW + col];
        *reinterpret_cast<uint4 *>(transposed + (uint64_t)(first_col + col) * rows + first_row +
                                   row) = *reinterpret_cast<const uint4 *>(x);
    }
}

template <typename T>
static int narrow(void *out, void *transposed, const float *in, uint32_t rows, uint32_t cols,
                  cudaStream_t stream) {
    dim3 grid((cols + TILE - 1) / TILE, (rows + TILE - 1) / TILE);
    return emb_launch(narrow_kernel<T>, grid, THREADS, 0, &none, stream, (T *)out, (T *)transposed,
                      in, rows, cols);
}

int emb_cuda_train_narrow(void *out, void *transposed, const float *in, uint32_t rows,
                          uint32_t cols, emb_dtype type, void *stream) {
    cudaStream_t s = (cudaStream_t)stream;
    if (rows % 8 || cols % 8) return cudaErrorInvalidValue;
    if (!transposed) {
        return emb_cuda_train_narrow_values(out, in, (uint64_t)rows * cols, type, stream);
    }
    if (!rows || !cols) return 0;
    if (type == EMB_DTYPE_F16) return narrow<emb_f16>(out, transposed, in, rows, cols, s);
    if (type == EMB_DTYPE_BF16) return narrow<emb_bf16>(out, transposed, in, rows, cols, s);
    return cudaErrorInvalidValue;
}
