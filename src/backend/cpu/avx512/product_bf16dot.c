/* product_bf16dot.c - products of bf16 operands and bf16 weights: two cols at a time, summed in
 * f32. A panel holds [cols / 2, 64, 2]; odd cols are padded with a zero weight.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

EMB_INLINE __m512 pair(const uint16_t *at) {
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return _mm512_castsi512_ps(_mm512_set1_epi32((int)bits));
}

EMB_INLINE void sum_pairs(const int rows, float *sums, const uint16_t *in, size_t in_stride,
                          const uint16_t *panel, size_t depth) {
    __m512 acc[EMB_AVX512_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) acc[r][v] = _mm512_setzero_ps();
    const uint16_t *upper = in, *lower = in + 3 * in_stride;
    for (size_t k = 0; k < depth; k++) {
        __m512bh w[4];
        for (int v = 0; v < 4; v++) w[v] = (__m512bh)_mm512_load_si512(panel + k * 128 + 32 * v);
        for (int r = 0; r < rows; r++) {
            const uint16_t *row = (r < 3 ? upper : lower) + (size_t)(r % 3) * in_stride;
            __m512bh x = (__m512bh)pair(row);
            for (int v = 0; v < 4; v++) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, w[v]);
        }
        upper += 2;
        lower += 2;
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            _mm512_store_ps(sums + r * EMB_AVX512_PANEL + 16 * v, acc[r][v]);
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
