/* device.cuh - what the kernels share: conversions, 16-byte accesses, warp sums, tensor-core steps.
 *
 * Templates are over the data type alone (and constant sizes). sm_75 has neither cp.async nor the
 * k16 step nor bf16 products: the first two are emulated, the last is refused by the launchers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_DEVICE_CUH
#define EMB_BACKEND_CUDA_KERNELS_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "backend/cuda/kernels/kernels.h"

typedef __nv_bfloat16 emb_bf16;
typedef __half emb_f16;

#define EMB_FULL_WARP 0xffffffffu

static __device__ __forceinline__ float emb_from(float v) {
    return v;
}
static __device__ __forceinline__ float emb_from(emb_f16 v) {
    return __half2float(v);
}
static __device__ __forceinline__ float emb_from(emb_bf16 v) {
    return __bfloat162float(v);
}

template <typename T> static __device__ __forceinline__ T emb_to(float v);
template <> __device__ __forceinline__ float emb_to<float>(float v) {
    return v;
}
template <> __device__ __forceinline__ emb_f16 emb_to<emb_f16>(float v) {
    return __float2half_rn(v);
}
template <> __device__ __forceinline__ emb_bf16 emb_to<emb_bf16>(float v) {
    return __float2bfloat16_rn(v);
}

/* Two values in one register, the first in the low half. */
template <typename T> static __device__ __forceinline__ uint32_t emb_pack(float low, float high);
template <> __device__ __forceinline__ uint32_t emb_pack<emb_f16>(float low, float high) {
    __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&v);
}
template <> __device__ __forceinline__ uint32_t emb_pack<emb_bf16>(float low, float high) {
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&v);
}
template <typename T> static __device__ __forceinline__ float2 emb_unpack(uint32_t v);
template <> __device__ __forceinline__ float2 emb_unpack<emb_f16>(uint32_t v) {
    return __half22float2(*reinterpret_cast<__half2 *>(&v));
}
template <> __device__ __forceinline__ float2 emb_unpack<emb_bf16>(uint32_t v) {
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}

/* Eight neighbouring values; the address is a multiple of 16 bytes. */
template <typename T>
static __device__ __forceinline__ void emb_load8(float (&v)[8], const T *from) {
    uint4 raw = *reinterpret_cast<const uint4 *>(from);
    float2 pair = emb_unpack<T>(raw.x);
    v[0] = pair.x, v[1] = pair.y;
    pair = emb_unpack<T>(raw.y);
    v[2] = pair.x, v[3] = pair.y;
    pair = emb_unpack<T>(raw.z);
    v[4] = pair.x, v[5] = pair.y;
    pair = emb_unpack<T>(raw.w);
    v[6] = pair.x, v[7] = pair.y;
}
template <> __device__ __forceinline__ void emb_load8<float>(float (&v)[8], const float *from) {
    float4 a = reinterpret_cast<const float4 *>(from)[0];
    float4 b = reinterpret_cast<const float4 *>(from)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
template <typename T>
static __device__ __forceinline__ void emb_store8(T *to, const float (&v)[8]) {
    uint4 raw = make_uint4(emb_pack<T>(v[0], v[1]), emb_pack<T>(v[2], v[3]),
                           emb_pack<T>(v[4], v[5]), emb_pack<T>(v[6], v[7]));
    *reinterpret_cast<uint4 *>(to) = raw;
}
template <> __device__ __forceinline__ void emb_store8<float>(float *to, const float (&v)[8]) {
    reinterpret_cast<float4 *>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4 *>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

/* The same sum in every lane; the order is fixed. */
static __device__ __forceinline__ float emb_warp_sum(float v) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(EMB_FULL_WARP, v, step);
    return v;
}

/* Zero, or NaN if a sum of squares overflowed: then one over its root is zero, and without this the
 * row would come out finite. Adding it changes no other bit. */
static __device__ __forceinline__ float emb_not_overflown(float squares) {
    return squares - squares;
}

/* Norm of one row held by a warp, VECTORS groups of eight columns a lane; `sum` is over the row and
 * columns past `hidden` hold zeros. Two passes: the squares are of x - mean. */
template <typename T, int VECTORS>
static __device__ __forceinline__ void emb_norm_row(T *out, float (&x)[VECTORS][8], float sum,
                                                    const emb_cuda_norm &norm, uint32_t hidden) {
    uint32_t lane = threadIdx.x & 31;
    float mean = sum / (float)hidden, squares = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        if ((v * 32 + lane) * 8 >= hidden) continue;
        for (int i = 0; i < 8; i++) {
            x[v][i] -= mean;
            squares = fmaf(x[v][i], x[v][i], squares);
        }
    }
    float variance = emb_warp_sum(squares) / (float)hidden;
    float scale = 1.0f / sqrtf(variance + norm.epsilon) + emb_not_overflown(variance);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = (v * 32 + lane) * 8;
        if (col >= hidden) continue;
        float gain[8], shift[8];
        emb_load8(gain, norm.gain + col);
        emb_load8(shift, norm.shift + col);
        for (int i = 0; i < 8; i++) x[v][i] = fmaf(x[v][i] * scale, gain[i], shift[i]);
        emb_store8(out + col, x[v]);
    }
}

/* ---- norm by blocks of columns ----------------------------------------------------------------
 */

/* For rows of 384 and 768 columns of 16-bit types the norm is put together from blocks of 192
 * columns, so that blocks of threads that hold one each can share the work: mean and sum of squares
 * about it, per block; its 24 groups of eight columns are added as in emb_norm_tree, the column
 * pairs of a group last. Whoever computes a norm in this order gets these bits. */
#define EMB_NORM_BLOCK 192

/* Sum of term(0) to term(23): three groups of eight neighbours. */
template <typename F> static __device__ __forceinline__ float emb_norm_tree(F term) {
    float groups[3];
#pragma unroll
    for (int i = 0; i < 3; i++) {
        float half[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            int first = 8 * i + 4 * j;
            half[j] = (term(first) + term(first + 1)) + (term(first + 2) + term(first + 3));
        }
        groups[i] = half[0] + half[1];
    }
    return (groups[0] + groups[1]) + groups[2];
}

/* Mean and factor of a row from BLOCKS blocks' (mean, sum of squares about it). */
template <int BLOCKS>
static __device__ __forceinline__ float2 emb_norm_merge(const float2 (&block)[BLOCKS],
                                                        float epsilon) {
    float mean = block[0].x, squares = 0;
#pragma unroll
    for (int b = 1; b < BLOCKS; b++) mean += block[b].x;
    mean = __fmul_rn(mean, 1.0f / BLOCKS);
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        float off = block[b].x - mean;
        squares += fmaf(__fmul_rn(off, off), (float)EMB_NORM_BLOCK, block[b].y);
    }
    float factor = rsqrtf(fmaf(squares, 1.0f / (BLOCKS * EMB_NORM_BLOCK), epsilon));
    return make_float2(mean, factor + emb_not_overflown(squares));
}

/* ---- GELU ------------------------------------------------------------------------------------ */

/* For f32: the erf form as it stands. */
static __device__ __forceinline__ float emb_gelu_exact(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

static __device__ __forceinline__ float emb_power2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* For 16-bit results: p = Phi(-|x|), the tail of the normal distribution, where log2 Phi is a
 * minimax polynomial (tools/minimax.py); x * Phi(x) by it is off by at most 2.4e-6 for any x, and
 * below a third of f16's rounding wherever the result is 0.001 or more. Step by step over COUNT
 * values, so that no step waits for the one before it. */
template <int COUNT>
static __device__ __forceinline__ void emb_gelu_tail(float (&p)[COUNT], const float (&x)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        p[i] = fmaf(fabsf(x[i]), -0.000423783087f, 0.00673029292f);
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) p[i] = fmaf(p[i], fabsf(x[i]), -0.0509618297f);
#pragma unroll
    for (int i = 0; i < COUNT; i++) p[i] = fmaf(p[i], fabsf(x[i]), -0.460832328f);
#pragma unroll
    for (int i = 0; i < COUNT; i++) p[i] = fmaf(p[i], fabsf(x[i]), -1.15051436f);
#pragma unroll
    for (int i = 0; i < COUNT; i++) p[i] = emb_power2(fmaf(p[i], fabsf(x[i]), -1.0000484f));
}

/* x * Phi(x) = max(x, 0) - |x| * Phi(-|x|): ten instructions a value with the bias. */
template <int COUNT> static __device__ __forceinline__ void emb_gelu_fast(float (&x)[COUNT]) {
    float p[COUNT];
    emb_gelu_tail(p, x);
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] = fmaf(-fabsf(x[i]), p[i], fmaxf(x[i], 0.0f));
}

/* ---- launches -------------------------------------------------------------------------------- */

/* First in every kernel, in every block: lets the next kernel be set up, then waits until all that
 * the kernels before this one wrote is there. */
static __device__ __forceinline__ void emb_kernel_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

/* Blocks come in clusters of CLUSTER. */
template <int CLUSTER = 1, typename... P, typename... A>
static int emb_launch(void (*kernel)(P...), dim3 grid, uint32_t threads, size_t shared_bytes,
                      const emb_cuda_batch *batch, cudaStream_t stream, A... arguments) {
    cudaLaunchAttribute attributes[2];
    uint32_t count = 0;
    cudaLaunchConfig_t config = {};
    if (batch->overlap) {
        attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[count++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (CLUSTER > 1) {
        attributes[count].id = cudaLaunchAttributeClusterDimension;
        attributes[count].val.clusterDim.x = CLUSTER;
        attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
        count++;
    }
    config.gridDim = grid, config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes, config.stream = stream;
    config.attrs = attributes, config.numAttrs = count;
    if (shared_bytes > 32 * 1024) { /* 48 KB with what the kernel itself declares */
        int status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)shared_bytes);
        if (status) return status;
    }
    return cudaLaunchKernelEx(&config, kernel, P(arguments)...);
}

/* ---- shared memory and tensor cores ---------------------------------------------------------- */

static __device__ __forceinline__ uint32_t emb_shared(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Copies 16 bytes to shared memory, or writes zeros if not `valid`; `from` is readable either way.
 */
static __device__ __forceinline__ void emb_copy16(uint32_t to, const void *from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
#else
    uint4 v = make_uint4(0, 0, 0, 0);
    if (valid) v = *reinterpret_cast<const uint4 *>(from);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
#endif
}
static __device__ __forceinline__ void emb_copy_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int PENDING> static __device__ __forceinline__ void emb_copy_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

static __device__ __forceinline__ void emb_ldmatrix(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
static __device__ __forceinline__ void emb_ldmatrix_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* sums [16, 8] += a [16, 16] * b [16, 8]; of codes (codes.cuh) a [16, 32] * b [32, 8]. */
template <typename T>
static __device__ __forceinline__ void emb_mma(float (&sums)[4], const uint32_t (&a)[4],
                                               uint32_t b0, uint32_t b1);
template <typename T>
static __device__ __forceinline__ void emb_mma(int32_t (&sums)[4], const uint32_t (&a)[4],
                                               uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void emb_mma<emb_f16>(float (&sums)[4], const uint32_t (&a)[4],
                                                 uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, "
                 "{%6}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}
template <>
__device__ __forceinline__ void emb_mma<emb_bf16>(float (&sums)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

/* Byte offset of a 16-byte piece in a tile of rows of PIECES such pieces, such that eight
 * neighbouring rows' same piece lie in eight different bank groups. */
template <int PIECES>
static __device__ __forceinline__ uint32_t emb_swizzle(uint32_t row, uint32_t piece) {
    if (PIECES == 4) return row * 64 + ((piece ^ ((row >> 1) & 3)) << 4);
    return row * (PIECES * 16) + ((piece ^ (row & 7)) << 4);
}

#endif
