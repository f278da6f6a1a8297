/* product.c - walks the tiles of a product: panel by panel of W, so that one panel stays in the
 * cache for all tokens; adds the bias, applies GELU, writes the columns asked for.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/avx2.h"

/* One panel's share of the columns asked for. */
typedef struct panel_part {
    __m256i masks[2];
    __m256 bias[2];
    bool whole;
    ptrdiff_t column; /* of the panel's first output in the rows of out; may be negative */
} panel_part;

static void make_part(panel_part *part, const emb_cpu_product *p, uint32_t panel0) {
    size_t end = (size_t)p->column0 + p->columns;
    for (uint32_t v = 0; v < 2; v++) {
        size_t first = panel0 + 8 * v;
        __m256i before = emb_avx2_lanes(first, p->column0);
        part->masks[v] = _mm256_andnot_si256(before, emb_avx2_lanes(first, end));
        part->bias[v] = _mm256_maskload_ps(p->linear->bias + first, part->masks[v]);
    }
    part->whole = panel0 >= p->column0 && panel0 + EMB_AVX2_PANEL <= end;
    part->column = (ptrdiff_t)panel0 - (ptrdiff_t)p->column0;
}

EMB_INLINE void write_rows(const emb_cpu_product *p, const panel_part *part, uint32_t row0,
                           uint32_t rows, const float *sums, const bool gelu) {
    for (uint32_t r = 0; r < rows; r++) {
        float *out = (float *)p->out + (ptrdiff_t)((row0 + r) * p->out_stride) + part->column;
        for (uint32_t v = 0; v < 2; v++) {
            __m256 value = _mm256_load_ps(sums + r * EMB_AVX2_PANEL + 8 * v);
            value = _mm256_add_ps(value, part->bias[v]);
            if (gelu) value = emb_avx2_gelu(value);
            if (part->whole)
                _mm256_storeu_ps(out + 8 * v, value);
            else
                _mm256_maskstore_ps(out + 8 * v, part->masks[v], value);
        }
    }
}

void emb_cpu_avx2_run(const emb_cpu_product *p, const emb_cpu_avx2_tile *kernels,
                      size_t panel_bytes) {
    _Alignas(64) float sums[EMB_AVX2_ROWS * EMB_AVX2_PANEL];
    uint32_t tiles = (p->rows + EMB_AVX2_ROWS - 1) / EMB_AVX2_ROWS;
    uint32_t end = p->column0 + p->columns;
    for (uint32_t panel0 = p->column0 / EMB_AVX2_PANEL * EMB_AVX2_PANEL; panel0 < end;
         panel0 += EMB_AVX2_PANEL) {
        const unsigned char *panel =
            (const unsigned char *)p->linear->packed + panel0 / EMB_AVX2_PANEL * panel_bytes;
        panel_part part;
        make_part(&part, p, panel0);
        for (uint32_t i = 0, row0 = 0; i < tiles; i++) {
            /* tiles of equal size if possible: a tile of one row would be bound by latency */
            uint32_t rows = (p->rows - row0 + tiles - i - 1) / (tiles - i);
            const float *in = (const float *)p->in + row0 * p->in_stride;
            kernels[rows](sums, in, p->in_stride, panel, p->linear->cols);
            if (p->gelu)
                write_rows(p, &part, row0, rows, sums, true);
            else
                write_rows(p, &part, row0, rows, sums, false);
            row0 += rows;
        }
    }
}
