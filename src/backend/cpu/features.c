/* features.c - the features that this CPU, its operating system and EMB_CPU allow.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#ifdef EMB_X86
#include <cpuid.h>
#endif

static const struct {
    const char *name;
    uint32_t feature;
} names[] = {
    {"avx2", EMB_CPU_AVX2}, {"avx512", EMB_CPU_AVX512},       {"vnni", EMB_CPU_VNNI},
    {"bf16", EMB_CPU_BF16}, {"bf16_fast", EMB_CPU_BF16_FAST},
};
enum { NAMES = sizeof names / sizeof names[0] };
static const char none[] = "none";

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

static uint32_t detect(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    bool fma = (c & bit_FMA) && (c & bit_AVX) && (c & bit_F16C);
    uint64_t state = read_xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    unsigned subleaves = a;
    if (!fma || !(b & bit_AVX2) || (state & STATE_AVX) != STATE_AVX) return 0;
    unsigned wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((b & wanted) != wanted || (state & STATE_AVX512) != STATE_AVX512) return EMB_CPU_AVX2;
    uint32_t features = EMB_CPU_AVX2 | EMB_CPU_AVX512;
    if (!(c & bit_AVX512VNNI)) return features;
    features |= EMB_CPU_VNNI;
    /* AVX512_BF16; every CPU that has it has VNNI */
    if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & (1u << 5)))
        return features;
    return features | EMB_CPU_BF16 | (has_fast_bf16() ? EMB_CPU_BF16_FAST : 0);
}

#else

static uint32_t detect(void) {
    return 0;
}

#endif

/* What EMB_CPU may ask for: the features that it needs, and those that it leaves. */
static const struct {
    const char *name;
    uint32_t needs, leaves;
} choices[] = {
    {"ref", 0, 0},
    {"avx2", EMB_CPU_AVX2, EMB_CPU_AVX2},
    {"avx512", EMB_CPU_AVX512, UINT32_MAX},
};
enum { CHOICES = sizeof choices / sizeof choices[0] };

emb_status emb_cpu_detect(uint32_t *features, emb_error *error) {
    uint32_t present = detect(), best = 0, i = 0;
    const char *asked = getenv("EMB_CPU");
    *features = present;
    if (!asked || !*asked) return EMB_OK;
    while (i < CHOICES && strcmp(asked, choices[i].name) != 0) i++;
    if (i == CHOICES)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "EMB_CPU=%s is unknown: use ref, avx2 or avx512, or unset it", asked);
    for (uint32_t c = 0; c < CHOICES; c++)
        if (!(choices[c].needs & ~present)) best = c;
    if (choices[i].needs & ~present)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "EMB_CPU=%s: this CPU or its operating system lacks it; use %s, or "
                             "unset EMB_CPU",
                             asked, choices[best].name);
    *features = present & choices[i].leaves;
    return EMB_OK;
}

void emb_cpu_features_write(char *text, size_t capacity, uint32_t features) {
    size_t length = 0;
    if (!features) snprintf(text, capacity, "%s", none);
    for (size_t i = 0; i < NAMES; i++) {
        size_t bytes = strlen(names[i].name), gap = length > 0;
        if (!(features & names[i].feature) || length + gap + bytes >= capacity) continue;
        if (gap) text[length++] = ' ';
        memcpy(text + length, names[i].name, bytes + 1);
        length += bytes;
    }
}

bool emb_cpu_features_read(uint32_t *features, const char *text) {
    *features = 0;
    if (!strcmp(text, none)) return true;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        size_t bytes = strcspn(text, " "), i = 0;
        while (i < NAMES && (strlen(names[i].name) != bytes || memcmp(text, names[i].name, bytes)))
            i++;
        if (i == NAMES) return false;
        *features |= names[i].feature;
        text += bytes;
    }
    return true;
}
