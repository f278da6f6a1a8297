/* fake_kernels.c - loops that compute what a GPU's kernels do, in f32 or with f16 activations, from
 * matrices in any dtype and in the packed form of the device.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "backend/cuda/host/pack.h"

enum { COLS_MAX = 4096 }; /* of any matrix */

static bool is_half(const fake_work *work) {
    return work->dtype != EMB_DTYPE_F32;
}

static float get(const void *values, size_t at, bool half) {
    return half ? emb_quantize_widen_f16(((const uint16_t *)values)[at])
                : ((const float *)values)[at];
}

static void set(void *values, size_t at, float value, bool half) {
    if (half)
        ((uint16_t *)values)[at] = emb_quantize_f16(value);
    else
        ((float *)values)[at] = value;
}

static void get_row(float *out, const void *values, size_t row, uint32_t cols, bool half) {
    assert(cols <= COLS_MAX);
    for (uint32_t i = 0; i < cols; i++) out[i] = get(values, row * cols + i, half);
}

/* Row `row` of out = norm(in + add). */
static void norm(void *out, size_t row, const float *in, const float *add, const float *gain,
                 const float *shift, const fake_work *work) {
    uint32_t hidden = work->shape->hidden;
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < hidden; i++) mean += in[i] + add[i];
    mean /= hidden;
    for (uint32_t i = 0; i < hidden; i++)
        square += (in[i] + add[i] - mean) * (in[i] + add[i] - mean);
    double scale = 1 / sqrt(square / hidden + work->shape->norm_epsilon);
    for (uint32_t i = 0; i < hidden; i++)
        set(out, row * hidden + i, (float)((in[i] + add[i] - mean) * scale * gain[i] + shift[i]),
            is_half(work));
}

static void norm_rows(void *out, const void *in, const void *add, const float *gain,
                      const float *shift, const fake_work *work) {
    float a[COLS_MAX], b[COLS_MAX];
    for (uint32_t t = 0; t < work->tile->tokens; t++) {
        get_row(a, in, t, work->shape->hidden, is_half(work));
        get_row(b, add, t, work->shape->hidden, is_half(work));
        norm(out, t, a, b, gain, shift, work);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* A token in u8 with scale and zero. */
static void quantize_row(uint8_t *codes, float *scale, int32_t *zero, const float *in,
                         uint32_t cols) {
    float low = 0, high = 0;
    for (uint32_t i = 0; i < cols; i++) {
        low = in[i] < low ? in[i] : low;
        high = in[i] > high ? in[i] : high;
    }
    float range = high - low, factor = range > 1e-30f ? 255 / range : 0;
    *scale = range > 1e-30f ? range / 255 : 0;
    *zero = (int32_t)rintf(-low * factor);
    for (uint32_t i = 0; i < cols; i++) {
        int32_t code = (int32_t)rintf(in[i] * factor) + *zero;
        codes[i] = (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code);
    }
}

/* Of the codes at a place of the lane. */
static float *scales_of(const fake_work *work, const void *codes) {
    return codes == work->lane.inner_codes ? work->lane.inner_scales : work->lane.code_scales;
}
static int32_t *zeros_of(const fake_work *work, const void *codes) {
    return codes == work->lane.inner_codes ? work->lane.inner_zeros : work->lane.code_zeros;
}

static void smooth_row(float *values, const emb_linear *linear) {
    for (uint32_t i = 0; linear->smooth && i < linear->cols; i++) values[i] *= linear->smooth[i];
}

/* A product's input: in codes in `room`, or for int4 smoothed there; else as it is. Gives what the
 * product reads. */
static const void *ready(const fake_work *work, const emb_linear *linear, const void *in,
                         void *room) {
    float row[COLS_MAX], *scales = scales_of(work, room);
    int32_t *zeros = zeros_of(work, room);
    uint32_t cols = linear->cols;
    bool plain = !emb_dtype_quantized(linear->dtype);
    if (plain || (linear->dtype == EMB_DTYPE_INT4 && !linear->smooth)) return in;
    for (uint32_t t = 0; t < work->tile->tokens; t++) {
        uint8_t *codes = (uint8_t *)room + (size_t)t * cols;
        get_row(row, in, t, cols, true);
        smooth_row(row, linear);
        if (linear->dtype == EMB_DTYPE_INT8)
            quantize_row(codes, &scales[t], &zeros[t], row, cols);
        else if (linear->dtype == EMB_DTYPE_FP8)
            emb_quantize_fp8(codes, &scales[t], row, 1, cols);
        for (uint32_t i = 0; linear->dtype == EMB_DTYPE_INT4 && i < cols; i++)
            set(room, (size_t)t * cols + i, row[i], true);
    }
    return room;
}

/* As in the module: whether a layer finds its input's codes in the lane. */
static bool codes_stay(const fake_work *work, const emb_linear *qkv) {
    return work->lane.layer_codes && !qkv->smooth && !work->tile->kept;
}

/* Row r of the matrix; for int8 and fp8 without its scale. */
static void weight_row(double *out, const emb_linear *linear, uint32_t r) {
    uint32_t cols = linear->cols;
    const unsigned char *bytes = linear->packed;
    for (uint32_t c = 0; c < cols; c++) {
        size_t at = (size_t)r * cols + c;
        if (linear->dtype == EMB_DTYPE_INT8) {
            out[c] = (int8_t)bytes[at];
        } else if (linear->dtype == EMB_DTYPE_FP8) {
            out[c] = emb_quantize_widen_fp8(bytes[at]);
        } else if (linear->dtype == EMB_DTYPE_INT4) {
            size_t group =
                (size_t)r * emb_quantized_groups(cols, linear->group) + c / linear->group;
            int code = at % 2 ? bytes[at / 2] >> 4 : bytes[at / 2] & 15;
            float scale =
                emb_quantize_widen_f16(((const uint16_t *)(const void *)linear->scales)[group]);
            out[c] = emb_quantize_widen_f16(
                emb_quantize_f16(scale * (float)(code - linear->zeros[group])));
        } else {
            out[c] = get(linear->packed, at, linear->dtype == EMB_DTYPE_F16);
        }
    }
}

/* One output without its bias. */
static double output(const fake_work *work, const emb_linear *linear, uint32_t r, uint32_t t,
                     const void *in, const double *weights) {
    double sum = 0;
    size_t first = (size_t)t * linear->cols;
    bool coded = linear->dtype == EMB_DTYPE_INT8 || linear->dtype == EMB_DTYPE_FP8;
    const uint8_t *codes = (const uint8_t *)in + first;
    for (uint32_t c = 0; !coded && c < linear->cols; c++)
        sum += get(in, first + c, is_half(work)) * weights[c];
    if (!coded) return sum;
    for (uint32_t c = 0; c < linear->cols; c++)
        sum += (linear->sums ? codes[c] : emb_quantize_widen_fp8(codes[c])) * weights[c];
    if (linear->sums) sum -= (double)zeros_of(work, in)[t] * linear->sums[r];
    return (float)sum * linear->scales[r] * scales_of(work, in)[t];
}

/* `in` as `ready` gave it. */
static void product(void *out, const void *in, const emb_linear *linear, bool gelu,
                    const fake_work *work) {
    double weights[COLS_MAX];
    assert(linear->cols <= COLS_MAX);
    for (uint32_t r = 0; r < linear->rows; r++) {
        weight_row(weights, linear, r);
        for (uint32_t t = 0; t < work->tile->tokens; t++) {
            double sum = output(work, linear, r, t, in, weights) + linear->bias[r];
            if (gelu) sum = 0.5 * sum * (1 + erf(sum * 0.70710678118654752));
            set(out, (size_t)t * linear->rows + r, (float)sum, is_half(work));
        }
    }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void word_row(float *out, const emb_embedding *embedding, uint32_t id, uint32_t hidden) {
    const unsigned char *row = embedding->words;
    row += id * emb_dtype_row_bytes(embedding->dtype, hidden);
    if (!emb_dtype_quantized(embedding->dtype)) {
        get_row(out, row, 0, hidden, embedding->dtype != EMB_DTYPE_F32);
        return;
    }
    float scale;
    memcpy(&scale, row + emb_dtype_scale_at(hidden), sizeof scale);
    for (uint32_t i = 0; i < hidden; i++) out[i] = scale * (float)(int8_t)row[i];
}

void fake_embed(void *out, const emb_embedding *embedding, const fake_work *work) {
    const emb_tile *tile = work->tile;
    uint32_t hidden = work->shape->hidden;
    float row[COLS_MAX];
    assert(hidden <= COLS_MAX);
    for (uint32_t c = 0; c < tile->chunks; c++)
        for (uint32_t t = tile->starts[c]; t < tile->starts[c + 1]; t++) {
            word_row(row, embedding, tile->ids[t], hidden);
            norm(out, t, row, embedding->positions + (size_t)(t - tile->starts[c]) * hidden,
                 embedding->gain, embedding->shift, work);
        }
    const emb_linear next = {.cols = hidden, .dtype = embedding->dtype};
    if (codes_stay(work, &next)) ready(work, &next, out, work->lane.layer_codes);
}

/* One query of one head against the keys of its chunk, which begins at row `start`. */
static void attend(const fake_work *work, uint32_t start, uint32_t query, uint32_t tokens,
                   uint32_t head) {
    const emb_block_shape *shape = work->shape;
    bool half = is_half(work);
    const void *qkv = work->lane.wide;
    size_t stride = (size_t)3 * shape->hidden, first = (size_t)head * shape->head_dim;
    size_t q = (start + query) * stride + first;
    double sums[256] = {0}, total = 0;
    for (uint32_t k = 0; k < tokens; k++) {
        size_t key = (start + k) * stride + shape->hidden + first, value = key + shape->hidden;
        double score = 0;
        for (uint32_t i = 0; i < shape->head_dim; i++)
            score += (double)get(qkv, q + i, half) * get(qkv, key + i, half);
        score /= sqrt(shape->head_dim);
        if (shape->relative)
            score += shape->relative[(size_t)head * (2 * shape->chunk_tokens_max - 1) + k - query +
                                     shape->chunk_tokens_max - 1];
        double weight = exp(score);
        total += weight;
        for (uint32_t i = 0; i < shape->head_dim; i++)
            sums[i] += weight * get(qkv, value + i, half);
    }
    for (uint32_t i = 0; i < shape->head_dim; i++)
        set(work->lane.context, (size_t)(start + query) * shape->hidden + first + i,
            (float)(sums[i] / total), half);
}

/* Inputs are made ready where the module does it: two codes that are needed at once lie apart. */
void fake_attention_block(void *out, const void *in, const emb_layer *layer,
                          const fake_work *work) {
    const emb_tile *tile = work->tile;
    const emb_cuda_lane *lane = &work->lane;
    bool coded = lane->layer_codes != NULL;
    const void *input = lane->layer_codes;
    if (!codes_stay(work, &layer->qkv))
        input = ready(work, &layer->qkv, in, coded ? lane->layer_codes : lane->context);
    product(lane->wide, input, &layer->qkv, false, work);
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t start = tile->starts[c], tokens = tile->starts[c + 1] - start;
        for (uint32_t q = 0; q < tokens; q++)
            for (uint32_t h = 0; h < work->shape->heads; h++) attend(work, start, q, tokens, h);
    }
    void *narrow = lane->narrow ? lane->narrow : lane->wide;
    input = ready(work, &layer->attention_out, lane->context,
                  coded ? lane->inner_codes : lane->context);
    product(narrow, input, &layer->attention_out, false, work);
    norm_rows(out, in, narrow, layer->attention_gain, layer->attention_shift, work);
    if (coded) ready(work, &layer->ffn_in, out, lane->middle_codes);
}

void fake_reach(const emb_linear *linear) {
    linear->reach[0] = linear->reach[1] = 0;
    for (uint32_t r = 0; r < linear->rows; r++) {
        double weights[COLS_MAX], sum = 0;
        weight_row(weights, linear, r);
        for (uint32_t c = 0; c < linear->cols; c++) sum += fabs(weights[c]) * linear->scales[r];
        linear->reach[0] = fmaxf(linear->reach[0], (float)sum);
        linear->reach[1] = fmaxf(linear->reach[1], fabsf(linear->bias[r]));
    }
}

/* fp8's first product of the feed-forward, which has no room for values: a token at a time. On a
 * card the codes' scale is made of what bounds the outputs. */
static void product_codes(const emb_linear *linear, const emb_cuda_lane *lane,
                          const fake_work *work) {
    float row[COLS_MAX], *scales = scales_of(work, lane->inner_codes);
    const float *reach = linear->reach, *from = scales_of(work, lane->middle_codes);
    double weights[COLS_MAX];
    assert(linear->rows <= COLS_MAX);
    for (uint32_t t = 0; t < work->tile->tokens; t++) {
        for (uint32_t r = 0; r < linear->rows; r++) {
            weight_row(weights, linear, r);
            double sum = output(work, linear, r, t, lane->middle_codes, weights) + linear->bias[r];
            bool bounded = fabs(sum) <= 1.001 * (448.0 * from[t] * reach[0] + reach[1]);
            row[r] = bounded ? (float)(0.5 * sum * (1 + erf(sum * 0.70710678118654752))) : NAN;
        }
        emb_quantize_fp8((uint8_t *)lane->inner_codes + (size_t)t * linear->rows, &scales[t], row,
                         1, linear->rows);
    }
}

void fake_ffn_block(void *out, const void *in, const emb_layer *layer, const fake_work *work) {
    const emb_cuda_lane *lane = &work->lane;
    bool coded = lane->layer_codes != NULL;
    void *narrow = lane->narrow ? lane->narrow : coded ? lane->wide : lane->context;
    const void *input = lane->middle_codes;
    if (!coded) input = ready(work, &layer->ffn_in, in, lane->context);
    if (layer->ffn_in.dtype == EMB_DTYPE_FP8) {
        product_codes(&layer->ffn_in, lane, work);
        input = lane->inner_codes;
    } else {
        product(lane->wide, input, &layer->ffn_in, true, work);
        input = ready(work, &layer->ffn_out, lane->wide, coded ? lane->inner_codes : lane->wide);
    }
    product(narrow, input, &layer->ffn_out, false, work);
    norm_rows(out, in, narrow, layer->ffn_gain, layer->ffn_shift, work);
    if (codes_stay(work, &layer->qkv)) ready(work, &layer->qkv, out, lane->layer_codes);
}

/* Mean or cls: what the tiny models use. */
void fake_pool(float *rows, const uint32_t *targets, const void *in, const emb_pool_rule *rule,
               const fake_work *work) {
    const emb_tile *tile = work->tile;
    uint32_t hidden = work->shape->hidden;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t start = tile->starts[c];
        uint32_t count = rule->pooling == EMB_POOLING_CLS ? 1 : tile->starts[c + 1] - start;
        float *row = rows + (size_t)targets[c] * hidden;
        double square = 0;
        for (uint32_t i = 0; i < hidden; i++) {
            double sum = 0;
            for (uint32_t t = start; t < start + count; t++)
                sum += get(in, (size_t)t * hidden + i, is_half(work));
            row[i] = (float)(sum / count);
            square += (double)row[i] * row[i];
        }
        for (uint32_t i = 0; rule->normalize && i < hidden; i++)
            row[i] = (float)(row[i] / sqrt(square));
    }
}
