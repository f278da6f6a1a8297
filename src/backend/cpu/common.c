/* common.c - pooling and conversion: the same plain code for every instruction set.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/cpu.h"

#include "base/vector.h"

static void sum_tokens(float *out, const float *in, uint32_t tokens, uint32_t hidden) {
    memcpy(out, in, hidden * sizeof *out);
    for (uint32_t t = 1; t < tokens; t++) {
        const float *row = in + (size_t)t * hidden;
        for (uint32_t i = 0; i < hidden; i++) out[i] += row[i];
    }
}

static void max_tokens(float *out, const float *in, uint32_t tokens, uint32_t hidden) {
    memcpy(out, in, hidden * sizeof *out);
    for (uint32_t t = 1; t < tokens; t++) {
        const float *row = in + (size_t)t * hidden;
        /* a NaN anywhere stays: the engine must see it */
        for (uint32_t i = 0; i < hidden; i++)
            out[i] = out[i] < row[i] || row[i] != row[i] ? row[i] : out[i];
    }
}

void emb_cpu_pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                  const uint32_t *targets, const void *in, const emb_tile *tile,
                  const emb_pool_rule *rule, const emb_layer_spec *shape) {
    (void)self, (void)lane;
    uint32_t hidden = shape->hidden;
    const float *values = in;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        float *row = rows + (size_t)targets[c] * hidden;
        const float *first = values + (size_t)tile->starts[c] * hidden;
        uint32_t tokens = tile->starts[c + 1] - tile->starts[c];
        if (rule->pooling == EMB_POOLING_CLS) {
            memcpy(row, first, hidden * sizeof *row);
        } else if (rule->pooling == EMB_POOLING_MAX) {
            max_tokens(row, first, tokens, hidden);
        } else {
            sum_tokens(row, first, tokens, hidden);
            for (uint32_t i = 0; i < hidden; i++) row[i] /= (float)tokens;
        }
        if (rule->normalize) emb_vector_normalize(row, hidden);
    }
}

/* int8 rows, each with its scale behind. */
static void convert_quantized(void *out, const float *in, uint64_t rows, uint32_t cols) {
    uint64_t row_bytes = emb_dtype_row_bytes(EMB_DTYPE_INT8, cols);
    for (uint64_t r = 0; r < rows; r++, in += cols) {
        int8_t *row = (int8_t *)out + r * row_bytes;
        float scale;
        emb_quantized_rows quantized = {8, 1, cols, cols, row, &scale, NULL};
        emb_quantize_rows(&quantized, in, NULL);
        memset(row + cols, 0, emb_dtype_scale_at(cols) - cols);
        memcpy(row + emb_dtype_scale_at(cols), &scale, sizeof scale);
    }
}

void emb_cpu_convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                     uint64_t rows, uint32_t cols) {
    (void)self;
    uint64_t count = rows * cols;
    if (emb_dtype_quantized(dtype)) {
        convert_quantized(out, in, rows, cols);
    } else if (dtype == EMB_DTYPE_BF16) {
        uint16_t *values = out;
        for (uint64_t i = 0; i < count; i++) values[i] = emb_cpu_round_bf16(in[i]);
    } else {
        memcpy(out, in, count * sizeof *in);
    }
}
