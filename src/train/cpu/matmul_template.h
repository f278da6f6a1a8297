/* matmul_template.h - products of any two f32 matrices, for the vectors that the including file
 * names: a tile of the outputs stays in registers while up to EMB_TRAIN_DEPTH terms are added.
 *
 * b's rows are read where they are; only a transposed b is first turned, a panel at a time, into
 * memory that stays in the second cache for all rows of a.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_MATMUL_TEMPLATE_H
#define EMB_TRAIN_CPU_MATMUL_TEMPLATE_H

/* The part of a product that one tile adds: `depth` terms. */
typedef struct step {
    const float *a;
    size_t a_row, a_col;
    const float *b;
    size_t b_row, depth;
    float *c;
    size_t c_row, columns; /* of the tile */
    const float *start;    /* NULL: c itself is added to; else the first value of the outputs */
} step;

static const float zeros[EMB_TRAIN_PANEL];

EMB_INLINE void add_tile(const step *s, const int rows, const int vectors, const bool whole) {
    vec sums[24];
    const size_t last = whole ? LANES : s->columns - (size_t)LANES * (size_t)(vectors - 1);
    EMB_CPU_UNROLL
    for (int i = 0; i < rows * vectors; i++) sums[i] = v_all(0.0f);
    const float *a = s->a, *b = s->b;
    for (size_t p = 0; p < s->depth; p++, a += s->a_col, b += s->b_row) {
        vec w[TILE_VECTORS];
        EMB_CPU_UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = v_load(b + LANES * v, v < vectors - 1 ? LANES : last);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            vec x = v_all(a[(size_t)r * s->a_row]);
            EMB_CPU_UNROLL
            for (int v = 0; v < vectors; v++)
                sums[r * vectors + v] = v_fma(x, w[v], sums[r * vectors + v]);
        }
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        EMB_CPU_UNROLL
        for (int v = 0; v < vectors; v++) {
            size_t count = v < vectors - 1 ? LANES : last;
            float *c = s->c + (size_t)r * s->c_row + LANES * v;
            vec before = v_load(s->start ? s->start + LANES * v : c, count);
            v_store(c, count, before + sums[r * vectors + v]);
        }
    }
}

typedef void (*tile_call)(const step *s);

#define TILE(rows, vectors)                                                                        \
    static void tile_##vectors##_##rows(const step *s) {                                           \
        if (s->columns == (size_t)LANES * vectors)                                                 \
            add_tile(s, rows, vectors, true);                                                      \
        else                                                                                       \
            add_tile(s, rows, vectors, false);                                                     \
    }
#define WIDE(vectors)                                                                              \
    TILE(1, vectors)                                                                               \
    TILE(2, vectors)                                                                               \
    TILE(3, vectors)                                                                               \
    TILE(4, vectors)                                                                               \
    TILE(5, vectors)                                                                               \
    TILE(6, vectors)
#define WIDE_CALLS(v)                                                                              \
    NULL, tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, tile_##v##_6
WIDE(1)
WIDE(2)
#ifdef EMB_TRAIN_MANY_REGISTERS
#define SLIM(vectors)                                                                              \
    TILE(7, vectors)                                                                               \
    TILE(8, vectors)                                                                               \
    TILE(9, vectors)                                                                               \
    TILE(10, vectors)                                                                              \
    TILE(11, vectors)                                                                              \
    TILE(12, vectors)
#define SLIM_CALLS(v)                                                                              \
    tile_##v##_7, tile_##v##_8, tile_##v##_9, tile_##v##_10, tile_##v##_11, tile_##v##_12
SLIM(1)
SLIM(2)
WIDE(3)
WIDE(4)
static const tile_call tiles[TILE_VECTORS + 1][TILE_ROWS_SLIM + 1] = {
    {NULL},
    {WIDE_CALLS(1), SLIM_CALLS(1)},
    {WIDE_CALLS(2), SLIM_CALLS(2)},
    {WIDE_CALLS(3)},
    {WIDE_CALLS(4)}};
#else
static const tile_call tiles[TILE_VECTORS + 1][TILE_ROWS_SLIM + 1] = {
    {NULL}, {WIDE_CALLS(1)}, {WIDE_CALLS(2)}};
#endif

/* out [depth, EMB_TRAIN_PANEL] = the columns of b's rows [0, count), each of `depth` values. */
static void turn_panel(float *out, const float *b, size_t b_row, uint32_t count, size_t depth) {
    for (uint32_t j = 0; j < count; j += LANES) {
        for (size_t p = 0; p < depth; p += LANES) {
            vec m[LANES];
            EMB_CPU_UNROLL
            for (uint32_t r = 0; r < LANES; r++) {
                uint32_t row = j + r < count ? j + r : j;
                m[r] = v_load(b + (size_t)row * b_row + p, depth - p);
            }
            v_transpose(m);
            size_t left = depth - p < LANES ? depth - p : LANES;
            EMB_CPU_UNROLL
            for (uint32_t i = 0; i < LANES; i++)
                if (i < left) v_store(out + (p + i) * EMB_TRAIN_PANEL + j, LANES, m[i]);
        }
    }
}

/* All rows of a times some columns of b, up to TILE_VECTORS vectors of them. */
static void add_columns(const emb_matmul *product, step *s, uint32_t column, uint32_t p) {
    uint32_t vectors = ((uint32_t)s->columns + LANES - 1) / LANES;
    uint32_t most = vectors > 2 ? TILE_ROWS : TILE_ROWS_SLIM;
    uint32_t count = (product->m + most - 1) / most;
    s->start = NULL;
    if (p == 0 && product->bias) s->start = product->bias + column;
    if (p == 0 && !product->bias && !product->add) s->start = zeros;
    for (uint32_t i = 0, row = 0; i < count; i++) {
        /* tiles as equal as possible: one of a single row would wait for its own sums */
        uint32_t rows = (product->m - row + count - i - 1) / (count - i);
        s->a = product->a + row * product->a_row + p * product->a_col;
        s->c = product->c + row * product->c_row + column;
        tiles[vectors][rows](s);
        row += rows;
    }
}

static void add_panel(const emb_matmul *product, step *s, uint32_t panel, uint32_t p) {
    uint32_t columns = product->n - panel;
    if (columns > EMB_TRAIN_PANEL) columns = EMB_TRAIN_PANEL;
    const float *b = product->b + p * product->b_row + panel;
    s->b_row = product->b_row;
    if (product->b_transposed) {
        turn_panel(product->work, product->b + panel * product->b_row + p, product->b_row, columns,
                   s->depth);
        b = product->work;
        s->b_row = EMB_TRAIN_PANEL;
    }
    for (uint32_t at = 0; at < columns; at += LANES * TILE_VECTORS) {
        s->columns = columns - at < LANES * TILE_VECTORS ? columns - at : LANES * TILE_VECTORS;
        s->b = b + at;
        add_columns(product, s, panel + at, p);
    }
}

static void matmul(const emb_matmul *product) {
    step s = {.a_row = product->a_row, .a_col = product->a_col, .c_row = product->c_row};
    for (uint32_t p = 0; p < product->k; p += EMB_TRAIN_DEPTH) {
        s.depth = product->k - p < EMB_TRAIN_DEPTH ? product->k - p : EMB_TRAIN_DEPTH;
        for (uint32_t panel = 0; panel < product->n; panel += EMB_TRAIN_PANEL)
            add_panel(product, &s, panel, p);
    }
}

#endif
