/* attention.c - softmax(q k^T) v of one head: each query has a vector lane of its own, so that the
 * softmax needs no sum across lanes and a query's bits do not depend on its neighbours.
 *
 * Up to 32 queries at a time, turned into columns; keys and values are read where they lie, one
 * value broadcast to all queries; keys go in blocks of EMB_CPU_KEY_BLOCK with an online softmax.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/avx512/avx512.h"

/* One tile of queries and its state. Rows of the matrices are `width` lanes wide. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    uint32_t query0, queries; /* in this tile */
    float *columns;           /* [head_dim, width] scaled queries */
    float *sums;              /* [head_dim, width] weighted values */
    float *weights;           /* [key block, width] scores, then weights */
    __m512 highest[2], total[2];
} query_tile;

EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    __m512 scale = _mm512_set1_ps(a->scale);
    for (int v = 0; v < vectors; v++) {
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += 16) {
            __mmask16 mask = emb_avx512_lanes(d0, a->head_dim);
            __m512 m[16];
            for (uint32_t q = 0; q < 16; q++) {
                bool inside = 16 * (uint32_t)v + q < t->queries;
                size_t row = t->query0 + (inside ? 16 * (uint32_t)v + q : 0);
                m[q] = _mm512_maskz_loadu_ps(inside ? mask : 0, a->queries + row * a->stride + d0);
            }
            emb_avx512_transpose(m);
            for (uint32_t d = d0; d < a->head_dim && d < d0 + 16; d++)
                _mm512_store_ps(t->columns + ((size_t)d * vectors + v) * 16,
                                _mm512_mul_ps(m[d - d0], scale));
        }
    }
}

/* weights[j] = scores of `keys` keys from j on. */
EMB_INLINE void score_keys(query_tile *t, const int vectors, const int keys, const float *key,
                           float *scores) {
    size_t stride = t->a->stride;
    __m512 left[8], right[8]; /* right is not used if there is one vector */
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++) left[j] = right[j] = _mm512_setzero_ps();
    const float *first = key, *second = key + 3 * stride, *third = key + 6 * stride;
    const float *column = t->columns;
    for (uint32_t d = 0; d < t->a->head_dim; d++, column += 16 * vectors) {
        __m512 q0 = _mm512_load_ps(column), q1 = q0;
        if (vectors > 1) q1 = _mm512_load_ps(column + 16);
        EMB_CPU_UNROLL
        for (int j = 0; j < keys; j++) {
            const float *row = (j < 3 ? first : j < 6 ? second : third) + (size_t)(j % 3) * stride;
            __m512 k = _mm512_set1_ps(row[d]);
            left[j] = _mm512_fmadd_ps(k, q0, left[j]);
            if (vectors > 1) right[j] = _mm512_fmadd_ps(k, q1, right[j]);
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
        const float *key = t->a->keys + (key0 + j) * t->a->stride;
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
            _mm512_store_ps(scores, _mm512_add_ps(_mm512_load_ps(scores), bias));
        }
    }
}

/* Scores to weights under the new maximum; gives by how much what came before fades. */
EMB_INLINE void soften(query_tile *t, const int vectors, uint32_t count, __m512 *fade) {
    for (int v = 0; v < vectors; v++) {
        float *scores = t->weights + 16 * v;
        __m512 highest = t->highest[v];
        for (uint32_t j = 0; j < count; j++)
            highest = _mm512_max_ps(_mm512_load_ps(scores + (size_t)j * 16 * vectors), highest);
        __m512 total = _mm512_setzero_ps();
        for (uint32_t j = 0; j < count; j++) {
            float *at = scores + (size_t)j * 16 * vectors;
            __m512 weight = emb_avx512_exp(_mm512_sub_ps(_mm512_load_ps(at), highest));
            total = _mm512_add_ps(total, weight);
            _mm512_store_ps(at, weight);
        }
        fade[v] = emb_avx512_exp(_mm512_sub_ps(t->highest[v], highest));
        t->total[v] = _mm512_fmadd_ps(t->total[v], fade[v], total);
        t->highest[v] = highest;
    }
}

/* sums[d] = sums[d] * fade + weights * values[.., d], for `dims` values from d on. */
EMB_INLINE void gather_dims(query_tile *t, const int vectors, const int dims, uint32_t d,
                            const float *values, uint32_t count, const __m512 *fade) {
    float *sums = t->sums + (size_t)d * 16 * vectors;
    __m512 left[8], right[8];
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++) {
        left[i] = _mm512_mul_ps(_mm512_load_ps(sums + i * 16 * vectors), fade[0]);
        if (vectors > 1)
            right[i] = _mm512_mul_ps(_mm512_load_ps(sums + i * 16 * vectors + 16), fade[1]);
    }
    const float *value = values + d, *weight = t->weights;
    for (uint32_t j = 0; j < count; j++, value += t->a->stride, weight += 16 * vectors) {
        __m512 w0 = _mm512_load_ps(weight), w1 = w0;
        if (vectors > 1) w1 = _mm512_load_ps(weight + 16);
        EMB_CPU_UNROLL
        for (int i = 0; i < dims; i++) {
            __m512 x = _mm512_set1_ps(value[i]);
            left[i] = _mm512_fmadd_ps(x, w0, left[i]);
            if (vectors > 1) right[i] = _mm512_fmadd_ps(x, w1, right[i]);
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
    const float *values = t->a->values + key0 * t->a->stride;
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
                emb_avx512_store(a->out, (ptrdiff_t)(row * a->out_stride + d0), mask, m[q], false);
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

void emb_cpu_avx512_attention_f32(const emb_cpu_attention *a) {
    size_t matrix = (size_t)EMB_CPU_QUERY_TILE * a->head_dim;
    query_tile t = {
        .a = a, .columns = a->work, .sums = a->work + matrix, .weights = a->work + 2 * matrix};
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
