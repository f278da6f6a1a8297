/* attention_bf16.c - attention where products of bf16 are native: the walk of attention_walk.h with
 * queries, keys, weights and values rounded to bf16, sums in f32.
 *
 * A word is a pair: of a head's values in queries and keys, of keys in weights and values. Keys and
 * values are paired once a head; an odd one out meets zeros.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/attention_products.h"

EMB_INLINE uint32_t words_of_keys(uint32_t keys) {
    return (keys + 1) / 2;
}

EMB_INLINE __m512i broadcast(const char *word) {
    return _mm512_set1_epi32(*(const int *)word);
}

EMB_INLINE __m512 multiply_add(__m512 sum, __m512i word, __m512i lanes) {
    return _mm512_dpbf16_ps(sum, (__m512bh)word, (__m512bh)lanes);
}

/* Rounds to bf16 and pairs lane by lane, `first` in the lower half. */
EMB_INLINE __m512i pair_lanes(__m512 first, __m512 second) {
    __m512i low = _mm512_srli_epi32(emb_avx512_round_high(first), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, emb_avx512_round_high(second));
}

/* Words [step, step + 16) of a row, of which each value is taken `scale` times. */
EMB_INLINE __m512i pair_row(const float *row, size_t step, uint32_t head_dim, __m512 scale) {
    size_t d = 2 * step;
    __m512 low = _mm512_maskz_loadu_ps(emb_avx512_lanes(d, head_dim), row + d);
    __m512 high = _mm512_maskz_loadu_ps(emb_avx512_lanes(d + 16, head_dim), row + d + 16);
    __m256i lower = emb_avx512_round(_mm512_mul_ps(low, scale));
    __m256i upper = emb_avx512_round(_mm512_mul_ps(high, scale));
    return _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
}

/* ---- once a head ----------------------------------------------------------------------------- */

static void pair_keys(uint32_t *out, const emb_cpu_attention *a, size_t pairs) {
    for (uint32_t j = 0; j < a->tokens; j++, out += pairs) {
        for (size_t step = 0; step < pairs; step += 16) {
            __m512i row =
                pair_row(a->keys + j * a->stride, step, a->head_dim, _mm512_set1_ps(1.0f));
            _mm512_mask_storeu_epi32(out + step, emb_avx512_lanes(step, pairs), row);
        }
    }
}

static void pair_values(uint32_t *out, const emb_cpu_attention *a) {
    for (uint32_t j = 0; j < a->tokens; j += 2, out += a->head_dim) {
        const float *first = a->values + j * a->stride;
        bool both = j + 1 < a->tokens;
        for (uint32_t d = 0; d < a->head_dim; d += 16) {
            __mmask16 mask = emb_avx512_lanes(d, a->head_dim);
            __m512 second = _mm512_maskz_loadu_ps(both ? mask : 0, first + a->stride + d);
            __m512i pair = pair_lanes(_mm512_maskz_loadu_ps(mask, first + d), second);
            _mm512_mask_storeu_epi32(out + d, mask, pair);
        }
    }
}

/* ---- a query tile ---------------------------------------------------------------------------- */

/* Scaled for powers of two. */
EMB_INLINE __m512i load_query(const query_tile *t, size_t query, size_t step) {
    const emb_cpu_attention *a = t->a;
    return pair_row(a->queries + query * a->stride, step, a->head_dim,
                    _mm512_set1_ps(a->scale * LOG2_E));
}

EMB_INLINE __m512 add_bias(const query_tile *t, const float *scores, __m512 bias) {
    (void)t;
    return _mm512_fmadd_ps(bias, _mm512_set1_ps(LOG2_E), _mm512_load_ps(scores));
}

EMB_INLINE __m512 weigh_keys(const query_tile *t, float *scores, size_t width, uint32_t keys,
                             __m512 maximum) {
    (void)t;
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t j = 0; j < keys; j += 2) {
        const float *score = scores + j * width;
        __m512 first = emb_avx512_power(_mm512_sub_ps(_mm512_load_ps(score), maximum));
        __m512 second = _mm512_setzero_ps();
        if (j + 1 < keys)
            second = emb_avx512_power(_mm512_sub_ps(_mm512_load_ps(score + width), maximum));
        sum = _mm512_add_ps(sum, _mm512_add_ps(first, second));
        _mm512_store_si512(scores + j / 2 * width, pair_lanes(first, second));
    }
    return sum;
}

EMB_INLINE __m512 rescale_factor(__m512 change) {
    return rescale_power(change);
}

EMB_INLINE void store_output(const query_tile *t, ptrdiff_t at, uint32_t d, __mmask16 mask,
                             __m512 values) {
    (void)d;
    emb_avx512_store(t->a->out, at, mask, values, true);
}

void emb_cpu_avx512_attention_bf16(const emb_cpu_attention *a) {
    size_t pairs = ((size_t)a->head_dim + 1) / 2;
    query_tile t = {.a = a,
                    .key_bytes = pairs * sizeof(uint32_t),
                    .value_bytes = a->head_dim * sizeof(uint32_t),
                    .steps = pairs,
                    .key_tile = EMB_CPU_KEY_TILE,
                    .scores = a->work};
    t.outputs = t.scores + (size_t)EMB_CPU_QUERY_TILE * EMB_CPU_KEY_TILE;
    t.columns = t.outputs + (size_t)EMB_CPU_QUERY_TILE * a->head_dim;
    uint32_t *keys = (uint32_t *)(t.columns + EMB_CPU_QUERY_TILE * pairs);
    uint32_t *values = keys + a->tokens * pairs;
    pair_keys(keys, a, pairs);
    pair_values(values, a);
    t.keys = (const char *)keys;
    t.values = (const char *)values;
    walk_queries(&t);
}
