/* avx512.h - what the AVX-512 kernels share: small vector functions, and their own declarations.
 *
 * Used only by this folder. Needs F, BW, VL and DQ.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX512_AVX512_H
#define EMB_BACKEND_CPU_AVX512_AVX512_H

#include <immintrin.h>

#include "backend/cpu/cpu.h"

#define EMB_INLINE static inline __attribute__((always_inline))

/* A product computes tiles of up to 6 tokens times one panel of 64 outputs: 24 accumulators, 4
 * vectors of weights and a broadcast fit the 32 registers, and 24 products hide the latency of one
 * on every core so far. */
enum { EMB_AVX512_ROWS = 6, EMB_AVX512_PANEL = 64 };

/* sums [rows, 64] = in [rows, depth] * panel, for the number of rows that stands in its name. */
typedef void (*emb_cpu_avx512_tile)(float *sums, const void *in, size_t in_stride,
                                    const void *panel, size_t depth);

/* How one dtype's tiles are walked. */
typedef struct emb_cpu_avx512_walk {
    const emb_cpu_avx512_tile *tiles; /* [EMB_AVX512_ROWS + 1], by rows */
    size_t depth;                     /* steps over cols */
    size_t panel_bytes;
    size_t operand_bytes;
} emb_cpu_avx512_walk;

void emb_cpu_avx512_run(const emb_cpu_product *product, const emb_cpu_avx512_walk *walk);

void emb_cpu_avx512_pack_f32(const emb_linear *linear, uint32_t row0, uint32_t rows,
                             const float *values);
void emb_cpu_avx512_pack_bf16(const emb_linear *linear, uint32_t row0, uint32_t rows,
                              const float *values);
void emb_cpu_avx512_pack_pairs(const emb_linear *linear, uint32_t row0, uint32_t rows,
                               const float *values);
void emb_cpu_avx512_product_f32(const emb_cpu_product *product);
void emb_cpu_avx512_product_widen(const emb_cpu_product *product);
void emb_cpu_avx512_product_bf16dot(const emb_cpu_product *product);
void emb_cpu_avx512_dot_sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                            const int8_t *panel, size_t depth, const int8_t *ahead);
void emb_cpu_avx512_dot_whole(const emb_cpu_dot_tile *tile, const int8_t *panel);
void emb_cpu_avx512_product_dot(const emb_cpu_product *product);
void emb_cpu_avx512_product_dot_vnni(const emb_cpu_product *product);
void emb_cpu_avx512_quantize(void *out, size_t out_stride, const float *in, uint32_t rows,
                             uint32_t cols, const float *smooth);
void emb_cpu_avx512_quantize_gelu(void *out, size_t out_stride, const float *in, uint32_t rows,
                                  uint32_t cols, const float *smooth);
void emb_cpu_avx512_attention_f32(const emb_cpu_attention *attention);
void emb_cpu_avx512_attention_dot(const emb_cpu_attention *attention);
void emb_cpu_avx512_attention_bytes(emb_cpu_codes *codes, const float *in, size_t stride,
                                    uint32_t tokens, uint32_t head_dim, bool keys);
void emb_cpu_avx512_attention_bf16(const emb_cpu_attention *attention);
void emb_cpu_avx512_norm(float *out, const float *in, const float *add, uint32_t rows,
                         const emb_cpu_norm *norm);
void emb_cpu_avx512_operands(void *out, size_t out_stride, const float *in, uint32_t rows,
                             uint32_t cols, const float *smooth);

/* Lanes that lie inside [0, count) when the first is number `first`. */
EMB_INLINE __mmask16 emb_avx512_lanes(size_t first, size_t count) {
    if (first >= count) return 0;
    size_t left = count - first;
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

EMB_INLINE __m512 emb_avx512_widen(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

/* bf16 to nearest even, in the upper half of each lane; the lower half is garbage. */
EMB_INLINE __m512i emb_avx512_round_high(__m512 values) {
    __m512i bits = _mm512_castps_si512(values);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

EMB_INLINE __m256i emb_avx512_round(__m512 values) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(emb_avx512_round_high(values), 16));
}

/* Writes the lanes of `mask` as operands: bf16 if half, else f32. `at` is the first lane's place,
 * in values. */
EMB_INLINE void emb_avx512_store(void *out, ptrdiff_t at, __mmask16 mask, __m512 values,
                                 const bool half) {
    if (half)
        _mm256_mask_storeu_epi16((uint16_t *)out + at, mask, emb_avx512_round(values));
    else
        _mm512_mask_storeu_ps((float *)out + at, mask, values);
}

/* e^x for x <= 0, within 1 unit in the last place; below -87 the result is that of -87, which no
 * sum with a term of 1 can tell from 0. Own minimax fit on [-ln 2 / 2, ln 2 / 2]
 * (tools/minimax.py). */
EMB_INLINE __m512 emb_avx512_exp(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), x); /* a NaN stays */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 p = _mm512_set1_ps(0.00138131f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00836942f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.04166846f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.16666515f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.49999993f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/* 2^x for x <= 0, within 7.5e-5 of it, where rounding to bf16 costs 2e-3. Own minimax fit on
 * [-0.5, 0.5] (tools/minimax.py). */
EMB_INLINE __m512 emb_avx512_power(__m512 x) {
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(0.0551716685f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.242611125f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693260968f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999928057f));
    return _mm512_scalef_ps(p, n);
}

/* The upper tail 1 - Phi(a) of GELU for a >= 0: 2^-g(a), where g is nearly a parabola. Own minimax
 * fit, weighted by the error that it causes in GELU (1.4e-8), monotonic beyond. 2^r on [-0.5, 0.5]:
 * another, relative (1.2e-7); tools/minimax.py. */
EMB_INLINE __m512 emb_avx512_gelu_tail(__m512 a) {
    __m512 g = _mm512_set1_ps(1.9020430e-06f);
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(-2.80566273e-05f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(0.000131471493f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(0.000272080634f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(-0.00724542885f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(0.0526276172f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(0.459162140f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(1.15111105f));
    g = _mm512_fmadd_ps(g, a, _mm512_set1_ps(1.0f));
    g = _mm512_min_ps(_mm512_set1_ps(126.0f), g); /* a NaN stays */
    __m512 n = _mm512_roundscale_ps(g, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(n, g);
    __m512 p = _mm512_set1_ps(0.00132634f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00967258f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.05550747f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24022226f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69314697f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, _mm512_sub_ps(_mm512_setzero_ps(), n));
}

/* x * Phi(x) */
EMB_INLINE __m512 emb_avx512_gelu(__m512 x) {
    __m512 a = _mm512_abs_ps(x), tail = emb_avx512_gelu_tail(a);
    __m512 upper = _mm512_max_ps(_mm512_setzero_ps(), x);
    return _mm512_fnmadd_ps(a, tail, upper); /* x - x tail, or x tail */
}

/* The same within 1.7e-4, for results that are rounded to 8 bits: a step of those is some hundred
 * times as much. What x - max(x, 0) lacks is a polynomial in |x|: own minimax fit
 * (tools/minimax.py). */
EMB_INLINE __m512 emb_avx512_gelu_near(__m512 x) {
    __m512 a = _mm512_min_ps(_mm512_set1_ps(3.8f), _mm512_abs_ps(x)); /* a NaN stays */
    __m512 p = _mm512_set1_ps(-0.00073094f);
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(0.01105995f));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(-0.06333653f));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(0.15444494f));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(-0.06137397f));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(-0.37962849f));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(0.49814208f));
    return _mm512_fnmadd_ps(a, p, _mm512_max_ps(_mm512_setzero_ps(), x));
}

/* Lowest and highest of 0 and some values, as bits, lane by lane: the highest signed number is the
 * highest value, the highest unsigned one the lowest, and a NaN lies beyond infinity. */
typedef struct emb_avx512_range {
    __m512i low, high;
} emb_avx512_range;

EMB_INLINE emb_avx512_range emb_avx512_range_none(void) {
    return (emb_avx512_range){_mm512_set1_epi32((int)0x80000000u), _mm512_setzero_si512()};
}

EMB_INLINE void emb_avx512_range_widen(emb_avx512_range *range, __m512 value) {
    __m512i bits = _mm512_castps_si512(value);
    range->low = _mm512_max_epu32(bits, range->low);
    range->high = _mm512_max_epi32(bits, range->high);
}

EMB_INLINE bool emb_avx512_range_finite(const emb_avx512_range *range) {
    __mmask16 low = _mm512_cmplt_epu32_mask(range->low, _mm512_set1_epi32((int)0xff800000u));
    return (low & _mm512_cmplt_epi32_mask(range->high, _mm512_set1_epi32(0x7f800000))) == 0xffff;
}

/* Turns 16 rows of 16 values into 16 columns, in place. */
EMB_INLINE void emb_avx512_transpose(__m512 *m) {
    __m512 t[16];
    EMB_CPU_UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(m[i], m[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(m[i], m[i + 1]);
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 16; i += 4) {
        EMB_CPU_UNROLL
        for (int j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(t[i + j]), high = _mm512_castps_pd(t[i + j + 2]);
            m[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            m[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(m[i], m[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(m[i], m[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(m[i + 8], m[i + 12], 0xdd);
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 8; i++) {
        m[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        m[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

#endif
