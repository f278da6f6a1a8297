/* dots.c - the parts of quantized kernels: integer sums that must be exact on every instruction
 * set, activations that must be quantized to the very bytes of ref, GELU.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernels/parts.h"
#include "kernels/rig.h"

/* A matrix of whole numbers: all scales are one, the bias nought. */
typedef struct matrix {
    emb_linear linear;
    emb_quantized_rows rows;
    void *arena;
} matrix;

static int draw(int below) {
    return (int)((rig_random() + 1.0f) * 0.5f * (float)below) % below;
}

static void matrix_open(matrix *m, const emb_cpu_kernels *kernels, emb_dtype dtype, uint32_t rows,
                        uint32_t cols, uint32_t group) {
    bool four = dtype == EMB_DTYPE_INT4;
    uint32_t groups = four ? emb_quantized_groups(cols, group) : 1;
    const emb_backend self = {.own = kernels};
    memset(m, 0, sizeof *m);
    m->linear.group = group;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    emb_cpu_linear_layout(&self, &m->linear, rows, cols, dtype, &ledger);
    uint64_t bytes = ledger.bytes;
    m->arena = rig_take(bytes, 0);
    emb_ledger_init(&ledger, m->arena, bytes);
    emb_cpu_linear_layout(&self, &m->linear, rows, cols, dtype, &ledger);
    size_t count = (size_t)rows * cols, scales = (size_t)rows * groups;
    m->rows = (emb_quantized_rows){four ? 4 : 8,
                                   rows,
                                   cols,
                                   four ? group : cols,
                                   rig_take(count, 1),
                                   rig_take(scales * sizeof(float), 4),
                                   rig_take(scales, 1)};
    for (size_t i = 0; i < count; i++)
        m->rows.values[i] = (int8_t)(four ? draw(16) : draw(8) ? draw(255) - 127 : 127);
    for (size_t i = 0; i < scales; i++) {
        m->rows.scales[i] = 1.0f;
        m->rows.zeros[i] = (uint8_t)draw(16);
    }
    memset(m->linear.bias, 0, rows * sizeof *m->linear.bias);
    emb_cpu_dot_pack(NULL, &m->linear, 0, &m->rows);
}

static void matrix_close(matrix *m) {
    rig_give(m->rows.values);
    rig_give(m->rows.scales);
    rig_give(m->rows.zeros);
    rig_give(m->arena);
}

/* The sum over cols [col0, col0 + count), which `in` holds. */
static int64_t exact(const matrix *m, const uint8_t *in, int32_t zero, uint32_t output,
                     uint32_t col0, uint32_t count) {
    uint32_t cols = m->linear.cols, groups = emb_quantized_groups(cols, m->rows.group);
    int64_t sum = 0;
    for (uint32_t k = col0; k < col0 + count; k++) {
        int32_t weight = m->rows.values[(size_t)output * cols + k];
        if (m->rows.bits == 4) weight -= m->rows.zeros[output * groups + k / m->rows.group];
        sum += (int64_t)(in[k - col0] - zero) * weight;
    }
    return sum;
}

/* A product of `count` cols from col0 on; not of all of them: added to what is there. */
static void test_cols(const emb_cpu_kernels *kernels, const char *name, const matrix *m,
                      uint32_t rows, uint32_t column0, uint32_t columns, uint32_t col0,
                      uint32_t count) {
    bool add = count < m->linear.cols;
    size_t depth = emb_cpu_dot_depth(count);
    size_t in_stride = depth + sizeof(emb_cpu_token) + 4, out_stride = columns + 3;
    uint8_t *in = rig_take(rows * in_stride, 4);
    float *out = rig_take(rows * out_stride * sizeof *out, 4);
    void *work = rig_take(emb_cpu_dot_work(m->linear.dtype, count), 0);
    for (uint32_t r = 0; r < rows; r++) {
        emb_cpu_token token = {1.0f, draw(256)};
        for (size_t k = 0; k < depth; k++)
            in[r * in_stride + k] = (uint8_t)(draw(4) ? draw(256) : 255);
        memcpy(in + r * in_stride + depth, &token, sizeof token);
        for (uint32_t c = 0; add && c < columns; c++)
            out[r * out_stride + c] = (float)(r + 100 * c);
    }
    emb_cpu_product product = {.linear = &m->linear,
                               .column0 = column0,
                               .columns = columns,
                               .col0 = col0,
                               .cols = add ? count : 0,
                               .rows = rows,
                               .add = add,
                               .in = in,
                               .in_stride = in_stride,
                               .out = out,
                               .out_stride = out_stride,
                               .work = work};
    kernels->product(&product);
    uint32_t wrong = 0, touched = 0;
    for (uint32_t r = 0; r < rows; r++) {
        emb_cpu_token token;
        memcpy(&token, in + r * in_stride + depth, sizeof token);
        for (uint32_t c = 0; c < columns; c++) {
            int64_t sum = exact(m, in + r * in_stride, token.zero, column0 + c, col0, count);
            float added = add ? (float)(r + 100 * c) : 0.0f;
            wrong += out[r * out_stride + c] != (float)sum + added;
        }
        for (size_t c = columns; c < out_stride; c++) touched += !isnan(out[r * out_stride + c]);
    }
    rig_check(!wrong && !touched,
              "%s product of %u x %u, rows %u, outputs %u + %u, cols %u + %u: %u, %u wrong", name,
              m->linear.rows, m->linear.cols, rows, column0, columns, col0, count, wrong, touched);
    rig_give(in);
    rig_give(out);
    rig_give(work);
}

static void test_range(const emb_cpu_kernels *kernels, const char *name, const matrix *m,
                       uint32_t rows, uint32_t column0, uint32_t columns) {
    test_cols(kernels, name, m, rows, column0, columns, 0, m->linear.cols);
}

/* Slices of which the weights' sums are kept, alone and several together, and others. */
static void test_slices(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    static const struct {
        uint32_t rows, cols, col0, count;
    } cases[] = {
        {256, 256, 128, 128},   {256, 256, 64, 192},    {384, 384, 0, 384},
        {384, 384, 128, 256},   {130, 200, 192, 8},     {130, 199, 64, 135},
        {65, 3072, 1536, 1536}, {65, 3072, 1536, 1000}, {65, 4800, 3200, 1600},
        {65, 4800, 1216, 2432}, {65, 4801, 3648, 1153}, {64, 3073, 64, 3009},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t outputs = cases[i].rows, count = cases[i].count;
        matrix m;
        rig_seed(4000 + (uint32_t)i);
        matrix_open(&m, kernels, dtype, outputs, cases[i].cols, i % 2 ? 64 : 32);
        for (uint32_t rows = 1; rows <= 13; rows += count > 300 ? 6 : 1) {
            test_cols(kernels, name, &m, rows, 0, outputs, cases[i].col0, count);
            test_cols(kernels, name, &m, rows, 17, 40, cases[i].col0, count);
        }
        matrix_close(&m);
    }
}

static void test_products(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    static const uint32_t outputs[] = {1, 16, 63, 64, 65, 130, 200};
    static const uint32_t depths[] = {1, 2, 3, 4, 5, 31, 32, 33, 70, 384, 1536, 3072};
    for (uint32_t i = 0; i < 7; i++) {
        for (uint32_t d = 0; d < 12; d++) {
            matrix m;
            rig_seed(3000 + 20 * i + d);
            if (depths[d] > 1000 && i != 2) continue; /* slow, and deep is deep */
            matrix_open(&m, kernels, dtype, outputs[i], depths[d], d % 2 ? 64 : 32);
            for (uint32_t rows = 1; rows <= 13; rows += depths[d] > 100 ? 6 : 1) {
                uint32_t first = (uint32_t)draw((int)outputs[i]);
                test_range(kernels, name, &m, rows, first, outputs[i] - first);
                test_range(kernels, name, &m, rows, 0, first + 1);
            }
            matrix_close(&m);
        }
    }
}

/* Every sum at its largest, where products of bytes that saturate, or sums of 16 bits, would be
 * wrong. */
static void test_extremes(const emb_cpu_kernels *kernels, const char *name) {
    enum { COLS = 4096, ROWS = 7 };
    matrix m;
    matrix_open(&m, kernels, EMB_DTYPE_INT8, 64, COLS, 32);
    size_t stride = COLS + sizeof(emb_cpu_token);
    uint8_t *in = rig_take(ROWS * stride, 0);
    float *out = rig_take((size_t)ROWS * 64 * sizeof *out, 0);
    emb_cpu_token token = {1.0f, 0};
    memset(m.rows.values, 127, (size_t)64 * COLS);
    for (size_t i = 0; i < COLS; i++) m.rows.values[i] = -127;
    emb_cpu_dot_pack(NULL, &m.linear, 0, &m.rows);
    memset(in, 255, ROWS * stride);
    for (uint32_t r = 0; r < ROWS; r++) memcpy(in + r * stride + COLS, &token, sizeof token);
    emb_cpu_product product = {.linear = &m.linear,
                               .columns = 64,
                               .rows = ROWS,
                               .in = in,
                               .in_stride = stride,
                               .out = out,
                               .out_stride = 64};
    kernels->product(&product);
    float largest = (float)(255 * 127 * COLS);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ROWS * 64; i++) wrong += out[i] != (i % 64 ? largest : -largest);
    rig_check(!wrong, "%s: %u of the largest sums are wrong", name, wrong);
    rig_give(in);
    rig_give(out);
    matrix_close(&m);
}

/* ---- activations ----------------------------------------------------------------------------- */

static void fill_row(float *row, uint32_t cols, uint32_t kind) {
    rig_fill(row, cols, kind == 1 ? 1e-35f : kind == 2 ? 1e30f : 2.0f);
    for (uint32_t i = 0; i < cols; i++) {
        if (kind == 3) row[i] = fabsf(row[i]);
        if (kind == 4) row[i] = -fabsf(row[i]);
        if (kind == 5) row[i] = 0.0f;
        if (kind == 6) row[i] = (float)draw(512) * 0.5f; /* ties */
    }
    if (kind == 7) row[draw((int)cols)] = NAN;
    if (kind == 8) row[draw((int)cols)] = 300.0f;
}

/* The quantized row stands for its values to within half a step. */
static bool row_right(const uint8_t *got, const float *in, const float *smooth, uint32_t cols,
                      emb_cpu_token token) {
    for (uint32_t i = 0; i < cols; i++) {
        double value = smooth ? (double)(in[i] * smooth[i]) : in[i];
        double back = (double)token.scale * (got[i] - token.zero);
        if (fabs(back - value) > 0.5001 * token.scale + 1e-29) return false;
    }
    return true;
}

static void test_quantize(const emb_cpu_kernels *kernels, const char *name, uint32_t cols) {
    enum { KINDS = 9 };
    size_t depth = emb_cpu_dot_depth(cols), stride = depth + sizeof(emb_cpu_token) + 3;
    for (uint32_t smoothed = 0; smoothed < 2; smoothed++) {
        float *in = rig_take((size_t)KINDS * cols * sizeof *in, 4);
        float *smooth = rig_take(cols * sizeof *smooth, 4);
        uint8_t *got = rig_take(KINDS * stride, 1), *expected = rig_take(KINDS * stride, 1);
        for (uint32_t kind = 0; kind < KINDS; kind++)
            fill_row(in + (size_t)kind * cols, cols, kind);
        for (uint32_t i = 0; i < cols; i++) smooth[i] = 1.0f + 0.5f * rig_random();
        const float *factors = smoothed ? smooth : NULL;
        kernels->operands(got, stride, in, KINDS, cols, factors);
        emb_cpu_ref_dot.operands(expected, stride, in, KINDS, cols, factors);
        for (uint32_t kind = 0; kind < KINDS; kind++) {
            const uint8_t *row = got + kind * stride, *wanted = expected + kind * stride;
            emb_cpu_token token;
            memcpy(&token, row + depth, sizeof token);
            bool nan = kind == 7;
            rig_check(nan ? isnan(token.scale) : !memcmp(row, wanted, stride),
                      "%s: row of kind %u, %u cols is not that of ref", name, kind, cols);
            rig_check(nan || row_right(row, in + (size_t)kind * cols, factors, cols, token),
                      "%s: row of kind %u, %u cols is off by more than half a step", name, kind,
                      cols);
        }
        rig_give(in);
        rig_give(smooth);
        rig_give(got);
        rig_give(expected);
    }
}

/* ---- GELU ------------------------------------------------------------------------------------ */

/* Weights of zero: what comes out is the bias's GELU. A step of u8 is some hundred times what is
 * allowed here. */
static void test_gelu(const emb_cpu_kernels *kernels, const char *name) {
    enum { COUNT = 6400, SPECIAL = 6 };
    static const float special[SPECIAL] = {0.0f, 1e30f, -1e30f, INFINITY, NAN, -40.0f};
    matrix m;
    matrix_open(&m, kernels, EMB_DTYPE_INT8, COUNT, 1, 32);
    memset(m.rows.values, 0, COUNT);
    emb_cpu_dot_pack(NULL, &m.linear, 0, &m.rows);
    uint8_t in[4 + sizeof(emb_cpu_token)] = {0};
    float *out = rig_take(COUNT * sizeof *out, 0), *bias = m.linear.bias;
    for (uint32_t i = 0; i < COUNT; i++) bias[i] = -12.0f + 24.0f * (float)i / COUNT;
    memcpy(bias, special, sizeof special);
    emb_cpu_product product = {.linear = &m.linear,
                               .columns = COUNT,
                               .rows = 1,
                               .in = in,
                               .in_stride = sizeof in,
                               .out = out,
                               .out_stride = COUNT,
                               .gelu = true};
    kernels->product(&product);
    double worst = 0.0;
    for (uint32_t i = SPECIAL; i < COUNT; i++) {
        double x = bias[i], error = fabs(out[i] - 0.5 * x * erfc(-x / sqrt(2.0)));
        if (!(error <= worst)) worst = error;
    }
    rig_check(worst <= 1.8e-4, "%s gelu: off by %g", name, worst);
    rig_check(out[0] == 0.0f && fabsf(out[1] / 1e30f - 1.0f) < 0.01f, "%s gelu(1e30)", name);
    rig_check(fabsf(out[2]) < 2e-4f && fabsf(out[5]) < 2e-4f, "%s gelu(-1e30)", name);
    rig_check(!isfinite(out[3]) && isnan(out[4]), "%s gelu hides a NaN or infinity", name);
    rig_give(out);
    matrix_close(&m);
}

#if defined(__SANITIZE_ADDRESS__)
#define LEDGER_GAP 64 /* poisoned, behind each buffer */
#else
#define LEDGER_GAP 0
#endif

/* Rows packed in parts, last first, are those packed at once. */
static void test_packing(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    matrix whole, parts;
    rig_seed(9);
    matrix_open(&whole, kernels, dtype, 200, 70, 32);
    rig_seed(9);
    matrix_open(&parts, kernels, dtype, 200, 70, 32);
    size_t packed = (size_t)((unsigned char *)parts.linear.scales - (unsigned char *)parts.arena);
    packed -= LEDGER_GAP;
    memset(parts.arena, 0xff, packed);
    memset(parts.linear.scales, 0xff, 200 * sizeof(float));
    for (int row = 192; row >= 0; row -= EMB_PACK_ROWS) {
        emb_quantized_rows part = parts.rows;
        size_t groups = dtype == EMB_DTYPE_INT4 ? emb_quantized_groups(70, 32) : 1;
        part.rows = 200 - row < EMB_PACK_ROWS ? 200 - (uint32_t)row : EMB_PACK_ROWS;
        part.values += (size_t)row * 70;
        part.scales += (size_t)row * groups;
        part.zeros += (size_t)row * groups;
        emb_cpu_dot_pack(NULL, &parts.linear, (uint32_t)row, &part);
    }
    rig_check(!memcmp(whole.arena, parts.arena, packed), "%s: packed in parts, last first, differs",
              name);
    rig_check(!memcmp(whole.linear.scales, parts.linear.scales, 200 * sizeof(float)),
              "%s: scales packed in parts differ", name);
    matrix_close(&whole);
    matrix_close(&parts);
}

void dots_test(const emb_cpu_kernels *kernels, const char *name, emb_dtype dtype) {
    test_products(kernels, name, dtype);
    test_slices(kernels, name, dtype);
    test_packing(kernels, name, dtype);
    if (dtype == EMB_DTYPE_INT4) return;
    test_extremes(kernels, name);
    test_gelu(kernels, name);
    for (uint32_t cols = 1; cols < 800; cols += cols < 70 ? 1 : 61)
        test_quantize(kernels, name, cols);
}
