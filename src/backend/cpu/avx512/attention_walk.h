/* attention_walk.h - softmax(q k^T) v of one head: the walk over query tiles and key tiles, and the
 * online softmax, for every operand kind (attention_f32.c, attention_bf16.c, attention_dot.c).
 *
 * Each query has a vector lane of its own, so that the softmax needs no sum across lanes and a
 * query's bits do not depend on its neighbours. Lanes hold queries in falling order, because
 * ascending distances j - i are then ascending addresses. What differs between operand kinds are
 * the hooks, all defined by the file that includes this one.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX512_ATTENTION_WALK_H
#define EMB_BACKEND_CPU_AVX512_ATTENTION_WALK_H

#include <math.h>

#include "backend/cpu/avx512/avx512.h"

#define LOG2_E 1.44269504f

/* One query tile and its state. A word is 32 bits of an operand: one f32, two bf16 or four bytes.
 * Rows of columns, scores and outputs are `width` lanes wide: 16 times the vectors of queries. */
typedef struct query_tile {
    const emb_cpu_attention *a;
    const struct quantized_head *quantized; /* attention_dot.c's own */
    const char *keys;                       /* [tokens, steps] words, rows `key_bytes` apart */
    const char *values; /* [tokens / keys of a word, head_dim] words, rows `value_bytes` apart */
    size_t key_bytes, value_bytes;
    size_t steps;             /* words of a query or a key */
    uint32_t key_tile;        /* keys that one step of the online softmax takes */
    uint32_t query0, queries; /* in this tile */
    float *columns;           /* [steps, width] words of queries */
    float *scores;            /* [key tile, width] scores, then words of weights in their place */
    float *outputs;           /* [head_dim, width] weighted values */
} query_tile;

/* The state of the online softmax: a lane a query, as many vectors as the query tile has. */
typedef struct softmax_state {
    __m512 maximum[2], sum[2]; /* running, of scores and weights */
    __m512 rescale[2];         /* the factor for what was summed before the last key tile */
} softmax_state;

/* ---- hooks ----------------------------------------------------------------------------------- */

/* Words [step, step + 16) of the head's query number `query`; 0 past its last. */
EMB_INLINE __m512i load_query(const query_tile *t, size_t query, size_t step);

/* scores = those of `keys` keys from key0 on. */
EMB_INLINE void score_keys(query_tile *t, const int vectors, uint32_t key0, uint32_t keys);

/* One key's scores, read as score_keys left them, with the relative bias added; f32. */
EMB_INLINE __m512 add_bias(const query_tile *t, const float *scores, __m512 bias);

/* The running maximum after `keys` rows of scores, `width` apart. */
EMB_INLINE __m512 raise_maximum(const query_tile *t, const float *scores, size_t width,
                                uint32_t keys, __m512 maximum);

/* Turns scores into words of weights, under the maximum; gives the weights' sum. */
EMB_INLINE __m512 weigh_keys(const query_tile *t, float *scores, size_t width, uint32_t keys,
                             __m512 maximum);

/* The online softmax's rescale factor for a change of the maximum, `change` = old - new (<= 0;
 * minus infinity for the first key tile). */
EMB_INLINE __m512 rescale_factor(__m512 change);

/* outputs = outputs * rescale + weights * values, for `keys` keys from key0 on; without the first
 * term for key 0. */
EMB_INLINE void add_values(query_tile *t, const int vectors, uint32_t key0, uint32_t keys,
                           const __m512 *rescale);

/* Writes the lanes of `mask` of a query's output, dims d on; `at` is their place in out. */
EMB_INLINE void store_output(const query_tile *t, ptrdiff_t at, uint32_t d, __mmask16 mask,
                             __m512 values);

/* ---- the walk -------------------------------------------------------------------------------- */

/* Rows of queries become columns; lanes without one repeat the last. */
EMB_INLINE void load_queries(query_tile *t, const int vectors) {
    for (int v = 0; v < vectors; v++) {
        for (size_t step = 0; step < t->steps; step += 16) {
            __m512 m[16];
            EMB_CPU_UNROLL
            for (uint32_t q = 0; q < 16; q++) {
                uint32_t number = 16 * (uint32_t)v + q;
                if (number >= t->queries) number = t->queries - 1;
                m[15 - q] = _mm512_castsi512_ps(load_query(t, t->query0 + number, step));
            }
            emb_avx512_transpose(m);
            for (size_t i = step; i < t->steps && i < step + 16; i++)
                _mm512_store_ps(t->columns + (i * (size_t)vectors + (size_t)v) * 16, m[i - step]);
        }
    }
}

/* Adds relative[j - i] to each score. */
EMB_INLINE void add_relative(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    for (int v = 0; v < vectors; v++) {
        /* lane l is query 15 - l; lanes without a query may lie outside the table */
        uint32_t inside = emb_avx512_lanes(16 * (size_t)v, t->queries);
        __mmask16 mask = (__mmask16)(0xffffu << (16 - __builtin_popcount(inside)));
        ptrdiff_t at = (ptrdiff_t)key0 - (ptrdiff_t)(t->query0 + 16 * (uint32_t)v) - 15;
        for (uint32_t j = 0; j < keys; j++) {
            float *scores = t->scores + ((size_t)j * vectors + v) * 16;
            __m512 bias = _mm512_maskz_loadu_ps(mask, t->a->relative + at + j);
            _mm512_store_ps(scores, add_bias(t, scores, bias));
        }
    }
}

/* Scores to weights under the new running maximum, to which the running sum is rescaled. */
EMB_INLINE void update_softmax(softmax_state *state, query_tile *t, const int vectors,
                               uint32_t keys) {
    size_t width = 16 * (size_t)vectors;
    for (int v = 0; v < vectors; v++) {
        float *scores = t->scores + 16 * v;
        __m512 maximum = raise_maximum(t, scores, width, keys, state->maximum[v]);
        __m512 sum = weigh_keys(t, scores, width, keys, maximum);
        __m512 rescale = rescale_factor(_mm512_sub_ps(state->maximum[v], maximum));
        state->sum[v] = _mm512_fmadd_ps(state->sum[v], rescale, sum);
        state->maximum[v] = maximum;
        state->rescale[v] = rescale;
    }
}

/* Outputs over the running sums, columns back to rows. */
EMB_INLINE void store_queries(const query_tile *t, const int vectors, const __m512 *sum) {
    const emb_cpu_attention *a = t->a;
    for (int v = 0; v < vectors; v++) {
        __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), sum[v]);
        for (uint32_t d0 = 0; d0 < a->head_dim; d0 += 16) {
            __m512 m[16];
            for (uint32_t i = 0; i < 16; i++) {
                uint32_t d = d0 + i < a->head_dim ? d0 + i : d0;
                m[i] = _mm512_load_ps(t->outputs + ((size_t)d * vectors + v) * 16);
                m[i] = _mm512_mul_ps(m[i], factor);
            }
            emb_avx512_transpose(m);
            __mmask16 mask = emb_avx512_lanes(d0, a->head_dim);
            for (uint32_t q = 0; q < 16 && 16 * (uint32_t)v + q < t->queries; q++) {
                size_t row = t->query0 + 16 * (uint32_t)v + q;
                store_output(t, (ptrdiff_t)(row * a->out_stride + d0), d0, mask, m[15 - q]);
            }
        }
    }
}

/* One query tile. */
EMB_INLINE void walk_keys(query_tile *t, const int vectors) {
    const emb_cpu_attention *a = t->a;
    load_queries(t, vectors);
    softmax_state state;
    for (int v = 0; v < vectors; v++) {
        state.maximum[v] = _mm512_set1_ps(-INFINITY);
        state.sum[v] = _mm512_setzero_ps();
    }
    for (uint32_t key0 = 0; key0 < a->tokens; key0 += t->key_tile) {
        uint32_t left = a->tokens - key0, keys = left < t->key_tile ? left : t->key_tile;
        score_keys(t, vectors, key0, keys);
        if (a->relative) add_relative(t, vectors, key0, keys);
        update_softmax(&state, t, vectors, keys);
        add_values(t, vectors, key0, keys, state.rescale);
    }
    store_queries(t, vectors, state.sum);
}

/* All query tiles of the head. */
EMB_INLINE void walk_queries(query_tile *t) {
    uint32_t tokens = t->a->tokens;
    for (uint32_t query = 0; query < tokens; query += t->queries) {
        uint32_t left = tokens - query;
        t->query0 = query;
        t->queries = left < EMB_CPU_QUERY_TILE ? left : EMB_CPU_QUERY_TILE;
        if (left > 16)
            walk_keys(t, 2);
        else
            walk_keys(t, 1);
    }
}

/* ---- for hooks ------------------------------------------------------------------------------- */

/* raise_maximum where scores are f32. */
EMB_INLINE __m512 raise_maximum_f32(const float *scores, size_t width, uint32_t keys,
                                    __m512 maximum) {
    for (uint32_t j = 0; j < keys; j++)
        maximum = _mm512_max_ps(_mm512_load_ps(scores + j * width), maximum);
    return maximum;
}

/* rescale_factor where scores are powers of two. */
EMB_INLINE __m512 rescale_power(__m512 change) {
    return emb_avx512_power(_mm512_max_ps(_mm512_set1_ps(-200.0f), change));
}

#endif
