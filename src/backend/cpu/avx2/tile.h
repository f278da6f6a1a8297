/* tile.h - the inner loop of products over f32 operands, for weights in f32 or in bf16.
 *
 * One multiply-add per weight and token, in the order of cols: the order is the numerics. `rows`
 * and `bf16` are constants where it is used, so that the sums stay in registers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX2_TILE_H
#define EMB_BACKEND_CPU_AVX2_TILE_H

#include "backend/cpu/avx2/avx2.h"

EMB_INLINE __m256 emb_avx2_weights(const void *panel, size_t at, const bool bf16) {
    if (!bf16) return _mm256_load_ps((const float *)panel + at);
    __m128i values = _mm_load_si128((const __m128i *)((const uint16_t *)panel + at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16));
}

EMB_INLINE void emb_avx2_product(const int rows, const bool bf16, float *sums, const float *in,
                                 size_t in_stride, const void *panel, size_t depth) {
    __m256 left[EMB_AVX2_ROWS], right[EMB_AVX2_ROWS];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) left[r] = right[r] = _mm256_setzero_ps();
    /* with two pointers three rows apart, addressing modes reach all rows */
    const float *upper = in, *lower = in + 3 * in_stride;
    for (size_t k = 0; k < depth; k++) {
        __m256 w0 = emb_avx2_weights(panel, k * EMB_AVX2_PANEL, bf16);
        __m256 w1 = emb_avx2_weights(panel, k * EMB_AVX2_PANEL + 8, bf16);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            const float *row = r < 3 ? upper : lower;
            __m256 x = _mm256_broadcast_ss(row + (size_t)(r % 3) * in_stride);
            left[r] = _mm256_fmadd_ps(x, w0, left[r]);
            right[r] = _mm256_fmadd_ps(x, w1, right[r]);
        }
        upper++;
        lower++;
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) {
        _mm256_store_ps(sums + r * EMB_AVX2_PANEL, left[r]);
        _mm256_store_ps(sums + r * EMB_AVX2_PANEL + 8, right[r]);
    }
}

#define EMB_AVX2_TILE(n, bf16)                                                                     \
    static void tile##n(float *sums, const float *in, size_t in_stride, const void *panel,         \
                        size_t depth) {                                                            \
        emb_avx2_product(n, bf16, sums, in, in_stride, panel, depth);                              \
    }

#define EMB_AVX2_TILES(bf16)                                                                       \
    EMB_AVX2_TILE(1, bf16)                                                                         \
    EMB_AVX2_TILE(2, bf16)                                                                         \
    EMB_AVX2_TILE(3, bf16)                                                                         \
    EMB_AVX2_TILE(4, bf16)                                                                         \
    EMB_AVX2_TILE(5, bf16)                                                                         \
    EMB_AVX2_TILE(6, bf16)                                                                         \
    static const emb_cpu_avx2_tile tiles[] = {NULL, tile1, tile2, tile3, tile4, tile5, tile6};

#endif
