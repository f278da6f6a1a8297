/* product.c - packing and matrix products in plain C: what every other instruction set is tested
 * against. A panel holds 64 rows of W transposed, [cols, 64].
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ref/ref.h"

#include <math.h>

enum { PANEL = EMB_CPU_REF_PANEL };

void emb_cpu_ref_pack(const emb_linear *linear, uint32_t row0, uint32_t rows, const float *values) {
    size_t cols = linear->cols;
    uint16_t *halves = linear->dtype == EMB_DTYPE_BF16 ? (uint16_t *)linear->packed : NULL;
    float *wide = (float *)linear->packed;
    for (uint32_t p = row0; p < row0 + rows; p += PANEL) {
        for (uint32_t r = 0; r < PANEL; r++) {
            bool inside = p + r < row0 + rows;
            const float *row = values + (size_t)(p + r - row0) * cols;
            for (size_t k = 0; k < cols; k++) {
                size_t at = p * cols + k * PANEL + r;
                float value = inside ? row[k] : 0.0f;
                if (halves)
                    halves[at] = emb_cpu_round_bf16(value);
                else
                    wide[at] = value;
            }
        }
    }
}

float emb_cpu_ref_gelu(float x) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

static void sum_f32(float *sums, const float *in, const float *panel, size_t cols) {
    for (size_t k = 0; k < cols; k++)
        for (uint32_t r = 0; r < PANEL; r++) sums[r] += in[k] * panel[k * PANEL + r];
}

static void sum_bf16(float *sums, const float *in, const uint16_t *panel, size_t cols) {
    for (size_t k = 0; k < cols; k++)
        for (uint32_t r = 0; r < PANEL; r++) sums[r] += in[k] * emb_cpu_widen(panel[k * PANEL + r]);
}

/* Writes the part of the panel that is in the wanted columns. */
static void finish(const emb_cpu_product *p, uint32_t panel0, uint32_t token, const float *sums) {
    float *out = (float *)p->out + token * p->out_stride;
    for (uint32_t r = 0; r < PANEL; r++) {
        uint32_t column = panel0 + r;
        if (column < p->column0 || column >= p->column0 + p->columns) continue;
        float value = sums[r] + p->linear->bias[column];
        out[column - p->column0] = p->gelu ? emb_cpu_ref_gelu(value) : value;
    }
}

void emb_cpu_ref_product(const emb_cpu_product *p) {
    size_t cols = p->linear->cols;
    uint32_t end = p->column0 + p->columns;
    for (uint32_t panel0 = p->column0 / PANEL * PANEL; panel0 < end; panel0 += PANEL) {
        for (uint32_t token = 0; token < p->rows; token++) {
            const float *in = (const float *)p->in + token * p->in_stride;
            float sums[PANEL] = {0};
            if (p->linear->dtype == EMB_DTYPE_BF16)
                sum_bf16(sums, in, (const uint16_t *)p->linear->packed + panel0 * cols, cols);
            else
                sum_f32(sums, in, (const float *)p->linear->packed + panel0 * cols, cols);
            finish(p, panel0, token, sums);
        }
    }
}
