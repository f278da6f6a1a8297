/* norm.c - residual sum and layer normalisation. A row's sums run over 8 lanes in the order of its
 * values, independent of other rows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/avx2.h"

/* out = in + add; gives the sum of out. */
EMB_INLINE float add_row(float *out, const float *in, const float *add, uint32_t hidden) {
    __m256 sum = _mm256_setzero_ps();
    for (uint32_t i = 0; i < hidden; i += 8) {
        __m256 value = emb_avx2_load(in, i, hidden);
        if (add) value = _mm256_add_ps(value, emb_avx2_load(add, i, hidden));
        emb_avx2_store(out, i, hidden, value);
        sum = _mm256_add_ps(sum, value);
    }
    return emb_avx2_sum(sum);
}

EMB_INLINE float sum_squares(const float *row, float mean, uint32_t hidden) {
    __m256 sum = _mm256_setzero_ps(), center = _mm256_set1_ps(mean);
    for (uint32_t i = 0; i < hidden; i += 8) {
        __m256 value = _mm256_sub_ps(emb_avx2_load(row, i, hidden), center);
        if (i + 8 > hidden)
            value = _mm256_and_ps(value, _mm256_castsi256_ps(emb_avx2_lanes(i, hidden)));
        sum = _mm256_fmadd_ps(value, value, sum);
    }
    return emb_avx2_sum(sum);
}

EMB_INLINE void scale_row(float *row, float mean, float factor, const emb_cpu_norm *norm) {
    __m256 center = _mm256_set1_ps(mean), scale = _mm256_set1_ps(factor);
    uint32_t hidden = norm->hidden;
    for (uint32_t i = 0; i < hidden; i += 8) {
        __m256 value = _mm256_sub_ps(emb_avx2_load(row, i, hidden), center);
        value = _mm256_mul_ps(value, scale);
        value = _mm256_fmadd_ps(value, emb_avx2_load(norm->gain, i, hidden),
                                emb_avx2_load(norm->shift, i, hidden));
        emb_avx2_store(row, i, hidden, value);
    }
}

void emb_cpu_avx2_norm(float *out, const float *in, const float *add, uint32_t rows,
                       const emb_cpu_norm *norm) {
    uint32_t hidden = norm->hidden;
    for (uint32_t r = 0; r < rows; r++, out += hidden, in += hidden) {
        float mean = add_row(out, in, add, hidden) / (float)hidden;
        float variance = sum_squares(out, mean, hidden) / (float)hidden;
        float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(variance + norm->epsilon)));
        scale_row(out, mean, factor + emb_cpu_not_overflown(variance), norm);
        if (add) add += norm->add_stride;
    }
}
