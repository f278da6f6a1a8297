/* attention.c - softmax(q k^T) v of one head: each query has a vector lane of its own, so that the
 * softmax needs no sum across lanes and a query's bits do not depend on its neighbours.
 *
 * A query tile is up to 16 queries, turned into columns; keys and values are read where they lie,
 * one value broadcast to all queries, a key tile at a time, with an online softmax between the two
 * products. Lanes hold queries in falling order, because ascending distances j - i are then
 * ascending addresses.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/avx2/avx2.h"

enum { LANES = 8, TILE_ROWS = 4 }; /* 4 rows times 2 vectors hide the product's latency */

/* One query tile and its state. Rows of the matrices are `width` lanes wide: LANES times the
 * vectors of queries. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    uint32_t query0, queries; /* in this tile */
    float *columns;           /* [head_dim, width] scaled queries */
    float *scores;            /* [key tile, width], then weights */
    float *outputs;           /* [head_dim, width] weighted values */
} query_tile;

/* The state of the online softmax: a lane a query, as many vectors as the query tile has. */
typedef struct softmax_state {
    __m256 maximum[2], sum[2]; /* running, of scores and weights */
    __m256 rescale[2];         /* the factor for what was summed before the last key tile */
} softmax_state;

/* Rows of queries become columns; lanes without a query hold 0. */
EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    __m256 scale = _mm256_set1_ps(a->scale);
    for (int v = 0; v < vectors; v++) {
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += LANES) {
            __m256 m[LANES];
            for (uint32_t q = 0; q < LANES; q++) {
                uint32_t query = LANES * (uint32_t)v + q;
                __m256 *row = &m[LANES - 1 - q];
                *row = _mm256_setzero_ps();
                if (query < t->queries)
                    *row = emb_avx2_load(a->queries + (t->query0 + query) * a->stride, d0,
                                         a->head_dim);
            }
            emb_avx2_transpose(m);
            for (uint32_t d = d0; d < a->head_dim && d < d0 + LANES; d++)
                _mm256_store_ps(t->columns + ((size_t)d * vectors + v) * LANES,
                                _mm256_mul_ps(m[d - d0], scale));
        }
    }
}

/* sums [rows, vectors] += rows [rows, steps] * lanes [steps, width]: keys times the queries, dims
 * of the values times the weights. */
EMB_INLINE void multiply_rows(__m256 (*sums)[2], const int rows, const int vectors,
                              const float *row, size_t row_stride, size_t step_stride,
                              const float *lanes, size_t steps) {
    const float *first = row, *second = row + 2 * row_stride;
    for (size_t s = 0; s < steps; s++, lanes += LANES * vectors) {
        __m256 left = _mm256_load_ps(lanes), right = left;
        if (vectors > 1) right = _mm256_load_ps(lanes + LANES);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            const float *at = (r < 2 ? first : second) + (size_t)(r % 2) * row_stride;
            __m256 x = _mm256_broadcast_ss(at + s * step_stride);
            sums[r][0] = _mm256_fmadd_ps(x, left, sums[r][0]);
            if (vectors > 1) sums[r][1] = _mm256_fmadd_ps(x, right, sums[r][1]);
        }
    }
}

EMB_INLINE void score_rows(query_tile *t, const int vectors, const int keys, uint32_t key0,
                           float *scores) {
    __m256 sums[TILE_ROWS][2]; /* the second is not used if there is one vector */
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++) sums[j][0] = sums[j][1] = _mm256_setzero_ps();
    multiply_rows(sums, keys, vectors, t->a->keys + key0 * t->a->stride, t->a->stride, 1,
                  t->columns, t->a->head_dim);
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++, scores += LANES * vectors) {
        _mm256_store_ps(scores, sums[j][0]);
        if (vectors > 1) _mm256_store_ps(scores + LANES, sums[j][1]);
    }
}

/* scores = those of `keys` keys from key0 on. */
EMB_INLINE void score_keys(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    float *scores = t->scores;
    uint32_t j = 0;
    for (; j + TILE_ROWS <= keys; j += TILE_ROWS, scores += TILE_ROWS * LANES * vectors)
        score_rows(t, vectors, TILE_ROWS, key0 + j, scores);
    for (; j < keys; j++, scores += LANES * vectors) score_rows(t, vectors, 1, key0 + j, scores);
}

/* Adds relative[j - i] to each score. */
EMB_INLINE void add_relative(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    const __m256i reverse = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    for (int v = 0; v < vectors; v++) {
        uint32_t before = LANES * (uint32_t)v;
        int inside = t->queries - before < LANES ? (int)(t->queries - before) : LANES;
        /* lane l is query 7 - l; lanes without a query may lie outside the table */
        __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(inside), reverse);
        ptrdiff_t at = (ptrdiff_t)key0 - (ptrdiff_t)(t->query0 + before) - (LANES - 1);
        for (uint32_t j = 0; j < keys; j++) {
            float *scores = t->scores + ((size_t)j * vectors + v) * LANES;
            __m256 bias = _mm256_maskload_ps(t->a->relative + at + j, mask);
            _mm256_store_ps(scores, _mm256_add_ps(_mm256_load_ps(scores), bias));
        }
    }
}

/* Scores to weights under the new running maximum, to which the running sum is rescaled. */
EMB_INLINE void update_softmax(softmax_state *state, query_tile *t, const int vectors,
                               uint32_t keys) {
    size_t width = LANES * (size_t)vectors;
    for (int v = 0; v < vectors; v++) {
        float *scores = t->scores + LANES * v;
        __m256 maximum = state->maximum[v], sum = _mm256_setzero_ps();
        for (uint32_t j = 0; j < keys; j++)
            maximum = _mm256_max_ps(_mm256_load_ps(scores + j * width), maximum);
        for (uint32_t j = 0; j < keys; j++) {
            __m256 score = _mm256_load_ps(scores + j * width);
            __m256 weight = emb_avx2_exp(_mm256_sub_ps(score, maximum));
            sum = _mm256_add_ps(sum, weight);
            _mm256_store_ps(scores + j * width, weight);
        }
        __m256 rescale = emb_avx2_exp(_mm256_sub_ps(state->maximum[v], maximum));
        state->sum[v] = _mm256_fmadd_ps(state->sum[v], rescale, sum);
        state->maximum[v] = maximum;
        state->rescale[v] = rescale;
    }
}

EMB_INLINE void add_dims(query_tile *t, const int vectors, const int dims, uint32_t d,
                         uint32_t key0, uint32_t keys, const __m256 *rescale) {
    float *outputs = t->outputs + (size_t)d * LANES * vectors;
    __m256 sums[TILE_ROWS][2];
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++) {
        sums[i][0] = sums[i][1] = _mm256_setzero_ps();
        if (key0 == 0) continue;
        const float *at = outputs + i * LANES * vectors;
        sums[i][0] = _mm256_mul_ps(_mm256_load_ps(at), rescale[0]);
        if (vectors > 1) sums[i][1] = _mm256_mul_ps(_mm256_load_ps(at + LANES), rescale[1]);
    }
    multiply_rows(sums, dims, vectors, t->a->values + key0 * t->a->stride + d, 1, t->a->stride,
                  t->scores, keys);
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++, outputs += LANES * vectors) {
        _mm256_store_ps(outputs, sums[i][0]);
        if (vectors > 1) _mm256_store_ps(outputs + LANES, sums[i][1]);
    }
}

/* outputs = outputs * rescale + weights * values, for `keys` keys from key0 on; without the first
 * term for key 0. */
EMB_INLINE void add_values(query_tile *t, const int vectors, uint32_t key0, uint32_t keys,
                           const __m256 *rescale) {
    uint32_t d = 0;
    for (; d + TILE_ROWS <= t->a->head_dim; d += TILE_ROWS)
        add_dims(t, vectors, TILE_ROWS, d, key0, keys, rescale);
    for (; d < t->a->head_dim; d++) add_dims(t, vectors, 1, d, key0, keys, rescale);
}

/* Outputs over the running sums, columns back to rows. */
EMB_INLINE void store_queries(const query_tile *t, const int vectors, const __m256 *sum) {
    const emb_cpu_attention *a = t->a;
    for (int v = 0; v < vectors; v++) {
        __m256 factor = _mm256_div_ps(_mm256_set1_ps(1.0f), sum[v]);
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += LANES) {
            __m256 m[LANES];
            for (uint32_t i = 0; i < LANES; i++) {
                uint32_t d = d0 + i < a->head_dim ? d0 + i : d0;
                m[i] = _mm256_load_ps(t->outputs + ((size_t)d * vectors + v) * LANES);
                m[i] = _mm256_mul_ps(m[i], factor);
            }
            emb_avx2_transpose(m);
            for (uint32_t q = 0; q < LANES && LANES * (uint32_t)v + q < t->queries; q++) {
                size_t row = t->query0 + LANES * (uint32_t)v + q;
                emb_avx2_store((float *)a->out + row * a->out_stride, d0, a->head_dim,
                               m[LANES - 1 - q]);
            }
        }
    }
}

/* One query tile. */
EMB_INLINE void walk_keys(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    softmax_state state;
    load_queries(t, vectors);
    for (int v = 0; v < vectors; v++) {
        state.maximum[v] = _mm256_set1_ps(-INFINITY);
        state.sum[v] = _mm256_setzero_ps();
    }
    for (uint32_t key0 = 0; key0 < a->tokens; key0 += EMB_CPU_KEY_TILE) {
        uint32_t left = a->tokens - key0, keys = left < EMB_CPU_KEY_TILE ? left : EMB_CPU_KEY_TILE;
        score_keys(t, vectors, key0, keys);
        if (a->relative) add_relative(t, vectors, key0, keys);
        update_softmax(&state, t, vectors, keys);
        add_values(t, vectors, key0, keys, state.rescale);
    }
    store_queries(t, vectors, state.sum);
}

void emb_cpu_avx2_attention(const emb_cpu_attention *a) {
    size_t matrix = (size_t)EMB_CPU_QUERY_TILE * a->head_dim;
    query_tile t = {
        .a = a, .columns = a->work, .outputs = a->work + matrix, .scores = a->work + 2 * matrix};
    for (uint32_t query = 0; query < a->tokens; query += t.queries) {
        uint32_t left = a->tokens - query;
        t.query0 = query;
        t.queries = left < 2 * LANES ? left : 2 * LANES;
        if (left > LANES)
            walk_keys(&t, 2);
        else
            walk_keys(&t, 1);
    }
}
