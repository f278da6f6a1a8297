/* test_model_quantized.c - models with int8, int4 and fp8 matrices: how they are read, as they are
 * and as f32, and malformed ones, each refused by name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "support/model_builder.h"

#define QUERY  "encoder.layer.0.attention.self.query.weight"
#define KEY    "encoder.layer.0.attention.self.key.weight"
#define KEPT   "encoder.layer.0.attention.output.dense.weight"
#define WORDS  "embeddings.word_embeddings.weight"
#define NORM   "embeddings.LayerNorm.weight"
#define SCALES ".scales\":{\"dtype\":\"F32\",\"shape\":"
#define ZEROS  ".zeros\":{\"dtype\":\"U8\",\"shape\":"

static emb_model_files *open_model(const model_builder *b, emb_model_info *info) {
    emb_model_files *files;
    emb_shape shape;
    emb_error error = {.message = ""};
    builder_write(b);
    emb_status status = emb_model_files_open(&files, &shape, b->folder, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(status, EMB_OK);
    emb_model_files_describe(info, files, &shape);
    return files;
}

static float expected(uint32_t bits, size_t row, size_t col, size_t cols) {
    int8_t code = builder_code(row * cols + col, bits);
    if (bits == 1) return builder_scale(row) * emb_quantize_widen_fp8((uint8_t)code);
    return builder_scale(row) * (float)(code - (bits == 4 ? builder_zero(row) : 0));
}

static void check_matrix(const emb_model_files *files, emb_tensor_role role, size_t rows,
                         size_t cols, uint32_t bits, bool smooth) {
    float values[64], scales[16];
    int8_t codes[64];
    uint8_t zeros[16], scratch[128];
    emb_error error;
    emb_quantized_rows out = {.values = codes, .scales = scales, .zeros = zeros};
    assert_int_equal(
        emb_model_read_rows(files, role, 0, 1, (uint32_t)rows - 1, values, scratch, &error),
        EMB_OK);
    assert_int_equal(
        emb_model_read_quantized(files, role, 0, 1, (uint32_t)rows - 1, &out, scratch, &error),
        EMB_OK);
    assert_int_equal(out.bits, bits == 1 ? 8 : bits);
    assert_int_equal(out.rows, rows - 1);
    assert_int_equal(out.cols, cols);
    for (size_t r = 1; r < rows; r++) {
        assert_true(scales[r - 1] == builder_scale(r));
        if (bits == 4) assert_int_equal(zeros[r - 1], builder_zero(r));
        for (size_t c = 0; c < cols; c++) {
            size_t at = (r - 1) * cols + c;
            assert_int_equal(codes[at], builder_code(r * cols + c, bits));
            float factor = smooth ? builder_smooth(c) : 1;
            assert_true(values[at] == expected(bits, r, c, cols) * factor);
        }
    }
}

/* What fp8 leaves in f16. */
static void check_kept(const emb_model_files *files) {
    float kept[16];
    uint8_t scratch[32];
    emb_error error;
    assert_int_equal(
        emb_model_read_rows(files, EMB_TENSOR_ATTENTION_OUT, 0, 0, 4, kept, scratch, &error),
        EMB_OK);
    for (size_t i = 0; i < 16; i++) assert_true(kept[i] == builder_value(i));
}

static void values_are_read_as_they_are(void **state) {
    static const model_style styles[] = {
        {.bits = 8},
        {.bits = 4},
        {.bits = 1},
        {.bits = 8, .smooth = true},
        {.bits = 4, .smooth = true, .reversed = true},
        {.bits = 4, .mpnet = true, .dtype = "BF16"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        const model_style *s = &styles[i];
        model_builder b;
        emb_model_info info;
        builder_init(&b, s);
        emb_model_files *files = open_model(&b, &info);
        assert_int_equal(info.stored_dtype, s->bits == 8   ? EMB_DTYPE_INT8
                                            : s->bits == 4 ? EMB_DTYPE_INT4
                                                           : EMB_DTYPE_FP8);
        assert_int_equal(info.stored_group, s->bits == 4 ? 32 : 0);
        assert_int_equal(info.smooths, s->smooth);
        assert_int_equal(info.parameters, s->mpnet ? 296 : 240);
        check_matrix(files, EMB_TENSOR_WORDS, 5, 4, 8, false);
        check_matrix(files, EMB_TENSOR_QUERY, 4, 4, s->bits, s->smooth);
        check_matrix(files, EMB_TENSOR_VALUE, 4, 4, s->bits, s->smooth);
        check_matrix(files, EMB_TENSOR_FFN_IN, 8, 4, s->bits, s->smooth);
        check_matrix(files, EMB_TENSOR_FFN_OUT, 4, 8, s->bits, s->smooth);
        if (s->bits == 1) check_kept(files);
        assert_int_equal(emb_model_has_smooth(files, EMB_TENSOR_KEY, 0), s->smooth);
        float factors[8] = {0};
        emb_error error;
        emb_status status = emb_model_read_smooth(files, EMB_TENSOR_KEY, 0, factors, &error);
        assert_int_equal(status, s->smooth ? EMB_OK : EMB_INTERNAL);
        for (size_t c = 0; c < 4 && s->smooth; c++) assert_true(factors[c] == builder_smooth(c));
        emb_model_files_close(files);
        builder_reset(&b);
    }
}

static const builder_case fp8_cases[] = {
    {"header",
     KEPT "\":{\"dtype\":\"F16\"",
     KEPT "\":{\"dtype\":\"BF16\"",
     EMB_UNSUPPORTED,
     {KEPT, QUERY, "F16; quantize the original again"}},
    {"header",
     "encoder.layer.0.output.dense.weight.scales",
     KEPT ".scales",
     EMB_BAD_FILE,
     {KEPT ".scales", "none"}},
};

static const builder_case int8_cases[] = {
    {"header", QUERY SCALES "[4]", QUERY SCALES "[2,2]", EMB_BAD_FILE, {QUERY ".scales", "[4]"}},
    {"header", WORDS SCALES "[5]", WORDS SCALES "[1,5]", EMB_BAD_FILE, {WORDS ".scales", "[5]"}},
    {"header", WORDS SCALES "[5]", WORDS SCALES "[5,1,1]", EMB_BAD_FILE, {"3 dimensions"}},
    {"header", QUERY ".scales", "pooler.x", EMB_BAD_FILE, {QUERY ".scales", "missing"}},
    {"header", QUERY ".scales", QUERY ".zeros", EMB_BAD_FILE, {QUERY ".zeros", "F32", "U8"}},
    {"header", KEY ".scales", KEY ".smooth", EMB_BAD_FILE, {KEY ".smooth", "none"}},
    {"header", KEY ".scales", NORM ".scales", EMB_UNSUPPORTED, {NORM ".scales"}},
    {"header", KEY ".scales", QUERY ".scales", EMB_BAD_FILE, {QUERY ".scales", "another name"}},
    {"header", KEY ".scales", QUERY ".absmax", EMB_UNSUPPORTED, {QUERY ".absmax"}},
    {"header",
     QUERY "\":{\"dtype\":\"I8\"",
     QUERY "\":{\"dtype\":\"F8_E4M3\"",
     EMB_UNSUPPORTED,
     {KEY, QUERY, "alike"}},
    {"header",
     KEY "\":{\"dtype\":\"I8\",\"shape\":[4,4]",
     KEY "\":{\"dtype\":\"F32\",\"shape\":[4,1]",
     EMB_BAD_FILE,
     {KEY, "[4, 1]", "[4, 4]"}},
    {"header",
     KEY "\":{\"dtype\":\"I8\"",
     KEY "\":{\"dtype\":\"F8_E5M2\"",
     EMB_UNSUPPORTED,
     {KEY, "F8_E5M2"}},
    {"header",
     WORDS "\":{\"dtype\":\"I8\"",
     WORDS "\":{\"dtype\":\"F8_E4M3\"",
     EMB_UNSUPPORTED,
     {WORDS, "F8_E4M3"}},
};

static const builder_case int4_cases[] = {
    {"header", QUERY ".zeros", "pooler.x", EMB_BAD_FILE, {QUERY ".zeros", "missing"}},
    {"header", QUERY ".scales", "pooler.x", EMB_BAD_FILE, {QUERY ".scales", "missing"}},
    {"header", QUERY ZEROS "[4,1]", QUERY ZEROS "[4]", EMB_BAD_FILE, {QUERY ".zeros", "[4, 1]"}},
    {"header",
     QUERY SCALES "[4,1]",
     QUERY SCALES "[2,2]",
     EMB_BAD_FILE,
     {QUERY ".scales", "[4, 1]", "32 or 64"}},
    {"header", QUERY SCALES "[4,1]", QUERY SCALES "[4]", EMB_BAD_FILE, {QUERY ".scales", "64"}},
    {"header",
     QUERY "\":{\"dtype\":\"U8\",\"shape\":[4,2]",
     QUERY "\":{\"dtype\":\"U8\",\"shape\":[2,4]",
     EMB_BAD_FILE,
     {QUERY, "[2, 4]", "[4, 2]"}},
    {"header",
     WORDS "\":{\"dtype\":\"I8\"",
     WORDS "\":{\"dtype\":\"U8\"",
     EMB_UNSUPPORTED,
     {WORDS, "U8"}},
};

/* What only reading can find: one value of the data. */
static void refuse_value(const model_style *style, const char *tensor, const void *bytes,
                         size_t length, emb_tensor_role role, const char *says) {
    model_builder b;
    emb_model_info info;
    emb_error error = {.message = ""};
    float values[64], scales[16];
    int8_t codes[64];
    uint8_t zeros[16], scratch[128];
    emb_quantized_rows out = {.values = codes, .scales = scales, .zeros = zeros};
    builder_init(&b, style);
    memcpy(b.data + builder_find(&b, tensor) + 2 * length, bytes, length); /* element 2 */
    emb_model_files *files = open_model(&b, &info);
    assert_int_equal(emb_model_read_rows(files, role, 0, 0, 4, values, scratch, &error),
                     EMB_BAD_FILE);
    assert_non_null(strstr(error.message, tensor));
    assert_non_null(strstr(error.message, "element 2 is"));
    assert_non_null(strstr(error.message, says));
    assert_int_equal(emb_model_read_quantized(files, role, 0, 0, 4, &out, scratch, &error),
                     EMB_BAD_FILE);
    assert_non_null(strstr(error.message, tensor));
    emb_model_files_close(files);
    builder_reset(&b);
}

static void bad_values_are_refused_by_element(void **state) {
    const model_style int8 = {.bits = 8}, int4 = {.bits = 4}, fp8 = {.bits = 1};
    float nan = NAN, infinite = INFINITY, negative = -1;
    uint8_t sixteen = 16, lowest = 0x80, fp8_nan = 0xFF;
    (void)state;
    refuse_value(&int8, QUERY ".scales", &nan, 4, EMB_TENSOR_QUERY, "finite");
    refuse_value(&int8, WORDS ".scales", &infinite, 4, EMB_TENSOR_WORDS, "finite");
    refuse_value(&int4, KEY ".scales", &negative, 4, EMB_TENSOR_KEY, "at least 0");
    refuse_value(&int4, QUERY ".zeros", &sixteen, 1, EMB_TENSOR_QUERY, "above 15");
    refuse_value(&int8, QUERY, &lowest, 1, EMB_TENSOR_QUERY, "-128");
    refuse_value(&fp8, QUERY, &fp8_nan, 1, EMB_TENSOR_QUERY, "NaN");
    model_builder b;
    emb_model_info info;
    emb_error error;
    float factors[8], values[16];
    uint8_t scratch[128];
    builder_init(&b, &(model_style){.bits = 8, .smooth = true});
    memset(b.data + builder_find(&b, QUERY ".smooth") + 4, 0, 4);
    emb_model_files *files = open_model(&b, &info);
    assert_int_equal(emb_model_read_smooth(files, EMB_TENSOR_QUERY, 0, factors, &error),
                     EMB_BAD_FILE);
    assert_non_null(strstr(error.message, QUERY ".smooth"));
    assert_non_null(strstr(error.message, "element 1 is not a finite number above 0"));
    assert_int_equal(emb_model_read_rows(files, EMB_TENSOR_KEY, 0, 0, 4, values, scratch, &error),
                     EMB_BAD_FILE); /* widened, too */
    assert_non_null(strstr(error.message, QUERY ".smooth"));
    assert_non_null(strstr(error.message, "element 1 is not a finite number above 0"));
    emb_model_files_close(files);
    builder_reset(&b);
}

static void malformed_ones_are_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof int8_cases / sizeof *int8_cases; i++)
        assert_true(builder_check(&(model_style){.bits = 8}, &int8_cases[i]));
    for (size_t i = 0; i < sizeof int4_cases / sizeof *int4_cases; i++)
        assert_true(builder_check(&(model_style){.bits = 4}, &int4_cases[i]));
    for (size_t i = 0; i < sizeof fp8_cases / sizeof *fp8_cases; i++)
        assert_true(builder_check(&(model_style){.bits = 1}, &fp8_cases[i]));
    static const builder_case factors = {
        "header", QUERY ".smooth", QUERY ".smooth", EMB_BAD_FILE, {QUERY ".smooth", "none"}};
    assert_true(builder_check(&(model_style){.bits = 1, .smooth = true}, &factors));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_as_they_are),
        cmocka_unit_test(malformed_ones_are_refused_by_name),
        cmocka_unit_test(bad_values_are_refused_by_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
