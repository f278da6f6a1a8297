/* product_bf16dot.c - products of bf16 operands and bf16 weights: two cols at a time, summed in
 * f32. A panel holds [cols / 2, 64, 2]; odd cols are padded with a zero weight.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

EMB_INLINE __m512bh pair(const uint16_t *at) {
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return (__m512bh)_mm512_set1_epi32((int)bits);
}

EMB_INLINE void sum_pairs(const int rows, float *sums, const uint16_t *in, size_t in_stride,
                          const uint16_t *panel, size_t depth) {
    __m512 s0[EMB_AVX512_ROWS], s1[EMB_AVX512_ROWS], s2[EMB_AVX512_ROWS], s3[EMB_AVX512_ROWS];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) s0[r] = s1[r] = s2[r] = s3[r] = _mm512_setzero_ps();
    const uint16_t *upper = in, *lower = in + 3 * in_stride;
    for (size_t k = 0; k < depth; k++, panel += 2 * EMB_AVX512_PANEL) {
        __m512bh w0 = (__m512bh)_mm512_load_si512(panel);
        __m512bh w1 = (__m512bh)_mm512_load_si512(panel + 32);
        __m512bh w2 = (__m512bh)_mm512_load_si512(panel + 64);
        __m512bh w3 = (__m512bh)_mm512_load_si512(panel + 96);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512bh x = pair((r < 3 ? upper : lower) + (size_t)(r % 3) * in_stride);
            s0[r] = _mm512_dpbf16_ps(s0[r], x, w0);
            s1[r] = _mm512_dpbf16_ps(s1[r], x, w1);
            s2[r] = _mm512_dpbf16_ps(s2[r], x, w2);
            s3[r] = _mm512_dpbf16_ps(s3[r], x, w3);
        }
        upper += 2;
        lower += 2;
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++, sums += EMB_AVX512_PANEL) {
        _mm512_store_ps(sums, s0[r]);
        _mm512_store_ps(sums + 16, s1[r]);
        _mm512_store_ps(sums + 32, s2[r]);
        _mm512_store_ps(sums + 48, s3[r]);
    }
}

#define TILE(n)                                                                                    \
    static void tile##n(float *sums, const void *in, size_t in_stride, const void *panel,          \
                        size_t depth) {                                                            \
        sum_pairs(n, sums, in, in_stride, panel, depth);                                           \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

static const emb_cpu_avx512_tile tiles[] = {NULL, tile1, tile2, tile3, tile4, tile5, tile6};

void emb_cpu_avx512_product_bf16dot(const emb_cpu_product *product) {
    size_t depth = emb_cpu_round_up(product->linear->cols, 2) / 2;
    emb_cpu_avx512_walk walk = {tiles, depth, depth * EMB_AVX512_PANEL * sizeof(uint32_t), 2};
    emb_cpu_avx512_run(product, &walk);
}
