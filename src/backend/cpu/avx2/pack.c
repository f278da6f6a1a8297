/* pack.c - weights from rows to panels of 16 rows side by side, by 8 x 8 transposes: streaming
 * packs every layer again in each pass.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx2/avx2.h"

/* To bf16, nearest even. */
EMB_INLINE __m128i round_values(__m256 values) {
    __m256i bits = _mm256_castps_si256(values);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    bits = _mm256_srli_epi32(bits, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

EMB_INLINE void pack_panel(void *panel, const float *values, size_t cols, uint32_t rows,
                           const bool bf16) {
    for (uint32_t lane0 = 0; lane0 < EMB_AVX2_PANEL; lane0 += 8) {
        for (size_t col0 = 0; col0 < cols; col0 += 8) {
            __m256 m[8];
            for (uint32_t r = 0; r < 8; r++) {
                m[r] = _mm256_setzero_ps();
                if (lane0 + r < rows) m[r] = emb_avx2_load(values + (lane0 + r) * cols, col0, cols);
            }
            emb_avx2_transpose(m);
            for (size_t c = 0; c < 8 && col0 + c < cols; c++) {
                size_t at = (col0 + c) * EMB_AVX2_PANEL + lane0;
                if (bf16)
                    _mm_store_si128((__m128i *)((uint16_t *)panel + at), round_values(m[c]));
                else
                    _mm256_store_ps((float *)panel + at, m[c]);
            }
        }
    }
}

EMB_INLINE void pack_rows(const emb_linear *linear, uint32_t row0, uint32_t rows,
                          const float *values, const bool bf16) {
    size_t cols = linear->cols, panel_bytes = cols * EMB_AVX2_PANEL * (bf16 ? 2 : 4);
    for (uint32_t r = 0; r < rows; r += EMB_AVX2_PANEL) {
        unsigned char *panel =
            (unsigned char *)linear->packed + (row0 + r) / EMB_AVX2_PANEL * panel_bytes;
        uint32_t inside = rows - r < EMB_AVX2_PANEL ? rows - r : EMB_AVX2_PANEL;
        pack_panel(panel, values + r * cols, cols, inside, bf16);
    }
}

void emb_cpu_avx2_pack_f32(const emb_linear *linear, uint32_t row0, uint32_t rows,
                           const float *values) {
    pack_rows(linear, row0, rows, values, false);
}

void emb_cpu_avx2_pack_bf16(const emb_linear *linear, uint32_t row0, uint32_t rows,
                            const float *values) {
    pack_rows(linear, row0, rows, values, true);
}
