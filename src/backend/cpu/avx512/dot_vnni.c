/* dot_vnni.c - u8 times s8, summed in int32, four cols at a time: the inner loop of quantized
 * products where the CPU has AVX-512 VNNI, and whole int8 tiles from integers to f32.
 *
 * All of it is assembly: gcc 12 copies accumulators from register to register around the
 * intrinsic, which halves the speed. Accumulators are zmm0 to zmm23 (4 a row), weights zmm28 to
 * zmm31, a token's four cols zmm24 to zmm27. Each step fetches 128 bytes of the next panel.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

/* The addresses of rows 0, 1, ... relative to a pointer to row 0 and one to row 3. */
#define AT0(at) #at "(%[in])"
#define AT1(at) #at "(%[in],%[stride])"
#define AT2(at) #at "(%[in],%[stride],2)"
#define AT3(at) #at "(%[lower])"
#define AT4(at) #at "(%[lower],%[stride])"
#define AT5(at) #at "(%[lower],%[stride],2)"

#define CLEAR(z) "vpxord %%zmm" #z ", %%zmm" #z ", %%zmm" #z "\n\t"

#define CLEAR_ROW(at, a, b, c, d) CLEAR(a) CLEAR(b) CLEAR(c) CLEAR(d)

/* A row begins with minus its zero times the weights' sums: pairs of (sum % 64, sum / 64), so that
 * a product of 16-bit pairs gives the exact 32 bits. */
#define BEGIN_ROW(at, a, b, c, d)                                                                  \
    "vpbroadcastd " at(4) ", %%zmm24\n\t"                                                          \
                          "vpslld $22, %%zmm24, %%zmm25\n\t"                                       \
                          "vpord %%zmm25, %%zmm24, %%zmm24\n\t"                                    \
                          "vpmaddwd (%[pairs]), %%zmm24, %%zmm" #a "\n\t"                          \
                          "vpmaddwd 64(%[pairs]), %%zmm24, %%zmm" #b "\n\t"                        \
                          "vpmaddwd 128(%[pairs]), %%zmm24, %%zmm" #c "\n\t"                       \
                          "vpmaddwd 192(%[pairs]), %%zmm24, %%zmm" #d "\n\t"

/* One row: its four cols to register x, times the four vectors of weights, added to a to d. */
#define DOT_ROW(at, x, a, b, c, d)                                                                 \
    "vpbroadcastd " at() ", %%zmm" #x "\n\t"                                                       \
                         "vpdpbusd %%zmm28, %%zmm" #x ", %%zmm" #a "\n\t"                          \
                         "vpdpbusd %%zmm29, %%zmm" #x ", %%zmm" #b "\n\t"                          \
                         "vpdpbusd %%zmm30, %%zmm" #x ", %%zmm" #c "\n\t"                          \
                         "vpdpbusd %%zmm31, %%zmm" #x ", %%zmm" #d "\n\t"

#define STORE_ROW(at, a, b, c, d)                                                                  \
    "vmovdqa64 %%zmm" #a ", (%[sums])\n\t"                                                         \
    "vmovdqa64 %%zmm" #b ", 64(%[sums])\n\t"                                                       \
    "vmovdqa64 %%zmm" #c ", 128(%[sums])\n\t"                                                      \
    "vmovdqa64 %%zmm" #d ", 192(%[sums])\n\t"                                                      \
    "add $256, %[sums]\n\t"

/* Sums times the weights' scales. */
#define SCALE(sum, scale)                                                                          \
    "vcvtdq2ps %%zmm" #sum ", %%zmm" #sum "\n\t"                                                   \
    "vmulps %%zmm" #scale ", %%zmm" #sum ", %%zmm" #sum "\n\t"

#define WRITE(at, value) "vmovups %%zmm" #value ", " #at "(%[out])\n\t"
#define WRITE_ROW(a, b, c, d)                                                                      \
    WRITE(0, a) WRITE(64, b) WRITE(128, c) WRITE(192, d) "add %[out_stride], %[out]\n\t"

/* f32 = sum * scale of the weights * scale of the token + bias; `in` is past the values now. */
#define SHIFT(token, value, bias)                                                                  \
    "vfmadd132ps " token "%{1to16%}, %%zmm" #bias ", %%zmm" #value "\n\t"
#define SCALE_ROW(at, a, b, c, d)                                                                  \
    SCALE(a, 24)                                                                                   \
    SCALE(b, 25)                                                                                   \
    SCALE(c, 26)                                                                                   \
    SCALE(d, 27)                                                                                   \
    SHIFT(at(), a, 28)                                                                             \
    SHIFT(at(), b, 29) SHIFT(at(), c, 30) SHIFT(at(), d, 31) WRITE_ROW(a, b, c, d)

/* The same, adding out's values in place of the bias. */
#define SHIFT_BY(at, value) "vfmadd213ps " #at "(%[out]), %%zmm28, %%zmm" #value "\n\t"
#define ADD_ROW(at, a, b, c, d)                                                                    \
    "vbroadcastss " at() ", %%zmm28\n\t" SCALE(a, 24) SCALE(b, 25) SCALE(c, 26) SCALE(d, 27)       \
        SHIFT_BY(0, a) SHIFT_BY(64, b) SHIFT_BY(128, c) SHIFT_BY(192, d) WRITE_ROW(a, b, c, d)

/* A macro for every row that a tile has. */
#define ROWS1(row) row(AT0, 0, 1, 2, 3)
#define ROWS2(row) ROWS1(row) row(AT1, 4, 5, 6, 7)
#define ROWS3(row) ROWS2(row) row(AT2, 8, 9, 10, 11)
#define ROWS4(row) ROWS3(row) row(AT3, 12, 13, 14, 15)
#define ROWS5(row) ROWS4(row) row(AT4, 16, 17, 18, 19)
#define ROWS6(row) ROWS5(row) row(AT5, 20, 21, 22, 23)

#define DOTS1 DOT_ROW(AT0, 24, 0, 1, 2, 3)
#define DOTS2 DOTS1 DOT_ROW(AT1, 25, 4, 5, 6, 7)
#define DOTS3 DOTS2 DOT_ROW(AT2, 26, 8, 9, 10, 11)
#define DOTS4 DOTS3 DOT_ROW(AT3, 27, 12, 13, 14, 15)
#define DOTS5 DOTS4 DOT_ROW(AT4, 24, 16, 17, 18, 19)
#define DOTS6 DOTS5 DOT_ROW(AT5, 25, 20, 21, 22, 23)

#define LOOP(dots)                                                                                 \
    ".p2align 4\n"                                                                                 \
    "1:\n\t"                                                                                       \
    "vmovdqa64 (%[panel]), %%zmm28\n\t"                                                            \
    "vmovdqa64 64(%[panel]), %%zmm29\n\t"                                                          \
    "vmovdqa64 128(%[panel]), %%zmm30\n\t"                                                         \
    "vmovdqa64 192(%[panel]), %%zmm31\n\t"                                                         \
    "prefetcht1 (%[ahead])\n\t"                                                                    \
    "prefetcht1 64(%[ahead])\n\t" dots "add $256, %[panel]\n\t"                                    \
    "add $128, %[ahead]\n\t"                                                                       \
    "add $4, %[in]\n\t"                                                                            \
    "add $4, %[lower]\n\t"                                                                         \
    "dec %[steps]\n\t"                                                                             \
    "jnz 1b\n\t"

/* Zero points are stored after a token's values; `in` moves there and back. */
#define BEGIN(rows)                                                                                \
    "lea (%[in],%[steps],4), %[in]\n\t"                                                            \
    "lea (%[lower],%[steps],4), %[lower]\n\t" rows(                                                \
        BEGIN_ROW) "neg %[steps]\n\t"                                                              \
                   "lea (%[in],%[steps],4), %[in]\n\t"                                             \
                   "lea (%[lower],%[steps],4), %[lower]\n\t"                                       \
                   "neg %[steps]\n\t"

#define LOAD_SCALES                                                                                \
    "vmovaps (%[scales]), %%zmm24\n\t"                                                             \
    "vmovaps 64(%[scales]), %%zmm25\n\t"                                                           \
    "vmovaps 128(%[scales]), %%zmm26\n\t"                                                          \
    "vmovaps 192(%[scales]), %%zmm27\n\t"
#define LOAD_BIAS                                                                                  \
    "vmovups (%[bias]), %%zmm28\n\t"                                                               \
    "vmovups 64(%[bias]), %%zmm29\n\t"                                                             \
    "vmovups 128(%[bias]), %%zmm30\n\t"                                                            \
    "vmovups 192(%[bias]), %%zmm31\n\t"
#define FINISH(rows)     LOAD_SCALES LOAD_BIAS rows(SCALE_ROW)
#define FINISH_ADD(rows) LOAD_SCALES rows(ADD_ROW)

#define CLOBBERS                                                                                   \
    "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18",   \
        "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",  \
        "xmm29", "xmm30", "xmm31"

typedef struct sum_tile {
    const uint8_t *in;
    size_t stride;
    const int8_t *panel, *ahead;
    size_t steps; /* of four cols */
} sum_tile;

#define SUM(n)                                                                                     \
    static void sum##n(int32_t *sums, const sum_tile *t) {                                         \
        const uint8_t *in = t->in, *lower = in + 3 * t->stride;                                    \
        const int8_t *panel = t->panel, *ahead = t->ahead;                                         \
        size_t steps = t->steps;                                                                   \
        __asm__ volatile(ROWS##n(CLEAR_ROW) LOOP(DOTS##n) ROWS##n(STORE_ROW)                       \
                         : [in] "+r"(in), [lower] "+r"(lower), [panel] "+r"(panel),                \
                           [steps] "+r"(steps), [ahead] "+r"(ahead), [sums] "+r"(sums)             \
                         : [stride] "r"(t->stride)                                                 \
                         : CLOBBERS);                                                              \
    }

SUM(1)
SUM(2)
SUM(3)
SUM(4)
SUM(5)
SUM(6)

void emb_cpu_avx512_dot_sum(int32_t *sums, uint32_t rows, const uint8_t *in, size_t in_stride,
                            const int8_t *panel, size_t depth, const int8_t *ahead) {
    static void (*const calls[])(int32_t *, const sum_tile *) = {NULL, sum1, sum2, sum3,
                                                                 sum4, sum5, sum6};
    const sum_tile t = {in, in_stride, panel, ahead, depth / 4};
    calls[rows](sums, &t);
}

typedef struct whole_tile {
    sum_tile sum;
    const int32_t *pairs;
    const float *scales, *bias;
    float *out;
    size_t out_stride; /* bytes */
} whole_tile;

#define WHOLE(name, n, finish)                                                                     \
    static void name##n(const whole_tile *t) {                                                     \
        const uint8_t *in = t->sum.in, *lower = in + 3 * t->sum.stride;                            \
        const int8_t *panel = t->sum.panel, *ahead = t->sum.ahead;                                 \
        size_t steps = t->sum.steps;                                                               \
        float *out = t->out;                                                                       \
        __asm__ volatile(BEGIN(ROWS##n) LOOP(DOTS##n) finish(ROWS##n)                              \
                         : [in] "+r"(in), [lower] "+r"(lower), [panel] "+r"(panel),                \
                           [steps] "+r"(steps), [ahead] "+r"(ahead), [out] "+r"(out)               \
                         : [stride] "r"(t->sum.stride), [out_stride] "r"(t->out_stride),           \
                           [pairs] "r"(t->pairs), [scales] "r"(t->scales), [bias] "r"(t->bias)     \
                         : CLOBBERS);                                                              \
    }

WHOLE(whole, 1, FINISH)
WHOLE(whole, 2, FINISH)
WHOLE(whole, 3, FINISH)
WHOLE(whole, 4, FINISH)
WHOLE(whole, 5, FINISH)
WHOLE(whole, 6, FINISH)
WHOLE(add, 1, FINISH_ADD)
WHOLE(add, 2, FINISH_ADD)
WHOLE(add, 3, FINISH_ADD)
WHOLE(add, 4, FINISH_ADD)
WHOLE(add, 5, FINISH_ADD)
WHOLE(add, 6, FINISH_ADD)

static void make_pairs(int32_t *pairs, const int32_t *weight_sums) {
    for (int v = 0; v < EMB_CPU_DOT_PANEL; v += 16) {
        __m512i sums = _mm512_load_si512(weight_sums + v), none = _mm512_setzero_si512();
        __m512i low = _mm512_sub_epi16(none, _mm512_and_si512(sums, _mm512_set1_epi32(63)));
        __m512i high = _mm512_sub_epi32(none, _mm512_srai_epi32(sums, 6));
        high = _mm512_slli_epi32(high, 16);
        _mm512_store_si512(pairs + v, _mm512_mask_blend_epi16(0xaaaaaaaa, low, high));
    }
}

void emb_cpu_avx512_dot_whole(const emb_cpu_dot_tile *tile, const int8_t *panel) {
    static void (*const calls[2][7])(const whole_tile *) = {
        {NULL, whole1, whole2, whole3, whole4, whole5, whole6},
        {NULL, add1, add2, add3, add4, add5, add6},
    };
    const emb_cpu_product *p = tile->product;
    if (tile->row0 == 0) make_pairs(tile->pairs, tile->weight_sums);
    const whole_tile t = {.sum = {tile->in, p->in_stride, panel, tile->ahead, tile->depth / 4},
                          .pairs = tile->pairs,
                          .scales = tile->scales,
                          .bias = p->linear->bias + tile->panel0,
                          .out = (float *)p->out + tile->row0 * p->out_stride + tile->panel0 -
                                 p->column0,
                          .out_stride = p->out_stride * sizeof(float)};
    calls[p->add][tile->rows](&t);
}
