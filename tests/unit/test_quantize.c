/* test_quantize.c - base/quantize: how far values move, and what must come out exactly.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/quantize.h"

#define ROWS 9
#define COLS 128

static uint32_t next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* About normal, by the sum of uniform numbers. */
static void fill(float *values, size_t count, float size) {
    uint32_t seed = 7;
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int n = 0; n < 12; n++) sum += (float)next(&seed) / 16777216.0f;
        values[i] = (sum - 6) * size;
    }
}

static double relative_rms(const float *a, const float *b, size_t count) {
    double off = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)a[i] * a[i];
    }
    return sqrt(off / all);
}

struct room {
    float values[ROWS * COLS], back[ROWS * COLS], scales[ROWS * COLS / 32];
    int8_t codes[ROWS * COLS];
    uint8_t zeros[ROWS * COLS / 32];
};
static struct room room;

static emb_quantized_rows rows_of(uint32_t bits, uint32_t group) {
    return (emb_quantized_rows){
        bits, ROWS, COLS, group, room.codes, room.scales, bits == 8 ? NULL : room.zeros};
}

static double error_of(uint32_t bits, uint32_t group) {
    emb_quantized_rows rows = rows_of(bits, group);
    emb_quantize_rows(&rows, room.values, NULL);
    emb_quantize_restore(room.back, &rows);
    return relative_rms(room.values, room.back, ROWS * COLS);
}

static void errors_are_as_many_bits_allow(void **state) {
    (void)state;
    for (float size = 1e-6f; size < 1e7f; size *= 1000) {
        fill(room.values, ROWS * COLS, size);
        assert_true(error_of(8, COLS) < 0.009);
        assert_true(error_of(4, 32) < 0.085);
        assert_true(error_of(4, 64) < 0.097);
        assert_true(error_of(4, 64) > error_of(4, 32));
    }
}

static void int8_is_symmetric_and_reaches_its_ends(void **state) {
    (void)state;
    fill(room.values, ROWS * COLS, 1);
    room.values[5] = 9; /* the first row's largest */
    error_of(8, COLS);
    assert_int_equal(room.codes[5], 127);
    assert_true(room.scales[0] == 9.0f / 127);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        int8_t before = room.codes[i];
        assert_true(before >= -127);
        assert_true(fabsf(room.back[i] - room.values[i]) <=
                    room.scales[i / COLS] * 0.5f * (1 + 1e-5f));
    }
    for (size_t i = 0; i < ROWS * COLS; i++) room.values[i] = -room.values[i];
    int8_t codes[ROWS * COLS];
    memcpy(codes, room.codes, sizeof codes);
    error_of(8, COLS);
    for (size_t i = 0; i < ROWS * COLS; i++) assert_int_equal(room.codes[i], -codes[i]);
}

static void int4_codes_and_zeros_stay_inside(void **state) {
    (void)state;
    fill(room.values, ROWS * COLS, 1);
    for (size_t i = 0; i < 64; i++) room.values[i] = fabsf(room.values[i]) + 0.1f;
    for (size_t i = 64; i < 128; i++) room.values[i] = -fabsf(room.values[i]);
    error_of(4, 32);
    for (size_t i = 0; i < ROWS * COLS; i++) assert_true(room.codes[i] >= 0 && room.codes[i] <= 15);
    for (size_t i = 0; i < ROWS * COLS / 32; i++) assert_true(room.zeros[i] <= 15);
    assert_int_equal(room.zeros[0], 0);
    assert_int_equal(room.zeros[2], 15);
}

static void nothing_comes_back_as_nothing(void **state) {
    (void)state;
    memset(room.values, 0, sizeof room.values);
    room.values[COLS] = 1e-40f; /* a row too small for a scale */
    room.values[2 * COLS] = 1;  /* one value alone is exact */
    for (uint32_t bits = 4; bits <= 8; bits += 4) {
        error_of(bits, bits == 8 ? COLS : 32);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            if (i == 2 * COLS)
                assert_true(fabsf(room.back[i] - 1) < 1e-6f);
            else
                assert_true(room.back[i] == 0);
        }
    }
}

/* What sits on the grid stays there. */
static void values_on_the_grid_are_exact(void **state) {
    (void)state;
    for (size_t i = 0; i < ROWS * COLS; i++)
        room.values[i] = 0.25f * (float)((int)(i * 7 % 16) - 6);
    assert_true(error_of(4, 32) < 1e-6);
    for (size_t i = 0; i < ROWS * COLS; i++) room.values[i] = (float)((int)(i * 37 % 255) - 127);
    assert_true(error_of(8, COLS) < 1e-6);
}

static void importance_moves_the_error_elsewhere(void **state) {
    (void)state;
    float values[32], importance[32], scale[2];
    int8_t codes[2][32];
    uint8_t zero[2];
    fill(values, 32, 1);
    values[3] = 8; /* cut it, or lose everything else */
    for (size_t i = 0; i < 32; i++) importance[i] = i == 3 ? 1e-3f : 1e12f;
    emb_quantize_group(codes[0], &scale[0], &zero[0], values, NULL, 32);
    emb_quantize_group(codes[1], &scale[1], &zero[1], values, importance, 32);
    double off[2] = {0, 0};
    for (int n = 0; n < 2; n++)
        for (size_t i = 0; i < 32; i++)
            if (i != 3) off[n] += pow(values[i] - scale[n] * (codes[n][i] - zero[n]), 2);
    assert_true(off[1] < off[0]);
}

/* As near as any range of a fine search: the mean squared error of groups of normal values. */
static void int4_searches_well(void **state) {
    (void)state;
    double found = 0, least = 0;
    fill(room.values, ROWS * COLS, 1);
    error_of(4, 32);
    for (size_t at = 0; at < ROWS * COLS; at += 32) {
        const float *v = room.values + at;
        double best = INFINITY, off = 0;
        float low = 0, high = 0;
        for (size_t i = 0; i < 32; i++) {
            off += pow(v[i] - room.back[at + i], 2);
            low = fminf(low, v[i]);
            high = fmaxf(high, v[i]);
        }
        for (int step = 0; step < 60; step++) {
            float scale = (high - low) / 15 * (0.7f + 0.00625f * (float)step);
            for (int zero = 0; zero < 16; zero++) {
                double sum = 0;
                for (size_t i = 0; i < 32; i++) {
                    float code = fminf(fmaxf(rintf(v[i] / scale) + (float)zero, 0), 15);
                    sum += pow(v[i] - scale * (code - (float)zero), 2);
                }
                best = fmin(best, sum);
            }
        }
        found += off;
        least += best;
    }
    assert_true(found < 1.006 * least); /* two cuts of each end alone: 1.02 */
}

/* An input with one coordinate ten times the others: the products err less, and the scaled matrix
 * stands for the same. */
static void balance_follows_the_norm(void **state) {
    (void)state;
    float gain[COLS], shift[COLS], factors[COLS], importance[COLS];
    emb_quantized_rows rows = rows_of(4, 32);
    for (size_t c = 0; c < COLS; c++) {
        gain[c] = c == 40 ? -8.0f : 0.8f;
        shift[c] = c == 40 ? 6.0f : 0.6f;
    }
    emb_quantize_balance(factors, importance, gain, shift, COLS);
    assert_true(fabsf(factors[0] / factors[40] - sqrtf(10)) < 1e-4f);
    assert_true(fabsf(importance[40] * factors[40] * factors[40] - 1) < 1e-5f);
    fill(room.values, ROWS * COLS, 1);
    float whole[ROWS * COLS];
    memcpy(whole, room.values, sizeof whole);
    double errors[2] = {0, 0}; /* without and with: squares of the outputs, by the inputs' size */
    for (int with = 0; with < 2; with++) {
        for (size_t i = 0; with && i < ROWS * COLS; i++) room.values[i] /= factors[i % COLS];
        emb_quantize_rows(&rows, room.values, with ? importance : NULL);
        emb_quantize_restore(room.back, &rows);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            size_t c = i % COLS;
            double off = whole[i] - room.back[i] * (with ? factors[c] : 1);
            errors[with] += off * off * (gain[c] * gain[c] + shift[c] * shift[c]);
        }
    }
    assert_true(errors[1] < 0.8 * errors[0]);
    /* norms that say nothing balance nothing; one that forgets a coordinate does not give it up */
    for (size_t c = 0; c < COLS; c++) gain[c] = shift[c] = 0;
    emb_quantize_balance(factors, importance, gain, shift, COLS);
    for (size_t c = 0; c < COLS; c++) assert_true(factors[c] == 1 && importance[c] == 1);
    for (size_t c = 1; c < COLS; c++) gain[c] = 1e30f;
    emb_quantize_balance(factors, importance, gain, shift, COLS);
    for (size_t c = 0; c < COLS; c++) assert_true(isfinite(factors[c]) && factors[c] > 0);
    for (size_t c = 1; c < COLS; c++) gain[c] = 1;
    emb_quantize_balance(gain, shift, gain, shift, COLS); /* in place */
    assert_true(gain[0] == 8 && shift[0] == 1.0f / 64);
}

static void fp8_is_e4m3(void **state) {
    (void)state;
    assert_true(emb_quantize_widen_fp8(0x38) == 1.0f);
    assert_true(emb_quantize_widen_fp8(0x7E) == 448.0f);
    assert_true(emb_quantize_widen_fp8(0xFE) == -448.0f);
    assert_true(emb_quantize_widen_fp8(0x01) == 0x1p-9f);
    assert_true(emb_quantize_widen_fp8(0x08) == 0x1p-6f);
    assert_true(isnan(emb_quantize_widen_fp8(0x7F)) && isnan(emb_quantize_widen_fp8(0xFF)));
    float values[256], scale; /* all of the type, which keep the scale at 1, and two more */
    uint8_t bytes[256];
    for (uint32_t i = 0; i < 254; i++)
        values[i] = emb_quantize_widen_fp8((uint8_t)(i < 127 ? i : i + 1));
    emb_quantize_fp8(bytes, &scale, values, 1, 254);
    assert_true(scale == 1);
    for (uint32_t i = 0; i < 254; i++) /* every value of the type is its own nearest */
        assert_true(emb_quantize_widen_fp8(bytes[i]) == values[i]);
    for (uint32_t i = 1; i + 2 < 127; i++) { /* between two: the nearer, at the middle the even */
        values[254] = values[i] * 0.75f + values[i + 1] * 0.25f;
        values[255] = values[i] * 0.5f + values[i + 1] * 0.5f;
        emb_quantize_fp8(bytes, &scale, values, 1, 256);
        assert_int_equal(bytes[254], i);
        assert_int_equal(bytes[255], i + (i & 1));
    }
    fill(room.values, ROWS * COLS, 3);
    emb_quantize_fp8((uint8_t *)room.codes, room.scales, room.values, ROWS, COLS);
    for (size_t i = 0; i < ROWS * COLS; i++)
        room.back[i] = room.scales[i / COLS] * emb_quantize_widen_fp8((uint8_t)room.codes[i]);
    double chosen = relative_rms(room.values, room.back, ROWS * COLS);
    for (size_t r = 0; r < ROWS; r++) { /* the largest magnitude at 448, whatever that costs */
        float most = 0, *row = &room.values[r * COLS];
        for (size_t c = 0; c < COLS; c++) most = fmaxf(most, fabsf(row[c]));
        for (size_t c = 0; c < COLS; c++) {
            values[254] = row[c] / most * 448;
            values[255] = 448;
            emb_quantize_fp8(bytes, &scale, values, 1, 256);
            room.back[r * COLS + c] = emb_quantize_widen_fp8(bytes[254]) * most / 448;
        }
    }
    assert_true(chosen < 0.95 * relative_rms(room.values, room.back, ROWS * COLS));
    assert_true(chosen < 0.026);
}

static void f16_is_ieee(void **state) {
    const struct {
        float value;
        uint16_t bits;
    } known[] = {{0.0f, 0},          {-0.0f, 0x8000},      {1.0f, 0x3C00},
                 {65504, 0x7BFF},    {0x1p-14f, 0x0400},   {0x1p-24f, 0x0001},
                 {-2.5f, 0xC100},    {65520, 0x7C00},      {1.0f + 0x1p-11f, 0x3C00},
                 {0x1p-25f, 0x0000}, {0x1.8p-24f, 0x0002}, {1.0f + 0x1.8p-10f, 0x3C02}};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(emb_quantize_f16(known[i].value), known[i].bits);
    for (uint32_t i = 0; i < 0x10000; i++) {
        bool finite = (i & 0x7C00) != 0x7C00;
        if (finite) assert_int_equal(emb_quantize_f16(emb_quantize_widen_f16((uint16_t)i)), i);
    }
    assert_true(isinf(emb_quantize_widen_f16(0x7C00)) && isnan(emb_quantize_widen_f16(0x7E00)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_as_many_bits_allow),
        cmocka_unit_test(int8_is_symmetric_and_reaches_its_ends),
        cmocka_unit_test(int4_codes_and_zeros_stay_inside),
        cmocka_unit_test(nothing_comes_back_as_nothing),
        cmocka_unit_test(values_on_the_grid_are_exact),
        cmocka_unit_test(importance_moves_the_error_elsewhere),
        cmocka_unit_test(int4_searches_well),
        cmocka_unit_test(balance_follows_the_norm),
        cmocka_unit_test(fp8_is_e4m3),
        cmocka_unit_test(f16_is_ieee),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
