/* matmul.c - products of any two f32 matrices: a tile of the outputs stays in registers while up
 * to EMB_TRAIN_DEPTH terms are added to it.
 *
 * b's rows are read where they are; only a transposed b is first turned, a panel at a time, into
 * memory that stays in the second cache for all rows of a.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"
#include "train/cpu/avx512/rows.h"

/* A tile has up to 6 rows of 4 vectors or 12 of 2: 24 sums hide the latency of a multiply-add. */
enum { WIDE_ROWS = 6, SLIM_ROWS = 12 };

/* The part of a product that one tile adds: `depth` terms. */
typedef struct step {
    const float *a;
    size_t a_row, a_col;
    const float *b;
    size_t b_row, depth;
    float *c;
    size_t c_row;
    __mmask16 last; /* of the last vector */
    const float *start; /* NULL: c itself is added to; else the first value of the outputs */
} step;

static const float zeros[EMB_TRAIN_PANEL];

EMB_INLINE void add_tile(const step *s, const int rows, const int vectors, const bool whole) {
    __m512 sums[24];
    EMB_CPU_UNROLL
    for (int i = 0; i < rows * vectors; i++) sums[i] = _mm512_setzero_ps();
    const float *a = s->a, *b = s->b;
    for (size_t p = 0; p < s->depth; p++, a += s->a_col, b += s->b_row) {
        __m512 w[4];
        EMB_CPU_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = whole || v < vectors - 1 ? _mm512_loadu_ps(b + 16 * v)
                                            : _mm512_maskz_loadu_ps(s->last, b + 16 * v);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 x = _mm512_set1_ps(a[(size_t)r * s->a_row]);
            EMB_CPU_UNROLL
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] = _mm512_fmadd_ps(x, w[v], sums[r * vectors + v]);
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        EMB_CPU_UNROLL
        for (int v = 0; v < vectors; v++) {
            __mmask16 mask = whole || v < vectors - 1 ? (__mmask16)0xffff : s->last;
            float *c = s->c + (size_t)r * s->c_row + 16 * v;
            __m512 before = _mm512_maskz_loadu_ps(mask, s->start ? s->start + 16 * v : c);
            _mm512_mask_storeu_ps(c, mask, _mm512_add_ps(before, sums[r * vectors + v]));
        }
    }
}

typedef void (*tile_call)(const step *s);

#define TILE(rows, vectors)                                                                        \
    static void tile_##vectors##_##rows(const step *s) {                                           \
        if (s->last == 0xffff)                                                                     \
            add_tile(s, rows, vectors, true);                                                      \
        else                                                                                       \
            add_tile(s, rows, vectors, false);                                                     \
    }
#define WIDE(vectors)                                                                              \
    TILE(1, vectors) TILE(2, vectors) TILE(3, vectors) TILE(4, vectors) TILE(5, vectors)           \
    TILE(6, vectors)
#define SLIM(vectors)                                                                              \
    WIDE(vectors) TILE(7, vectors) TILE(8, vectors) TILE(9, vectors) TILE(10, vectors)             \
    TILE(11, vectors) TILE(12, vectors)
SLIM(1)
SLIM(2)
WIDE(3)
WIDE(4)
#define WIDE_CALLS(v) NULL, tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, \
                      tile_##v##_6
#define SLIM_CALLS(v) WIDE_CALLS(v), tile_##v##_7, tile_##v##_8, tile_##v##_9, tile_##v##_10,      \
                      tile_##v##_11, tile_##v##_12
static const tile_call tiles[5][SLIM_ROWS + 1] = {
    {NULL}, {SLIM_CALLS(1)}, {SLIM_CALLS(2)}, {WIDE_CALLS(3)}, {WIDE_CALLS(4)}};

/* out [depth, 64] = the columns of b's rows [0, count), of which each holds `depth` values. */
static void turn_panel(float *out, const float *b, size_t b_row, uint32_t count, size_t depth) {
    for (uint32_t j = 0; j < count; j += 16) {
        for (size_t p = 0; p < depth; p += 16) {
            __m512 m[16];
            __mmask16 mask = emb_avx512_lanes(p, depth);
            EMB_CPU_UNROLL
            for (uint32_t r = 0; r < 16; r++) {
                uint32_t row = j + r < count ? j + r : j;
                m[r] = _mm512_maskz_loadu_ps(mask, b + (size_t)row * b_row + p);
            }
            emb_avx512_transpose(m);
            size_t left = depth - p < 16 ? depth - p : 16;
            EMB_CPU_UNROLL
            for (uint32_t i = 0; i < 16; i++)
                if (i < left) _mm512_store_ps(out + (p + i) * EMB_TRAIN_PANEL + j, m[i]);
        }
    }
}

static void add_panel(const emb_matmul *product, step *s, uint32_t column, uint32_t p) {
    uint32_t columns = product->n - column;
    if (columns > EMB_TRAIN_PANEL) columns = EMB_TRAIN_PANEL;
    uint32_t vectors = (columns + 15) / 16, most = vectors > 2 ? WIDE_ROWS : SLIM_ROWS;
    s->last = emb_avx512_lanes(16 * (vectors - 1), columns);
    if (product->b_transposed) {
        turn_panel(product->work, product->b + column * product->b_row + p, product->b_row, columns,
                   s->depth);
        s->b = product->work;
        s->b_row = EMB_TRAIN_PANEL;
    } else {
        s->b = product->b + p * product->b_row + column;
        s->b_row = product->b_row;
    }
    s->start = NULL;
    if (p == 0 && product->bias) s->start = product->bias + column;
    if (p == 0 && !product->bias && !product->add) s->start = zeros;
    uint32_t count = (product->m + most - 1) / most;
    for (uint32_t i = 0, row = 0; i < count; i++) {
        /* tiles as equal as possible: one of a single row would wait for its own sums */
        uint32_t rows = (product->m - row + count - i - 1) / (count - i);
        s->a = product->a + row * product->a_row + p * product->a_col;
        s->c = product->c + row * product->c_row + column;
        tiles[vectors][rows](s);
        row += rows;
    }
}

void emb_train_avx512_matmul(const emb_matmul *product) {
    step s = {.a_row = product->a_row, .a_col = product->a_col, .c_row = product->c_row};
    for (uint32_t p = 0; p < product->k; p += EMB_TRAIN_DEPTH) {
        s.depth = product->k - p < EMB_TRAIN_DEPTH ? product->k - p : EMB_TRAIN_DEPTH;
        for (uint32_t column = 0; column < product->n; column += EMB_TRAIN_PANEL)
            add_panel(product, &s, column, p);
    }
}
