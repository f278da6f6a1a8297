/* tables.c - the kernels of this folder as tables for the blocks and registry.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

/* block_rows: 64 tokens' intermediate of 1536 values and a panel of its product fit a 1 MiB L2. */

const emb_cpu_kernels emb_cpu_avx512_f32 = {
    .panel_rows = EMB_AVX512_PANEL,
    .depth_step = 1,
    .weight_bytes = 4,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_avx512_pack_f32,
    .product = emb_cpu_avx512_product_f32,
    .attention = emb_cpu_avx512_attention_f32,
    .norm = emb_cpu_avx512_norm,
};

const emb_cpu_kernels emb_cpu_avx512_bf16 = {
    .panel_rows = EMB_AVX512_PANEL,
    .depth_step = 1,
    .weight_bytes = 2,
    .operand_bytes = 4,
    .context_bytes = 4,
    .block_rows = 64,
    .pack = emb_cpu_avx512_pack_bf16,
    .product = emb_cpu_avx512_product_widen,
    .attention = emb_cpu_avx512_attention_f32,
    .norm = emb_cpu_avx512_norm,
};

const emb_cpu_kernels emb_cpu_avx512_bf16dot = {
    .panel_rows = EMB_AVX512_PANEL,
    .depth_step = 2,
    .weight_bytes = 2,
    .operand_bytes = 2,
    .context_bytes = 2,
    .block_rows = 64,
    .pack = emb_cpu_avx512_pack_pairs,
    .product = emb_cpu_avx512_product_bf16dot,
    .attention_pairs = true,
    .attention = emb_cpu_avx512_attention_bf16,
    .norm = emb_cpu_avx512_norm,
    .operands = emb_cpu_avx512_operands,
};

const emb_cpu_kernels emb_cpu_avx512_dot = {
    .panel_rows = EMB_CPU_DOT_PANEL,
    .depth_step = 4,
    .operand_bytes = 1,
    .context_bytes = 4,
    .block_rows = 48,
    .quantized = true,
    .product = emb_cpu_avx512_product_dot,
    .attention = emb_cpu_avx512_attention_f32,
    .norm = emb_cpu_avx512_norm,
    .operands = emb_cpu_avx512_quantize,
    .gelu_operands = emb_cpu_avx512_quantize_gelu,
};

const emb_cpu_kernels emb_cpu_avx512_dot_vnni = {
    .panel_rows = EMB_CPU_DOT_PANEL,
    .depth_step = 4,
    .operand_bytes = 1,
    .context_bytes = 4,
    .block_rows = 48,
    .quantized = true,
    .product = emb_cpu_avx512_product_dot_vnni,
    .attention = emb_cpu_avx512_attention_f32,
    .norm = emb_cpu_avx512_norm,
    .operands = emb_cpu_avx512_quantize,
    .gelu_operands = emb_cpu_avx512_quantize_gelu,
};

const emb_cpu_kernels emb_cpu_avx512_dot_bf16 = {
    .panel_rows = EMB_CPU_DOT_PANEL,
    .depth_step = 4,
    .operand_bytes = 1,
    .context_bytes = 4,
    .block_rows = 48,
    .quantized = true,
    .product = emb_cpu_avx512_product_dot_vnni,
    .attention = emb_cpu_avx512_attention_dot,
    .attention_bytes = emb_cpu_avx512_attention_bytes,
    .norm = emb_cpu_avx512_norm,
    .operands = emb_cpu_avx512_quantize,
    .gelu_operands = emb_cpu_avx512_quantize_gelu,
};
