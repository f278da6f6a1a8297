/* product.c - walks the tiles of a product: panel by panel of W, so that one panel stays in the
 * cache for all tokens; adds the bias, applies GELU, writes the columns asked for.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

/* One panel's share of the columns asked for. */
typedef struct panel_part {
    __mmask16 masks[4];
    __m512 bias[4];
    ptrdiff_t column; /* of the panel's first output in the rows of out; may be negative */
} panel_part;

static void make_part(panel_part *part, const emb_cpu_product *p, uint32_t panel0) {
    size_t end = (size_t)p->column0 + p->columns;
    for (uint32_t v = 0; v < 4; v++) {
        size_t first = panel0 + 16 * v;
        __mmask16 before = emb_avx512_lanes(first, p->column0);
        part->masks[v] = emb_avx512_lanes(first, end) & (__mmask16)~before;
        part->bias[v] = _mm512_maskz_loadu_ps(part->masks[v], p->linear->bias + first);
    }
    part->column = (ptrdiff_t)panel0 - (ptrdiff_t)p->column0;
}

EMB_INLINE void write_rows(const emb_cpu_product *p, const panel_part *part, uint32_t row0,
                           uint32_t rows, const float *sums, const bool gelu, const bool half) {
    for (uint32_t r = 0; r < rows; r++) {
        ptrdiff_t at = (ptrdiff_t)((row0 + r) * p->out_stride) + part->column;
        for (uint32_t v = 0; v < 4; v++) {
            __m512 value = _mm512_load_ps(sums + r * EMB_AVX512_PANEL + 16 * v);
            value = _mm512_add_ps(value, part->bias[v]);
            if (gelu) value = emb_avx512_gelu(value);
            emb_avx512_store(p->out, at + 16 * v, part->masks[v], value, half);
        }
    }
}

static void finish_tile(const emb_cpu_product *p, const emb_cpu_avx512_walk *walk,
                        const panel_part *part, uint32_t row0, uint32_t rows, const float *sums) {
    if (!p->gelu)
        write_rows(p, part, row0, rows, sums, false, false);
    else if (walk->operand_bytes == 2)
        write_rows(p, part, row0, rows, sums, true, true);
    else
        write_rows(p, part, row0, rows, sums, true, false);
}

void emb_cpu_avx512_run(const emb_cpu_product *p, const emb_cpu_avx512_walk *walk) {
    _Alignas(64) float sums[EMB_AVX512_ROWS * EMB_AVX512_PANEL];
    uint32_t tiles = (p->rows + EMB_AVX512_ROWS - 1) / EMB_AVX512_ROWS;
    uint32_t end = p->column0 + p->columns;
    for (uint32_t panel0 = p->column0 / EMB_AVX512_PANEL * EMB_AVX512_PANEL; panel0 < end;
         panel0 += EMB_AVX512_PANEL) {
        const unsigned char *panel = (const unsigned char *)p->linear->packed +
                                     panel0 / EMB_AVX512_PANEL * walk->panel_bytes;
        panel_part part;
        make_part(&part, p, panel0);
        for (uint32_t i = 0, row0 = 0; i < tiles; i++) {
            /* tiles of equal size if possible: a tile of one row would be bound by latency */
            uint32_t rows = (p->rows - row0 + tiles - i - 1) / (tiles - i);
            const unsigned char *in =
                (const unsigned char *)p->in + row0 * p->in_stride * walk->operand_bytes;
            walk->tiles[rows](sums, in, p->in_stride, panel, walk->depth);
            finish_tile(p, walk, &part, row0, rows, sums);
            row0 += rows;
        }
    }
}
