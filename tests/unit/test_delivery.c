/* test_delivery.c - rows of a finished window whose width is not the layers': single chunks, long
 * texts averaged, and texts that failed.
 *
 * The window is filled by hand, as lanes would leave it; no model of today has such a width.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { HIDDEN = 4, CHUNKS = 5, TEXTS = 4, WIDTH_MAX = 7 };

/* A text of one chunk, one of three chunks, one that was too long, one of one chunk. */
static const emb_part parts[TEXTS] = {
    {.chunk0 = 0, .chunks = 1, .text_chunks = 1, .tokens = 9, .first = true, .last = true},
    {.chunk0 = 1, .chunks = 3, .text_chunks = 3, .tokens = 27, .first = true, .last = true},
    {.chunk0 = 4, .status = EMB_TOO_LONG, .first = true, .last = true},
    {.chunk0 = 4, .chunks = 1, .text_chunks = 1, .tokens = 9, .first = true, .last = true},
};

static float value_of(uint32_t chunk, uint32_t i) {
    return 1.0f + (float)(chunk * 10 + i);
}

/* What each text's value must be: chunk 0, the mean of chunks 1 to 3, NaN, chunk 4. */
static float expected(uint32_t text, uint32_t i) {
    const uint32_t chunks[TEXTS] = {0, 2, 0, 4};
    return text == 2 ? NAN : value_of(chunks[text], i);
}

static void deliver(uint32_t width, bool normalize) {
    emb_model model = {.shape = {.spec = {.hidden = HIDDEN}, .output_width = width}};
    float vectors[CHUNKS * WIDTH_MAX], nan_row[WIDTH_MAX];
    double sum[WIDTH_MAX];
    emb_window window = {.table = {.chunks = CHUNKS}, .vectors = vectors, .done = true};
    emb_part own[TEXTS];
    emb_row rows[TEXTS];
    uint32_t count;
    memcpy(own, parts, sizeof own);
    window.parts = own;
    window.parts_count = TEXTS;
    for (uint32_t i = 0; i < width; i++) nan_row[i] = NAN;
    for (uint32_t c = 0; c < CHUNKS; c++)
        for (uint32_t i = 0; i < width; i++) vectors[c * width + i] = value_of(c, i);

    emb_engine engine = {.model = &model};
    engine.plan = (emb_plan){.windows = 1, .dim = width, .normalize = normalize};
    engine.memory = (emb_memory){.windows = &window, .sum = sum, .nan_row = nan_row};
    engine.dispatched = 1;
    pthread_mutex_init(&engine.mutex, NULL);
    assert_true(emb_wake_open(&engine.ready));
    assert_int_equal(emb_engine_collect(&engine, rows, TEXTS, &count, 0, NULL), EMB_OK);
    assert_int_equal(count, TEXTS);
    for (uint32_t t = 0; t < TEXTS; t++) {
        bool scaled = normalize && parts[t].chunks > 1; /* single chunks come normalised */
        double squares = 0;
        for (uint32_t i = 0; i < width; i++) squares += expected(t, i) * expected(t, i);
        for (uint32_t i = 0; i < width; i++) {
            double want = expected(t, i) / (scaled ? sqrt(squares) : 1);
            assert_true(t == 2 ? isnan(rows[t].values[i]) : fabs(rows[t].values[i] - want) < 1e-5);
        }
        assert_int_equal(rows[t].status, parts[t].status);
        assert_int_equal(rows[t].chunks, parts[t].text_chunks);
    }
    emb_wake_close(&engine.ready);
    pthread_mutex_destroy(&engine.mutex);
}

static void rows_have_the_output_width(void **state) {
    (void)state;
    const uint32_t widths[] = {1, HIDDEN - 1, HIDDEN, WIDTH_MAX};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        deliver(widths[i], false);
        deliver(widths[i], true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_have_the_output_width)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
