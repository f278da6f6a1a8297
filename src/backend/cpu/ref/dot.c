/* dot.c - quantized products and activations in plain C: what every other instruction set's
 * integers must equal.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ref/ref.h"

enum { PANEL = EMB_CPU_DOT_PANEL };

static void sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                const int8_t *panel, size_t depth, const int8_t *ahead) {
    (void)ahead;
    memset(sums, 0, rows * PANEL * sizeof *sums);
    for (uint32_t r = 0; r < rows; r++, in += in_stride, sums += PANEL)
        for (size_t k = 0; k < depth; k++)
            for (uint32_t lane = 0; lane < PANEL; lane++)
                sums[lane] += in[k] * panel[k / 4 * 4 * PANEL + lane * 4 + k % 4];
}

static float scaled(const emb_cpu_dot_tile *t, uint32_t row, uint32_t lane, emb_cpu_token token) {
    int32_t exact = t->sums[row * PANEL + lane] - token.zero * t->weight_sums[lane];
    return (float)exact * t->scales[lane];
}

/* Writes the part of the panel that is in the wanted columns. */
static void write_row(const emb_cpu_dot_tile *t, uint32_t row, const float *values) {
    const emb_cpu_product *p = t->product;
    float scale = emb_cpu_dot_token(t, row).scale, *out = p->out;
    out += (t->row0 + row) * p->out_stride;
    for (uint32_t lane = 0; lane < PANEL; lane++) {
        uint32_t column = t->panel0 + lane;
        if (column < p->column0 || column >= p->column0 + p->columns) continue;
        float *to = out + (column - p->column0);
        float value = values[lane] * scale + (p->add ? *to : p->linear->bias[column]);
        *to = p->gelu ? emb_cpu_ref_gelu(value) : value;
    }
}

static void finish(const emb_cpu_dot_tile *t) {
    for (uint32_t r = 0; r < t->rows; r++) {
        float values[PANEL];
        for (uint32_t lane = 0; lane < PANEL; lane++)
            values[lane] = scaled(t, r, lane, emb_cpu_dot_token(t, r));
        write_row(t, r, values);
    }
}

static void add_group(const emb_cpu_dot_tile *t) {
    for (uint32_t r = 0; r < t->rows; r++)
        for (uint32_t lane = 0; lane < PANEL; lane++)
            t->totals[r * PANEL + lane] += scaled(t, r, lane, emb_cpu_dot_token(t, r));
}

static void finish_totals(const emb_cpu_dot_tile *t) {
    for (uint32_t r = 0; r < t->rows; r++) write_row(t, r, t->totals + r * PANEL);
}

static void product(const emb_cpu_product *p) {
    static const emb_cpu_dot dot = {sum, finish, add_group, finish_totals, NULL};
    emb_cpu_dot_product(&dot, p);
}

static void quantize_row(uint8_t *out, const float *in, uint32_t cols, const float *smooth) {
    float low = 0.0f, high = 0.0f, factor;
    bool finite = true;
    for (uint32_t i = 0; i < cols; i++) {
        float value = smooth ? in[i] * smooth[i] : in[i];
        low = value < low ? value : low;
        high = value > high ? value : high;
        finite = finite && value == value;
    }
    emb_cpu_token token = emb_cpu_token_make(low, high, finite, &factor);
    size_t depth = emb_cpu_dot_depth(cols);
    for (uint32_t i = 0; i < depth; i++) {
        float value = i >= cols || !finite ? 0.0f : smooth ? in[i] * smooth[i] : in[i];
        int32_t q = (int32_t)rintf(value * factor) + token.zero;
        out[i] = (uint8_t)(i >= cols ? 0 : q > 255 ? 255 : q < 0 ? 0 : q);
    }
    memcpy(out + depth, &token, sizeof token);
}

static void quantize(void *out, size_t out_stride, const float *in, uint32_t rows, uint32_t cols,
                     const float *smooth) {
    for (uint32_t r = 0; r < rows; r++)
        quantize_row((uint8_t *)out + r * out_stride, in + (size_t)r * cols, cols, smooth);
}

const emb_cpu_kernels emb_cpu_ref_dot = {
    .panel_rows = PANEL,
    .depth_step = 4,
    .operand_bytes = 1,
    .context_bytes = 4,
    .block_rows = 64,
    .quantized = true,
    .product = product,
    .attention = emb_cpu_ref_attention,
    .norm = emb_cpu_ref_norm,
    .operands = quantize,
};
