/* registry.c - the rows of registry.h, and which of them a CPU uses.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/registry.h"

#include "backend/cpu/cpu.h"

/* Part of every name: raised when the bits of the shared code (common.c) change. */
#define ALIKE ".2"

/* What all rows share; the last argument says how weights are packed. */
#define ROW(isa, features, its_dtype, kernels, its_numerics, knee, ...)                            \
    {                                                                                              \
        .needs = (features), .backend = {                                                          \
            .name = isa,                                                                           \
            .numerics = its_numerics ALIKE,                                                        \
            .own = &kernels,                                                                       \
            .dtype = its_dtype,                                                                    \
            .activation_bytes = sizeof(float),                                                     \
            .tokens_knee = knee,                                                                   \
            .supports = emb_cpu_supports,                                                          \
            .linear_layout = emb_cpu_linear_layout,                                                \
            .convert = emb_cpu_convert,                                                            \
            .lane_layout = emb_cpu_lane_layout,                                                    \
            .embed = emb_cpu_embed,                                                                \
            .attention_block = emb_cpu_attention_block,                                            \
            .ffn_block = emb_cpu_ffn_block,                                                        \
            .pool = emb_cpu_pool,                                                                  \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define PLAIN(isa, features, dtype, kernels, numerics, knee)                                       \
    ROW(isa, features, dtype, kernels, numerics, knee, .linear_pack = emb_cpu_pack)
#define QUANTIZED(isa, features, dtype, kernels, numerics, knee)                                   \
    ROW(isa, features, dtype, kernels, numerics, knee, .linear_pack_quantized = emb_cpu_dot_pack)
/* int8 and int4 have the same kernels and differ only in name. */
#define QUANTIZED_BOTH(isa, features, kernels, numerics, knee)                                     \
    QUANTIZED(isa, features, EMB_DTYPE_INT8, kernels, numerics "-int8", knee),                     \
        QUANTIZED(isa, features, EMB_DTYPE_INT4, kernels, numerics "-int4", knee)

/* The knee: tokens per tile that reach 95 % of the speed of 1,024, both for texts of 32 and of 128
 * tokens, for hidden 384 and 768 alike (Zen 4). Reproduce: bench_kernels knee avx512 f32, and with
 * "4 768 12 3072" appended. */
const emb_cpu_row emb_cpu_rows[] = {
#ifdef EMB_X86
    PLAIN("avx512", EMB_CPU_AVX512, EMB_DTYPE_F32, emb_cpu_avx512_f32, "avx512-f32", 128),
    PLAIN("avx512", EMB_CPU_AVX512 | EMB_CPU_BF16 | EMB_CPU_BF16_FAST, EMB_DTYPE_BF16,
          emb_cpu_avx512_bf16dot, "avx512-bf16dot", 128),
    PLAIN("avx512", EMB_CPU_AVX512, EMB_DTYPE_BF16, emb_cpu_avx512_bf16, "avx512-bf16", 128),
    QUANTIZED_BOTH("avx512", EMB_CPU_AVX512 | EMB_CPU_VNNI | EMB_CPU_BF16, emb_cpu_avx512_dot_bf16,
                   "avx512-attention8", 128),
    QUANTIZED_BOTH("avx512", EMB_CPU_AVX512 | EMB_CPU_VNNI, emb_cpu_avx512_dot_vnni, "avx512", 128),
    QUANTIZED_BOTH("avx512", EMB_CPU_AVX512, emb_cpu_avx512_dot, "avx512", 128),
    PLAIN("avx2", EMB_CPU_AVX2, EMB_DTYPE_F32, emb_cpu_avx2_f32, "avx2-f32", 128),
    PLAIN("avx2", EMB_CPU_AVX2, EMB_DTYPE_BF16, emb_cpu_avx2_bf16, "avx2-bf16", 128),
    QUANTIZED_BOTH("avx2", EMB_CPU_AVX2, emb_cpu_avx2_dot, "avx2", 128),
#endif
    PLAIN("ref", 0, EMB_DTYPE_F32, emb_cpu_ref_f32, "ref-f32", 64),
    PLAIN("ref", 0, EMB_DTYPE_BF16, emb_cpu_ref_bf16, "ref-bf16", 64),
    QUANTIZED_BOTH("ref", 0, emb_cpu_ref_dot, "ref", 64),
};
const uint32_t emb_cpu_rows_count = sizeof emb_cpu_rows / sizeof emb_cpu_rows[0];

const emb_backend *emb_cpu_backend(uint32_t features, emb_dtype dtype, const emb_layer_spec *spec) {
    const emb_backend *fastest = NULL;
    for (uint32_t i = 0; i < emb_cpu_rows_count; i++) {
        const emb_backend *backend = &emb_cpu_rows[i].backend;
        if (backend->dtype != dtype || emb_cpu_rows[i].needs & ~features) continue;
        if (!spec || !backend->supports(backend, spec)) return backend;
        if (!fastest) fastest = backend;
    }
    return fastest;
}

const char *emb_cpu_isa(uint32_t features) {
    return emb_cpu_backend(features, EMB_DTYPE_F32, NULL)->name;
}
