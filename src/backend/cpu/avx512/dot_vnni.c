/* dot_vnni.c - u8 times s8, summed in int32, four cols at a time: the inner loop of quantised
 * products where the CPU has AVX-512 VNNI.
 *
 * The whole loop is assembly: gcc 12 copies accumulators from register to register around the
 * intrinsic, which halves the speed. Accumulators are zmm0 to zmm23 (4 a row), weights zmm28 to
 * zmm31, a token's four cols zmm24 to zmm27.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

#define CLEAR(z) "vpxord %%zmm" #z ", %%zmm" #z ", %%zmm" #z "\n\t"

/* One row: its four cols to register x, times the four vectors of weights, added to a to d. */
#define DOT(address, x, a, b, c, d)                                                                \
    "vpbroadcastd " address ", %%zmm" #x "\n\t"                                                    \
    "vpdpbusd %%zmm28, %%zmm" #x ", %%zmm" #a "\n\t"                                               \
    "vpdpbusd %%zmm29, %%zmm" #x ", %%zmm" #b "\n\t"                                               \
    "vpdpbusd %%zmm30, %%zmm" #x ", %%zmm" #c "\n\t"                                               \
    "vpdpbusd %%zmm31, %%zmm" #x ", %%zmm" #d "\n\t"

#define STORE(at, a, b, c, d)                                                                      \
    "vmovdqa64 %%zmm" #a ", " #at "(%[sums])\n\t"                                                  \
    "vmovdqa64 %%zmm" #b ", 64+" #at "(%[sums])\n\t"                                               \
    "vmovdqa64 %%zmm" #c ", 128+" #at "(%[sums])\n\t"                                              \
    "vmovdqa64 %%zmm" #d ", 192+" #at "(%[sums])\n\t"

#define CLEAR4(a, b, c, d) CLEAR(a) CLEAR(b) CLEAR(c) CLEAR(d)
#define CLEAR1             CLEAR4(0, 1, 2, 3)
#define CLEAR2             CLEAR1 CLEAR4(4, 5, 6, 7)
#define CLEAR3             CLEAR2 CLEAR4(8, 9, 10, 11)
#define CLEAR4R            CLEAR3 CLEAR4(12, 13, 14, 15)
#define CLEAR5             CLEAR4R CLEAR4(16, 17, 18, 19)
#define CLEAR6             CLEAR5 CLEAR4(20, 21, 22, 23)

#define DOT1 DOT("(%[in])", 24, 0, 1, 2, 3)
#define DOT2 DOT1 DOT("(%[in],%[stride])", 25, 4, 5, 6, 7)
#define DOT3 DOT2 DOT("(%[in],%[stride],2)", 26, 8, 9, 10, 11)
#define DOT4 DOT3 DOT("(%[lower])", 27, 12, 13, 14, 15)
#define DOT5 DOT4 DOT("(%[lower],%[stride])", 24, 16, 17, 18, 19)
#define DOT6 DOT5 DOT("(%[lower],%[stride],2)", 25, 20, 21, 22, 23)

#define STORE1 STORE(0, 0, 1, 2, 3)
#define STORE2 STORE1 STORE(256, 4, 5, 6, 7)
#define STORE3 STORE2 STORE(512, 8, 9, 10, 11)
#define STORE4 STORE3 STORE(768, 12, 13, 14, 15)
#define STORE5 STORE4 STORE(1024, 16, 17, 18, 19)
#define STORE6 STORE5 STORE(1280, 20, 21, 22, 23)

#define TILE(rows, clear, dot, store)                                                              \
    static void tile##rows(int32_t *sums, const uint8_t *in, size_t stride, const int8_t *panel,   \
                           size_t steps, const int8_t *ahead) {                                    \
        const uint8_t *lower = in + 3 * stride;                                                    \
        __asm__ volatile(clear ".p2align 4\n"                                                      \
                               "1:\n\t"                                                            \
                               "vmovdqa64 (%[panel]), %%zmm28\n\t"                                 \
                               "vmovdqa64 64(%[panel]), %%zmm29\n\t"                               \
                               "vmovdqa64 128(%[panel]), %%zmm30\n\t"                              \
                               "vmovdqa64 192(%[panel]), %%zmm31\n\t" dot "add $256, %[panel]\n\t" \
                               "add $4, %[in]\n\t"                                                 \
                               "add $4, %[lower]\n\t"                                              \
                               "dec %[steps]\n\t"                                                  \
                               "jnz 1b\n\t" store                                                  \
                         : [in] "+r"(in), [lower] "+r"(lower), [panel] "+r"(panel),                \
                           [steps] "+r"(steps), [ahead] "+r"(ahead)                                \
                         : [stride] "r"(stride), [sums] "r"(sums)                                  \
                         : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",    \
                           "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", \
                           "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", \
                           "xmm31");                                                               \
    }

TILE(1, CLEAR1, DOT1, STORE1)
TILE(2, CLEAR2, DOT2, STORE2)
TILE(3, CLEAR3, DOT3, STORE3)
TILE(4, CLEAR4R, DOT4, STORE4)
TILE(5, CLEAR5, DOT5, STORE5)
TILE(6, CLEAR6, DOT6, STORE6)

typedef void (*tile)(int32_t *sums, const uint8_t *in, size_t stride, const int8_t *panel,
                     size_t steps, const int8_t *ahead);

void emb_cpu_avx512_dot_sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                            const int8_t *panel, size_t depth, const int8_t *ahead) {
    static const tile tiles[] = {NULL, tile1, tile2, tile3, tile4, tile5, tile6};
    tiles[rows](sums, in, in_stride, panel, depth / 4, ahead);
}
