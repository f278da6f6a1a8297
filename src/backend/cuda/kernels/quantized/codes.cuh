/* codes.cuh - activations as bytes: a row held by a warp to codes, sums of products back to values.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_KERNELS_QUANTIZED_CODES_CUH
#define EMB_BACKEND_CUDA_KERNELS_QUANTIZED_CODES_CUH

#include "backend/cuda/kernels/device.cuh"
#include "backend/cuda/kernels/kernels.h"

#define EMB_CODES_LEAST 1e-30f /* below it a row is zeros: its scale loses precision */
#define EMB_FP8_MAX     448.0f

/* How a kernel also makes codes of its output; `smooth` may be NULL. */
struct emb_codes_rule {
    emb_cuda_codes codes;
    const float *smooth;
    uint32_t type; /* EMB_DTYPE_INT8, EMB_DTYPE_FP8, or 0: none */
};

/* The same minimum or maximum in every lane. */
static __device__ __forceinline__ float emb_warp_min(float v) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v = fminf(v, __shfl_xor_sync(EMB_FULL_WARP, v, step));
    }
    return v;
}
static __device__ __forceinline__ float emb_warp_max(float v) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        v = fmaxf(v, __shfl_xor_sync(EMB_FULL_WARP, v, step));
    }
    return v;
}

/* Two values as E4M3, the first in the low byte. */
static __device__ __forceinline__ uint16_t emb_pack_fp8(float a, float b) {
#if __CUDA_ARCH__ >= 890
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(b), "f"(a));
    return pair;
#else
    __trap(); /* launchers refuse it */
    return 0;
#endif
}

/* u8 codes of two values, the first in the lowest byte, `upper` above them. Adding 1.5 * 2^23
 * rounds to an integer, ties to even, in the low bits. */
static __device__ __forceinline__ uint32_t emb_code_pair(float a, float b, float factor,
                                                         int32_t zero, uint32_t upper) {
    int32_t first = __float_as_int(__fadd_rn(__fmul_rn(a, factor), 12582912.0f));
    int32_t second = __float_as_int(__fadd_rn(__fmul_rn(b, factor), 12582912.0f));
    uint32_t codes;
    zero -= 0x4b400000;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;"
        : "=r"(codes)
        : "r"(second + zero), "r"(first + zero), "r"(upper));
    return codes;
}

/* The u8 scale and zero of values in [low, high], zero itself among them; `factor` is what to
 * multiply them by. As the CPU's. */
static __device__ __forceinline__ float2 emb_code_range(float low, float high, int32_t *zero) {
    float range = fmaxf(high, 0.0f) - fminf(low, 0.0f);
    bool usable = range > EMB_CODES_LEAST;
    float factor = usable ? __fdiv_rn(255.0f, range) : 0.0f;
    *zero = usable && low < 0.0f ? __float2int_rn(-low * factor) : 0;
    return make_float2(usable ? __fdiv_rn(range, 255.0f) : 0.0f, factor);
}

/* The same for E4M3 of magnitudes up to `most`. */
static __device__ __forceinline__ float2 emb_fp8_range(float most) {
    bool usable = most >= EMB_CODES_LEAST;
    return make_float2(usable ? __fdiv_rn(most, EMB_FP8_MAX) : 0.0f,
                       usable ? __fdiv_rn(EMB_FP8_MAX, most) : 0.0f);
}

/* Range of a row's values and zero; whether none is NaN. */
struct emb_code_span {
    float low, high;
    bool number;
};

/* A warp holds columns of a row of `cols`: lane l has first + v * STRIDE + 8 l + 0..7 for v = 0..
 * VECTORS - 1, of which those below `cols` and with 8 l < STRIDE count. Smooths them; the warp's
 * span. */
template <int STRIDE, int VECTORS>
static __device__ __forceinline__ emb_code_span emb_codes_span(const emb_codes_rule &rule,
                                                               float (&x)[VECTORS][8],
                                                               uint32_t first, uint32_t cols) {
    uint32_t lane = threadIdx.x & 31;
    emb_code_span span = {0, 0, true};
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = first + v * STRIDE + lane * 8;
        bool holds = col < cols && lane * 8 < STRIDE;
        float smooth[8];
        if (rule.smooth && holds) emb_load8(smooth, rule.smooth + col);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (!holds) x[v][i] = 0;
            if (rule.smooth && holds) x[v][i] = __fmul_rn(x[v][i], smooth[i]);
            span.low = fminf(span.low, x[v][i]), span.high = fmaxf(span.high, x[v][i]);
            span.number = span.number && x[v][i] == x[v][i];
        }
    }
    span.low = emb_warp_min(span.low), span.high = emb_warp_max(span.high);
    span.number = __all_sync(EMB_FULL_WARP, span.number);
    return span;
}

/* Writes the codes of columns held in that way; `span` is the row's. */
template <int STRIDE, int VECTORS>
static __device__ __forceinline__ void
emb_codes_write(const emb_codes_rule &rule, uint32_t token, const float (&x)[VECTORS][8],
                const emb_code_span &span, uint32_t first, uint32_t cols) {
    uint32_t lane = threadIdx.x & 31;
    bool fp8 = rule.type == EMB_DTYPE_FP8;
    int32_t zero = 0;
    float2 range = fp8 ? emb_fp8_range(fmaxf(span.high, -span.low))
                       : emb_code_range(span.low, span.high, &zero);
    if (lane == 0 && first == 0) {
        rule.codes.scales[token] = span.number ? range.x : __int_as_float(0x7fc00000); /* stays */
        if (!fp8) rule.codes.zeros[token] = zero;
    }
    unsigned char *to = (unsigned char *)rule.codes.values + (uint64_t)token * cols;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        uint32_t col = first + v * STRIDE + lane * 8, packed[2];
        if (col >= cols || lane * 8 >= STRIDE) continue;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float *y = x[v] + 4 * i;
            if (fp8) {
                uint32_t low = emb_pack_fp8(__fmul_rn(y[0], range.y), __fmul_rn(y[1], range.y));
                uint32_t high = emb_pack_fp8(__fmul_rn(y[2], range.y), __fmul_rn(y[3], range.y));
                packed[i] = low | high << 16;
            } else {
                packed[i] = emb_code_pair(y[0], y[1], range.y, zero,
                                          emb_code_pair(y[2], y[3], range.y, zero, 0));
            }
        }
        *reinterpret_cast<uint2 *>(to + col) = make_uint2(packed[0], packed[1]);
    }
}

/* A whole row held by a warp. */
template <int STRIDE, int VECTORS>
static __device__ __forceinline__ void emb_codes_row(const emb_codes_rule &rule, uint32_t token,
                                                     float (&x)[VECTORS][8], uint32_t cols) {
    emb_code_span span = emb_codes_span<STRIDE, VECTORS>(rule, x, 0, cols);
    emb_codes_write<STRIDE, VECTORS>(rule, token, x, span, 0, cols);
}

/* The type's nearest values. */
template <typename T, int VECTORS>
static __device__ __forceinline__ void emb_round(float (&x)[VECTORS][8]) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
#pragma unroll
        for (int i = 0; i < 8; i++) x[v][i] = emb_from(emb_to<T>(x[v][i]));
    }
}

/* Checks a request for codes: 0 or a cudaError_t. */
static inline int emb_codes_judge(emb_dtype type, uint32_t cols, uint32_t cols_max,
                                  const emb_cuda_device *device) {
    if (type != EMB_DTYPE_INT8 && type != EMB_DTYPE_FP8) return cudaErrorInvalidValue;
    if (type == EMB_DTYPE_FP8 && device->capability < 89) return cudaErrorNotSupported;
    return !cols || cols % 16 || cols > cols_max ? cudaErrorInvalidValue : 0;
}

/* ---- products -------------------------------------------------------------------------------- */

/* What products multiply, u8 by s8 or E4M3, and add up in. */
struct emb_u8 {
    typedef int32_t sum;
    static constexpr bool exact = true;
};
struct emb_e4m3 {
    typedef float sum;
    static constexpr bool exact = false;
};

template <>
__device__ __forceinline__ void emb_mma<emb_u8>(int32_t (&sums)[4], const uint32_t (&a)[4],
                                                uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
#pragma unroll
    for (int i = 0; i < 4; i++) { /* upper and lower eight rows, first and second half of K */
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, "
                     "{%0, %1};"
                     : "+r"(sums[i % 2 * 2]), "+r"(sums[i % 2 * 2 + 1])
                     : "r"(a[i]), "r"(i < 2 ? b0 : b1));
    }
#endif
}
template <>
__device__ __forceinline__ void emb_mma<emb_e4m3>(float (&sums)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 890 && !defined(__CUDA_ARCH_FEAT_SM90_ALL) /* Hopper has it only by wgmma */
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap(); /* launchers refuse it */
#endif
}

/* An output before GELU: the one expression of all kernels. */
static __device__ __forceinline__ float emb_code_value(int32_t product, float scale, int32_t sum,
                                                       float bias, float token_scale,
                                                       int32_t zero) {
    return fmaf(__fmul_rn((float)(product - zero * sum), scale), token_scale, bias);
}
static __device__ __forceinline__ float emb_code_value(float product, float scale, int32_t sum,
                                                       float bias, float token_scale,
                                                       int32_t zero) {
    return fmaf(__fmul_rn(product, scale), token_scale, bias);
}

/* The scale and factor of an FP8 output whose token has `token_scale`: see
 * emb_cuda_quantized_codes.
 */
static __device__ __forceinline__ float2 emb_code_bound(float token_scale, const float *bounds) {
    float bound = fmaf(__fmul_rn(token_scale, EMB_FP8_MAX), bounds[0], bounds[1]);
    return make_float2(__fdiv_rn(bound, EMB_FP8_MAX),
                       bound >= EMB_CODES_LEAST ? __fdiv_rn(EMB_FP8_MAX, bound) : 0.0f);
}

#endif
