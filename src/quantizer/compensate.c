/* compensate.c - rounds a matrix to minimise the error of its outputs, not of its values.
 *
 * Column by column, the error so far is carried into the remaining columns, weighted by how the
 * inputs correlate: their second moments H = M * M^T, M upper triangular (Frantar et al. 2022,
 * GPTQ, in the form of Chee et al. 2023, LDLQ). Pure arithmetic.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "quantizer/quantizer.h"

#define DAMPING  0.01f /* of the mean moment, added to each, for inputs that never occurred */
#define RUN      16    /* partial sums of a dot product, so that it can be vectorised */
#define CODE_MAX 15.0f

static float dot(const float *a, const float *b, size_t count) {
    float sums[RUN] = {0}, sum = 0;
    size_t i = 0;
    for (; i + RUN <= count; i += RUN)
        for (size_t k = 0; k < RUN; k++) sums[k] += a[i + k] * b[i + k];
    for (; i < count; i++) sum += a[i] * b[i];
    for (size_t k = 0; k < RUN; k++) sum += sums[k];
    return sum;
}

void emb_compensate_factor(float *moments, uint32_t cols) {
    float mean = 0;
    for (size_t k = 0; k < cols; k++) mean += moments[k * cols + k] / (float)cols;
    float least = mean > 0 ? mean * DAMPING : 1;
    for (size_t k = 0; k < cols; k++) moments[k * cols + k] += least;
    /* from the last column to the first, in place */
    for (size_t k = cols; k-- > 0;) {
        float *row = moments + k * cols, *behind = row + k + 1;
        size_t count = cols - k - 1;
        float square = row[k] - dot(behind, behind, count);
        row[k] = sqrtf(square > least * 1e-3f ? square : least * 1e-3f);
        float inverse = 1 / row[k];
        for (size_t j = 0; j < k; j++) {
            float *at = moments + j * cols + k;
            *at = (*at - dot(at + 1, behind, count)) * inverse;
        }
    }
}

/* The scales of column k's group (of its row, for 8 bits), fixed when it is reached. */
static void choose_scale(emb_quantized_rows *out, uint32_t row, uint32_t k, const float *target,
                         const float *importance) {
    if (out->bits == 8) {
        emb_quantized_rows one = {
            8,   1, out->cols, out->cols, out->values + (size_t)row * out->cols, out->scales + row,
            NULL};
        if (k == 0) emb_quantize_rows(&one, target, NULL);
        return;
    }
    if (k % out->group) return;
    uint32_t groups = emb_quantized_groups(out->cols, out->group);
    uint32_t count = out->cols - k < out->group ? out->cols - k : out->group;
    size_t at = (size_t)row * groups + k / out->group;
    emb_quantize_group(out->values + (size_t)row * out->cols + k, &out->scales[at], &out->zeros[at],
                       target + k, importance + k, count);
}

/* Rounds one value on its group's grid; gives the rounded value. */
static float round_value(emb_quantized_rows *out, uint32_t row, uint32_t k, float value) {
    bool wide = out->bits == 8;
    uint32_t groups = wide ? 1 : emb_quantized_groups(out->cols, out->group);
    size_t at = (size_t)row * groups + (wide ? 0 : k / out->group);
    float scale = out->scales[at], zero = wide ? 0 : out->zeros[at];
    float low = wide ? -127 : 0, high = wide ? 127 : CODE_MAX;
    float code = scale > 0 ? rintf(value / scale) + zero : zero;
    code = code < low ? low : code > high ? high : code;
    out->values[(size_t)row * out->cols + k] = (int8_t)code;
    return scale * (code - zero);
}

/* values += error * row of M from k + 1 on, divided by M's diagonal: the share that each later
 * column takes over. */
static void carry(float *values, float amount, const float *shares, size_t count) {
    for (size_t i = 0; i < count; i++) values[i] += amount * shares[i];
}

void emb_compensate_shares(float *factors, float *importance, uint32_t cols) {
    for (size_t k = 0; k < cols; k++) importance[k] = factors[k * cols + k];
    for (size_t j = 0; j < cols; j++)
        for (size_t k = j; k < cols; k++) factors[j * cols + k] /= importance[k];
    for (size_t k = 0; k < cols; k++) importance[k] *= importance[k];
}

void emb_compensate_rows(emb_quantized_rows *out, const float *values, const float *shares,
                         const float *importance, float *targets, double *lost, double *all) {
    uint32_t cols = out->cols;
    float *energy = targets + (size_t)out->rows * cols; /* [rows, cols] */
    memcpy(targets, values, (size_t)out->rows * cols * sizeof *targets);
    memset(energy, 0, (size_t)out->rows * cols * sizeof *energy);
    for (uint32_t k = 0; k < cols; k++) {
        const float *row_shares = shares + (size_t)k * cols;
        for (uint32_t r = 0; r < out->rows; r++) {
            float *target = targets + (size_t)r * cols, value = values[(size_t)r * cols + k];
            float *sums = energy + (size_t)r * cols;
            choose_scale(out, r, k, target, importance);
            float rounded = round_value(out, r, k, target[k]);
            double off = (double)target[k] - rounded, sum = (double)sums[k] + value;
            *lost += off * off * importance[k];
            *all += sum * sum * importance[k];
            carry(target + k + 1, value - rounded, row_shares + k + 1, cols - k - 1);
            carry(sums + k + 1, value, row_shares + k + 1, cols - k - 1);
        }
    }
}
