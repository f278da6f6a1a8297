/* fake_kernels.c - loops that compute what a GPU's kernels do, in f32 or with f16 activations, from
 * matrices in any dtype and in the packed form of the device.
 *
 * As on a card, a launch is enqueued with a copy of its arguments, and lengths, ids and work list
 * are read from the device's memory when it runs. What a card has no kernel for is refused.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_kernels.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/quantize.h"

enum { COLS_MAX = 4096, NOT_SUPPORTED = 801, ITEM = 4 /* words of batch->query_tiles */ };

/* The arguments of any launch. A matrix of any type is an emb_cuda_quantized. */
typedef struct work {
    emb_cuda_batch batch;
    void *out;
    const void *in, *residual;
    void *product;
    emb_cuda_quantized matrix;
    bool bias_half; /* of f16: the matrix's bias is, too */
    bool gelu;
    emb_cuda_codes from, codes; /* the input's, and the output's; values NULL: none */
    emb_dtype codes_type;
    const float *smooth, *bounds;
    emb_cuda_embedding embedding;
    emb_cuda_norm norm;
    emb_cuda_heads heads;
    emb_cuda_pooling pooling;
    bool normalize;
    uint32_t cols;
    emb_dtype type; /* of activations */
} work;

/* In release builds too: what a card would do instead cannot be known. */
static void require(bool truth) {
    if (!truth) abort();
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

static bool is_half(const work *w) {
    return w->type != EMB_DTYPE_F32;
}

static void get_row(float *out, const void *values, size_t row, uint32_t cols, bool half) {
    require(cols <= COLS_MAX);
    for (uint32_t i = 0; i < cols; i++) out[i] = get(values, row * cols + i, half);
}

static uint32_t tokens_of(const work *w) {
    require(w->batch.counts[0] <= w->batch.tokens_max && w->batch.counts[1] <= w->batch.chunks_max);
    return w->batch.counts[0];
}

/* A tile of the warming before ready, of no meaning: loops over its thousands of tokens would be
 * most of a test's time. Every real chunk holds an id above 1, and where words are gathered, which
 * numbers the tokens of a tile as ids, so does every tile of more than two tokens. */
static bool warms(const work *w) {
    uint32_t tokens = tokens_of(w);
    if (tokens <= 2) return false;
    for (uint32_t t = 0; t < tokens; t++)
        if (w->batch.ids[t] > 1) return false;
    return true;
}

static int enqueue(void *stream, fake_call run, const work *w) {
    return fake_enqueue(stream, run, w, sizeof *w);
}

/* ---- embed, norm ----------------------------------------------------------------------------- */

static void do_prepare(void *arguments) {
    const work *w = arguments;
    const emb_cuda_batch *batch = &w->batch;
    uint32_t items = 0;
    tokens_of(w);
    for (uint32_t c = 0; c < batch->counts[1]; c++) {
        uint32_t start = batch->starts[c], length = batch->starts[c + 1] - start;
        for (uint32_t i = 0; i < length; i++) batch->positions[start + i] = i;
        for (uint32_t row = 0; row < length; row += EMB_CUDA_QUERY_ROWS) {
            uint32_t *item = batch->query_tiles + (size_t)ITEM * ++items;
            item[0] = start, item[1] = length, item[2] = row, item[3] = c;
        }
    }
    batch->query_tiles[0] = items;
}

static int prepare(const emb_cuda_batch *batch, void *stream) {
    return enqueue(stream, do_prepare, &(work){.batch = *batch});
}

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

/* The codes of row t of `in` [tokens, cols], if any are wanted. */
static void encode(const work *w, const void *in, uint32_t t) {
    float row[COLS_MAX];
    if (!w->codes.values) return;
    uint8_t *codes = (uint8_t *)w->codes.values + (size_t)t * w->cols;
    get_row(row, in, t, w->cols, true);
    for (uint32_t i = 0; w->smooth && i < w->cols; i++) row[i] *= w->smooth[i];
    if (w->codes_type == EMB_DTYPE_INT8)
        quantize_row(codes, &w->codes.scales[t], &w->codes.zeros[t], row, w->cols);
    else
        emb_quantize_fp8(codes, &w->codes.scales[t], row, 1, w->cols);
}

/* Row t of out = norm(in + add). */
static void norm_row(const work *w, uint32_t t, const float *in, const float *add,
                     const emb_cuda_norm *norm) {
    uint32_t hidden = w->cols;
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < hidden; i++) mean += in[i] + add[i];
    mean /= hidden;
    for (uint32_t i = 0; i < hidden; i++)
        square += (in[i] + add[i] - mean) * (in[i] + add[i] - mean);
    double scale = 1 / sqrt(square / hidden + norm->epsilon);
    for (uint32_t i = 0; i < hidden; i++)
        set(w->out, (size_t)t * hidden + i,
            (float)((in[i] + add[i] - mean) * scale * norm->gain[i] + norm->shift[i]), is_half(w));
}

static void word_row(float *out, const work *w, uint32_t id) {
    const unsigned char *row = w->embedding.words;
    uint32_t hidden = w->cols;
    bool quantized = emb_dtype_quantized(w->codes_type);
    row += id * emb_dtype_row_bytes(quantized ? EMB_DTYPE_INT8 : w->type, hidden);
    if (!quantized) {
        get_row(out, row, 0, hidden, is_half(w));
        return;
    }
    float scale;
    memcpy(&scale, row + emb_dtype_scale_at(hidden), sizeof scale);
    for (uint32_t i = 0; i < hidden; i++) out[i] = scale * (float)(int8_t)row[i];
}

static void do_embed(void *arguments) {
    const work *w = arguments;
    const emb_cuda_embedding *e = &w->embedding;
    const emb_cuda_norm norm = {e->gain, e->shift, e->epsilon};
    float row[COLS_MAX];
    require(w->cols <= COLS_MAX);
    if (warms(w)) return;
    for (uint32_t t = 0; t < tokens_of(w); t++) {
        word_row(row, w, w->batch.ids[t]);
        norm_row(w, t, row, e->positions + (size_t)w->batch.positions[t] * w->cols, &norm);
        encode(w, w->out, t);
    }
}

static int embed(void *out, const emb_cuda_batch *batch, const emb_cuda_embedding *embedding,
                 uint32_t hidden, emb_dtype type, void *stream) {
    if (emb_dtype_quantized(type)) return NOT_SUPPORTED;
    return enqueue(stream, do_embed,
                   &(work){.batch = *batch,
                           .out = out,
                           .embedding = *embedding,
                           .cols = hidden,
                           .type = type,
                           .codes_type = type});
}

static int embed_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                       emb_dtype codes_type, const emb_cuda_batch *batch,
                       const emb_cuda_embedding *embedding, uint32_t hidden,
                       const emb_cuda_device *device, void *stream) {
    (void)device;
    if (!emb_dtype_quantized(codes_type)) return NOT_SUPPORTED;
    return enqueue(stream, do_embed,
                   &(work){.batch = *batch,
                           .out = out,
                           .embedding = *embedding,
                           .cols = hidden,
                           .type = EMB_DTYPE_F16,
                           .codes = codes ? *codes : (emb_cuda_codes){0},
                           .codes_type = codes_type,
                           .smooth = smooth});
}

static void norm_all(const work *w, const void *in) {
    float a[COLS_MAX], b[COLS_MAX];
    for (uint32_t t = 0; t < tokens_of(w); t++) {
        get_row(a, w->residual, t, w->cols, is_half(w));
        get_row(b, in, t, w->cols, is_half(w));
        norm_row(w, t, a, b, &w->norm);
        encode(w, w->out, t);
    }
}

static void do_residual_norm(void *arguments) {
    const work *w = arguments;
    if (!warms(w)) norm_all(w, w->in);
}

static int residual_norm(void *out, const void *in, const void *residual, const emb_cuda_norm *norm,
                         const emb_cuda_batch *batch, uint32_t hidden, emb_dtype type,
                         void *stream) {
    return enqueue(stream, do_residual_norm,
                   &(work){.batch = *batch,
                           .out = out,
                           .in = in,
                           .residual = residual,
                           .norm = *norm,
                           .cols = hidden,
                           .type = type});
}

static int residual_norm_codes(void *out, const emb_cuda_codes *codes, const float *smooth,
                               emb_dtype codes_type, const void *in, const void *residual,
                               const emb_cuda_norm *norm, const emb_cuda_batch *batch,
                               uint32_t hidden, const emb_cuda_device *device, void *stream) {
    (void)device;
    return enqueue(stream, do_residual_norm,
                   &(work){.batch = *batch,
                           .out = out,
                           .in = in,
                           .residual = residual,
                           .norm = *norm,
                           .cols = hidden,
                           .type = EMB_DTYPE_F16,
                           .codes = *codes,
                           .codes_type = codes_type,
                           .smooth = smooth});
}

/* ---- products -------------------------------------------------------------------------------- */

/* Row r of the matrix; for int8 and fp8 without its scale. */
static void weight_row(double *out, const emb_cuda_quantized *m, uint32_t r) {
    uint32_t cols = m->cols;
    const unsigned char *bytes = m->weight;
    for (uint32_t c = 0; c < cols; c++) {
        size_t at = (size_t)r * cols + c;
        if (m->type == EMB_DTYPE_INT8) {
            out[c] = (int8_t)bytes[at];
        } else if (m->type == EMB_DTYPE_FP8) {
            out[c] = emb_quantize_widen_fp8(bytes[at]);
        } else if (m->type == EMB_DTYPE_INT4) {
            size_t group = (size_t)r * emb_quantized_groups(cols, m->group) + c / m->group;
            int code = at % 2 ? bytes[at / 2] >> 4 : bytes[at / 2] & 15;
            float scale = emb_quantize_widen_f16(((const uint16_t *)m->scales)[group]);
            out[c] =
                emb_quantize_widen_f16(emb_quantize_f16(scale * (float)(code - m->zeros[group])));
        } else {
            out[c] = get(m->weight, at, m->type == EMB_DTYPE_F16);
        }
    }
}

/* Output (t, r). */
static double output(const work *w, uint32_t r, uint32_t t, const double *weights) {
    const emb_cuda_quantized *m = &w->matrix;
    double sum = 0, bias = get(m->bias, r, w->bias_half);
    size_t first = (size_t)t * m->cols;
    if (!w->from.values) {
        for (uint32_t c = 0; c < m->cols; c++)
            sum += get(w->in, first + c, is_half(w)) * weights[c];
        return sum + bias;
    }
    const uint8_t *codes = (const uint8_t *)w->from.values + first;
    for (uint32_t c = 0; c < m->cols; c++)
        sum += (m->sums ? codes[c] : emb_quantize_widen_fp8(codes[c])) * weights[c];
    if (m->sums) sum -= (double)w->from.zeros[t] * m->sums[r];
    return (float)sum * ((const float *)m->scales)[r] * w->from.scales[t] + bias;
}

static double gelu_of(double x) {
    return 0.5 * x * (1 + erf(x * 0.70710678118654752));
}

static void multiply(const work *w, void *out, uint32_t tokens) {
    double weights[COLS_MAX];
    require(w->matrix.cols <= COLS_MAX);
    for (uint32_t r = 0; r < w->matrix.rows; r++) {
        weight_row(weights, &w->matrix, r);
        for (uint32_t t = 0; t < tokens; t++) {
            double sum = output(w, r, t, weights);
            set(out, (size_t)t * w->matrix.rows + r, (float)(w->gelu ? gelu_of(sum) : sum),
                is_half(w));
        }
    }
}

static void do_multiply(void *arguments) {
    const work *w = arguments;
    if (!warms(w)) multiply(w, w->out, tokens_of(w));
}

static emb_cuda_quantized matrix_of(const emb_cuda_linear *linear) {
    return (emb_cuda_quantized){.weight = linear->weight,
                                .bias = linear->bias,
                                .rows = linear->rows,
                                .cols = linear->cols,
                                .type = linear->type};
}

static bool has_tile(emb_cuda_tile tile, emb_dtype type, const emb_cuda_device *device) {
    if (type == EMB_DTYPE_FP8 && device->capability == 90)
        return tile == EMB_CUDA_TILE_PAIR || tile == EMB_CUDA_TILE_AUTO;
    return tile != EMB_CUDA_TILE_PAIR ||
           (device->capability == 90 && type != EMB_DTYPE_F32 && type != EMB_DTYPE_INT4);
}

static emb_cuda_tile linear_tile(const emb_cuda_linear *linear, uint32_t tokens,
                                 const emb_cuda_device *device) {
    bool pair = tokens > 256 && has_tile(EMB_CUDA_TILE_PAIR, linear->type, device);
    return pair ? EMB_CUDA_TILE_PAIR : EMB_CUDA_TILE_SMALL;
}

static int linear_run(void *out, const void *in, const emb_cuda_linear *linear, int gelu,
                      emb_cuda_tile tile, const emb_cuda_batch *batch,
                      const emb_cuda_device *device, void *stream) {
    if (!has_tile(tile, linear->type, device)) return NOT_SUPPORTED;
    return enqueue(stream, do_multiply,
                   &(work){.batch = *batch,
                           .out = out,
                           .in = in,
                           .matrix = matrix_of(linear),
                           .gelu = gelu,
                           .type = linear->type});
}

static void do_linear_norm(void *arguments) {
    const work *w = arguments;
    if (warms(w)) return;
    multiply(w, w->product, tokens_of(w));
    norm_all(w, w->product);
}

static int linear_norm(void *out, const void *in, const emb_cuda_linear *linear,
                       const void *residual, const emb_cuda_norm *norm, void *product,
                       emb_cuda_tile tile, uint32_t tokens, const emb_cuda_batch *batch,
                       const emb_cuda_device *device, void *stream) {
    (void)tokens;
    if (!has_tile(tile, linear->type, device)) return NOT_SUPPORTED;
    return enqueue(stream, do_linear_norm,
                   &(work){.batch = *batch,
                           .out = out,
                           .in = in,
                           .residual = residual,
                           .product = product,
                           .matrix = matrix_of(linear),
                           .norm = *norm,
                           .cols = linear->rows,
                           .type = linear->type});
}

static void do_gelu(void *arguments) {
    const work *w = arguments;
    if (warms(w)) return;
    for (size_t i = 0; i < (size_t)tokens_of(w) * w->cols; i++)
        set(w->out, i, (float)gelu_of(get(w->out, i, is_half(w))), is_half(w));
}

static int gelu(void *values, uint32_t cols, const emb_cuda_batch *batch, emb_dtype type,
                void *stream) {
    return enqueue(stream, do_gelu,
                   &(work){.batch = *batch, .out = values, .cols = cols, .type = type});
}

static int blas_choose(emb_cuda_blas_choice *choice, const emb_cuda_blas *blas,
                       const emb_cuda_linear *linear, uint32_t tokens, uint32_t candidate) {
    (void)blas, (void)tokens;
    *choice =
        (emb_cuda_blas_choice){.rows = linear->rows, .cols = linear->cols, .type = linear->type};
    return candidate ? -1 : 0;
}

/* As on a card, it does not know how many tokens there are. */
static void do_blas(void *arguments) {
    const work *w = arguments;
    multiply(w, w->out, w->batch.tokens_max);
}

static int blas_run(void *out, const void *in, const emb_cuda_linear *linear,
                    const emb_cuda_blas *blas, const emb_cuda_blas_choice *choice,
                    uint32_t tokens_max, void *stream) {
    (void)blas;
    require(choice->rows == linear->rows && choice->cols == linear->cols);
    return enqueue(stream, do_blas,
                   &(work){.batch.tokens_max = tokens_max,
                           .out = out,
                           .in = in,
                           .matrix = matrix_of(linear),
                           .bias_half = linear->type != EMB_DTYPE_F32,
                           .type = linear->type});
}

/* ---- quantized ------------------------------------------------------------------------------- */

static void do_quantize(void *arguments) {
    const work *w = arguments;
    if (warms(w)) return;
    for (uint32_t t = 0; t < tokens_of(w); t++) encode(w, w->in, t);
}

static int quantize(const emb_cuda_codes *out, const void *in, const float *smooth, uint32_t cols,
                    emb_dtype type, const emb_cuda_batch *batch, const emb_cuda_device *device,
                    void *stream) {
    (void)device;
    if (type != EMB_DTYPE_INT8 && type != EMB_DTYPE_FP8) return NOT_SUPPORTED;
    return enqueue(stream, do_quantize,
                   &(work){.batch = *batch,
                           .in = in,
                           .codes = *out,
                           .codes_type = type,
                           .smooth = smooth,
                           .cols = cols});
}

static void do_smooth(void *arguments) {
    const work *w = arguments;
    if (warms(w)) return;
    for (size_t i = 0; i < (size_t)tokens_of(w) * w->cols; i++)
        set(w->out, i, get(w->in, i, true) * w->smooth[i % w->cols], true);
}

static int smooth_values(void *out, const void *in, const float *smooth, uint32_t cols,
                         const emb_cuda_batch *batch, void *stream) {
    return enqueue(stream, do_smooth,
                   &(work){.batch = *batch, .out = out, .in = in, .smooth = smooth, .cols = cols});
}

static emb_cuda_tile quantized_tile(const emb_cuda_quantized *linear, uint32_t tokens,
                                    const emb_cuda_device *device) {
    bool pair = has_tile(EMB_CUDA_TILE_PAIR, linear->type, device);
    (void)tokens;
    return pair ? EMB_CUDA_TILE_PAIR : EMB_CUDA_TILE_SMALL;
}

static int quantized_run(void *out, const emb_cuda_codes *codes, const void *in,
                         const emb_cuda_quantized *linear, int gelu, emb_cuda_tile tile,
                         const emb_cuda_batch *batch, const emb_cuda_device *device, void *stream) {
    if (!has_tile(tile, linear->type, device)) return NOT_SUPPORTED;
    if ((linear->type == EMB_DTYPE_INT4) != (in != NULL) || !in == !codes) return NOT_SUPPORTED;
    return enqueue(stream, do_multiply,
                   &(work){.batch = *batch,
                           .out = out,
                           .in = in,
                           .from = codes ? *codes : (emb_cuda_codes){0},
                           .matrix = *linear,
                           .gelu = gelu,
                           .type = EMB_DTYPE_F16});
}

static void do_bounds(void *arguments) {
    const work *w = arguments;
    const emb_cuda_quantized *m = &w->matrix;
    float *bounds = w->out;
    bounds[0] = bounds[1] = 0;
    for (uint32_t r = 0; r < m->rows; r++) {
        double weights[COLS_MAX], sum = 0;
        weight_row(weights, m, r);
        for (uint32_t c = 0; c < m->cols; c++)
            sum += fabs(weights[c]) * ((const float *)m->scales)[r];
        bounds[0] = fmaxf(bounds[0], (float)sum);
        bounds[1] = fmaxf(bounds[1], fabsf(m->bias[r]));
    }
}

static int quantized_bounds(float *bounds, const emb_cuda_quantized *linear,
                            const emb_cuda_device *device, void *stream) {
    (void)device;
    return enqueue(stream, do_bounds, &(work){.out = bounds, .matrix = *linear});
}

/* A token at a time: there is no room for values. On a card the codes' scale is made of what bounds
 * the outputs; here that is checked alone. */
static void do_multiply_codes(void *arguments) {
    const work *w = arguments;
    const emb_cuda_quantized *m = &w->matrix;
    float row[COLS_MAX];
    double weights[COLS_MAX];
    require(m->rows <= COLS_MAX && m->cols <= COLS_MAX);
    if (warms(w)) return;
    for (uint32_t t = 0; t < tokens_of(w); t++) {
        double bound = 1.001 * (448.0 * w->from.scales[t] * w->bounds[0] + w->bounds[1]);
        for (uint32_t r = 0; r < m->rows; r++) {
            weight_row(weights, m, r);
            double sum = output(w, r, t, weights);
            row[r] = fabs(sum) <= bound ? (float)(w->gelu ? gelu_of(sum) : sum) : NAN;
        }
        emb_quantize_fp8((uint8_t *)w->codes.values + (size_t)t * m->rows, &w->codes.scales[t], row,
                         1, m->rows);
    }
}

static int quantized_codes(const emb_cuda_codes *out, const emb_cuda_codes *codes,
                           const float *bounds, const emb_cuda_quantized *linear, int gelu,
                           emb_cuda_tile tile, const emb_cuda_batch *batch,
                           const emb_cuda_device *device, void *stream) {
    if (linear->type != EMB_DTYPE_FP8 || !has_tile(tile, linear->type, device))
        return NOT_SUPPORTED;
    return enqueue(stream, do_multiply_codes,
                   &(work){.batch = *batch,
                           .from = *codes,
                           .codes = *out,
                           .bounds = bounds,
                           .matrix = *linear,
                           .gelu = gelu,
                           .type = EMB_DTYPE_F16});
}

/* ---- attention, pool ------------------------------------------------------------------------- */

/* One query of one head against the keys of its chunk, which begins at row `start`. */
static void attend(const work *w, uint32_t start, uint32_t query, uint32_t tokens, uint32_t head) {
    const emb_cuda_heads *shape = &w->heads;
    bool half = is_half(w);
    const void *qkv = w->in;
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
            score += shape->relative[(size_t)head * (2 * shape->relative_tokens - 1) + k - query +
                                     shape->relative_tokens - 1];
        double weight = exp(score);
        total += weight;
        for (uint32_t i = 0; i < shape->head_dim; i++)
            sums[i] += weight * get(qkv, value + i, half);
    }
    for (uint32_t i = 0; i < shape->head_dim; i++)
        set(w->out, (size_t)(start + query) * shape->hidden + first + i, (float)(sums[i] / total),
            half);
}

static void do_attention(void *arguments) {
    const work *w = arguments;
    if (warms(w)) return;
    for (uint32_t n = 1; n <= w->batch.query_tiles[0]; n++) {
        const uint32_t *item = w->batch.query_tiles + (size_t)ITEM * n;
        for (uint32_t q = item[2]; q < item[1] && q < item[2] + EMB_CUDA_QUERY_ROWS; q++)
            for (uint32_t h = 0; h < w->heads.heads; h++) attend(w, item[0], q, item[1], h);
    }
}

static int attention(void *out, const void *qkv, const emb_cuda_heads *heads,
                     const emb_cuda_batch *batch, emb_dtype type, const emb_cuda_device *device,
                     void *stream) {
    (void)device;
    return enqueue(stream, do_attention,
                   &(work){.batch = *batch, .out = out, .in = qkv, .heads = *heads, .type = type});
}

/* A chunk's vector, before its length is set to 1. */
static void pool_chunk(float *row, const work *w, uint32_t start, uint32_t tokens) {
    uint32_t count = w->pooling == EMB_CUDA_POOL_CLS ? 1 : tokens;
    for (uint32_t i = 0; i < w->cols; i++) {
        double sum = 0, most = -INFINITY;
        for (uint32_t t = start; t < start + count; t++) {
            float value = get(w->in, (size_t)t * w->cols + i, is_half(w));
            sum += value;
            most = fmax(most, value);
        }
        row[i] = (float)(w->pooling == EMB_CUDA_POOL_MAX ? most : sum / count);
    }
}

static void do_pool(void *arguments) {
    const work *w = arguments;
    tokens_of(w);
    for (uint32_t c = 0; c < w->batch.counts[1]; c++) {
        uint32_t start = w->batch.starts[c];
        float *row = (float *)w->out + (size_t)w->batch.targets[c] * w->cols;
        double square = 0;
        pool_chunk(row, w, start, w->batch.starts[c + 1] - start);
        for (uint32_t i = 0; i < w->cols; i++) square += (double)row[i] * row[i];
        for (uint32_t i = 0; w->normalize && i < w->cols; i++)
            row[i] = (float)(row[i] / sqrt(square));
    }
}

static int pool(float *rows, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream) {
    return enqueue(stream, do_pool,
                   &(work){.batch = *batch,
                           .out = rows,
                           .in = in,
                           .cols = hidden,
                           .pooling = pooling,
                           .normalize = normalize,
                           .type = type});
}

const emb_cuda_launch fake_kernels = {
    .prepare = prepare,
    .embed = embed,
    .embed_codes = embed_codes,
    .residual_norm = residual_norm,
    .residual_norm_codes = residual_norm_codes,
    .linear_tile = linear_tile,
    .linear_run = linear_run,
    .linear_norm = linear_norm,
    .gelu = gelu,
    .blas_choose = blas_choose,
    .blas_run = blas_run,
    .attention = attention,
    .pool = pool,
    .quantize = quantize,
    .smooth = smooth_values,
    .quantized_tile = quantized_tile,
    .quantized_run = quantized_run,
    .quantized_bounds = quantized_bounds,
    .quantized_codes = quantized_codes,
};
