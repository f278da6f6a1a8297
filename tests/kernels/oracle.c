/* oracle.c - the two blocks in double precision, written from their definition and from nothing
 * else: what `ref` itself is tested against.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernels/rig.h"

static double *need(size_t count) {
    double *values = malloc(count * sizeof *values);
    if (!values) exit(71);
    return values;
}

/* out [rows] = W in + bias */
static void apply(double *out, const double *in, const float *weights, const float *bias,
                  uint32_t rows, uint32_t cols) {
    for (uint32_t r = 0; r < rows; r++) {
        double sums[8] = {bias[r]}; /* eight, or each addition waits for the one before */
        const float *row = weights + (size_t)r * cols;
        uint32_t k = 0;
        for (; k + 8 <= cols; k += 8)
            for (uint32_t i = 0; i < 8; i++) sums[i] += in[k + i] * row[k + i];
        for (; k < cols; k++) sums[0] += in[k] * row[k];
        out[r] = (sums[0] + sums[1] + sums[2] + sums[3]) + (sums[4] + sums[5] + sums[6] + sums[7]);
    }
}

void rig_oracle_norm(double *row, const float *gain, const float *shift, uint32_t hidden,
                     double epsilon) {
    double mean = 0.0, squares = 0.0;
    for (uint32_t i = 0; i < hidden; i++) mean += row[i] / hidden;
    for (uint32_t i = 0; i < hidden; i++) squares += (row[i] - mean) * (row[i] - mean) / hidden;
    for (uint32_t i = 0; i < hidden; i++)
        row[i] = (row[i] - mean) / sqrt(squares + epsilon) * gain[i] + shift[i];
}

/* context [head_dim] of query i: softmax over all keys at once. */
static void attend(double *context, const double *qkv, const rig_layer *rig, uint32_t tokens,
                   uint32_t i, uint32_t head) {
    const emb_layer_spec *shape = &rig->shape;
    size_t hidden = shape->hidden, at = (size_t)head * shape->head_dim;
    double *weights = need(tokens), highest = -INFINITY, total = 0.0;
    for (uint32_t j = 0; j < tokens; j++) {
        double sum = 0.0;
        for (uint32_t d = 0; d < shape->head_dim; d++)
            sum += qkv[i * 3 * hidden + at + d] * qkv[j * 3 * hidden + hidden + at + d];
        weights[j] = sum / sqrt(shape->head_dim);
        size_t distances = 2 * (size_t)shape->chunk_tokens_max - 1;
        if (rig->relative)
            weights[j] += rig->relative[head * distances + j + shape->chunk_tokens_max - 1 - i];
        highest = fmax(highest, weights[j]);
    }
    for (uint32_t d = 0; d < shape->head_dim; d++) context[d] = 0.0;
    for (uint32_t j = 0; j < tokens; j++) total += weights[j] = exp(weights[j] - highest);
    for (uint32_t j = 0; j < tokens; j++)
        for (uint32_t d = 0; d < shape->head_dim; d++)
            context[d] += weights[j] / total * qkv[j * 3 * hidden + 2 * hidden + at + d];
    free(weights);
}

static void attention_chunk(double *out, const float *in, uint32_t tokens, const rig_layer *rig) {
    uint32_t hidden = rig->shape.hidden;
    double *qkv = need((size_t)tokens * 3 * hidden), *row = need(hidden);
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < hidden; i++) row[i] = in[(size_t)t * hidden + i];
        apply(qkv + (size_t)t * 3 * hidden, row, rig->weights[0], rig->biases[0], 3 * hidden,
              hidden);
    }
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t head = 0; head < rig->shape.heads; head++)
            attend(row + (size_t)head * rig->shape.head_dim, qkv, rig, tokens, t, head);
        double *to = out + (size_t)t * hidden;
        apply(to, row, rig->weights[1], rig->biases[1], hidden, hidden);
        for (uint32_t i = 0; i < hidden; i++) to[i] += in[(size_t)t * hidden + i];
        rig_oracle_norm(to, rig->gains[0], rig->shifts[0], hidden, rig->shape.norm_epsilon);
    }
    free(qkv);
    free(row);
}

void rig_oracle_attention(double *out, const float *in, const emb_tile *tile,
                          const rig_layer *rig) {
    for (uint32_t c = 0; c < tile->chunks; c++) {
        size_t first = (size_t)tile->starts[c] * rig->shape.hidden;
        attention_chunk(out + first, in + first, tile->starts[c + 1] - tile->starts[c], rig);
    }
}

void rig_oracle_ffn(double *out, const float *in, const emb_tile *tile, const rig_layer *rig) {
    uint32_t hidden = rig->shape.hidden, wide = rig->shape.intermediate;
    double *row = need(hidden), *middle = need(wide);
    for (uint32_t t = 0; t < tile->tokens; t++) {
        for (uint32_t i = 0; i < hidden; i++) row[i] = in[(size_t)t * hidden + i];
        apply(middle, row, rig->weights[2], rig->biases[2], wide, hidden);
        for (uint32_t i = 0; i < wide; i++)
            middle[i] = 0.5 * middle[i] * erfc(-middle[i] / sqrt(2.0));
        double *to = out + (size_t)t * hidden;
        apply(to, middle, rig->weights[3], rig->biases[3], hidden, wide);
        for (uint32_t i = 0; i < hidden; i++) to[i] += row[i];
        rig_oracle_norm(to, rig->gains[1], rig->shifts[1], hidden, rig->shape.norm_epsilon);
    }
    free(row);
    free(middle);
}
