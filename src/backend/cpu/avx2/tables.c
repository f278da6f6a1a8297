/* tables.c - the kernels of this folder as tables for the blocks and registry.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/avx2.h"

const emb_cpu_kernels emb_cpu_avx2_f32 = {
    .panel_rows = EMB_AVX2_PANEL,
    .depth_step = 1,
    .weight_bytes = 4,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_avx2_pack_f32,
    .product = emb_cpu_avx2_product_f32,
    .attention = emb_cpu_avx2_attention,
    .norm = emb_cpu_avx2_norm,
};

const emb_cpu_kernels emb_cpu_avx2_bf16 = {
    .panel_rows = EMB_AVX2_PANEL,
    .depth_step = 1,
    .weight_bytes = 2,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_avx2_pack_bf16,
    .product = emb_cpu_avx2_product_widen,
    .attention = emb_cpu_avx2_attention,
    .norm = emb_cpu_avx2_norm,
};

const emb_cpu_kernels emb_cpu_avx2_dot = {
    .panel_rows = EMB_CPU_DOT_PANEL,
    .depth_step = 4,
    .operand_bytes = 1,
    .context_bytes = 4,
    .block_rows = 64,
    .quantized = true,
    .product = emb_cpu_avx2_product_dot,
    .attention = emb_cpu_avx2_attention,
    .norm = emb_cpu_avx2_norm,
    .operands = emb_cpu_avx2_quantize,
};
