/* vector.h - the vectors of AVX2 as the templates of training's kernels name them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_AVX2_VECTOR_H
#define EMB_TRAIN_CPU_AVX2_VECTOR_H

#include "backend/cpu/avx2/avx2.h"

typedef __m256 vec;
typedef __m256i vec_bits;

/* Values of a vector; registers that sums may take in a tile of a product, and rows of a tile. */
enum { LANES = 8, TILE_VECTORS = 2, TILE_ROWS = 6, TILE_ROWS_SLIM = 6 };

#define v_all(value)        _mm256_set1_ps(value)
#define v_fma(a, b, c)      _mm256_fmadd_ps(a, b, c)
#define v_max(a, b)         _mm256_max_ps(a, b)
#define v_sqrt(a)           _mm256_sqrt_ps(a)
#define v_abs(a)            _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define v_exp(a)            emb_avx2_exp(a)
#define v_gelu(a)           emb_avx2_gelu(a)
#define v_gelu_tail(a)      emb_avx2_gelu_tail(a)
#define v_sum(a)            emb_avx2_sum(a)
#define v_transpose(m)      emb_avx2_transpose(m)
#define v_bits_all(value)   _mm256_set1_epi32((int)(value))
#define v_bits_add(a, b)    _mm256_add_epi32(a, b)
#define v_bits_mul(a, b)    _mm256_mullo_epi32(a, b)
#define v_bits_xor(a, b)    _mm256_xor_si256(a, b)
#define v_bits_right(a, by) _mm256_srli_epi32(a, by)
#define v_bits_count()      _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)

EMB_INLINE float v_highest(vec a) {
    __m128 high = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    high = _mm_max_ps(high, _mm_movehl_ps(high, high));
    return _mm_cvtss_f32(_mm_max_ss(high, _mm_movehdup_ps(high)));
}

/* All bits of the first `count` values. */
EMB_INLINE __m256i v_mask(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), v_bits_count());
}

/* The first `count` of a vector's values (LANES or more: all); the others are zero, and stay. */
EMB_INLINE vec v_load(const float *in, size_t count) {
    return count >= LANES ? _mm256_loadu_ps(in) : _mm256_maskload_ps(in, v_mask(count));
}

EMB_INLINE void v_store(float *out, size_t count, vec values) {
    if (count >= LANES)
        _mm256_storeu_ps(out, values);
    else
        _mm256_maskstore_ps(out, v_mask(count), values);
}

EMB_INLINE vec v_load_s8(const int8_t *in, size_t count) {
    int64_t bytes = 0;
    memcpy(&bytes, in, count >= LANES ? LANES : count);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)));
}

EMB_INLINE vec v_load_u8(const uint8_t *in, size_t count) {
    int64_t bytes = 0;
    memcpy(&bytes, in, count >= LANES ? LANES : count);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes)));
}

/* Rounded to the nearest; the values fit. */
EMB_INLINE void v_store_u8(uint8_t *out, size_t count, vec values) {
    __m256i whole = _mm256_cvtps_epi32(values);
    __m256i bytes = _mm256_shuffle_epi8(
        whole, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4,
                                8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    uint64_t low = (uint32_t)_mm256_extract_epi32(bytes, 0);
    low |= (uint64_t)(uint32_t)_mm256_extract_epi32(bytes, 4) << 32;
    memcpy(out, &low, count >= LANES ? LANES : count);
}

EMB_INLINE void v_store_s8(int8_t *out, size_t count, vec values) {
    v_store_u8((uint8_t *)out, count, values);
}

/* The first `count` of a, and b behind them. */
EMB_INLINE vec v_first(size_t count, vec a, vec b) {
    if (count >= LANES) return a;
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(v_mask(count)));
}

/* a where x > 0, else b. */
EMB_INLINE vec v_above(vec x, vec a, vec b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

/* a where bits >= limit, both unsigned, else 0. */
EMB_INLINE vec v_from(vec_bits bits, vec_bits limit, vec a) {
    __m256i stays = _mm256_cmpeq_epi32(_mm256_max_epu32(bits, limit), bits);
    return _mm256_and_ps(_mm256_castsi256_ps(stays), a);
}

#endif
