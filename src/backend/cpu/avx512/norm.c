/* norm.c - residual sum and layer normalisation, and rounding to operands. A row's sums run over
 * 16 lanes in the order of its values, whatever stands around it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

/* out = in + add; gives the sum of out. */
EMB_INLINE float add_row(float *out, const float *in, const float *add, uint32_t hidden) {
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, hidden);
        __m512 value = _mm512_maskz_loadu_ps(mask, in + i);
        if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, add + i));
        _mm512_mask_storeu_ps(out + i, mask, value);
        sum = _mm512_add_ps(sum, value);
    }
    return _mm512_reduce_add_ps(sum);
}

EMB_INLINE float sum_squares(const float *row, float mean, uint32_t hidden) {
    __m512 sum = _mm512_setzero_ps(), center = _mm512_set1_ps(mean);
    for (uint32_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, hidden);
        __m512 value = _mm512_maskz_loadu_ps(mask, row + i);
        value = _mm512_maskz_sub_ps(mask, value, center);
        sum = _mm512_fmadd_ps(value, value, sum);
    }
    return _mm512_reduce_add_ps(sum);
}

EMB_INLINE void scale_row(float *row, float mean, float factor, const emb_cpu_norm *norm) {
    __m512 center = _mm512_set1_ps(mean), scale = _mm512_set1_ps(factor);
    for (uint32_t i = 0; i < norm->hidden; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, norm->hidden);
        __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, row + i), center);
        value = _mm512_mul_ps(value, scale);
        value = _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, norm->gain + i),
                                _mm512_maskz_loadu_ps(mask, norm->shift + i));
        _mm512_mask_storeu_ps(row + i, mask, value);
    }
}

void emb_cpu_avx512_norm(float *out, const float *in, const float *add, uint32_t rows,
                         const emb_cpu_norm *norm) {
    uint32_t hidden = norm->hidden;
    for (uint32_t r = 0; r < rows; r++, out += hidden, in += hidden) {
        float mean = add_row(out, in, add, hidden) / (float)hidden;
        float variance = sum_squares(out, mean, hidden) / (float)hidden;
        float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + norm->epsilon)));
        scale_row(out, mean, factor, norm);
        if (add) add += hidden;
    }
}

void emb_cpu_avx512_operands(void *out, size_t out_stride, const float *in, uint32_t rows,
                             uint32_t cols, const float *smooth) {
    (void)smooth;
    size_t padded = emb_cpu_round_up(cols, 2); /* the last pair's zero weight must not meet a NaN */
    for (uint32_t r = 0; r < rows; r++) {
        uint16_t *row = (uint16_t *)out + r * out_stride;
        for (uint32_t i = 0; i < cols; i += 16) {
            __m512 value =
                _mm512_maskz_loadu_ps(emb_avx512_lanes(i, cols), in + (size_t)r * cols + i);
            emb_avx512_store(row, i, emb_avx512_lanes(i, padded), value, true);
        }
    }
}
