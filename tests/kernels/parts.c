/* parts.c - the kernels under the blocks, one at a time: products of any range of outputs, GELU in
 * units of its own rounding error, attention with sharp softmaxes, norms, packing in parts.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/parts.h"

#include <math.h>

#include "kernels/rig.h"

static const double unit = 1.0 / 16777216.0; /* half a unit in the last place of f32, relative */

typedef struct matrix {
    emb_linear linear;
    float *weights; /* [rows, cols], rounded to the dtype */
} matrix;

static void round_bf16(float *values, size_t count) {
    for (size_t i = 0; i < count; i++) values[i] = emb_cpu_widen(emb_cpu_round_bf16(values[i]));
}

static void matrix_open(matrix *m, const emb_cpu_kernels *kernels, emb_dtype dtype, uint32_t rows,
                        uint32_t cols) {
    size_t padded = emb_cpu_round_up(rows, kernels->panel_rows);
    m->linear = (emb_linear){.rows = rows, .cols = cols, .dtype = dtype};
    m->linear.packed =
        rig_take(padded * emb_cpu_packed_depth(kernels, cols) * kernels->weight_bytes, 0);
    m->linear.bias = rig_take(rows * sizeof(float), 0);
    m->weights = rig_take((size_t)rows * cols * sizeof(float), 4);
    rig_fill(m->linear.bias, rows, 1.0f);
    rig_fill(m->weights, (size_t)rows * cols, 1.0f);
    if (dtype == EMB_DTYPE_BF16) round_bf16(m->weights, (size_t)rows * cols);
    kernels->pack(&m->linear, 0, rows, m->weights);
}

static void matrix_close(matrix *m) {
    rig_give(m->linear.packed);
    rig_give(m->linear.bias);
    rig_give(m->weights);
}

/* Operands [rows, cols] with rows `stride` apart, and the f32 values that they stand for. */
static void *make_operands(const emb_cpu_kernels *kernels, float *values, uint32_t rows,
                           uint32_t cols, size_t stride) {
    unsigned char *operands = rig_take(rows * stride * kernels->operand_bytes, 0);
    if (kernels->operands) {
        round_bf16(values, (size_t)rows * cols);
        kernels->operands(operands, stride, values, rows, cols, NULL);
    } else {
        for (uint32_t r = 0; r < rows; r++)
            memcpy(operands + r * stride * sizeof(float), values + (size_t)r * cols,
                   cols * sizeof(float));
    }
    return operands;
}

/* One output against its definition: the bound holds for any order of the sum. */
static bool product_right(const matrix *m, const float *in, uint32_t output, float got) {
    uint32_t cols = m->linear.cols;
    double sum = m->linear.bias[output], sizes = fabs(sum);
    for (uint32_t k = 0; k < cols; k++) {
        double term = (double)in[k] * m->weights[(size_t)output * cols + k];
        sum += term;
        sizes += fabs(term);
    }
    return fabs(got - sum) <= (cols + 2) * unit * sizes + 1e-30;
}

static void test_range(const emb_cpu_kernels *kernels, const char *name, const matrix *m,
                       uint32_t rows, uint32_t column0, uint32_t columns) {
    uint32_t cols = m->linear.cols;
    size_t in_stride = emb_cpu_round_up(cols, 2) + 6, out_stride = columns + 3;
    float *values = rig_take((size_t)rows * cols * sizeof(float), 0);
    rig_fill(values, (size_t)rows * cols, 1.0f);
    void *in = make_operands(kernels, values, rows, cols, in_stride);
    float *out = rig_take(rows * out_stride * sizeof(float), 4);
    float *alone = rig_take(columns * sizeof(float), 8);
    emb_cpu_product product = {.linear = &m->linear,
                               .column0 = column0,
                               .columns = columns,
                               .rows = rows,
                               .in = in,
                               .in_stride = in_stride,
                               .out = out,
                               .out_stride = out_stride};
    kernels->product(&product);
    uint32_t wrong = 0, touched = 0;
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < columns; c++)
            wrong +=
                !product_right(m, values + (size_t)r * cols, column0 + c, out[r * out_stride + c]);
        for (size_t c = columns; c < out_stride; c++) touched += !isnan(out[r * out_stride + c]);
    }
    rig_check(!wrong && !touched, "%s product of %u x %u, rows %u, outputs %u + %u: %u, %u wrong",
              name, m->linear.rows, cols, rows, column0, columns, wrong, touched);
    product.in = (unsigned char *)in + (rows / 2) * in_stride * kernels->operand_bytes;
    product.rows = 1;
    product.out = alone;
    kernels->product(&product);
    rig_check(!memcmp(alone, out + (rows / 2) * out_stride, columns * sizeof *alone),
              "%s product: row %u of %u has other bits alone", name, rows / 2, rows);
    rig_give(values);
    rig_give(in);
    rig_give(out);
    rig_give(alone);
}

static void test_products(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    static const uint32_t outputs[] = {1, 15, 16, 17, 48, 63, 64, 65, 130, 200};
    static const uint32_t depths[] = {1, 2, 3, 16, 31, 97, 384};
    for (uint32_t i = 0; i < 10; i++) {
        for (uint32_t d = 0; d < 7; d++) {
            matrix m;
            rig_seed(1000 + 10 * i + d);
            matrix_open(&m, kernels, dtype, outputs[i], depths[d]);
            for (uint32_t rows = 1; rows <= 14; rows++) {
                uint32_t first = (uint32_t)((rig_random() + 1.0f) * 0.5f * (float)outputs[i]);
                uint32_t left = outputs[i] - first;
                uint32_t count = 1 + (uint32_t)((rig_random() + 1.0f) * 0.5f * (float)(left - 1));
                test_range(kernels, name, &m, rows, first, count);
                if (rows % 5 == 0) test_range(kernels, name, &m, rows, 0, outputs[i]);
            }
            matrix_close(&m);
        }
    }
}

/* ---- GELU ------------------------------------------------------------------------------------ */

static float read_operand(const emb_cpu_kernels *kernels, const void *out, size_t at) {
    if (kernels->context_bytes == 2) return emb_cpu_widen(((const uint16_t *)out)[at]);
    return ((const float *)out)[at];
}

/* GELU of `count` values by a product with a weight of one. */
static void run_gelu(const emb_cpu_kernels *kernels, emb_dtype dtype, float *values, float *results,
                     uint32_t count) {
    matrix m;
    matrix_open(&m, kernels, dtype, 1, 1);
    m.weights[0] = 1.0f;
    m.linear.bias[0] = 0.0f;
    kernels->pack(&m.linear, 0, 1, m.weights);
    void *in = make_operands(kernels, values, count, 1, 2);
    void *out = rig_take((size_t)count * kernels->operand_bytes, 0);
    emb_cpu_product product = {.linear = &m.linear,
                               .columns = 1,
                               .rows = count,
                               .in = in,
                               .in_stride = 2,
                               .out = out,
                               .out_stride = 1,
                               .gelu = true};
    kernels->product(&product);
    for (uint32_t i = 0; i < count; i++) results[i] = read_operand(kernels, out, i);
    rig_give(in);
    rig_give(out);
    matrix_close(&m);
}

static void test_gelu(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    enum { COUNT = 60000 };
    float *values = rig_take(COUNT * sizeof(float), 0), *got = rig_take(COUNT * sizeof(float), 0);
    for (uint32_t i = 0; i < COUNT; i++) values[i] = -15.0f + 30.0f * (float)i / COUNT;
    for (uint32_t i = 0; i < 2000; i++) values[i] = ldexpf(1.0f + rig_random(), -(int)(i % 60));
    run_gelu(kernels, dtype, values, got, COUNT);
    double worst = 0.0, rounding = kernels->operand_bytes == 2 ? ldexp(1.0, -8) : 0.0;
    for (uint32_t i = 0; i < COUNT; i++) {
        double x = values[i], exact = 0.5 * x * erfc(-x / sqrt(2.0));
        /* the erf form rounds 1 + erf, so its error is a share of x */
        double units = (fabs(got[i] - exact) - rounding * fabs(exact)) / (fabs(x) * unit + 1e-38);
        if (!(units <= worst)) worst = units;
    }
    rig_check(worst <= 3.0, "%s gelu: %.2f units", name, worst);
    float special[] = {0.0f, 1e30f, -1e30f, INFINITY, NAN, -40.0f, 100.0f, 1e-30f};
    float result[8];
    run_gelu(kernels, dtype, special, result, 8);
    rig_check(result[0] == 0.0f && fabsf(result[1] / 1e30f - 1.0f) < 0.01f, "%s gelu(1e30)", name);
    rig_check(fabsf(result[2]) < 1e-7f && fabsf(result[5]) < 1e-7f, "%s gelu(-1e30)", name);
    rig_check(!isfinite(result[3]) && isnan(result[4]), "%s hides a NaN or infinity", name);
    rig_check(result[6] == 100.0f, "%s gelu(100) is %g", name, (double)result[6]);
    rig_give(values);
    rig_give(got);
}

/* ---- attention ------------------------------------------------------------------------------- */

static double exact_attention(double *out, const emb_cpu_attention *a, uint32_t i) {
    double weights[600], highest = -INFINITY, total = 0.0, largest = 0.0;
    for (uint32_t j = 0; j < a->tokens; j++) {
        double sum = 0.0;
        for (uint32_t d = 0; d < a->head_dim; d++)
            sum += (double)a->queries[i * a->stride + d] * a->keys[j * a->stride + d];
        weights[j] = sum * a->scale;
        if (a->relative) weights[j] += a->relative[(ptrdiff_t)j - (ptrdiff_t)i];
        highest = fmax(highest, weights[j]);
        largest = fmax(largest, fabs(weights[j]));
    }
    for (uint32_t d = 0; d < a->head_dim; d++) out[d] = 0.0;
    for (uint32_t j = 0; j < a->tokens; j++) total += weights[j] = exp(weights[j] - highest);
    for (uint32_t j = 0; j < a->tokens; j++)
        for (uint32_t d = 0; d < a->head_dim; d++)
            out[d] += weights[j] / total * a->values[j * a->stride + d];
    return largest;
}

/* By how much rounding to bytes may move a score, in units of 1/64. */
static double score_step(const emb_cpu_attention *a) {
    double query = 0.0, key = 0.0;
    for (uint32_t j = 0; j < a->tokens; j++)
        for (uint32_t d = 0; d < a->head_dim; d++) {
            query = fmax(query, fabs((double)a->queries[j * a->stride + d]));
            key = fmax(key, fabs((double)a->keys[j * a->stride + d]));
        }
    return query * key * sqrt((double)a->head_dim) * (double)a->scale;
}

static void check_attention(const emb_cpu_kernels *kernels, const char *name,
                            const emb_cpu_attention *a) {
    double expected[256], worst = 0.0, spread = 0.0;
    uint32_t touched = 0;
    for (uint32_t j = 0; j < a->tokens; j++)
        for (uint32_t d = 0; d < a->head_dim; d++)
            spread = fmax(spread, fabs((double)a->values[j * a->stride + d]));
    for (uint32_t i = 0; i < a->tokens; i++) {
        double largest = exact_attention(expected, a, i);
        double rounding = kernels->context_bytes == 2 ? ldexp(1.0, -8) : 0.0;
        for (uint32_t d = 0; d < a->head_dim; d++) {
            double got = read_operand(kernels, a->out, i * a->out_stride + d);
            double allowed = 8.0 * unit * (4.0 + largest) + rounding * fabs(expected[d]);
            /* operands of bf16 change a score by a share of it, and its weight by that much */
            if (kernels->attention_pairs) allowed += ldexp(spread, -7) * (1.0 + largest);
            /* a byte's step is that of the widest dim, and scores sum over all of them */
            if (kernels->attention_bytes) allowed += ldexp(spread, -6) * (1.0 + score_step(a));
            double share = fabs(got - expected[d]) / allowed;
            if (!(share <= worst)) worst = share;
        }
        for (size_t d = a->head_dim; d < a->out_stride; d++)
            touched += !isnan(read_operand(kernels, a->out, i * a->out_stride + d));
    }
    rig_check(worst <= 1.0 && !touched, "%s attention tokens %u dim %u: %.2f of what is allowed",
              name, a->tokens, a->head_dim, worst);
}

/* Queries and keys in bytes, where attention wants them so. */
static void make_codes(const emb_cpu_kernels *kernels, emb_cpu_attention *a) {
    emb_cpu_codes *codes[] = {&a->query_codes, &a->key_codes};
    for (uint32_t i = 0; kernels->attention_bytes && i < 2; i++) {
        codes[i]->stride = emb_cpu_code_bytes(a->head_dim) + 16 * i;
        codes[i]->values = rig_take((a->tokens + EMB_CPU_CODES_AHEAD) * codes[i]->stride, 0);
        kernels->attention_bytes(codes[i], i ? a->keys : a->queries, a->stride, a->tokens,
                                 a->head_dim, i);
    }
}

/* What is written over the values is what was written beside them. */
static void check_in_place(const emb_cpu_kernels *kernels, const char *name,
                           const emb_cpu_attention *a) {
    size_t bytes = a->tokens * a->stride * sizeof(float);
    float *values = rig_take(bytes, 4);
    memcpy(values, a->values, (bytes / sizeof(float) - 2 * a->head_dim) * sizeof(float));
    emb_cpu_attention over = *a;
    over.values = over.out = values;
    over.out_stride = a->stride;
    kernels->attention(&over);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < a->tokens; i++)
        wrong += memcmp(values + i * a->stride, (const float *)a->out + i * a->out_stride,
                        a->head_dim * sizeof(float)) != 0;
    rig_check(!wrong, "%s attention tokens %u dim %u: %u rows differ in place", name, a->tokens,
              a->head_dim, wrong);
    rig_give(values);
}

/* The table of one head, cut to what this many tokens may read: its ends stand before guards. */
static void test_attention(const emb_cpu_kernels *kernels, const char *name, uint32_t tokens,
                           uint32_t head_dim, bool relative, float sharpness) {
    size_t stride = 3 * (size_t)head_dim + 5, out_stride = head_dim + 3;
    float *qkv = rig_take(tokens * stride * sizeof(float), 4);
    float *table = rig_take((2 * (size_t)tokens - 1) * sizeof(float), 8);
    void *out = rig_take(tokens * out_stride * kernels->context_bytes, 4);
    float *work = rig_take(emb_cpu_attention_work(kernels, head_dim, tokens) * sizeof(float), 0);
    rig_fill(qkv, tokens * stride, 1.0f);
    rig_fill(table, 2 * (size_t)tokens - 1, 3.0f);
    for (uint32_t t = 0; t < tokens; t++) /* later keys score higher: the maximum moves on */
        for (uint32_t d = 0; d < head_dim; d++)
            qkv[t * stride + d] = qkv[t * stride + d] * sharpness +
                                  qkv[((size_t)t * 7 % tokens) * stride + head_dim + d] * sharpness;
    emb_cpu_attention attention = {.queries = qkv,
                                   .keys = qkv + head_dim,
                                   .values = qkv + 2 * head_dim,
                                   .stride = stride,
                                   .tokens = tokens,
                                   .head_dim = head_dim,
                                   .scale = 1.0f / sqrtf((float)head_dim),
                                   .relative = relative ? table + tokens - 1 : NULL,
                                   .out = out,
                                   .out_stride = out_stride,
                                   .work = work};
    make_codes(kernels, &attention);
    kernels->attention(&attention);
    check_attention(kernels, name, &attention);
    if (kernels->attention_bytes) {
        check_in_place(kernels, name, &attention);
        rig_give(attention.query_codes.values);
        rig_give(attention.key_codes.values);
    }
    rig_give(qkv);
    rig_give(table);
    rig_give(out);
    rig_give(work);
}

static void test_attentions(const emb_cpu_kernels *kernels, const char *name) {
    static const uint32_t tokens[] = {1,  2,  7,  8,  9,  15, 16,  17,  31,  32,
                                      33, 48, 63, 64, 65, 80, 127, 128, 129, 512};
    static const uint32_t dims[] = {1, 5, 8, 16, 24, 32, 33, 64, 128};
    for (uint32_t t = 0; t < 20; t++)
        for (uint32_t d = 0; d < 9; d++)
            for (uint32_t n = 0; n < 4; n++) {
                if (tokens[t] > 100 && dims[d] > 33) continue; /* slow in double precision */
                if (tokens[t] > 200 && (dims[d] < 33 || n == 0)) continue;
                rig_seed(5000 + 100 * t + 10 * d + n);
                test_attention(kernels, name, tokens[t], dims[d], n % 2, n < 2 ? 1.0f : 12.0f);
            }
}

/* ---- norm, packing --------------------------------------------------------------------------- */

static void test_norm(const emb_cpu_kernels *kernels, const char *name, uint32_t hidden) {
    enum { ROWS = 5 };
    size_t count = (size_t)ROWS * hidden, bytes = count * sizeof(float);
    float *in = rig_take(bytes, 4), *add = rig_take(bytes, 8), *out = rig_take(bytes, 12);
    float *gain = rig_take(hidden * sizeof(float), 4), *shift = rig_take(hidden * sizeof(float), 4);
    double *expected = malloc(count * sizeof *expected);
    if (!expected) exit(71);
    rig_fill(in, count, 2.0f);
    rig_fill(add, count, 1.0f);
    rig_fill(gain, hidden, 1.0f);
    rig_fill(shift, hidden, 1.0f);
    memset(in, 0, hidden * sizeof *in); /* a row without variance */
    memset(add, 0, hidden * sizeof *add);
    for (uint32_t i = 0; i < hidden; i++) in[hidden + i] += 50.0f; /* one far from zero */
    emb_cpu_norm norm = {gain, shift, hidden, 1e-12f, hidden};
    for (size_t i = 0; i < count; i++) expected[i] = (double)(in[i] + add[i]);
    for (uint32_t r = 0; r < ROWS; r++)
        rig_oracle_norm(expected + (size_t)r * hidden, gain, shift, hidden, 1e-12f);
    kernels->norm(out, in, add, ROWS, &norm);
    if (hidden > 2) {
        double difference = rig_difference(out, expected, count);
        rig_check(difference < 1e-4, "%s norm of %u: off by %g", name, hidden, difference);
        difference = rig_difference(out + 2 * hidden, expected + 2 * hidden, count - 2 * hidden);
        rig_check(difference < 3e-6, "%s norm of %u: off by %g", name, hidden, difference);
    }
    rig_check(!memcmp(out, shift, hidden * sizeof *out), "%s norm of a constant row", name);
    for (size_t i = 0; i < count; i++) in[i] += add[i];
    kernels->norm(in, in, NULL, ROWS, &norm);
    rig_check(!memcmp(in, out, bytes), "%s norm of %u in place, without add", name, hidden);
    norm.add_stride = 0;
    kernels->norm(out, out, shift, ROWS, &norm);
    for (size_t i = 0; i < count; i++) in[i] += shift[i % hidden];
    kernels->norm(in, in, NULL, ROWS, &norm);
    rig_check(!memcmp(in, out, bytes), "%s norm of %u with one row added to all", name, hidden);
    void *buffers[] = {in, add, out, gain, shift};
    for (uint32_t i = 0; i < 5; i++) rig_give(buffers[i]);
    free(expected);
}

static void test_packing(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype,
                         uint32_t rows, uint32_t cols) {
    matrix whole, parts;
    rig_seed(9);
    matrix_open(&whole, kernels, dtype, rows, cols);
    rig_seed(9);
    matrix_open(&parts, kernels, dtype, rows, cols);
    size_t bytes = emb_cpu_round_up(rows, kernels->panel_rows) *
                   emb_cpu_packed_depth(kernels, cols) * kernels->weight_bytes;
    memset(parts.linear.packed, 0xff, bytes);
    for (uint32_t row = (rows - 1) / EMB_PACK_ROWS * EMB_PACK_ROWS;; row -= EMB_PACK_ROWS) {
        uint32_t count = rows - row < EMB_PACK_ROWS ? rows - row : EMB_PACK_ROWS;
        kernels->pack(&parts.linear, row, count, parts.weights + (size_t)row * cols);
        if (row == 0) break;
    }
    rig_check(!memcmp(whole.linear.packed, parts.linear.packed, bytes),
              "%s: %u x %u packed in parts, last first, differs", name, rows, cols);
    matrix_close(&whole);
    matrix_close(&parts);
}

void parts_test(const emb_backend *backend) {
    const emb_cpu_kernels *kernels = backend->own;
    const char *name = backend->numerics;
    emb_dtype dtype = backend->dtype;
    if (kernels->quantized) { /* its norm is that of another table, and its operands are bytes */
        if (kernels->attention_bytes && dtype == EMB_DTYPE_INT8) test_attentions(kernels, name);
        dots_test(kernels, name, dtype);
        return;
    }
    test_attentions(kernels, name);
    for (uint32_t hidden = 1; hidden < 800; hidden += hidden < 40 ? 1 : 61)
        test_norm(kernels, name, hidden);
    test_products(kernels, name, dtype);
    test_gelu(kernels, name, dtype);
    for (uint32_t rows = 1; rows < 300; rows += 21) {
        test_packing(kernels, name, dtype, rows, 1 + rows % 35);
        test_packing(kernels, name, dtype, rows, 64);
    }
}
