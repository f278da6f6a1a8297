/* quantize.c - rounds rows of f32 to int8, groups of them to int4, values to fp8, and back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/quantize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define CODE_MAX    15     /* int4 */
#define RANGE_MIN   1e-30f /* below it a row or group is zeros: its scale would lose precision */
#define FP8_MAX     448.0f
#define SUMS        16     /* partial sums, for vectorisation; divides groups */
#define BALANCE_MIN 0.125f /* of the mean: no coordinate is neglected */

/* To nearest, ties to even, for magnitudes below 2^22: as rintf, but without a call. */
static float nearest(float value) {
    const float shift = 12582912.0f; /* 1.5 * 2^23 */
    return (value + shift) - shift;
}

static float largest(const float *values, size_t count) {
    float most = 0;
    for (size_t i = 0; i < count; i++) most = fabsf(values[i]) > most ? fabsf(values[i]) : most;
    return most;
}

static void quantize_row(int8_t *codes, float *scale, const float *values, uint32_t count) {
    float most = largest(values, count);
    *scale = most < RANGE_MIN ? 0 : most / 127;
    float inverse = most < RANGE_MIN ? 0 : 127 / most;
    for (uint32_t i = 0; i < count; i++) codes[i] = (int8_t)nearest(values[i] * inverse);
}

/* ---- int4 ------------------------------------------------------------------------------------ */

/* An affine grid of the codes 0..15. */
typedef struct spread {
    float scale, inverse, zero;
} spread;

static float code_of(const spread *s, float value) {
    float code = nearest(value * s->inverse) + s->zero;
    code = code < 0 ? 0 : code;
    return code > CODE_MAX ? CODE_MAX : code;
}

static float total(const float *sums) {
    float sum = 0;
    for (uint32_t k = 0; k < SUMS; k++) sum += sums[k];
    return sum;
}

/* Sets the least-squares scale for the codes of `s`, with the same zero; gives the sum of the
 * values' squares less the squared error. 0 if there is none. */
static float refit(spread *s, const float *values, const float *importance, uint32_t count) {
    float above[SUMS] = {0}, below[SUMS] = {0};
    for (uint32_t i = 0; i < count; i += SUMS) {
        for (uint32_t k = 0; k < SUMS; k++) {
            float step = code_of(s, values[i + k]) - s->zero, weight = importance[i + k] * step;
            above[k] += weight * values[i + k];
            below[k] += weight * step;
        }
    }
    float least = total(below), most = total(above), scale = least > 0 ? most / least : 0;
    if (!(scale * CODE_MAX > RANGE_MIN)) return 0;
    *s = (spread){scale, 1 / scale, s->zero};
    return most * scale;
}

/* Narrower ranges clip the outermost values and represent the others better; a wider one leaves
 * room at its ends for the rounding of the zero. Both ends are varied independently, as the zero
 * moves with them. Sixteen times as many ranges leave 0.2 % less error. */
static spread find_spread(const float *values, const float *importance, uint32_t count, float low,
                          float high) {
    static const float reach[] = {1.05f, 0.95f, 0.85f};
    enum { REACHES = sizeof reach / sizeof reach[0] };
    spread best = {0};
    float most = -1;
    for (uint32_t i = 0; i < REACHES * REACHES; i++) {
        float from = low * reach[i / REACHES], to = high * reach[i % REACHES];
        float scale = (to - from) / CODE_MAX;
        spread tried = {scale, 1 / scale, nearest(-from / scale)};
        float held = refit(&tried, values, importance, count);
        if (held <= most) continue;
        most = held;
        best = tried;
    }
    refit(&best, values, importance, count);
    return best;
}

void emb_quantize_group(int8_t *codes, float *scale, uint8_t *zero, const float *values,
                        const float *importance, uint32_t count) {
    /* the padding has weight 0 */
    float weight[EMB_QUANTIZE_GROUP_MAX] = {0}, padded[EMB_QUANTIZE_GROUP_MAX] = {0};
    float low = 0, high = 0;
    for (uint32_t i = 0; i < count; i++) {
        weight[i] = 1;
        padded[i] = values[i];
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    *scale = 0;
    *zero = 0;
    memset(codes, 0, count);
    if (high - low < RANGE_MIN) return;
    /* normalised importances: their sum must neither overflow nor underflow */
    float most = importance ? largest(importance, count) : 0;
    for (uint32_t i = 0; i < count && most > 0; i++) weight[i] = importance[i] / most;
    spread best = find_spread(padded, weight, (count + SUMS - 1) / SUMS * SUMS, low, high);
    *scale = best.scale;
    *zero = (uint8_t)best.zero;
    for (uint32_t i = 0; i < count; i++) codes[i] = (int8_t)code_of(&best, values[i]);
}

void emb_quantize_balance(float *factors, float *importance, const float *gain, const float *shift,
                          uint32_t cols) {
    float mean = 0;
    for (uint32_t i = 0; i < cols; i++) {
        factors[i] = sqrtf(sqrtf(gain[i] * gain[i] + shift[i] * shift[i]));
        mean += factors[i] / (float)cols;
    }
    bool usable = mean > RANGE_MIN && mean < 1 / RANGE_MIN;
    for (uint32_t i = 0; i < cols; i++) {
        float share = usable ? factors[i] / mean : 1;
        if (share < BALANCE_MIN) share = BALANCE_MIN;
        importance[i] = share * share;
        factors[i] = 1 / share;
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Values per scale: for int8 one group per row. */
static uint32_t group_of(const emb_quantized_rows *rows) {
    return rows->bits == 8 || rows->group > rows->cols ? rows->cols : rows->group;
}

void emb_quantize_rows(emb_quantized_rows *out, const float *values, const float *importance) {
    uint32_t group = group_of(out), groups = emb_quantized_groups(out->cols, group);
    for (size_t at = 0; at < (size_t)out->rows * groups; at++) {
        uint32_t first = (uint32_t)(at % groups) * group;
        uint32_t count = out->cols - first < group ? out->cols - first : group;
        size_t place = at / groups * out->cols + first;
        if (out->bits == 8)
            quantize_row(out->values + place, &out->scales[at], values + place, count);
        else
            emb_quantize_group(out->values + place, &out->scales[at], &out->zeros[at],
                               values + place, importance ? importance + first : NULL, count);
    }
}

void emb_quantize_restore(float *out, const emb_quantized_rows *rows) {
    uint32_t group = group_of(rows), groups = emb_quantized_groups(rows->cols, group);
    for (size_t at = 0; at < (size_t)rows->rows * groups; at++) {
        uint32_t first = (uint32_t)(at % groups) * group;
        uint32_t count = rows->cols - first < group ? rows->cols - first : group;
        int32_t zero = rows->bits == 8 ? 0 : rows->zeros[at];
        size_t place = at / groups * rows->cols + first;
        for (size_t i = place; i < place + count; i++)
            out[i] = rows->scales[at] * (float)(rows->values[i] - zero);
    }
}

/* ---- fp8 ------------------------------------------------------------------------------------- */

/* |value| <= 448. Below 2^-6 the steps are 2^-9, above it an eighth of the power of two. */
static uint8_t round_fp8(float value) {
    uint32_t bits;
    float most = fabsf(value);
    uint8_t sign = signbit(value) ? 0x80 : 0;
    if (most < 0x1p-6f) return sign | (uint8_t)nearest(most * 0x1p9f);
    memcpy(&bits, &most, sizeof bits);
    bits += 0x7FFFF + ((bits >> 20) & 1); /* drops 20 bits of mantissa */
    uint32_t code = (bits >> 20) - (120u << 3);
    return sign | (uint8_t)(code > 0x7E ? 0x7E : code);
}

float emb_quantize_widen_fp8(uint8_t value) {
    uint32_t rest = value & 0x7F;
    float sign = value & 0x80 ? -1.0f : 1.0f;
    if (rest == 0x7F) return NAN;
    if (rest < 8) return sign * (float)rest * 0x1p-9f;
    uint32_t bits = (rest << 20) + (120u << 23);
    float most;
    memcpy(&most, &bits, sizeof most);
    return sign * most;
}

/* A magnitude rounded to fp8 and back, without a branch, as eight scales are tried for each row
 * whenever an unquantized model is opened. Adding 1.5 * 2^20 times its power of two (at least 2^-6)
 * rounds. */
static float nearest_fp8(float most) {
    const int32_t least = 121 << 23;
    int32_t bits;
    float shift;
    memcpy(&bits, &most, sizeof bits);
    bits = bits > least ? bits : least;
    uint32_t power = ((uint32_t)bits & 0x7F800000u) + (20u << 23) + 0x400000u;
    memcpy(&shift, &power, sizeof shift);
    return (most + shift) - shift;
}

/* The squared error of a row in fp8 with this scale. */
static float squared_error_fp8(const float *row, float scale, uint32_t cols) {
    float inverse = 1 / scale, sum = 0;
    for (uint32_t i = 0; i < cols; i++) {
        float most = fabsf(row[i]), away = most - scale * nearest_fp8(most * inverse);
        sum += away * away;
    }
    return sum;
}

/* Tries scales that put the largest magnitude at 448 or up to an octave below, which changes how a
 * row's values fall between the steps. */
static float best_scale_fp8(const float *row, uint32_t cols) {
    static const float eighths[] = {1,          1.0905077f, 1.1892071f, 1.2968396f,
                                    1.4142136f, 1.5422108f, 1.6817929f, 1.8340081f};
    float most = largest(row, cols), best = 0;
    float least = 0;
    if (most < RANGE_MIN) return 0;
    for (size_t i = 0; i < sizeof eighths / sizeof *eighths; i++) {
        float scale = most / FP8_MAX * eighths[i];
        float error = squared_error_fp8(row, scale, cols);
        if (i > 0 && error >= least) continue;
        least = error;
        best = scale;
    }
    return best;
}

void emb_quantize_fp8(uint8_t *out, float *scales, const float *values, uint32_t rows,
                      uint32_t cols) {
    for (uint32_t r = 0; r < rows; r++) {
        const float *row = values + (size_t)r * cols;
        float scale = best_scale_fp8(row, cols), inverse = scale > 0 ? 1 / scale : 0;
        scales[r] = scale;
        for (uint32_t i = 0; i < cols; i++) out[(size_t)r * cols + i] = round_fp8(row[i] * inverse);
    }
}

/* ---- f16 ------------------------------------------------------------------------------------- */

uint16_t emb_quantize_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and up */
    if (rest < 0x38800000u) {                                   /* below 2^-14: subnormal */
        float scaled; /* adding 0.5 leaves the f16 subnormal's bits at the bottom of the sum */
        memcpy(&scaled, &rest, sizeof scaled);
        scaled += 0.5f;
        memcpy(&rest, &scaled, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfff + ((rest >> 13) & 1);
    return (uint16_t)(sign | ((rest - 0x38000000u) >> 13));
}
