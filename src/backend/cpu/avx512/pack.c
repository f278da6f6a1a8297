/* pack.c - weights from rows to panels of 64 rows side by side, by 16 x 16 transposes: streaming
 * packs every layer again in each pass.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/avx512/avx512.h"

typedef enum pack_form { FORM_F32, FORM_BF16, FORM_PAIRS } pack_form;

/* Writes cols [col0, col0 + cols) of 16 rows at row `lane0` of the panel; m[c] is a column. */
EMB_INLINE void write_columns(void *panel, const __m512 *m, uint32_t lane0, size_t col0,
                              size_t cols, const pack_form form) {
    if (form == FORM_F32) {
        for (size_t c = 0; c < cols; c++)
            _mm512_store_ps((float *)panel + (col0 + c) * EMB_AVX512_PANEL + lane0, m[c]);
    } else if (form == FORM_BF16) {
        uint16_t *first = (uint16_t *)panel + lane0;
        for (size_t c = 0; c < cols; c++)
            _mm256_store_si256((__m256i *)(first + (col0 + c) * EMB_AVX512_PANEL),
                               emb_avx512_round(m[c]));
    } else {
        uint32_t *first = (uint32_t *)panel + lane0;
        for (size_t c = 0; c < cols; c += 2) {
            __m512i even = _mm512_srli_epi32(emb_avx512_round_high(m[c]), 16);
            __m512i odd = emb_avx512_round_high(m[c + 1]);
            _mm512_store_si512(first + (col0 + c) / 2 * EMB_AVX512_PANEL,
                               _mm512_mask_blend_epi16(0xaaaaaaaa, even, odd));
        }
    }
}

EMB_INLINE void pack_panel(void *panel, const float *values, size_t cols, uint32_t rows,
                           const pack_form form) {
    for (uint32_t lane0 = 0; lane0 < EMB_AVX512_PANEL; lane0 += 16) {
        for (size_t col0 = 0; col0 < cols; col0 += 16) {
            __mmask16 mask = emb_avx512_lanes(col0, cols);
            __m512 m[16];
            for (uint32_t r = 0; r < 16; r++) {
                bool inside = lane0 + r < rows;
                const float *row = values + (inside ? lane0 + r : 0) * cols + col0;
                m[r] = _mm512_maskz_loadu_ps(inside ? mask : 0, row);
            }
            emb_avx512_transpose(m);
            size_t left = cols - col0 < 16 ? cols - col0 : 16;
            write_columns(panel, m, lane0, col0, left, form);
        }
    }
}

EMB_INLINE void pack_rows(const emb_linear *linear, uint32_t row0, uint32_t rows,
                          const float *values, size_t panel_bytes, const pack_form form) {
    for (uint32_t r = 0; r < rows; r += EMB_AVX512_PANEL) {
        unsigned char *panel =
            (unsigned char *)linear->packed + (row0 + r) / EMB_AVX512_PANEL * panel_bytes;
        uint32_t inside = rows - r < EMB_AVX512_PANEL ? rows - r : EMB_AVX512_PANEL;
        pack_panel(panel, values + (size_t)r * linear->cols, linear->cols, inside, form);
    }
}

void emb_cpu_avx512_pack_f32(const emb_linear *linear, uint32_t row0, uint32_t rows,
                             const float *values) {
    pack_rows(linear, row0, rows, values, (size_t)linear->cols * EMB_AVX512_PANEL * 4, FORM_F32);
}

void emb_cpu_avx512_pack_bf16(const emb_linear *linear, uint32_t row0, uint32_t rows,
                              const float *values) {
    pack_rows(linear, row0, rows, values, (size_t)linear->cols * EMB_AVX512_PANEL * 2, FORM_BF16);
}

void emb_cpu_avx512_pack_pairs(const emb_linear *linear, uint32_t row0, uint32_t rows,
                               const float *values) {
    size_t pairs = emb_cpu_round_up(linear->cols, 2) / 2;
    pack_rows(linear, row0, rows, values, pairs * EMB_AVX512_PANEL * 4, FORM_PAIRS);
}
