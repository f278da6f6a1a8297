/* avx2.h - what the AVX2 kernels share: small vector functions, and their own declarations.
 *
 * Used only by this folder. Needs AVX2, FMA and F16C.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX2_AVX2_H
#define EMB_BACKEND_CPU_AVX2_AVX2_H

#include <immintrin.h>

#include "backend/cpu/cpu.h"

#define EMB_INLINE static inline __attribute__((always_inline))

/* A product computes tiles of up to 6 tokens times one panel of 16 outputs: 12 sums, 2 vectors of
 * weights and a broadcast fit the 16 registers. */
enum { EMB_AVX2_ROWS = 6, EMB_AVX2_PANEL = 16 };

/* sums [rows, 16] = in [rows, depth] * panel, for the number of rows that stands in its name. */
typedef void (*emb_cpu_avx2_tile)(float *sums, const float *in, size_t in_stride, const void *panel,
                                  size_t depth);

/* tiles [EMB_AVX2_ROWS + 1], by rows. */
void emb_cpu_avx2_run(const emb_cpu_product *product, const emb_cpu_avx2_tile *tiles,
                      size_t panel_bytes);

void emb_cpu_avx2_pack_f32(const emb_linear *linear, uint32_t row0, uint32_t rows,
                           const float *values);
void emb_cpu_avx2_pack_bf16(const emb_linear *linear, uint32_t row0, uint32_t rows,
                            const float *values);
void emb_cpu_avx2_product_f32(const emb_cpu_product *product);
void emb_cpu_avx2_product_widen(const emb_cpu_product *product);
void emb_cpu_avx2_product_dot(const emb_cpu_product *product);
void emb_cpu_avx2_quantize(void *out, size_t out_stride, const float *in, uint32_t rows,
                           uint32_t cols, const float *smooth);
void emb_cpu_avx2_attention(const emb_cpu_attention *attention);
void emb_cpu_avx2_norm(float *out, const float *in, const float *add, uint32_t rows,
                       const emb_cpu_norm *norm);

/* Lanes that lie inside [0, count) when the first is number `first`. */
EMB_INLINE __m256i emb_avx2_lanes(size_t first, size_t count) {
    int left = first >= count ? 0 : count - first >= 8 ? 8 : (int)(count - first);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Masked loads and stores are slow on many CPUs: these use them only for the last lanes. */
EMB_INLINE __m256 emb_avx2_load(const float *values, size_t first, size_t count) {
    if (first + 8 <= count) return _mm256_loadu_ps(values + first);
    return _mm256_maskload_ps(values + first, emb_avx2_lanes(first, count));
}

EMB_INLINE void emb_avx2_store(float *values, size_t first, size_t count, __m256 value) {
    if (first + 8 <= count)
        _mm256_storeu_ps(values + first, value);
    else
        _mm256_maskstore_ps(values + first, emb_avx2_lanes(first, count), value);
}

/* Sum over the lanes, always in the same order. */
EMB_INLINE float emb_avx2_sum(__m256 values) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

/* value * 2^n for whole n in [-126, 127] */
EMB_INLINE __m256 emb_avx2_scale(__m256 value, __m256 n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

/* e^x for x <= 0, within 1 unit in the last place; below -87 the result is that of -87, which no
 * sum with a term of 1 can tell from 0. Own minimax fit on [-ln 2 / 2, ln 2 / 2]
 * (tools/minimax.py). */
EMB_INLINE __m256 emb_avx2_exp(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-87.0f), x); /* a NaN stays */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.42860677e-6f), r);
    __m256 p = _mm256_set1_ps(0.00138131f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.00836942f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.04166846f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.16666515f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.49999993f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
    return emb_avx2_scale(_mm256_add_ps(p, _mm256_set1_ps(1.0f)), n);
}

/* The upper tail 1 - Phi(a) of GELU for a >= 0: 2^-g(a), where g is nearly a parabola. Own minimax
 * fit, weighted by the error that it causes in GELU (1.4e-8), monotonic beyond. 2^r on [-0.5, 0.5]:
 * another, relative (1.2e-7); tools/minimax.py. */
EMB_INLINE __m256 emb_avx2_gelu_tail(__m256 a) {
    __m256 g = _mm256_set1_ps(1.9020430e-06f);
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(-2.80566273e-05f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(0.000131471493f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(0.000272080634f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(-0.00724542885f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(0.0526276172f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(0.459162140f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(1.15111105f));
    g = _mm256_fmadd_ps(g, a, _mm256_set1_ps(1.0f));
    g = _mm256_min_ps(_mm256_set1_ps(126.0f), g); /* a NaN stays */
    __m256 n = _mm256_round_ps(g, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_sub_ps(n, g);
    __m256 p = _mm256_set1_ps(0.00132634f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.00967258f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.05550747f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.24022226f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.69314697f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    return emb_avx2_scale(p, _mm256_sub_ps(_mm256_setzero_ps(), n));
}

/* x * Phi(x) */
EMB_INLINE __m256 emb_avx2_gelu(__m256 x) {
    __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), tail = emb_avx2_gelu_tail(a);
    __m256 upper = _mm256_max_ps(_mm256_setzero_ps(), x);
    return _mm256_fnmadd_ps(a, tail, upper); /* x - x tail, or x tail */
}

/* Turns 8 rows of 8 values into 8 columns, in place. */
EMB_INLINE void emb_avx2_transpose(__m256 *m) {
    __m256 t[8];
    EMB_CPU_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 8; i += 4) {
        EMB_CPU_UNROLL
        for (int j = 0; j < 2; j++) {
            m[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            m[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(m[i], m[i + 4], 0x31);
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < 8; i++) m[i] = t[i];
}

#endif
