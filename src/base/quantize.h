/* quantize.h - rows of a matrix in 8 or 4 bits: pure arithmetic, the same for stored and on the
 * fly.
 *
 * The same f32 values always give the same bits, so a directory written by `embound quantize` and
 * --dtype int8 on full-precision files agree. Allocates nothing, never fails. All functions: any
 * thread.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_QUANTIZE_H
#define EMB_BASE_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EMB_QUANTIZE_GROUP 32 /* int4's default */

/* Rows of a matrix as quantized models store them: value = scale * (q - zero). */
typedef struct emb_quantized_rows {
    uint32_t bits; /* 8 or 4 */
    uint32_t rows, cols;
    uint32_t group; /* int4: values that share a scale (32 or 64) along cols; the last group of a
                       row may be shorter; int8: unused */
    int8_t *values; /* [rows, cols] one value per byte, unpacked; int8: -127..127; int4: 0..15 */
    float *scales;  /* int8: [rows]; int4: [rows, groups]; 0 where all values are 0 */
    uint8_t *zeros; /* int4: [rows, groups], 0..15; int8: NULL */
} emb_quantized_rows;

/* Scales in a row of `cols` values. */
static inline uint32_t emb_quantized_groups(uint32_t cols, uint32_t group) {
    return (cols + group - 1) / group;
}

/* Quantizes f32 values [rows, cols] to nearest: for 8 bits symmetrically by the largest magnitude
 * of a row, for 4 bits by the range of a group that leaves the least squared error. importance
 * [cols] weighs those errors; NULL: equally. int8 takes none.
 * Needs: finite values; out's sizes and buffers set. */
void emb_quantize_rows(emb_quantized_rows *out, const float *values, const float *importance);

/* Factors [cols] for the input of an int4 matrix, without calibration texts: the input is the
 * output of a norm, and is large where the norm's gain and shift [cols] are. There an error of the
 * matrix weighs most; dividing its columns by the factors, which multiply the input, makes these
 * columns large in their groups, and so their relative error small (AWQ, Lin et al. 2023, with the
 * norm in place of activations). Gives also the importance [cols] of errors of the divided columns.
 * factors may be gain, importance shift. */
void emb_quantize_balance(float *factors, float *importance, const float *gain, const float *shift,
                          uint32_t cols);

/* Restores f32 values [rows, cols]. */
void emb_quantize_restore(float *out, const emb_quantized_rows *rows);

/* Quantizes one group of `count` values (at most EMB_QUANTIZE_GROUP_MAX) to 0..15. importance
 * [count] weighs the squared errors; NULL: equally. */
#define EMB_QUANTIZE_GROUP_MAX 64
void emb_quantize_group(int8_t *codes, float *scale, uint8_t *zero, const float *values,
                        const float *importance, uint32_t count);

/* Quantizes f32 values [rows, cols] to fp8 E4M3 bytes with a scale per row: value = scale * fp8. Of
 * eight scales that cover the row's largest magnitude it takes the one with the least squared
 * error.
 */
void emb_quantize_fp8(uint8_t *out, float *scales, const float *values, uint32_t rows,
                      uint32_t cols);

/* One E4M3 byte as f32; 0x7F and 0xFF are NaN. */
float emb_quantize_widen_fp8(uint8_t value);

/* f32 to f16, to nearest, ties to even; beyond the range of f16 to infinity. */
uint16_t emb_quantize_f16(float value);

/* f16 to f32, exactly. Infinities and NaN are kept; subnormals go through an integer, so that a
 * flush-to-zero mode does not matter. */
static inline float emb_quantize_widen_f16(uint16_t value) {
    uint32_t sign = (uint32_t)(value & 0x8000) << 16, rest = value & 0x7FFF;
    uint32_t exponent = rest >= 0x7C00 ? 224u << 23 : 112u << 23;
    uint32_t normal = (rest << 13) + exponent, small;
    float scaled = (float)(int32_t)rest * 0x1p-24f;
    memcpy(&small, &scaled, sizeof small);
    uint32_t bits = sign | (rest < 0x400 ? small : normal);
    memcpy(&scaled, &bits, sizeof scaled);
    return scaled;
}

#endif
