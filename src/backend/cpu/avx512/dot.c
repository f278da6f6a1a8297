/* dot.c - quantizes activations, and turns a product's integers into outputs: scales, zeros, bias,
 * GELU. The integers come from dot_vnni.c, or from ../avx2 where the CPU has no VNNI.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

enum { PANEL = EMB_CPU_DOT_PANEL };

/* ---- activations ----------------------------------------------------------------------------- */

/* A row of activations to quantize: in, or GELU(in), times smooth if there is one. */
typedef struct value_row {
    const float *in, *smooth;
    bool gelu;
} value_row;

EMB_INLINE __m512 load_value(const value_row *row, uint32_t i, const __mmask16 mask) {
    __m512 value = _mm512_maskz_loadu_ps(mask, row->in + i);
    if (row->gelu) value = emb_avx512_gelu_near(value);
    return row->smooth ? _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, row->smooth + i)) : value;
}

EMB_INLINE emb_avx512_range range_of(const value_row *row, uint32_t cols) {
    emb_avx512_range range = emb_avx512_range_none();
    uint32_t i = 0;
    for (; i + 16 <= cols; i += 16) emb_avx512_range_widen(&range, load_value(row, i, 0xffff));
    if (i < cols) emb_avx512_range_widen(&range, load_value(row, i, emb_avx512_lanes(i, cols)));
    return range;
}

EMB_INLINE emb_cpu_token token_of(const emb_avx512_range *range, const bool gelu, float *factor) {
    uint32_t low = _mm512_reduce_max_epu32(range->low);
    uint32_t high = (uint32_t)_mm512_reduce_max_epi32(range->high);
    bool finite = low <= 0xff800000u && high <= 0x7f800000u;
    float lowest, highest;
    memcpy(&lowest, &low, sizeof lowest);
    memcpy(&highest, &high, sizeof highest);
    if (gelu) { /* of what GELU gets: it has no value below -0.17, and grows above */
        lowest = -0.17f;
        highest = _mm512_cvtss_f32(emb_avx512_gelu_near(_mm512_set1_ps(highest)));
    }
    return emb_cpu_token_make(lowest, highest, finite, factor);
}

EMB_INLINE __m512i round_value(__m512 value, __m512 scale, __m512i zero) {
    return _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(value, scale)), zero);
}

/* 64 values to bytes, in order. Narrowing confines them to 0 to 255. */
EMB_INLINE void round_values(uint8_t *out, const value_row *row, uint32_t i, __m512 scale,
                             __m512i zero) {
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i q[4];
    EMB_CPU_UNROLL
    for (uint32_t v = 0; v < 4; v++)
        q[v] = round_value(load_value(row, i + 16 * v, 0xffff), scale, zero);
    __m512i bytes =
        _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi32(order, bytes));
}

EMB_INLINE void quantize_row(uint8_t *out, const value_row *row, uint32_t cols) {
    /* without smoothing the range of GELU's results follows from that of its inputs */
    bool before = row->gelu && !row->smooth;
    value_row read = {row->in, row->smooth, row->gelu && !before};
    emb_avx512_range range = range_of(&read, cols);
    float factor;
    emb_cpu_token token = token_of(&range, before, &factor);
    __m512 scale = _mm512_set1_ps(factor);
    __m512i zero = _mm512_set1_epi32(token.zero);
    size_t depth = emb_cpu_dot_depth(cols);
    uint32_t i = 0;
    for (; i + 64 <= cols; i += 64) {
        /* the next row: it may still be in L2 only */
        for (uint32_t line = 0; line < 64; line += 16)
            _mm_prefetch((const char *)(row->in + cols + i + line), _MM_HINT_T0);
        round_values(out, row, i, scale, zero);
    }
    for (; i < cols; i += 16) {
        __mmask16 mask = emb_avx512_lanes(i, cols);
        __m512i q = round_value(load_value(row, i, mask), scale, zero);
        __m128i last = _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
        _mm_mask_storeu_epi8(out + i, emb_avx512_lanes(i, depth), _mm_maskz_mov_epi8(mask, last));
    }
    memcpy(out + depth, &token, sizeof token);
}

/* `smooth` and `gelu` are constants where it is used. */
EMB_INLINE void quantize_rows(void *out, size_t out_stride, const float *in, uint32_t rows,
                              uint32_t cols, const float *smooth, const bool gelu) {
    for (uint32_t r = 0; r < rows; r++) {
        value_row row = {in + (size_t)r * cols, smooth, gelu};
        quantize_row((uint8_t *)out + r * out_stride, &row, cols);
    }
}

void emb_cpu_avx512_quantize(void *out, size_t out_stride, const float *in, uint32_t rows,
                             uint32_t cols, const float *smooth) {
    if (smooth)
        quantize_rows(out, out_stride, in, rows, cols, smooth, false);
    else
        quantize_rows(out, out_stride, in, rows, cols, NULL, false);
}

void emb_cpu_avx512_quantize_gelu(void *out, size_t out_stride, const float *in, uint32_t rows,
                                  uint32_t cols, const float *smooth) {
    if (smooth)
        quantize_rows(out, out_stride, in, rows, cols, smooth, true);
    else
        quantize_rows(out, out_stride, in, rows, cols, NULL, true);
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

/* Sums of outputs 16 v onwards, zeros subtracted, times the weights' scales. */
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
            __m512 shift = part->bias[v];
            if (p->add) shift = _mm512_maskz_loadu_ps(part->masks[v], out + 16 * v);
            value = _mm512_fmadd_ps(value, scale, shift);
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
    static const emb_cpu_dot dot = {emb_cpu_avx2_dot_sum, finish, add_group, finish_totals, NULL};
    emb_cpu_dot_product(&dot, product);
}

void emb_cpu_avx512_product_dot_vnni(const emb_cpu_product *product) {
    static const emb_cpu_dot dot = {emb_cpu_avx512_dot_sum, finish, add_group, finish_totals,
                                    emb_cpu_avx512_dot_whole};
    emb_cpu_dot_product(&dot, product);
}
