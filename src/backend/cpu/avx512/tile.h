/* tile.h - the inner loop of products over f32 operands, for weights in f32 or in bf16.
 *
 * One multiply-add per weight and token, in the order of cols: the order is the numerics. `rows`
 * and `bf16` are constants where it is used, so that the sums stay in registers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_AVX512_TILE_H
#define EMB_BACKEND_CPU_AVX512_TILE_H

#include "backend/cpu/avx512/avx512.h"

EMB_INLINE __m512 emb_avx512_weights(const void *panel, size_t at, const bool bf16) {
    if (!bf16) return _mm512_load_ps((const float *)panel + at);
    return emb_avx512_widen(_mm256_load_si256((const __m256i *)((const uint16_t *)panel + at)));
}

EMB_INLINE void emb_avx512_sum(const int rows, const bool bf16, float *sums, const float *in,
                               size_t in_stride, const void *panel, size_t depth) {
    __m512 s0[EMB_AVX512_ROWS], s1[EMB_AVX512_ROWS], s2[EMB_AVX512_ROWS], s3[EMB_AVX512_ROWS];
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++) s0[r] = s1[r] = s2[r] = s3[r] = _mm512_setzero_ps();
    /* with two pointers three rows apart, addressing modes reach all rows */
    const float *upper = in, *lower = in + 3 * in_stride;
    for (size_t k = 0; k < depth; k++) {
        __m512 w0 = emb_avx512_weights(panel, k * EMB_AVX512_PANEL, bf16);
        __m512 w1 = emb_avx512_weights(panel, k * EMB_AVX512_PANEL + 16, bf16);
        __m512 w2 = emb_avx512_weights(panel, k * EMB_AVX512_PANEL + 32, bf16);
        __m512 w3 = emb_avx512_weights(panel, k * EMB_AVX512_PANEL + 48, bf16);
        EMB_CPU_UNROLL
        for (int r = 0; r < rows; r++) {
            const float *row = r < 3 ? upper : lower;
            __m512 x = _mm512_set1_ps(row[(size_t)(r % 3) * in_stride]);
            s0[r] = _mm512_fmadd_ps(x, w0, s0[r]);
            s1[r] = _mm512_fmadd_ps(x, w1, s1[r]);
            s2[r] = _mm512_fmadd_ps(x, w2, s2[r]);
            s3[r] = _mm512_fmadd_ps(x, w3, s3[r]);
        }
        upper++;
        lower++;
    }
    EMB_CPU_UNROLL
    for (int r = 0; r < rows; r++, sums += EMB_AVX512_PANEL) {
        _mm512_store_ps(sums, s0[r]);
        _mm512_store_ps(sums + 16, s1[r]);
        _mm512_store_ps(sums + 32, s2[r]);
        _mm512_store_ps(sums + 48, s3[r]);
    }
}

#define EMB_AVX512_TILE(n, bf16)                                                                   \
    static void tile##n(float *sums, const void *in, size_t in_stride, const void *panel,          \
                        size_t depth) {                                                            \
        emb_avx512_sum(n, bf16, sums, in, in_stride, panel, depth);                                \
    }

#define EMB_AVX512_TILES(bf16)                                                                     \
    EMB_AVX512_TILE(1, bf16)                                                                       \
    EMB_AVX512_TILE(2, bf16)                                                                       \
    EMB_AVX512_TILE(3, bf16)                                                                       \
    EMB_AVX512_TILE(4, bf16)                                                                       \
    EMB_AVX512_TILE(5, bf16)                                                                       \
    EMB_AVX512_TILE(6, bf16)                                                                       \
    static const emb_cpu_avx512_tile tiles[] = {NULL, tile1, tile2, tile3, tile4, tile5, tile6};

#endif
