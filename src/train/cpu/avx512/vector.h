/* vector.h - the vectors of AVX-512 as the templates of training's kernels name them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_AVX512_VECTOR_H
#define EMB_TRAIN_CPU_AVX512_VECTOR_H

#include "backend/cpu/avx512/avx512.h"

typedef __m512 vec;
typedef __m512i vec_bits;

/* Values of a vector; registers that sums may take in a tile of a product, and rows of a tile. */
enum { LANES = 16, TILE_VECTORS = 4, TILE_ROWS = 6, TILE_ROWS_SLIM = 12 };

#define v_all(value)        _mm512_set1_ps(value)
#define v_fma(a, b, c)      _mm512_fmadd_ps(a, b, c)
#define v_max(a, b)         _mm512_max_ps(a, b)
#define v_sqrt(a)           _mm512_sqrt_ps(a)
#define v_abs(a)            _mm512_abs_ps(a)
#define v_exp(a)            emb_avx512_exp(a)
#define v_gelu(a)           emb_avx512_gelu(a)
#define v_gelu_tail(a)      emb_avx512_gelu_tail(a)
#define v_sum(a)            _mm512_reduce_add_ps(a)
#define v_highest(a)        _mm512_reduce_max_ps(a)
#define v_transpose(m)      emb_avx512_transpose(m)
#define v_bits_all(value)   _mm512_set1_epi32((int)(value))
#define v_bits_add(a, b)    _mm512_add_epi32(a, b)
#define v_bits_mul(a, b)    _mm512_mullo_epi32(a, b)
#define v_bits_xor(a, b)    _mm512_xor_si512(a, b)
#define v_bits_right(a, by) _mm512_srli_epi32(a, by)
#define v_bits_count()      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

/* The first `count` of a vector's values (LANES or more: all); the others are zero, and stay. */
EMB_INLINE vec v_load(const float *in, size_t count) {
    if (count >= LANES) return _mm512_loadu_ps(in);
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), in);
}

EMB_INLINE void v_store(float *out, size_t count, vec values) {
    if (count >= LANES)
        _mm512_storeu_ps(out, values);
    else
        _mm512_mask_storeu_ps(out, (__mmask16)((1u << count) - 1), values);
}

EMB_INLINE vec v_load_s8(const int8_t *in, size_t count) {
    __mmask16 mask = (__mmask16)(count >= LANES ? 0xffffu : (1u << count) - 1);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, in)));
}

EMB_INLINE vec v_load_u8(const uint8_t *in, size_t count) {
    __mmask16 mask = (__mmask16)(count >= LANES ? 0xffffu : (1u << count) - 1);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, in)));
}

/* Rounded to the nearest; the values fit. */
EMB_INLINE void v_store_s8(int8_t *out, size_t count, vec values) {
    __mmask16 mask = (__mmask16)(count >= LANES ? 0xffffu : (1u << count) - 1);
    _mm512_mask_cvtepi32_storeu_epi8(out, mask, _mm512_cvtps_epi32(values));
}

EMB_INLINE void v_store_u8(uint8_t *out, size_t count, vec values) {
    v_store_s8((int8_t *)out, count, values);
}

/* The first `count` of a, and b behind them. */
EMB_INLINE vec v_first(size_t count, vec a, vec b) {
    if (count >= LANES) return a;
    return _mm512_mask_mov_ps(b, (__mmask16)((1u << count) - 1), a);
}

/* a where x > 0, else b. */
EMB_INLINE vec v_above(vec x, vec a, vec b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
}

/* a where bits >= limit, both unsigned, else 0. */
EMB_INLINE vec v_from(vec_bits bits, vec_bits limit, vec a) {
    return _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(bits, limit), a);
}

#endif
