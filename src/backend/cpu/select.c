/* select.c - which kernels this CPU, its operating system and EMB_CPU allow, as emb_backend tables.
 *
 * The only file that names instruction sets. Kernels of a set are reached only through a table
 * given here for a name that emb_cpu_detect gave.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"

#ifdef EMB_X86
#include <cpuid.h>
#endif

typedef struct cpu_features {
    bool avx2, avx512, bf16, vnni; /* vnni: of AVX-512 */
} cpu_features;

#ifdef EMB_X86

enum { STATE_AVX = 0x06, STATE_AVX512 = 0xe6 }; /* registers that the system saves, of XCR0 */

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Whether products of bf16 are faster than those of f32. In operations a second AMD's run at twice
 * the rate, Intel's at half of it (measured on Emerald Rapids: 84 against 170 GFLOP/s, with 24 sums
 * each of vdpbf16ps and vfmadd231ps in registers; L6 in bf16 takes 1.3 times as long by them as
 * widened, int8 0.9 times as long with attention in 8 bits); Intel's fast ones are AMX's. */
static bool has_fast_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
           d == signature_AMD_edx;
}

static cpu_features detect_features(void) {
    cpu_features features = {false, false, false, false};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return features;
    bool fma = (c & bit_FMA) && (c & bit_AVX) && (c & bit_F16C);
    uint64_t state = read_xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
    unsigned subleaves = a;
    bool vnni = (c & bit_AVX512VNNI) != 0;
    features.avx2 = fma && (b & bit_AVX2) && (state & STATE_AVX) == STATE_AVX;
    unsigned wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    features.avx512 =
        features.avx2 && (b & wanted) == wanted && (state & STATE_AVX512) == STATE_AVX512;
    features.vnni = features.avx512 && vnni;
    if (features.avx512 && subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        /* AVX512_BF16; every CPU that has it has VNNI, so that int8 need not ask for both */
        features.bf16 = vnni && (a & (1u << 5)) != 0;
    return features;
}

#else

static bool has_fast_bf16(void) {
    return false;
}

static cpu_features detect_features(void) {
    return (cpu_features){false, false, false, false};
}

#endif

emb_status emb_cpu_detect(const char **isa, uint32_t *has_bf16, emb_error *error) {
    cpu_features features = detect_features();
    const char *best = features.avx512 ? "avx512" : features.avx2 ? "avx2" : "ref";
    const char *asked = getenv("EMB_CPU");
    if (!asked || !*asked) asked = best;
    bool present;
    if (!strcmp(asked, "ref")) {
        *isa = "ref";
        present = true;
    } else if (!strcmp(asked, "avx2")) {
        *isa = "avx2";
        present = features.avx2;
    } else if (!strcmp(asked, "avx512")) {
        *isa = "avx512";
        present = features.avx512;
    } else {
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "EMB_CPU=%s is unknown: use ref, avx2 or avx512, or unset it", asked);
    }
    if (!present)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "EMB_CPU=%s: this CPU or its operating system lacks it; use %s, or "
                             "unset EMB_CPU",
                             asked, best);
    bool usable = features.bf16 && !strcmp(*isa, "avx512");
    *has_bf16 = !usable ? EMB_BF16_NONE : has_fast_bf16() ? EMB_BF16_FAST : EMB_BF16_SLOW;
    return EMB_OK;
}

/* An emb_backend named `id` over `kernels`, of blocks whose names begin with `blocks`; the last
 * argument names its packing. */
#define DEFINE_BACKEND(id, blocks, kernels, isa_name, numerics_name, knee, ...)                    \
    static void id##_linear_layout(emb_linear *linear, uint32_t rows, uint32_t cols,               \
                                   emb_format format, emb_ledger *ledger) {                        \
        emb_cpu_linear_layout(&kernels, linear, rows, cols, format, ledger);                       \
    }                                                                                              \
    static void id##_lane_layout(emb_lane_scratch *scratch, const emb_block_shape *shape,          \
                                 emb_format format, uint32_t tokens, emb_ledger *ledger) {         \
        blocks##_lane_layout(&kernels, scratch, shape, format, tokens, ledger);                    \
    }                                                                                              \
    static void id##_embed(void *out, const emb_tile *tile, const emb_embedding *embedding,        \
                           const emb_block_shape *shape) {                                         \
        emb_cpu_embed(&kernels, out, tile, embedding, shape);                                      \
    }                                                                                              \
    static void id##_attention_block(void *out, const void *in, const emb_tile *tile,              \
                                     const emb_layer *layer, const emb_block_shape *shape,         \
                                     emb_lane_scratch *scratch) {                                  \
        blocks##_attention_block(&kernels, out, in, tile, layer, shape, scratch);                  \
    }                                                                                              \
    static void id##_ffn_block(void *out, const void *in, const emb_tile *tile,                    \
                               const emb_layer *layer, const emb_block_shape *shape,               \
                               emb_lane_scratch *scratch) {                                        \
        blocks##_ffn_block(&kernels, out, in, tile, layer, shape, scratch);                        \
    }                                                                                              \
    static const emb_backend id##_backend = {                                                      \
        .name = isa_name,                                                                          \
        .numerics = numerics_name,                                                                 \
        .activation_bytes = sizeof(float),                                                         \
        .tokens_knee = knee,                                                                       \
        .linear_layout = id##_linear_layout,                                                       \
        .lane_layout = id##_lane_layout,                                                           \
        .embed = id##_embed,                                                                       \
        .attention_block = id##_attention_block,                                                   \
        .ffn_block = id##_ffn_block,                                                               \
        .pool = emb_cpu_pool,                                                                      \
        .convert = emb_cpu_convert,                                                                \
        __VA_ARGS__,                                                                               \
    }

#define DEFINE_PLAIN(id, isa_name, numerics_name, knee)                                            \
    static void id##_linear_pack(emb_linear *linear, uint32_t row0, uint32_t rows,                 \
                                 const float *values) {                                            \
        emb_cpu_##id.pack(linear, row0, rows, values);                                             \
    }                                                                                              \
    DEFINE_BACKEND(id, emb_cpu, emb_cpu_##id, isa_name, numerics_name, knee,                       \
                   .linear_pack = id##_linear_pack)

/* One table for int8, one for int4: they differ in name alone. */
#define DEFINE_QUANTISED(id, isa_name, how, knee)                                                  \
    DEFINE_BACKEND(id##_8, emb_cpu_dot, emb_cpu_##id, isa_name, isa_name how "-int8", knee,        \
                   .linear_pack_quantized = emb_cpu_dot_pack);                                     \
    DEFINE_BACKEND(id##_4, emb_cpu_dot, emb_cpu_##id, isa_name, isa_name how "-int4", knee,        \
                   .linear_pack_quantized = emb_cpu_dot_pack)

/* The knee: tokens per tile that reach 95 % of the speed of 1,024, both for texts of 32 and of 128
 * tokens, for hidden 384 and 768 alike (Zen 4). Reproduce: bench_kernels knee avx512 f32, and with
 * "4 768 12 3072" behind. */
DEFINE_PLAIN(ref_f32, "ref", "ref-f32", 64);
DEFINE_PLAIN(ref_bf16, "ref", "ref-bf16", 64);
DEFINE_QUANTISED(ref_dot, "ref", "", 64);
#ifdef EMB_X86
DEFINE_PLAIN(avx2_f32, "avx2", "avx2-f32", 128);
DEFINE_PLAIN(avx2_bf16, "avx2", "avx2-bf16", 128);
DEFINE_QUANTISED(avx2_dot, "avx2", "", 128);
DEFINE_PLAIN(avx512_f32, "avx512", "avx512-f32", 128);
DEFINE_PLAIN(avx512_bf16, "avx512", "avx512-bf16", 128);
DEFINE_PLAIN(avx512_bf16dot, "avx512", "avx512-bf16dot", 128);
DEFINE_QUANTISED(avx512_dot, "avx512", "", 128);
DEFINE_QUANTISED(avx512_dot_vnni, "avx512", "", 128);
DEFINE_QUANTISED(avx512_dot_bf16, "avx512", "-attention8", 128);
#endif

const emb_backend *emb_cpu_backend(const char *isa, uint32_t has_bf16, emb_format format) {
    bool narrow = format == EMB_FORMAT_BF16, quantised = emb_format_quantized(format);
    bool eight = format == EMB_FORMAT_I8;
    if (format == EMB_FORMAT_FP8) return NULL;
    if (!strcmp(isa, "ref")) {
        if (quantised) return eight ? &ref_dot_8_backend : &ref_dot_4_backend;
        return narrow ? &ref_bf16_backend : &ref_f32_backend;
    }
#ifdef EMB_X86
    if (!strcmp(isa, "avx2")) {
        if (quantised) return eight ? &avx2_dot_8_backend : &avx2_dot_4_backend;
        return narrow ? &avx2_bf16_backend : &avx2_f32_backend;
    }
    if (!strcmp(isa, "avx512")) {
        if (quantised && has_bf16 != EMB_BF16_NONE)
            return eight ? &avx512_dot_bf16_8_backend : &avx512_dot_bf16_4_backend;
        /* sizes and bits are the same with and without VNNI: a plan need not know */
        if (quantised && detect_features().vnni)
            return eight ? &avx512_dot_vnni_8_backend : &avx512_dot_vnni_4_backend;
        if (quantised) return eight ? &avx512_dot_8_backend : &avx512_dot_4_backend;
        if (!narrow) return &avx512_f32_backend;
        return has_bf16 == EMB_BF16_FAST ? &avx512_bf16dot_backend : &avx512_bf16_backend;
    }
#endif
    (void)has_bf16;
    return NULL;
}
