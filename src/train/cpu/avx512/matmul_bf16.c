/* matmul_bf16.c - products of operands that are rounded to bf16: two terms an instruction.
 *
 * A pair is the terms p and p + 1 side by side in 32 bits. A block of a's rows and a panel of b are
 * turned into pairs first, in memory that stays in the second cache.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/cpu/avx512/matmul_bf16.h"

#include "backend/cpu/avx512/avx512.h"

enum { ROWS = 6, PAIRS = EMB_TRAIN_DEPTH / 2 };

/* Some rows of a times a panel of b, over up to EMB_TRAIN_DEPTH terms. */
typedef struct step {
    const uint32_t *a; /* pairs of the block, (row, pair) at a[row * a_row + pair * a_pair] */
    size_t a_row, a_pair, pairs;
    const uint32_t *b; /* [pairs, EMB_TRAIN_PANEL] */
    float *c;
    size_t c_row;
    __mmask16 masks[4];
    const float *start; /* NULL: c itself is added to; else the first value of the outputs */
} step;

static const float zeros[EMB_TRAIN_PANEL];

EMB_INLINE void add_tile(const step *s, const int rows) {
    __m512 sums[4 * ROWS];
    EMB_CPU_UNROLL
    for (int i = 0; i < 4 * rows; i++) sums[i] = _mm512_setzero_ps();
    const uint32_t *a = s->a, *b = s->b;
    for (size_t p = 0; p < s->pairs; p++, a += s->a_pair, b += EMB_TRAIN_PANEL) {
        __m512i w[4];
        EMB_CPU_UNROLL
        for (int v = 0; v < 4; v++) w[v] = _mm512_load_si512(b + 16 * v);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512i x = _mm512_set1_epi32((int)a[(size_t)r * s->a_row]);
            EMB_CPU_UNROLL
            for (int v = 0; v < 4; v++)
                sums[4 * r + v] = _mm512_dpbf16_ps(sums[4 * r + v], (__m512bh)x, (__m512bh)w[v]);
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        EMB_CPU_UNROLL
        for (int v = 0; v < 4; v++) {
            float *c = s->c + (size_t)r * s->c_row + 16 * v;
            __m512 before = _mm512_maskz_loadu_ps(s->masks[v], s->start ? s->start + 16 * v : c);
            _mm512_mask_storeu_ps(c, s->masks[v], _mm512_add_ps(before, sums[4 * r + v]));
        }
    }
}

typedef void (*tile_call)(const step *s);
#define TILE(rows)                                                                                 \
    static void tile_##rows(const step *s) {                                                       \
        add_tile(s, rows);                                                                         \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
static const tile_call tiles[] = {NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* The pairs of 16 columns whose terms p and p + 1 stand in two rows. */
EMB_INLINE __m512i pair_rows(__m512 even, __m512 odd) {
    __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* The 16 pairs of one row's terms, of which `left` are there. */
EMB_INLINE __m512i pair_terms(const float *in, size_t left) {
    __m512 low = _mm512_maskz_loadu_ps(emb_avx512_lanes(0, left), in);
    __m512 high = _mm512_maskz_loadu_ps(emb_avx512_lanes(16, left), in + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Pairs [pairs, count in sixteens] from terms that stand in rows: element (p, j) at in[p * row + j]
 */
static void pair_columns(uint32_t *out, size_t out_row, const float *in, size_t row, uint32_t count,
                         size_t depth) {
    for (size_t p = 0; p < depth; p += 2, out += out_row) {
        for (uint32_t j = 0; j < count; j += 16) {
            __mmask16 mask = emb_avx512_lanes(j, count);
            __m512 even = _mm512_maskz_loadu_ps(mask, in + p * row + j);
            __m512 odd = _mm512_setzero_ps();
            if (p + 1 < depth) odd = _mm512_maskz_loadu_ps(mask, in + (p + 1) * row + j);
            _mm512_store_si512(out + j, pair_rows(even, odd));
        }
    }
}

/* A block of a's rows as pairs. */
static void pair_a(step *s, uint32_t *out, const emb_matmul *m, uint32_t row0, uint32_t rows,
                   uint32_t p, size_t depth) {
    const float *a = m->a + row0 * m->a_row + p * m->a_col;
    s->a = out;
    if (m->a_row == 1) {
        s->a_row = 1;
        s->a_pair = EMB_TRAIN_BLOCK_ROWS;
        pair_columns(out, s->a_pair, a, m->a_col, rows, depth);
        return;
    }
    s->a_row = PAIRS;
    s->a_pair = 1;
    for (uint32_t r = 0; r < rows; r++)
        for (size_t i = 0; i < depth; i += 32)
            _mm512_store_si512(out + (size_t)r * PAIRS + i / 2,
                               pair_terms(a + (size_t)r * m->a_row + i, depth - i));
}

/* A panel of b as pairs. */
static void pair_b(uint32_t *out, const emb_matmul *m, uint32_t column, uint32_t columns,
                   uint32_t p, size_t depth) {
    if (!m->b_transposed) {
        pair_columns(out, EMB_TRAIN_PANEL, m->b + p * m->b_row + column, m->b_row, columns, depth);
        return;
    }
    for (uint32_t j = 0; j < columns; j += 16) {
        for (size_t i = 0; i < depth; i += 32) {
            __m512 t[16];
            EMB_CPU_UNROLL
            for (uint32_t r = 0; r < 16; r++) {
                size_t row = column + (j + r < columns ? j + r : j);
                t[r] = _mm512_castsi512_ps(pair_terms(m->b + row * m->b_row + p + i, depth - i));
            }
            emb_avx512_transpose(t);
            EMB_CPU_UNROLL
            for (uint32_t r = 0; r < 16; r++)
                if (i / 2 + r < (depth + 1) / 2)
                    _mm512_store_ps(out + (i / 2 + r) * EMB_TRAIN_PANEL + j, t[r]);
        }
    }
}

static void multiply_rows(step *s, const emb_matmul *m, uint32_t row0, uint32_t rows,
                          uint32_t column) {
    uint32_t count = (rows + ROWS - 1) / ROWS;
    const uint32_t *block = s->a;
    for (uint32_t i = 0, row = 0; i < count; i++) {
        /* tiles as equal as possible: one of a single row would wait for its own sums */
        uint32_t some = (rows - row + count - i - 1) / (count - i);
        s->a = block + row * s->a_row;
        s->c = m->c + (size_t)(row0 + row) * m->c_row + column;
        tiles[some](s);
        row += some;
    }
    s->a = block;
}

void emb_train_avx512_matmul_bf16(const emb_matmul *m) {
    uint32_t *panel = (uint32_t *)m->work, *block = panel + PAIRS * EMB_TRAIN_PANEL;
    step s = {.b = panel, .c_row = m->c_row};
    for (uint32_t p = 0; p < m->k; p += EMB_TRAIN_DEPTH) {
        size_t depth = m->k - p < EMB_TRAIN_DEPTH ? m->k - p : EMB_TRAIN_DEPTH;
        s.pairs = (depth + 1) / 2;
        for (uint32_t row = 0; row < m->m; row += EMB_TRAIN_BLOCK_ROWS) {
            uint32_t rows = m->m - row < EMB_TRAIN_BLOCK_ROWS ? m->m - row : EMB_TRAIN_BLOCK_ROWS;
            pair_a(&s, block, m, row, rows, p, depth);
            for (uint32_t column = 0; column < m->n; column += EMB_TRAIN_PANEL) {
                uint32_t columns =
                    m->n - column < EMB_TRAIN_PANEL ? m->n - column : EMB_TRAIN_PANEL;
                pair_b(panel, m, column, columns, p, depth);
                for (uint32_t v = 0; v < 4; v++) s.masks[v] = emb_avx512_lanes(16 * v, columns);
                s.start = NULL;
                if (p == 0 && m->bias) s.start = m->bias + column;
                if (p == 0 && !m->bias && !m->add) s.start = zeros;
                multiply_rows(&s, m, row, rows, column);
            }
        }
    }
}
