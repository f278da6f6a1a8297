/* norm.c - residual sum and layer normalisation, and rounding to operands. A row's sums run over 16
 * lanes in the order of its values, independent of other rows.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

/* Some rows together, to hide the latency of each row's dependent sums. `rows` and `whole` (no part
 * of a vector at the end) are constants where it is used. */
typedef struct row_group {
    float *out;
    const float *in, *add; /* add may be NULL */
    const emb_cpu_norm *norm;
    __m512 mean[4], factor[4];
} row_group;

EMB_INLINE __mmask16 lanes_of(const row_group *g, uint32_t i, const bool whole) {
    return whole ? 0xffff : emb_avx512_lanes(i, g->norm->hidden);
}

/* out = in + add, and the means. */
EMB_INLINE void add_rows(row_group *g, const int rows, const bool whole) {
    uint32_t hidden = g->norm->hidden;
    __m512 sum[4];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = lanes_of(g, i, whole);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            size_t at = (size_t)r * hidden + i;
            __m512 value = _mm512_maskz_loadu_ps(mask, g->in + at);
            if (g->add) {
                const float *add = g->add + (size_t)r * g->norm->add_stride + i;
                value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, add));
            }
            if (whole)
                _mm512_storeu_ps(g->out + at, value);
            else
                _mm512_mask_storeu_ps(g->out + at, mask, value);
            sum[r] = _mm512_add_ps(sum[r], value);
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++)
        g->mean[r] = _mm512_set1_ps(_mm512_reduce_add_ps(sum[r]) / (float)hidden);
}

EMB_INLINE void find_factors(row_group *g, const int rows, const bool whole) {
    uint32_t hidden = g->norm->hidden;
    __m512 sum[4];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = lanes_of(g, i, whole);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_maskz_loadu_ps(mask, g->out + (size_t)r * hidden + i);
            value = _mm512_maskz_sub_ps(mask, value, g->mean[r]);
            sum[r] = _mm512_fmadd_ps(value, value, sum[r]);
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        float variance = _mm512_reduce_add_ps(sum[r]) / (float)hidden;
        __m128 root = _mm_sqrt_ss(_mm_set_ss(variance + g->norm->epsilon));
        g->factor[r] = _mm512_set1_ps(1.0f / _mm_cvtss_f32(root) + emb_cpu_not_overflown(variance));
    }
}

EMB_INLINE void scale_rows(row_group *g, const int rows, const bool whole) {
    uint32_t hidden = g->norm->hidden;
    for (uint32_t i = 0; i < hidden; i += 16) {
        __mmask16 mask = lanes_of(g, i, whole);
        __m512 gain = _mm512_maskz_loadu_ps(mask, g->norm->gain + i);
        __m512 shift = _mm512_maskz_loadu_ps(mask, g->norm->shift + i);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            float *at = g->out + (size_t)r * hidden + i;
            __m512 value = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, at), g->mean[r]);
            value = _mm512_fmadd_ps(_mm512_mul_ps(value, g->factor[r]), gain, shift);
            if (whole)
                _mm512_storeu_ps(at, value);
            else
                _mm512_mask_storeu_ps(at, mask, value);
        }
    }
}

EMB_INLINE void norm_rows(row_group *g, const int rows, const bool whole) {
    add_rows(g, rows, whole);
    find_factors(g, rows, whole);
    scale_rows(g, rows, whole);
    size_t values = (size_t)rows * g->norm->hidden;
    g->out += values;
    g->in += values;
    if (g->add) g->add += (size_t)rows * g->norm->add_stride;
}

void emb_cpu_avx512_norm(float *out, const float *in, const float *add, uint32_t rows,
                         const emb_cpu_norm *norm) {
    row_group g = {.out = out, .in = in, .add = add, .norm = norm};
    uint32_t r = 0;
    if (norm->hidden % 16 == 0)
        for (; r + 4 <= rows; r += 4) norm_rows(&g, 4, true);
    for (; r < rows; r++) norm_rows(&g, 1, false);
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
