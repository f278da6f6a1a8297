/* dot.c - quantised activations, and what becomes of a product's integers: scales, zeros, bias,
 * GELU. The integers come from dot_vnni.c, or from ../avx2 where the CPU has no VNNI.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

enum { PANEL = EMB_CPU_DOT_PANEL };

/* ---- activations ----------------------------------------------------------------------------- */

EMB_INLINE __m512 load_value(const float *in, const float *smooth, uint32_t i, __mmask16 mask) {
    __m512 value = _mm512_maskz_loadu_ps(mask, in + i);
    return smooth ? _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, smooth + i)) : value;
}

EMB_INLINE void quantise_row(uint8_t *out, const float *in, uint32_t cols, const float *smooth) {
    __m512 low = _mm512_setzero_ps(), high = low;
    __mmask16 bad = 0;
    for (uint32_t i = 0; i < cols; i += 16) {
        __m512 value = load_value(in, smooth, i, emb_avx512_lanes(i, cols));
        low = _mm512_min_ps(value, low);
        high = _mm512_max_ps(value, high);
        bad |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    }
    float factor;
    emb_cpu_token token = emb_cpu_token_make(_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high),
                                             bad == 0, &factor);
    __m512 scale = _mm512_set1_ps(factor);
    __m512i zero = _mm512_set1_epi32(token.zero), none = _mm512_setzero_si512();
    size_t depth = emb_cpu_dot_depth(cols);
    for (uint32_t i = 0; i < cols; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, cols);
        __m512 value = _mm512_mul_ps(load_value(in, smooth, i, mask), scale);
        __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(value), zero);
        q = _mm512_maskz_max_epi32(mask, q, none); /* narrowing takes it as unsigned */
        _mm_mask_storeu_epi8(out + i, emb_avx512_lanes(i, depth), _mm512_cvtusepi32_epi8(q));
    }
    memcpy(out + depth, &token, sizeof token);
}

void emb_cpu_avx512_quantise(void *out, size_t out_stride, const float *in, uint32_t rows,
                             uint32_t cols, const float *smooth) {
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *row = (uint8_t *)out + r * out_stride;
        if (smooth)
            quantise_row(row, in + (size_t)r * cols, cols, smooth);
        else
            quantise_row(row, in + (size_t)r * cols, cols, NULL);
    }
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* Sums of row r and of outputs 16 v onwards, zeros taken off, times the weights' scales. */
EMB_INLINE __m512 scale_sums(const emb_cpu_dot_tile *t, uint32_t r, uint32_t v, __m512i zero) {
    __m512i exact = _mm512_load_si512(t->sums + r * PANEL + 16 * v);
    __m512i shift = _mm512_mullo_epi32(zero, _mm512_load_si512(t->weight_sums + 16 * v));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(exact, shift)),
                         _mm512_load_ps(t->scales + 16 * v));
}

EMB_INLINE void write_tile(const emb_cpu_dot_tile *t, const bool grouped, const bool gelu) {
    const emb_cpu_product *p = t->product;
    size_t end = (size_t)p->column0 + p->columns;
    __mmask16 masks[4];
    __m512 bias[4];
    for (uint32_t v = 0; v < 4; v++) {
        size_t first = t->panel0 + 16 * v;
        masks[v] = emb_avx512_lanes(first, end) & (__mmask16)~emb_avx512_lanes(first, p->column0);
        bias[v] = _mm512_maskz_loadu_ps(masks[v], p->linear->bias + first);
    }
    bool whole = t->panel0 >= p->column0 && t->panel0 + PANEL <= end;
    for (uint32_t r = 0; r < t->rows; r++) {
        emb_cpu_token token = emb_cpu_dot_token(t, r);
        __m512 scale = _mm512_set1_ps(token.scale);
        __m512i zero = _mm512_set1_epi32(token.zero);
        float *out = (float *)p->out + (t->row0 + r) * p->out_stride;
        out += (ptrdiff_t)t->panel0 - (ptrdiff_t)p->column0;
        for (uint32_t v = 0; v < 4; v++) {
            __m512 value = grouped ? _mm512_load_ps(t->totals + r * PANEL + 16 * v)
                                   : scale_sums(t, r, v, zero);
            value = _mm512_fmadd_ps(value, scale, bias[v]);
            if (gelu) value = emb_avx512_gelu(value);
            if (whole)
                _mm512_storeu_ps(out + 16 * v, value);
            else
                _mm512_mask_storeu_ps(out + 16 * v, masks[v], value);
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
        __m512i zero = _mm512_set1_epi32(emb_cpu_dot_token(t, r).zero);
        for (uint32_t v = 0; v < 4; v++) {
            float *total = t->totals + r * PANEL + 16 * v;
            _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), scale_sums(t, r, v, zero)));
        }
    }
}

void emb_cpu_avx512_product_dot(const emb_cpu_product *product) {
    static const emb_cpu_dot dot = {emb_cpu_avx2_dot_sum, finish, add_group, finish_totals};
    emb_cpu_dot_product(&dot, product);
}

void emb_cpu_avx512_product_dot_vnni(const emb_cpu_product *product) {
    static const emb_cpu_dot dot = {emb_cpu_avx512_dot_sum, finish, add_group, finish_totals};
    emb_cpu_dot_product(&dot, product);
}
