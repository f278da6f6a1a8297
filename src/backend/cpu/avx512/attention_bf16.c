/* attention_bf16.c - softmax(q k^T) v of one head where products of bf16 are native: the walk of
 * attention.c with queries, keys, weights and values rounded to bf16, sums in f32.
 *
 * Products take two values at a time, so queries and keys lie in pairs of a head's values, weights
 * and values in pairs of keys. Keys and values are paired once a head; an odd one out meets zeros.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/avx512/avx512.h"

#define LOG2_E 1.44269504f

/* One tile of queries and its state. Rows of the matrices are `width` lanes wide. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    uint32_t query0, queries; /* in this tile */
    size_t pairs;             /* of a head's values */
    uint32_t *columns;        /* [pairs, width] queries, scaled for powers of two */
    float *sums;              /* [head_dim, width] weighted values */
    float *weights;           /* [key block, width] scores, then [key block / 2, width] pairs */
    uint32_t *keys;           /* [tokens, pairs] */
    uint32_t *values;         /* [tokens / 2, head_dim] pairs of keys */
    __m512 highest[2], total[2];
} query_tile;

/* Rounds to bf16 and pairs lane by lane, `first` in the lower half. */
EMB_INLINE __m512i pair_lanes(__m512 first, __m512 second) {
    __m512i low = _mm512_srli_epi32(emb_avx512_round_high(first), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, emb_avx512_round_high(second));
}

EMB_INLINE __m512bh spread(const uint32_t *at) {
    return (__m512bh)_mm512_set1_epi32((int)*at);
}

/* ---- once a head ----------------------------------------------------------------------------- */

static void pair_keys(query_tile *t) {
    const emb_cpu_attention *a = t->a;
    for (uint32_t j = 0; j < a->tokens; j++) {
        uint16_t *out = (uint16_t *)(t->keys + j * t->pairs);
        for (uint32_t d = 0; d < a->head_dim; d += 16) {
            __m512 key = _mm512_maskz_loadu_ps(emb_avx512_lanes(d, a->head_dim),
                                               a->keys + j * a->stride + d);
            emb_avx512_store(out, d, emb_avx512_lanes(d, 2 * t->pairs), key, true);
        }
    }
}

static void pair_values(query_tile *t) {
    const emb_cpu_attention *a = t->a;
    for (uint32_t j = 0; j < a->tokens; j += 2) {
        const float *first = a->values + j * a->stride;
        bool both = j + 1 < a->tokens;
        uint32_t *out = t->values + (size_t)j / 2 * a->head_dim;
        for (uint32_t d = 0; d < a->head_dim; d += 16) {
            __mmask16 mask = emb_avx512_lanes(d, a->head_dim);
            __m512 second = _mm512_maskz_loadu_ps(both ? mask : 0, first + a->stride + d);
            __m512i pair = pair_lanes(_mm512_maskz_loadu_ps(mask, first + d), second);
            _mm512_mask_storeu_epi32(out + d, mask, pair);
        }
    }
}

/* ---- a tile of queries ----------------------------------------------------------------------- */

EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    __m512 scale = _mm512_set1_ps(a->scale * LOG2_E);
    for (int v = 0; v < vectors; v++) {
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += 16) {
            __mmask16 mask = emb_avx512_lanes(d0, a->head_dim);
            __m512 m[16];
            for (uint32_t q = 0; q < 16; q++) {
                bool inside = 16 * (uint32_t)v + q < t->queries;
                size_t row = t->query0 + (inside ? 16 * (uint32_t)v + q : 0);
                m[q] = _mm512_maskz_loadu_ps(inside ? mask : 0, a->queries + row * a->stride + d0);
                m[q] = _mm512_mul_ps(m[q], scale);
            }
            emb_avx512_transpose(m);
            for (size_t i = d0 / 2; i < t->pairs && i < d0 / 2 + 8; i++)
                _mm512_store_si512(t->columns + (i * (size_t)vectors + (size_t)v) * 16,
                                   pair_lanes(m[2 * i - d0], m[2 * i - d0 + 1]));
        }
    }
}

/* weights[j] = scores of `keys` keys from `key` on. */
EMB_INLINE void score_keys(query_tile *t, const int vectors, const int keys, const uint32_t *key,
                           float *scores) {
    __m512 left[8], right[8]; /* right is not used if there is one vector */
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++) left[j] = right[j] = _mm512_setzero_ps();
    const uint32_t *first = key, *second = key + 3 * t->pairs, *third = key + 6 * t->pairs;
    const uint32_t *column = t->columns;
    for (size_t i = 0; i < t->pairs; i++, column += 16 * vectors) {
        __m512bh q0 = (__m512bh)_mm512_load_si512(column), q1 = q0;
        if (vectors > 1) q1 = (__m512bh)_mm512_load_si512(column + 16);
        EMB_CPU_UNROLL
        for (int j = 0; j < keys; j++) {
            const uint32_t *row = j < 3 ? first : j < 6 ? second : third;
            __m512bh k = spread(row + (size_t)(j % 3) * t->pairs + i);
            left[j] = _mm512_dpbf16_ps(left[j], k, q0);
            if (vectors > 1) right[j] = _mm512_dpbf16_ps(right[j], k, q1);
        }
    }
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++, scores += 16 * vectors) {
        _mm512_store_ps(scores, left[j]);
        if (vectors > 1) _mm512_store_ps(scores + 16, right[j]);
    }
}

EMB_INLINE void score_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    for (uint32_t j = 0; j < count;) {
        const uint32_t *key = t->keys + (key0 + j) * t->pairs;
        float *scores = t->weights + (size_t)j * 16 * vectors;
        uint32_t left = count - j;
        if (left >= 8) {
            score_keys(t, vectors, 8, key, scores);
            j += 8;
        } else if (left >= 4) {
            score_keys(t, vectors, 4, key, scores);
            j += 4;
        } else {
            score_keys(t, vectors, 1, key, scores);
            j += 1;
        }
    }
}

/* Adds relative[j - i]: ascending queries are descending addresses. */
EMB_INLINE void add_relative(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    const __m512i reverse = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int v = 0; v < vectors; v++) {
        uint32_t inside = emb_avx512_lanes(16 * (size_t)v, t->queries);
        /* lane l reads place 15 - l; lanes without a query may lie outside the table */
        uint32_t empty = 16 - (uint32_t)__builtin_popcount(inside);
        __mmask16 mask = (__mmask16)(0xffffu << empty);
        ptrdiff_t at = (ptrdiff_t)key0 - (ptrdiff_t)(t->query0 + 16 * (uint32_t)v) - 15;
        for (uint32_t j = 0; j < count; j++) {
            float *scores = t->weights + ((size_t)j * vectors + v) * 16;
            __m512 bias = _mm512_maskz_loadu_ps(mask, t->a->relative + at + j);
            bias = _mm512_permutexvar_ps(reverse, bias);
            _mm512_store_ps(scores,
                            _mm512_fmadd_ps(bias, _mm512_set1_ps(LOG2_E), _mm512_load_ps(scores)));
        }
    }
}

/* Scores to pairs of weights under the new maximum; gives by how much what came before fades. */
EMB_INLINE void soften(query_tile *t, const int vectors, uint32_t count, __m512 *fade) {
    for (int v = 0; v < vectors; v++) {
        float *scores = t->weights + 16 * v;
        size_t row = 16 * (size_t)vectors;
        __m512 highest = t->highest[v], total = _mm512_setzero_ps();
        for (uint32_t j = 0; j < count; j++)
            highest = _mm512_max_ps(_mm512_load_ps(scores + j * row), highest);
        for (uint32_t j = 0; j < count; j += 2) {
            __m512 first =
                emb_avx512_power(_mm512_sub_ps(_mm512_load_ps(scores + j * row), highest));
            __m512 second = _mm512_setzero_ps();
            if (j + 1 < count)
                second = emb_avx512_power(
                    _mm512_sub_ps(_mm512_load_ps(scores + (j + 1) * row), highest));
            total = _mm512_add_ps(total, _mm512_add_ps(first, second));
            _mm512_store_si512(scores + j / 2 * row, pair_lanes(first, second));
        }
        /* nothing came before the first block: its maximum is minus infinity */
        __m512 change = _mm512_sub_ps(t->highest[v], highest);
        fade[v] = emb_avx512_power(_mm512_max_ps(_mm512_set1_ps(-200.0f), change));
        t->total[v] = _mm512_fmadd_ps(t->total[v], fade[v], total);
        t->highest[v] = highest;
    }
}

/* sums[d] = sums[d] * fade + weights * values[.., d], for `dims` values from d on. */
EMB_INLINE void gather_dims(query_tile *t, const int vectors, const int dims, uint32_t d,
                            const uint32_t *values, uint32_t count, const __m512 *fade) {
    float *sums = t->sums + (size_t)d * 16 * vectors;
    __m512 left[8], right[8];
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++) {
        left[i] = _mm512_mul_ps(_mm512_load_ps(sums + i * 16 * vectors), fade[0]);
        if (vectors > 1)
            right[i] = _mm512_mul_ps(_mm512_load_ps(sums + i * 16 * vectors + 16), fade[1]);
    }
    const uint32_t *value = values + d;
    const float *weight = t->weights;
    for (uint32_t j = 0; j < count; j += 2, value += t->a->head_dim, weight += 16 * vectors) {
        __m512bh w0 = (__m512bh)_mm512_load_si512(weight), w1 = w0;
        if (vectors > 1) w1 = (__m512bh)_mm512_load_si512(weight + 16);
        EMB_CPU_UNROLL
        for (int i = 0; i < dims; i++) {
            __m512bh x = spread(value + i);
            left[i] = _mm512_dpbf16_ps(left[i], x, w0);
            if (vectors > 1) right[i] = _mm512_dpbf16_ps(right[i], x, w1);
        }
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++, sums += 16 * vectors) {
        _mm512_store_ps(sums, left[i]);
        if (vectors > 1) _mm512_store_ps(sums + 16, right[i]);
    }
}

EMB_INLINE void gather_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count,
                             const __m512 *fade) {
    const uint32_t *values = t->values + (size_t)key0 / 2 * t->a->head_dim;
    uint32_t d = 0;
    for (; d + 8 <= t->a->head_dim; d += 8) gather_dims(t, vectors, 8, d, values, count, fade);
    for (; d < t->a->head_dim; d++) gather_dims(t, vectors, 1, d, values, count, fade);
}

EMB_INLINE void write_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    for (int v = 0; v < vectors; v++) {
        __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), t->total[v]);
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += 16) {
            __m512 m[16];
            emb_avx512_queries(m, t->sums, vectors, v, d0, a->head_dim, factor);
            __mmask16 mask = emb_avx512_lanes(d0, a->head_dim);
            for (uint32_t q = 0; q < 16 && 16 * (uint32_t)v + q < t->queries; q++) {
                size_t row = t->query0 + 16 * (uint32_t)v + q;
                emb_avx512_store(a->out, (ptrdiff_t)(row * a->out_stride + d0), mask, m[q], true);
            }
        }
    }
}

EMB_INLINE void attend(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    load_queries(t, vectors);
    memset(t->sums, 0, (size_t)a->head_dim * 16 * vectors * sizeof *t->sums);
    for (int v = 0; v < vectors; v++) {
        t->highest[v] = _mm512_set1_ps(-INFINITY);
        t->total[v] = _mm512_setzero_ps();
    }
    for (uint32_t key0 = 0; key0 < a->tokens; key0 += EMB_CPU_KEY_BLOCK) {
        uint32_t left = a->tokens - key0;
        uint32_t count = left < EMB_CPU_KEY_BLOCK ? left : EMB_CPU_KEY_BLOCK;
        __m512 fade[2];
        score_block(t, vectors, key0, count);
        if (a->relative) add_relative(t, vectors, key0, count);
        soften(t, vectors, count, fade);
        gather_block(t, vectors, key0, count, fade);
    }
    write_queries(t, vectors);
}

void emb_cpu_avx512_attention_bf16(const emb_cpu_attention *a) {
    query_tile t = {.a = a, .pairs = ((size_t)a->head_dim + 1) / 2, .weights = a->work};
    t.sums = t.weights + (size_t)EMB_CPU_QUERY_TILE * EMB_CPU_KEY_BLOCK;
    t.columns = (uint32_t *)(t.sums + (size_t)EMB_CPU_QUERY_TILE * a->head_dim);
    t.keys = t.columns + EMB_CPU_QUERY_TILE * t.pairs;
    t.values = t.keys + a->tokens * t.pairs;
    pair_keys(&t);
    pair_values(&t);
    for (uint32_t query = 0; query < a->tokens; query += t.queries) {
        uint32_t left = a->tokens - query;
        t.query0 = query;
        t.queries = left < EMB_CPU_QUERY_TILE ? left : EMB_CPU_QUERY_TILE;
        if (left > 16)
            attend(&t, 2);
        else
            attend(&t, 1);
    }
}
