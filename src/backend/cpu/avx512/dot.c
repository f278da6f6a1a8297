/* dot.c - quantised activations, and what becomes of a product's integers: scales, zeros, bias,
 * GELU. The integers come from dot_vnni.c, or from ../avx2 where the CPU has no VNNI.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

enum { PANEL = EMB_CPU_DOT_PANEL };

/* ---- activations ----------------------------------------------------------------------------- */

EMB_INLINE __m512 load_value(const float *in, const float *smooth, uint32_t i,
                             const __mmask16 mask) {
    __m512 value = _mm512_maskz_loadu_ps(mask, in + i);
    return smooth ? _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, smooth + i)) : value;
}

/* Lowest and highest of the values at hand, and whether a NaN was among them. */
typedef struct value_range {
    __m512 low, high;
    __mmask16 bad;
} value_range;

EMB_INLINE void widen_range(value_range *range, __m512 value) {
    range->low = _mm512_min_ps(value, range->low);
    range->high = _mm512_max_ps(value, range->high);
    range->bad |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
}

EMB_INLINE __m128i round_value(__m512 value, __m512 scale, __m512i zero) {
    __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(value, scale)), zero);
    /* narrowing takes it as unsigned */
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
}

/* Whole vectors go without masks, which are slow to store through. */
EMB_INLINE void quantise_row(uint8_t *out, const float *in, uint32_t cols, const float *smooth) {
    uint32_t whole = cols / 16 * 16, i = 0;
    __mmask16 mask = emb_avx512_lanes(whole, cols);
    value_range range = {_mm512_setzero_ps(), _mm512_setzero_ps(), 0};
    for (i = 0; i < whole; i += 16) widen_range(&range, load_value(in, smooth, i, 0xffff));
    if (mask) widen_range(&range, load_value(in, smooth, i, mask));
    float factor, low = _mm512_reduce_min_ps(range.low), high = _mm512_reduce_max_ps(range.high);
    emb_cpu_token token = emb_cpu_token_make(low, high, range.bad == 0, &factor);
    __m512 scale = _mm512_set1_ps(factor);
    __m512i zero = _mm512_set1_epi32(token.zero);
    size_t depth = emb_cpu_dot_depth(cols);
    for (i = 0; i < whole; i += 16)
        _mm_storeu_si128((__m128i *)(out + i),
                         round_value(load_value(in, smooth, i, 0xffff), scale, zero));
    if (mask) {
        __m128i last = round_value(load_value(in, smooth, i, mask), scale, zero);
        _mm_mask_storeu_epi8(out + i, emb_avx512_lanes(i, depth), _mm_maskz_mov_epi8(mask, last));
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

/* What a panel's outputs are multiplied by and shifted by; kept in registers for all rows. */
typedef struct panel_scales {
    __m512 scales[4];
    __m512i weight_sums[4];
} panel_scales;

EMB_INLINE void load_scales(panel_scales *panel, const emb_cpu_dot_tile *t) {
    EMB_CPU_UNROLL
    for (int v = 0; v < 4; v++) {
        panel->scales[v] = _mm512_load_ps(t->scales + 16 * v);
        panel->weight_sums[v] = _mm512_load_si512(t->weight_sums + 16 * v);
    }
}

/* Sums of outputs 16 v onwards, zeros taken off, times the weights' scales. */
EMB_INLINE __m512 scale_sums(const int32_t *sums, const panel_scales *panel, int v, __m512i zero) {
    __m512i shift = _mm512_mullo_epi32(zero, panel->weight_sums[v]);
    __m512i exact = _mm512_sub_epi32(_mm512_load_si512(sums + 16 * v), shift);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(exact), panel->scales[v]);
}

typedef struct panel_part {
    __mmask16 masks[4];
    __m512 bias[4];
    bool whole;
} panel_part;

EMB_INLINE void load_part(panel_part *part, const emb_cpu_dot_tile *t) {
    const emb_cpu_product *p = t->product;
    size_t end = (size_t)p->column0 + p->columns;
    part->whole = t->panel0 >= p->column0 && t->panel0 + PANEL <= end;
    EMB_CPU_UNROLL
    for (int v = 0; v < 4; v++) {
        size_t first = t->panel0 + 16 * (size_t)v;
        part->masks[v] =
            emb_avx512_lanes(first, end) & (__mmask16)~emb_avx512_lanes(first, p->column0);
        part->bias[v] = _mm512_maskz_loadu_ps(part->masks[v], p->linear->bias + first);
    }
}

EMB_INLINE void write_rows(const emb_cpu_dot_tile *t, const panel_part *part, const bool whole,
                           const bool grouped, const bool gelu) {
    const emb_cpu_product *p = t->product;
    panel_scales panel;
    if (!grouped) load_scales(&panel, t);
    const int32_t *sums = t->sums;
    const float *totals = t->totals;
    float *out = (float *)p->out + t->row0 * p->out_stride;
    out += (ptrdiff_t)t->panel0 - (ptrdiff_t)p->column0;
    for (uint32_t r = 0; r < t->rows; r++, sums += PANEL, totals += PANEL, out += p->out_stride) {
        emb_cpu_token token = emb_cpu_dot_token(t, r);
        __m512 scale = _mm512_set1_ps(token.scale);
        __m512i zero = _mm512_set1_epi32(token.zero);
        EMB_CPU_UNROLL
        for (int v = 0; v < 4; v++) {
            __m512 value =
                grouped ? _mm512_load_ps(totals + 16 * v) : scale_sums(sums, &panel, v, zero);
            value = _mm512_fmadd_ps(value, scale, part->bias[v]);
            if (gelu) value = emb_avx512_gelu_near(value);
            if (whole)
                _mm512_storeu_ps(out + 16 * v, value);
            else
                _mm512_mask_storeu_ps(out + 16 * v, part->masks[v], value);
        }
    }
}

EMB_INLINE void write_tile(const emb_cpu_dot_tile *t, const bool grouped) {
    panel_part part;
    load_part(&part, t);
    if (part.whole && t->product->gelu)
        write_rows(t, &part, true, grouped, true);
    else if (part.whole)
        write_rows(t, &part, true, grouped, false);
    else if (t->product->gelu)
        write_rows(t, &part, false, grouped, true);
    else
        write_rows(t, &part, false, grouped, false);
}

static void finish(const emb_cpu_dot_tile *t) {
    write_tile(t, false);
}

static void finish_totals(const emb_cpu_dot_tile *t) {
    write_tile(t, true);
}

static void add_group(const emb_cpu_dot_tile *t) {
    panel_scales panel;
    load_scales(&panel, t);
    for (uint32_t r = 0; r < t->rows; r++) {
        __m512i zero = _mm512_set1_epi32(emb_cpu_dot_token(t, r).zero);
        EMB_CPU_UNROLL
        for (int v = 0; v < 4; v++) {
            float *total = t->totals + r * PANEL + 16 * v;
            __m512 sums = scale_sums(t->sums + r * PANEL, &panel, v, zero);
            _mm512_store_ps(total, _mm512_add_ps(_mm512_load_ps(total), sums));
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
