/* attention_f32.c - attention in f32: the walk of attention_walk.h with queries, keys, weights and
 * values a word each; keys and values are read in place.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/attention_products.h"

EMB_INLINE uint32_t words_of_keys(uint32_t keys) {
    return keys;
}

EMB_INLINE __m512i broadcast(const char *word) {
    return _mm512_castps_si512(_mm512_set1_ps(*(const float *)word));
}

EMB_INLINE __m512 multiply_add(__m512 sum, __m512i word, __m512i lanes) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(word), _mm512_castsi512_ps(lanes), sum);
}

EMB_INLINE __m512i load_query(const query_tile *t, size_t query, size_t step) {
    const emb_cpu_attention *a = t->a;
    __m512 values = _mm512_maskz_loadu_ps(emb_avx512_lanes(step, a->head_dim),
                                          a->queries + query * a->stride + step);
    return _mm512_castps_si512(_mm512_mul_ps(values, _mm512_set1_ps(a->scale)));
}

EMB_INLINE __m512 add_bias(const query_tile *t, const float *scores, __m512 bias) {
    (void)t;
    return _mm512_add_ps(_mm512_load_ps(scores), bias);
}

EMB_INLINE __m512 weigh_keys(const query_tile *t, float *scores, size_t width, uint32_t keys,
                             __m512 maximum) {
    (void)t;
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t j = 0; j < keys; j++, scores += width) {
        __m512 weight = emb_avx512_exp(_mm512_sub_ps(_mm512_load_ps(scores), maximum));
        sum = _mm512_add_ps(sum, weight);
        _mm512_store_ps(scores, weight);
    }
    return sum;
}

EMB_INLINE __m512 rescale_factor(__m512 change) {
    return emb_avx512_exp(change);
}

EMB_INLINE void store_output(const query_tile *t, ptrdiff_t at, uint32_t d, __mmask16 mask,
                             __m512 values) {
    (void)d;
    emb_avx512_store(t->a->out, at, mask, values, false);
}

void emb_cpu_avx512_attention_f32(const emb_cpu_attention *a) {
    size_t matrix = (size_t)EMB_CPU_QUERY_TILE * a->head_dim;
    query_tile t = {.a = a,
                    .keys = (const char *)a->keys,
                    .values = (const char *)a->values,
                    .key_bytes = a->stride * sizeof(float),
                    .value_bytes = a->stride * sizeof(float),
                    .steps = a->head_dim,
                    .key_tile = EMB_CPU_KEY_TILE,
                    .columns = a->work,
                    .outputs = a->work + matrix,
                    .scores = a->work + 2 * matrix};
    walk_queries(&t);
}
