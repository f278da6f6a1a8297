/* norm.c - residual sum and layer normalisation in plain C, and the ref tables.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/ref/ref.h"

#include <float.h>
#include <math.h>

void emb_cpu_ref_norm(float *out, const float *in, const float *add, uint32_t rows,
                      const emb_cpu_norm *norm) {
    uint32_t hidden = norm->hidden;
    for (uint32_t r = 0; r < rows; r++, out += hidden, in += hidden) {
        double sum = 0.0, squares = 0.0;
        for (uint32_t i = 0; i < hidden; i++) {
            out[i] = add ? in[i] + add[r * norm->add_stride + i] : in[i];
            sum += out[i];
        }
        double mean = sum / hidden;
        for (uint32_t i = 0; i < hidden; i++) squares += (out[i] - mean) * (out[i] - mean);
        double factor = 1.0 / sqrt(squares / hidden + norm->epsilon);
        if (squares > FLT_MAX) factor = NAN; /* as where sums are f32: see emb_cpu_not_overflown */
        for (uint32_t i = 0; i < hidden; i++)
            out[i] = (float)((out[i] - mean) * factor) * norm->gain[i] + norm->shift[i];
    }
}

const emb_cpu_kernels emb_cpu_ref_f32 = {
    .panel_rows = EMB_CPU_REF_PANEL,
    .depth_step = 1,
    .weight_bytes = 4,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_ref_pack,
    .product = emb_cpu_ref_product,
    .attention = emb_cpu_ref_attention,
    .norm = emb_cpu_ref_norm,
};

const emb_cpu_kernels emb_cpu_ref_bf16 = {
    .panel_rows = EMB_CPU_REF_PANEL,
    .depth_step = 1,
    .weight_bytes = 2,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_ref_pack,
    .product = emb_cpu_ref_product,
    .attention = emb_cpu_ref_attention,
    .norm = emb_cpu_ref_norm,
};
