/* attention.c - softmax(q k^T) v of one head: each query has a vector lane of its own, so that the
 * softmax needs no sum across lanes and a query's bits do not depend on its neighbours.
 *
 * Up to 16 queries at a time, turned into columns; keys and values are read where they lie, one
 * value broadcast to all queries; keys go in blocks of EMB_CPU_KEY_BLOCK with an online softmax.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/avx2/avx2.h"

enum { LANES = 8, GROUP = 4 }; /* GROUP keys or values times 2 vectors hide the product's latency */

/* One tile of queries and its state. Rows of the matrices are LANES * vectors wide. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    uint32_t query0, queries; /* in this tile */
    float *columns;           /* [head_dim, width] scaled queries */
    float *sums;              /* [head_dim, width] weighted values */
    float *weights;           /* [key block, width] scores, then weights */
    __m256 highest[2], total[2];
} query_tile;

EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    __m256 scale = _mm256_set1_ps(a->scale);
    for (int v = 0; v < vectors; v++) {
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += LANES) {
            __m256 m[LANES];
            for (uint32_t q = 0; q < LANES; q++) {
                uint32_t query = LANES * (uint32_t)v + q;
                m[q] = _mm256_setzero_ps();
                if (query < t->queries)
                    m[q] = emb_avx2_load(a->queries + (t->query0 + query) * a->stride, d0,
                                         a->head_dim);
            }
            emb_avx2_transpose(m);
            for (uint32_t d = d0; d < a->head_dim && d < d0 + LANES; d++)
                _mm256_store_ps(t->columns + ((size_t)d * vectors + v) * LANES,
                                _mm256_mul_ps(m[d - d0], scale));
        }
    }
}

/* scores [keys, width] of `keys` keys from `key` on. */
EMB_INLINE void score_keys(query_tile *t, const int vectors, const int keys, const float *key,
                           float *scores) {
    size_t stride = t->a->stride;
    __m256 left[GROUP], right[GROUP]; /* right is not used if there is one vector */
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++) left[j] = right[j] = _mm256_setzero_ps();
    const float *first = key, *second = key + 2 * stride;
    const float *column = t->columns;
    for (uint32_t d = 0; d < t->a->head_dim; d++, column += LANES * vectors) {
        __m256 q0 = _mm256_load_ps(column), q1 = q0;
        if (vectors > 1) q1 = _mm256_load_ps(column + LANES);
        EMB_CPU_UNROLL
        for (int j = 0; j < keys; j++) {
            const float *row = (j < 2 ? first : second) + (size_t)(j % 2) * stride;
            __m256 k = _mm256_broadcast_ss(row + d);
            left[j] = _mm256_fmadd_ps(k, q0, left[j]);
            if (vectors > 1) right[j] = _mm256_fmadd_ps(k, q1, right[j]);
        }
    }
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++, scores += LANES * vectors) {
        _mm256_store_ps(scores, left[j]);
        if (vectors > 1) _mm256_store_ps(scores + LANES, right[j]);
    }
}

EMB_INLINE void score_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    const float *key = t->a->keys + key0 * t->a->stride;
    float *scores = t->weights;
    uint32_t j = 0;
    for (; j + GROUP <= count; j += GROUP) {
        score_keys(t, vectors, GROUP, key, scores);
        key += GROUP * t->a->stride;
        scores += GROUP * LANES * vectors;
    }
    for (; j < count; j++) {
        score_keys(t, vectors, 1, key, scores);
        key += t->a->stride;
        scores += LANES * vectors;
    }
}

/* Adds relative[j - i]: ascending queries are descending addresses. */
EMB_INLINE void add_relative(query_tile *t, const int vectors, uint32_t key0, uint32_t count) {
    const __m256i reverse = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    for (int v = 0; v < vectors; v++) {
        uint32_t before = LANES * (uint32_t)v;
        int inside = t->queries - before < LANES ? (int)(t->queries - before) : LANES;
        /* lane l reads place 7 - l; lanes without a query may lie outside the table */
        __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(inside), reverse);
        ptrdiff_t at = (ptrdiff_t)key0 - (ptrdiff_t)(t->query0 + before) - (LANES - 1);
        for (uint32_t j = 0; j < count; j++) {
            float *scores = t->weights + ((size_t)j * vectors + v) * LANES;
            __m256 bias = _mm256_maskload_ps(t->a->relative + at + j, mask);
            bias = _mm256_permutevar8x32_ps(bias, reverse);
            _mm256_store_ps(scores, _mm256_add_ps(_mm256_load_ps(scores), bias));
        }
    }
}

/* Scores to weights under the new maximum; gives by how much what came before fades. */
EMB_INLINE void soften(query_tile *t, const int vectors, uint32_t count, __m256 *fade) {
    size_t width = LANES * (size_t)vectors;
    for (int v = 0; v < vectors; v++) {
        float *scores = t->weights + LANES * v;
        __m256 highest = t->highest[v];
        for (uint32_t j = 0; j < count; j++)
            highest = _mm256_max_ps(_mm256_load_ps(scores + j * width), highest);
        __m256 total = _mm256_setzero_ps();
        for (uint32_t j = 0; j < count; j++) {
            __m256 score = _mm256_load_ps(scores + j * width);
            __m256 weight = emb_avx2_exp(_mm256_sub_ps(score, highest));
            total = _mm256_add_ps(total, weight);
            _mm256_store_ps(scores + j * width, weight);
        }
        fade[v] = emb_avx2_exp(_mm256_sub_ps(t->highest[v], highest));
        t->total[v] = _mm256_fmadd_ps(t->total[v], fade[v], total);
        t->highest[v] = highest;
    }
}

/* sums[d] = sums[d] * fade + weights * values[.., d], for `dims` values from d on. */
EMB_INLINE void gather_dims(query_tile *t, const int vectors, const int dims, uint32_t d,
                            const float *values, uint32_t count, const __m256 *fade) {
    float *sums = t->sums + (size_t)d * LANES * vectors;
    __m256 left[GROUP], right[GROUP];
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++) {
        left[i] = _mm256_mul_ps(_mm256_load_ps(sums + i * LANES * vectors), fade[0]);
        if (vectors > 1)
            right[i] = _mm256_mul_ps(_mm256_load_ps(sums + i * LANES * vectors + LANES), fade[1]);
    }
    const float *value = values + d, *weight = t->weights;
    for (uint32_t j = 0; j < count; j++, value += t->a->stride, weight += LANES * vectors) {
        __m256 w0 = _mm256_load_ps(weight), w1 = w0;
        if (vectors > 1) w1 = _mm256_load_ps(weight + LANES);
        EMB_CPU_UNROLL
        for (int i = 0; i < dims; i++) {
            __m256 x = _mm256_broadcast_ss(value + i);
            left[i] = _mm256_fmadd_ps(x, w0, left[i]);
            if (vectors > 1) right[i] = _mm256_fmadd_ps(x, w1, right[i]);
        }
    }
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++, sums += LANES * vectors) {
        _mm256_store_ps(sums, left[i]);
        if (vectors > 1) _mm256_store_ps(sums + LANES, right[i]);
    }
}

EMB_INLINE void gather_block(query_tile *t, const int vectors, uint32_t key0, uint32_t count,
                             const __m256 *fade) {
    const float *values = t->a->values + key0 * t->a->stride;
    uint32_t d = 0;
    for (; d + GROUP <= t->a->head_dim; d += GROUP)
        gather_dims(t, vectors, GROUP, d, values, count, fade);
    for (; d < t->a->head_dim; d++) gather_dims(t, vectors, 1, d, values, count, fade);
}

EMB_INLINE void write_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    for (int v = 0; v < vectors; v++) {
        __m256 factor = _mm256_div_ps(_mm256_set1_ps(1.0f), t->total[v]);
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += LANES) {
            __m256 m[LANES];
            for (uint32_t i = 0; i < LANES; i++) {
                uint32_t d = d0 + i < a->head_dim ? d0 + i : d0;
                m[i] = _mm256_load_ps(t->sums + ((size_t)d * vectors + v) * LANES);
                m[i] = _mm256_mul_ps(m[i], factor);
            }
            emb_avx2_transpose(m);
            for (uint32_t q = 0; q < LANES && LANES * (uint32_t)v + q < t->queries; q++) {
                size_t row = t->query0 + LANES * (uint32_t)v + q;
                emb_avx2_store((float *)a->out + row * a->out_stride, d0, a->head_dim, m[q]);
            }
        }
    }
}

EMB_INLINE void attend(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    load_queries(t, vectors);
    memset(t->sums, 0, (size_t)a->head_dim * LANES * vectors * sizeof *t->sums);
    for (int v = 0; v < vectors; v++) {
        t->highest[v] = _mm256_set1_ps(-INFINITY);
        t->total[v] = _mm256_setzero_ps();
    }
    for (uint32_t key0 = 0; key0 < a->tokens; key0 += EMB_CPU_KEY_BLOCK) {
        uint32_t left = a->tokens - key0;
        uint32_t count = left < EMB_CPU_KEY_BLOCK ? left : EMB_CPU_KEY_BLOCK;
        __m256 fade[2];
        score_block(t, vectors, key0, count);
        if (a->relative) add_relative(t, vectors, key0, count);
        soften(t, vectors, count, fade);
        gather_block(t, vectors, key0, count, fade);
    }
    write_queries(t, vectors);
}

void emb_cpu_avx2_attention(const emb_cpu_attention *a) {
    size_t matrix = (size_t)EMB_CPU_QUERY_TILE * a->head_dim;
    query_tile t = {
        .a = a, .columns = a->work, .sums = a->work + matrix, .weights = a->work + 2 * matrix};
    for (uint32_t query = 0; query < a->tokens; query += t.queries) {
        uint32_t left = a->tokens - query;
        t.query0 = query;
        t.queries = left < 2 * LANES ? left : 2 * LANES;
        if (left > LANES)
            attend(&t, 2);
        else
            attend(&t, 1);
    }
}
