/* dot.c - quantized products and activations for CPUs without VNNI: bytes widen to 16 bits and are
 * multiplied in pairs, which cannot saturate, so that the sums are exact.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/avx2.h"

enum { PANEL = EMB_CPU_DOT_PANEL };

/* ---- sums ------------------------------------------------------------------------------------ */

/* Rows times 16 outputs of a panel. The two halves of a sum stay in adjacent lanes until the
 * end. */
EMB_INLINE void sum_rows(int32_t *sums, const int rows, const uint8_t *in, size_t in_stride,
                         const int8_t *panel, size_t depth) {
    __m256i s0[3], s1[3], s2[3], s3[3];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) s0[r] = s1[r] = s2[r] = s3[r] = _mm256_setzero_si256();
    for (size_t k = 0; k < depth; k += 4, panel += 4 * PANEL) {
        const __m128i *weights = (const __m128i *)panel;
        __m256i w0 = _mm256_cvtepi8_epi16(_mm_load_si128(weights));
        __m256i w1 = _mm256_cvtepi8_epi16(_mm_load_si128(weights + 1));
        __m256i w2 = _mm256_cvtepi8_epi16(_mm_load_si128(weights + 2));
        __m256i w3 = _mm256_cvtepi8_epi16(_mm_load_si128(weights + 3));
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, in + (size_t)r * in_stride + k, sizeof four);
            __m256i x = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
            s0[r] = _mm256_add_epi32(s0[r], _mm256_madd_epi16(x, w0));
            s1[r] = _mm256_add_epi32(s1[r], _mm256_madd_epi16(x, w1));
            s2[r] = _mm256_add_epi32(s2[r], _mm256_madd_epi16(x, w2));
            s3[r] = _mm256_add_epi32(s3[r], _mm256_madd_epi16(x, w3));
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++, sums += PANEL) {
        /* outputs come as 0 1 4 5 2 3 6 7: their pairs are put in order */
        __m256i low = _mm256_hadd_epi32(s0[r], s1[r]), high = _mm256_hadd_epi32(s2[r], s3[r]);
        _mm256_store_si256((__m256i *)sums, _mm256_permute4x64_epi64(low, 0xd8));
        _mm256_store_si256((__m256i *)(sums + 8), _mm256_permute4x64_epi64(high, 0xd8));
    }
}

void emb_cpu_avx2_dot_sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                          const int8_t *panel, size_t depth, const int8_t *ahead) {
    (void)ahead;
    for (uint32_t r = 0; r < rows; r += 2) {
        const uint8_t *first = in + r * in_stride;
        for (uint32_t lane = 0; lane < PANEL; lane += 16) {
            int32_t *to = sums + r * PANEL + lane;
            if (rows - r >= 2)
                sum_rows(to, 2, first, in_stride, panel + 4 * lane, depth);
            else
                sum_rows(to, 1, first, in_stride, panel + 4 * lane, depth);
        }
    }
}

/* Sums of row r and of outputs 8 v onwards, zeros subtracted, times the weights' scales. */
EMB_INLINE __m256 scale_sums(const emb_cpu_dot_tile *t, uint32_t r, uint32_t v, __m256i zero) {
    __m256i exact = _mm256_load_si256((const __m256i *)(t->sums + r * PANEL + 8 * v));
    __m256i weights = _mm256_load_si256((const __m256i *)(t->weight_sums + 8 * v));
    exact = _mm256_sub_epi32(exact, _mm256_mullo_epi32(zero, weights));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(exact), _mm256_load_ps(t->scales + 8 * v));
}

EMB_INLINE void write_tile(const emb_cpu_dot_tile *t, const bool grouped, const bool gelu) {
    const emb_cpu_product *p = t->product;
    size_t end = (size_t)p->column0 + p->columns;
    bool whole = t->panel0 >= p->column0 && t->panel0 + PANEL <= end;
    for (uint32_t v = 0; v < PANEL / 8; v++) {
        size_t first = t->panel0 + 8 * v;
        __m256i mask =
            _mm256_andnot_si256(emb_avx2_lanes(first, p->column0), emb_avx2_lanes(first, end));
        __m256 shift = _mm256_maskload_ps(p->linear->bias + first, mask);
        for (uint32_t r = 0; r < t->rows; r++) {
            emb_cpu_token token = emb_cpu_dot_token(t, r);
            float *out = (float *)p->out + (t->row0 + r) * p->out_stride;
            out += (ptrdiff_t)first - (ptrdiff_t)p->column0;
            __m256 value = grouped ? _mm256_load_ps(t->totals + r * PANEL + 8 * v)
                                   : scale_sums(t, r, v, _mm256_set1_epi32(token.zero));
            if (p->add) shift = _mm256_maskload_ps(out, mask);
            value = _mm256_fmadd_ps(value, _mm256_set1_ps(token.scale), shift);
            if (gelu) value = emb_avx2_gelu(value);
            if (whole)
                _mm256_storeu_ps(out, value);
            else
                _mm256_maskstore_ps(out, mask, value);
        }
    }
}

static void finish(const emb_cpu_dot_tile *t) {
    if (t->product->gelu)
        write_tile(t, false, true);
    else
        write_tile(t, false, false);
}

static void finish_totals(const emb_cpu_dot_tile *t) {
    if (t->product->gelu)
        write_tile(t, true, true);
    else
        write_tile(t, true, false);
}

static void add_group(const emb_cpu_dot_tile *t) {
    for (uint32_t r = 0; r < t->rows; r++) {
        __m256i zero = _mm256_set1_epi32(emb_cpu_dot_token(t, r).zero);
        for (uint32_t v = 0; v < PANEL / 8; v++) {
            float *total = t->totals + r * PANEL + 8 * v;
            _mm256_store_ps(total, _mm256_add_ps(_mm256_load_ps(total), scale_sums(t, r, v, zero)));
        }
    }
}

void emb_cpu_avx2_product_dot(const emb_cpu_product *product) {
    static const emb_cpu_dot dot = {emb_cpu_avx2_dot_sum, finish, add_group, finish_totals, NULL};
    emb_cpu_dot_product(&dot, product);
}

/* ---- activations ----------------------------------------------------------------------------- */

EMB_INLINE __m256 load_value(const float *in, const float *smooth, uint32_t i, uint32_t cols) {
    __m256 value = emb_avx2_load(in, i, cols);
    return smooth ? _mm256_mul_ps(value, emb_avx2_load(smooth, i, cols)) : value;
}

static float lowest(__m256 values) {
    __m128 low = _mm_min_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    low = _mm_min_ps(low, _mm_movehl_ps(low, low));
    return _mm_cvtss_f32(_mm_min_ss(low, _mm_movehdup_ps(low)));
}

EMB_INLINE void quantize_row(uint8_t *out, const float *in, uint32_t cols, const float *smooth) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 low = _mm256_setzero_ps(), high = low, bad = low;
    for (uint32_t i = 0; i < cols; i += 8) {
        __m256 value = load_value(in, smooth, i, cols);
        low = _mm256_min_ps(value, low);
        high = _mm256_max_ps(value, high);
        bad = _mm256_or_ps(bad, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    }
    float factor, top = -lowest(_mm256_xor_ps(high, sign));
    emb_cpu_token token =
        emb_cpu_token_make(lowest(low), top, _mm256_movemask_ps(bad) == 0, &factor);
    __m256i zero = _mm256_set1_epi32(token.zero);
    size_t depth = emb_cpu_dot_depth(cols);
    for (uint32_t i = 0; i < cols; i += 8) {
        __m256 value = _mm256_mul_ps(load_value(in, smooth, i, cols), _mm256_set1_ps(factor));
        __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(value), zero);
        q = _mm256_and_si256(q, emb_avx2_lanes(i, cols));
        __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        uint8_t bytes[8];
        _mm_storel_epi64((__m128i *)bytes, _mm_packus_epi16(words, words));
        memcpy(out + i, bytes, depth - i < 8 ? depth - i : 8);
    }
    memcpy(out + depth, &token, sizeof token);
}

void emb_cpu_avx2_quantize(void *out, size_t out_stride, const float *in, uint32_t rows,
                           uint32_t cols, const float *smooth) {
    for (uint32_t r = 0; r < rows; r++)
        quantize_row((uint8_t *)out + r * out_stride, in + (size_t)r * cols, cols, smooth);
}
