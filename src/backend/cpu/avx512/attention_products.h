/* attention_products.h - attention's two products where sums are f32 (attention_f32.c and
 * attention_bf16.c): hooks score_keys, raise_maximum and add_values of attention_walk.h.
 *
 * Both multiply words of some rows, each broadcast, with vectors of a word for each query: keys
 * with the queries, word by word; dims of the values with the weights, key by key.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX512_ATTENTION_PRODUCTS_H
#define EMB_BACKEND_CPU_AVX512_ATTENTION_PRODUCTS_H

#include "backend/cpu/avx512/attention_walk.h"

/* 8 rows times 2 vectors hide the product's latency. */
enum { TILE_ROWS = 8 };

/* ---- hooks ----------------------------------------------------------------------------------- */

/* Words that hold the weights, or the values of one dim, of so many keys. */
EMB_INLINE uint32_t words_of_keys(uint32_t keys);

/* A word in all lanes. */
EMB_INLINE __m512i broadcast(const char *word);

/* sum + what two words' values multiply to. */
EMB_INLINE __m512 multiply_add(__m512 sum, __m512i word, __m512i lanes);

/* ---- products -------------------------------------------------------------------------------- */

/* sums [rows, vectors] += rows [rows, steps] * lanes [steps, width] */
EMB_INLINE void multiply_rows(__m512 (*sums)[2], const int rows, const int vectors, const char *row,
                              size_t row_bytes, size_t step_bytes, const float *lanes,
                              size_t steps) {
    /* with three pointers three rows apart, addressing modes reach all rows */
    const char *first = row, *second = row + 3 * row_bytes, *third = row + 6 * row_bytes;
    for (size_t s = 0; s < steps; s++, lanes += 16 * vectors) {
        __m512i left = _mm512_load_si512(lanes), right = left;
        if (vectors > 1) right = _mm512_load_si512(lanes + 16);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            const char *at = r < 3 ? first : r < 6 ? second : third;
            __m512i word = broadcast(at + (size_t)(r % 3) * row_bytes + s * step_bytes);
            sums[r][0] = multiply_add(sums[r][0], word, left);
            if (vectors > 1) sums[r][1] = multiply_add(sums[r][1], word, right);
        }
    }
}

EMB_INLINE void score_rows(query_tile *t, const int vectors, const int keys, uint32_t key0,
                           float *scores) {
    __m512 sums[TILE_ROWS][2]; /* the second is not used if there is one vector */
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++) sums[j][0] = sums[j][1] = _mm512_setzero_ps();
    multiply_rows(sums, keys, vectors, t->keys + key0 * t->key_bytes, t->key_bytes, sizeof *scores,
                  t->columns, t->steps);
    EMB_CPU_UNROLL
    for (int j = 0; j < keys; j++, scores += 16 * vectors) {
        _mm512_store_ps(scores, sums[j][0]);
        if (vectors > 1) _mm512_store_ps(scores + 16, sums[j][1]);
    }
}

EMB_INLINE void score_tile(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    uint32_t j = 0;
    for (; j + TILE_ROWS <= keys; j += TILE_ROWS)
        score_rows(t, vectors, TILE_ROWS, key0 + j, t->scores + (size_t)j * 16 * vectors);
    if (j + 4 <= keys) {
        score_rows(t, vectors, 4, key0 + j, t->scores + (size_t)j * 16 * vectors);
        j += 4;
    }
    for (; j < keys; j++) score_rows(t, vectors, 1, key0 + j, t->scores + (size_t)j * 16 * vectors);
}

EMB_INLINE __m512 raise_maximum(const query_tile *t, const float *scores, size_t width,
                                uint32_t keys, __m512 maximum) {
    (void)t;
    return raise_maximum_f32(scores, width, keys, maximum);
}

EMB_INLINE void add_dims(query_tile *t, const int vectors, const int dims, uint32_t d,
                         uint32_t key0, uint32_t keys, const __m512 *rescale) {
    float *outputs = t->outputs + (size_t)d * 16 * vectors;
    const char *values = t->values + words_of_keys(key0) * t->value_bytes + d * sizeof *outputs;
    __m512 sums[TILE_ROWS][2];
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++) {
        sums[i][0] = sums[i][1] = _mm512_setzero_ps();
        if (key0 == 0) continue;
        sums[i][0] = _mm512_mul_ps(_mm512_load_ps(outputs + i * 16 * vectors), rescale[0]);
        if (vectors > 1)
            sums[i][1] = _mm512_mul_ps(_mm512_load_ps(outputs + i * 16 * vectors + 16), rescale[1]);
    }
    multiply_rows(sums, dims, vectors, values, sizeof *outputs, t->value_bytes, t->scores,
                  words_of_keys(keys));
    EMB_CPU_UNROLL
    for (int i = 0; i < dims; i++, outputs += 16 * vectors) {
        _mm512_store_ps(outputs, sums[i][0]);
        if (vectors > 1) _mm512_store_ps(outputs + 16, sums[i][1]);
    }
}

EMB_INLINE void add_all_dims(query_tile *t, const int vectors, uint32_t key0, uint32_t keys,
                             const __m512 *rescale) {
    uint32_t d = 0;
    for (; d + TILE_ROWS <= t->a->head_dim; d += TILE_ROWS)
        add_dims(t, vectors, TILE_ROWS, d, key0, keys, rescale);
    for (; d < t->a->head_dim; d++) add_dims(t, vectors, 1, d, key0, keys, rescale);
}

/* Functions of their own: inside the walk gcc 12 keeps the softmax's constants in registers and
 * the sums in memory. */
#define NOINLINE static __attribute__((noinline)) void

NOINLINE score_one(query_tile *t, uint32_t key0, uint32_t keys) {
    score_tile(t, 1, key0, keys);
}
NOINLINE score_two(query_tile *t, uint32_t key0, uint32_t keys) {
    score_tile(t, 2, key0, keys);
}
NOINLINE values_one(query_tile *t, uint32_t key0, uint32_t keys, const __m512 *rescale) {
    add_all_dims(t, 1, key0, keys, rescale);
}
NOINLINE values_two(query_tile *t, uint32_t key0, uint32_t keys, const __m512 *rescale) {
    add_all_dims(t, 2, key0, keys, rescale);
}

EMB_INLINE void score_keys(query_tile *t, const int vectors, uint32_t key0, uint32_t keys) {
    (vectors > 1 ? score_two : score_one)(t, key0, keys);
}

EMB_INLINE void add_values(query_tile *t, const int vectors, uint32_t key0, uint32_t keys,
                           const __m512 *rescale) {
    (vectors > 1 ? values_two : values_one)(t, key0, keys, rescale);
}

#endif
