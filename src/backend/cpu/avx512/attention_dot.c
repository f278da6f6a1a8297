/* attention_dot.c - attention in 8 bits: the walk of attention_walk.h with queries, keys, weights
 * and values in 8 bits, four to a word, exact integer sums, and the softmax in f32.
 *
 * Scales are a head's and a chunk's own. Keys and values lie around the middle of each of their
 * dims: what the middle of the keys adds to a query's scores is the same for all keys, so that the
 * softmax does not see it; the values' is added at the end.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/attention_walk.h"

enum { TILE_ROWS = 8, LANES = 16, WORD_KEYS = 4 };

typedef struct quantized_head {
    float score_scale;              /* of an integer score: to powers of two */
    const float *middles, *factors; /* [value_bytes / 4]: value = s8 * factor + middle */
} quantized_head;

/* ---- products -------------------------------------------------------------------------------- */

/* Eight rows of four bytes a step, each broadcast, times vectors of queries. */
typedef struct byte_tile {
    const void *rows;
    size_t row_stride, step_stride; /* bytes */
    const float *lanes;             /* words */
    size_t steps;
} byte_tile;

#define CLEAR(z)           "vpxord %%zmm" #z ", %%zmm" #z ", %%zmm" #z "\n\t"
#define CLEAR4(a, b, c, d) CLEAR(a) CLEAR(b) CLEAR(c) CLEAR(d)
/* AT&T order: signed, unsigned, sum */
#define DOT_ROWS(row, lanes, sum)  "vpdpbusd %%zmm" #lanes ", %%zmm" #row ", %%zmm" #sum "\n\t"
#define DOT_LANES(row, lanes, sum) "vpdpbusd %%zmm" #row ", %%zmm" #lanes ", %%zmm" #sum "\n\t"
#define SPREAD(row, x)             "vpbroadcastd " row ", %%zmm" #x "\n\t"

#define ROW_A "(%[a])"
#define ROW_B "(%[a],%[stride])"
#define ROW_C "(%[a],%[stride],2)"
#define ROW_D "(%[b])"
#define ROW_E "(%[b],%[stride])"
#define ROW_F "(%[b],%[stride],2)"
#define ROW_G "(%[c])"
#define ROW_H "(%[c],%[stride])"

#define ONE(dot, row, x, sum)         SPREAD(row, x) dot(x, 28, sum)
#define TWO(dot, row, x, left, right) SPREAD(row, x) dot(x, 28, left) dot(x, 29, right)

#define ALL_ONE(dot)                                                                               \
    ONE(dot, ROW_A, 24, 0)                                                                         \
    ONE(dot, ROW_B, 25, 1)                                                                         \
    ONE(dot, ROW_C, 26, 2)                                                                         \
    ONE(dot, ROW_D, 27, 3)                                                                         \
    ONE(dot, ROW_E, 24, 4) ONE(dot, ROW_F, 25, 5) ONE(dot, ROW_G, 26, 6) ONE(dot, ROW_H, 27, 7)

#define ALL_TWO(dot)                                                                               \
    TWO(dot, ROW_A, 24, 0, 1)                                                                      \
    TWO(dot, ROW_B, 25, 2, 3)                                                                      \
    TWO(dot, ROW_C, 26, 4, 5)                                                                      \
    TWO(dot, ROW_D, 27, 6, 7)                                                                      \
    TWO(dot, ROW_E, 24, 8, 9)                                                                      \
    TWO(dot, ROW_F, 25, 10, 11) TWO(dot, ROW_G, 26, 12, 13) TWO(dot, ROW_H, 27, 14, 15)

#define STORE(at, z) "vmovdqa64 %%zmm" #z ", " #at "(%[out])\n\t"
#define STORE8                                                                                     \
    STORE(0, 0)                                                                                    \
    STORE(64, 1) STORE(128, 2) STORE(192, 3) STORE(256, 4) STORE(320, 5) STORE(384, 6) STORE(448, 7)
#define STORE16                                                                                    \
    STORE8 STORE(512, 8) STORE(576, 9) STORE(640, 10) STORE(704, 11) STORE(768, 12) STORE(832, 13) \
        STORE(896, 14) STORE(960, 15)

#define LOOP(loads, dots, lanes_bytes)                                                             \
    ".p2align 4\n"                                                                                 \
    "1:\n\t" loads dots "add %[step], %[a]\n\t"                                                    \
    "add %[step], %[b]\n\t"                                                                        \
    "add %[step], %[c]\n\t"                                                                        \
    "add $" #lanes_bytes ", %[lanes]\n\t"                                                          \
    "dec %[steps]\n\t"                                                                             \
    "jnz 1b\n\t"

#define LOAD_ONE "vmovdqa64 (%[lanes]), %%zmm28\n\t"
#define LOAD_TWO LOAD_ONE "vmovdqa64 64(%[lanes]), %%zmm29\n\t"

#define TILE(name, clear, loads, dots, lanes_bytes, store)                                         \
    static void name(int32_t *out, const byte_tile *t) {                                           \
        const char *a = t->rows, *b = a + 3 * t->row_stride, *c = a + 6 * t->row_stride;           \
        const float *lanes = t->lanes;                                                             \
        size_t steps = t->steps;                                                                   \
        __asm__ volatile(                                                                          \
            clear LOOP(loads, dots, lanes_bytes) store                                             \
            : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [lanes] "+r"(lanes), [steps] "+r"(steps)      \
            : [stride] "r"(t->row_stride), [step] "r"(t->step_stride), [out] "r"(out)              \
            : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
              "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm24",       \
              "xmm25", "xmm26", "xmm27", "xmm28", "xmm29");                                        \
    }

#define CLEAR8  CLEAR4(0, 1, 2, 3) CLEAR4(4, 5, 6, 7)
#define CLEAR16 CLEAR8 CLEAR4(8, 9, 10, 11) CLEAR4(12, 13, 14, 15)

/* rows u8, queries s8 */
TILE(score_one, CLEAR8, LOAD_ONE, ALL_ONE(DOT_ROWS), 64, STORE8)
TILE(score_two, CLEAR16, LOAD_TWO, ALL_TWO(DOT_ROWS), 128, STORE16)
/* rows s8, weights u8 */
TILE(values_one, CLEAR8, LOAD_ONE, ALL_ONE(DOT_LANES), 64, STORE8)
TILE(values_two, CLEAR16, LOAD_TWO, ALL_TWO(DOT_LANES), 128, STORE16)

/* ---- once a head ----------------------------------------------------------------------------- */

/* The range of 16 dims. */
typedef struct dim_range {
    __m512 middle, width, highest; /* highest: magnitude */
    bool finite;
} dim_range;

static dim_range range_of(const float *in, size_t stride, uint32_t tokens, __mmask16 mask) {
    emb_avx512_range range = emb_avx512_range_none();
    for (uint32_t j = 0; j < tokens; j++)
        emb_avx512_range_widen(&range, _mm512_maskz_loadu_ps(mask, in + j * stride));
    __m512 low = _mm512_castsi512_ps(range.low), high = _mm512_castsi512_ps(range.high);
    return (dim_range){_mm512_mul_ps(_mm512_add_ps(low, high), _mm512_set1_ps(0.5f)),
                       _mm512_sub_ps(high, low), _mm512_max_ps(high, _mm512_abs_ps(low)),
                       emb_avx512_range_finite(&range)};
}

/* 1 / x, or 0 if all values equal the middle. */
EMB_INLINE __m512 inverse(__m512 x) {
    __mmask16 usable = _mm512_cmp_ps_mask(x, _mm512_set1_ps(1e-30f), _CMP_GT_OQ);
    return _mm512_maskz_div_ps(usable, _mm512_set1_ps(1.0f), x);
}

/* 16 values to s8. */
EMB_INLINE __m128i round_bytes(__m512 value, __m512 middle, __m512 factor) {
    value = _mm512_mul_ps(_mm512_sub_ps(value, middle), factor);
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(value));
}

void emb_cpu_avx512_attention_bytes(emb_cpu_codes *codes, const float *in, size_t stride,
                                    uint32_t tokens, uint32_t head_dim, bool keys) {
    __m512 widest = _mm512_setzero_ps(), none = widest;
    bool finite = true;
    for (uint32_t d = 0; d < head_dim; d += LANES) {
        dim_range r = range_of(in + d, stride, tokens, emb_avx512_lanes(d, head_dim));
        widest = _mm512_max_ps(widest, keys ? r.width : r.highest);
        finite = finite && r.finite;
    }
    float steps = keys ? 254.0f : 127.0f, top = _mm512_reduce_max_ps(widest);
    __m512 factor = _mm512_mul_ps(inverse(_mm512_set1_ps(top)), _mm512_set1_ps(steps));
    const __m128i sign = keys ? _mm_set1_epi8((char)0x80) : _mm_setzero_si128();
    codes->widest = finite ? top / steps : NAN;
    for (uint32_t d = 0; d < head_dim; d += LANES) {
        __mmask16 mask = emb_avx512_lanes(d, head_dim);
        __m512 middle = keys ? range_of(in + d, stride, tokens, mask).middle : none;
        for (uint32_t j = 0; j < tokens; j++) {
            __m512 value = _mm512_maskz_loadu_ps(mask, in + j * stride + d);
            _mm_store_si128((__m128i *)(codes->values + j * codes->stride + d),
                            _mm_xor_si128(round_bytes(value, middle, factor), sign));
        }
    }
}

/* Four tokens' bytes of each dim in one word; tokens that pad the last four are 0. */
static void write_values(uint32_t *out, size_t stride, const emb_cpu_attention *a, uint32_t d,
                         __m512 middle, __m512 factor) {
    __mmask16 mask = emb_avx512_lanes(d, a->head_dim);
    const __m512i byte = _mm512_set1_epi32(255);
    for (uint32_t j = 0; j < a->tokens; j += 4) {
        __m512i words = _mm512_setzero_si512();
        for (uint32_t i = 3; i < 4; i--) {
            words = _mm512_slli_epi32(words, 8);
            if (j + i >= a->tokens) continue;
            __m512 value = _mm512_maskz_loadu_ps(mask, a->values + (j + i) * a->stride + d);
            value = _mm512_mul_ps(_mm512_sub_ps(value, middle), factor);
            words = _mm512_or_si512(words, _mm512_and_si512(_mm512_cvtps_epi32(value), byte));
        }
        _mm512_store_si512(out + (size_t)j / 4 * stride + d, words);
    }
}

/* Values to bytes, `stride` words a row; gives whether queries, keys and values are all finite. */
static bool quantize_head(quantized_head *head, float *middles, float *factors, uint32_t *values,
                          size_t stride, const emb_cpu_attention *a) {
    bool finite = true;
    for (uint32_t d = 0; d < a->head_dim; d += LANES) {
        dim_range r =
            range_of(a->values + d, a->stride, a->tokens, emb_avx512_lanes(d, a->head_dim));
        finite = finite && r.finite;
        __m512 factor = _mm512_mul_ps(inverse(r.width), _mm512_set1_ps(254.0f));
        _mm512_store_ps(middles + d, r.middle);
        _mm512_store_ps(factors + d, _mm512_mul_ps(r.width, _mm512_set1_ps(1.0f / 254.0f)));
        write_values(values, stride, a, d, r.middle, factor);
    }
    head->middles = middles;
    head->factors = factors;
    head->score_scale = a->query_codes.widest * a->key_codes.widest * a->scale * LOG2_E;
    return finite && !isnan(head->score_scale);
}

/* ---- scores ---------------------------------------------------------------------------------- */

EMB_INLINE __m512i load_query(const query_tile *t, size_t query, size_t step) {
    const emb_cpu_codes *codes = &t->a->query_codes;
    return _mm512_maskz_loadu_epi32(emb_avx512_lanes(step, t->steps),
                                    codes->values + query * codes->stride + 4 * step);
}

EMB_INLINE void score_keys(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    byte_tile tile = {
        .row_stride = t->key_bytes, .step_stride = 4, .lanes = t->columns, .steps = t->steps};
    for (uint32_t j = 0; j < keys; j += TILE_ROWS) {
        tile.rows = t->keys + (key0 + j) * t->key_bytes;
        int32_t *scores = (int32_t *)t->scores + (size_t)j * 16 * vectors;
        (vectors > 1 ? score_two : score_one)(scores, &tile);
    }
}

/* From integers to f32, as powers of two: only with a relative bias. */
EMB_INLINE __m512 add_bias(const query_tile *t, const float *scores, __m512 bias) {
    __m512 scale = _mm512_set1_ps(t->quantized->score_scale);
    __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(scores)), scale);
    return _mm512_fmadd_ps(bias, _mm512_set1_ps(LOG2_E), score);
}

EMB_INLINE __m512 raise_maximum(const query_tile *t, const float *scores, size_t width,
                                uint32_t keys, __m512 maximum) {
    if (t->a->relative) return raise_maximum_f32(scores, width, keys, maximum);
    __m512i highest = _mm512_load_si512(scores);
    for (uint32_t j = 1; j < keys; j++)
        highest = _mm512_max_epi32(highest, _mm512_load_si512(scores + j * width));
    __m512 scale = _mm512_set1_ps(t->quantized->score_scale);
    return _mm512_max_ps(maximum, _mm512_mul_ps(_mm512_cvtepi32_ps(highest), scale));
}

/* ---- weights --------------------------------------------------------------------------------- */

/* 2^x times 255 to the nearest integer, for x * 2^23 + its logarithm: exponent and position between
 * two powers come out of one rounding; own minimax fit, within 1.8e-3 (tools/minimax.py). */
EMB_INLINE __m512i weight_of(__m512 x) {
    const __m512i mantissa = _mm512_set1_epi32(0x007fffff), one = _mm512_set1_epi32(0x3f800000);
    __m512i t = _mm512_max_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(-(100 << 23)));
    /* (t & mantissa) | one */
    __m512 m = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(t, mantissa, one, 0xea));
    __m512 p = _mm512_fmadd_ps(m, _mm512_set1_ps(0.33718476f), _mm512_set1_ps(-0.01672774f));
    p = _mm512_fmadd_ps(p, m, _mm512_set1_ps(0.68126653f));
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(p), _mm512_andnot_si512(mantissa, t));
    return _mm512_cvtps_epi32(_mm512_castsi512_ps(bits));
}

/* Four vectors of weights as one of words. */
EMB_INLINE __m512i pack_weights(const __m512i *w) {
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
    __m512i low = _mm512_packs_epi32(w[0], w[1]), high = _mm512_packs_epi32(w[2], w[3]);
    return _mm512_shuffle_epi8(_mm512_packus_epi16(low, high), order);
}

/* Weights of `keys` keys, up to four, as words in place of the first's scores; those that lack are
 * 0. Gives their sum. biased: scores are f32, else integers. */
EMB_INLINE __m512i weigh_word(float *out, const float *scores, size_t width, const uint32_t keys,
                              __m512 scale, __m512 base, const bool biased) {
    __m512i w[4], sum = _mm512_setzero_si512();
    EMB_CPU_UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        w[i] = _mm512_setzero_si512();
        if (i < keys) {
            __m512i bits = _mm512_load_si512(scores + i * width);
            __m512 score = biased ? _mm512_castsi512_ps(bits) : _mm512_cvtepi32_ps(bits);
            w[i] = weight_of(_mm512_fmadd_ps(score, scale, base));
        }
        sum = _mm512_add_epi32(sum, w[i]);
    }
    _mm512_store_si512(out, pack_weights(w));
    return sum;
}

EMB_INLINE __m512 weigh(float *scores, size_t width, uint32_t keys, __m512 maximum, float scale,
                        const bool biased) {
    const float one = 8388608.0f, full = 7.99435344f; /* 2^23; log2(255) */
    __m512 factor = _mm512_set1_ps(scale * one);
    __m512 base = _mm512_mul_ps(_mm512_sub_ps(_mm512_set1_ps(full), maximum), _mm512_set1_ps(one));
    __m512i sum = _mm512_setzero_si512();
    float *out = scores;
    uint32_t j = 0;
    for (; j + 4 <= keys; j += 4, scores += 4 * width, out += width)
        sum = _mm512_add_epi32(sum, weigh_word(out, scores, width, 4, factor, base, biased));
    if (j < keys)
        sum = _mm512_add_epi32(sum, weigh_word(out, scores, width, keys - j, factor, base, biased));
    return _mm512_cvtepi32_ps(sum);
}

EMB_INLINE __m512 weigh_keys(const query_tile *t, float *scores, size_t width, uint32_t keys,
                             __m512 maximum) {
    if (!t->a->relative)
        return weigh(scores, width, keys, maximum, t->quantized->score_scale, false);
    return weigh(scores, width, keys, maximum, 1.0f, true);
}

EMB_INLINE __m512 rescale_factor(__m512 change) {
    return rescale_power(change);
}

/* ---- values ---------------------------------------------------------------------------------- */

EMB_INLINE void add_values(query_tile *t, const int vectors, uint32_t key0, uint32_t keys,
                           const __m512 *rescale) {
    _Alignas(64) int32_t exact[TILE_ROWS * 2 * LANES];
    byte_tile tile = {.row_stride = 4, .step_stride = t->value_bytes, .lanes = t->scores};
    tile.steps = (keys + WORD_KEYS - 1) / WORD_KEYS;
    for (uint32_t d = 0; d < t->a->head_dim; d += TILE_ROWS) {
        tile.rows = t->values + key0 / WORD_KEYS * t->value_bytes + 4 * d;
        (vectors > 1 ? values_two : values_one)(exact, &tile);
        float *outputs = t->outputs + (size_t)d * 16 * vectors;
        for (int i = 0; i < TILE_ROWS * vectors; i++, outputs += 16) {
            __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(exact + 16 * i));
            if (key0) sum = _mm512_fmadd_ps(_mm512_load_ps(outputs), rescale[i % vectors], sum);
            _mm512_store_ps(outputs, sum);
        }
    }
}

EMB_INLINE void store_output(const query_tile *t, ptrdiff_t at, uint32_t d, __mmask16 mask,
                             __m512 values) {
    __m512 factor = _mm512_load_ps(t->quantized->factors + d);
    __m512 middle = _mm512_load_ps(t->quantized->middles + d);
    emb_avx512_store(t->a->out, at, mask, _mm512_fmadd_ps(values, factor, middle), false);
}

/* ---- a head ---------------------------------------------------------------------------------- */

/* Propagates values that are not finite to every query that sees them, as sums would. */
static void write_nan(const emb_cpu_attention *a) {
    for (uint32_t q = 0; q < a->tokens; q++)
        for (uint32_t d = 0; d < a->head_dim; d++) ((float *)a->out)[q * a->out_stride + d] = NAN;
}

void emb_cpu_avx512_attention_dot(const emb_cpu_attention *a) {
    size_t stride = emb_cpu_code_bytes(a->head_dim);
    quantized_head head;
    query_tile t = {.a = a,
                    .quantized = &head,
                    .keys = (const char *)a->key_codes.values,
                    .key_bytes = a->key_codes.stride,
                    .value_bytes = stride * sizeof(uint32_t),
                    .steps = ((size_t)a->head_dim + 3) / 4,
                    .key_tile = EMB_CPU_DOT_KEYS,
                    .scores = a->work};
    t.columns = t.scores + (size_t)EMB_CPU_DOT_KEYS * EMB_CPU_QUERY_TILE;
    t.outputs = t.columns + stride / 4 * EMB_CPU_QUERY_TILE;
    float *middles = t.outputs + stride * EMB_CPU_QUERY_TILE, *factors = middles + stride;
    uint32_t *values = (uint32_t *)(factors + stride);
    t.values = (const char *)values;
    if (!quantize_head(&head, middles, factors, values, stride, a)) {
        write_nan(a);
        return;
    }
    walk_queries(&t);
}
