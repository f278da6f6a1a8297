/* test_base.c - ledger, arena, errors and the machine's JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/error.h"
#include "base/json_text.h"
#include "base/ledger.h"
#include "base/process.h"
#include "base/threads.h"
#include "base/vector.h"

struct buffers {
    char *a, *b;
    double *c;
};

static void layout(struct buffers *out, emb_ledger *ledger) {
    emb_ledger_item(ledger, "first");
    out->a = emb_ledger_take(ledger, 3, 1);
    out->b = emb_ledger_take(ledger, 1000, 1);
    emb_ledger_item(ledger, "second");
    out->c = emb_ledger_take(ledger, 7, sizeof *out->c);
}

static void measuring_and_binding_agree(void **state) {
    (void)state;
    emb_ledger measured, bound;
    struct buffers none, real;
    emb_ledger_init(&measured, NULL, 0);
    layout(&none, &measured);
    assert_null(none.a);
    assert_false(measured.overflow);
    assert_int_equal(measured.items_count, 2);
    assert_int_equal(measured.items[0].bytes + measured.items[1].bytes, measured.bytes);
    void *arena = emb_arena_open(measured.bytes);
    assert_non_null(arena);
    emb_ledger_init(&bound, arena, measured.bytes);
    layout(&real, &bound);
    assert_int_equal(bound.bytes, measured.bytes);
    assert_false(bound.overflow);
    assert_int_equal((uintptr_t)real.a % EMB_ALIGN, 0);
    assert_int_equal((uintptr_t)real.c % EMB_ALIGN, 0);
    assert_true(real.b >= real.a + 3 && (char *)real.c >= real.b + 1000);
    memset(real.b, 1, 1000);
    real.c[6] = 1;
    emb_arena_close(arena, measured.bytes);
}

static void too_small_a_base_is_noticed(void **state) {
    (void)state;
    static _Alignas(64) unsigned char base[512];
    emb_ledger ledger;
    struct buffers real;
    emb_ledger_init(&ledger, base, sizeof base);
    layout(&real, &ledger);
    assert_true(ledger.overflow);
    assert_null(real.b);
    emb_arena_unpoison(base, sizeof base);
}

static void overflowing_sizes_are_noticed(void **state) {
    (void)state;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    assert_null(emb_ledger_take(&ledger, UINT64_MAX / 2, 4));
    assert_true(ledger.overflow);
    emb_ledger_init(&ledger, NULL, 0);
    emb_ledger_take(&ledger, 1, UINT64_MAX - 200);
    emb_ledger_take(&ledger, 1, UINT64_MAX - 200);
    assert_true(ledger.overflow);
}

static void same_name_is_the_same_item(void **state) {
    (void)state;
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    emb_ledger_item(&ledger, "x");
    emb_ledger_take(&ledger, 1, 64);
    emb_ledger_item(&ledger, "y");
    emb_ledger_take(&ledger, 1, 64);
    emb_ledger_item(&ledger, "x");
    emb_ledger_take(&ledger, 1, 64);
    assert_int_equal(ledger.items_count, 2);
    assert_int_equal(ledger.items[0].bytes, 2 * ledger.items[1].bytes);
}

static void arena_is_resident_at_once(void **state) {
    (void)state;
    uint64_t before, after, peak, bytes = 32u << 20;
    emb_process_memory(&before, &peak);
    if (!before) skip(); /* the system does not say */
    void *arena = emb_arena_open(bytes);
    emb_process_memory(&after, &peak);
    assert_true(after >= before + bytes - (1u << 20));
    emb_arena_close(arena, bytes);
}

static void long_messages_end_on_a_character(void **state) {
    (void)state;
    emb_error error;
    char text[400];
    memset(text, 'a', 253);
    strcpy(text + 253, "\xC3\xA9\xC3\xA9"); /* byte 255 would split the second character */
    assert_int_equal(emb_error_set(&error, EMB_IO, "%s", text), EMB_IO);
    assert_int_equal(strlen(error.message), 255);
    memset(text, 'a', 254);
    strcpy(text + 254, "\xC3\xA9\xC3\xA9");
    emb_error_set(&error, EMB_IO, "%s", text);
    assert_int_equal(strlen(error.message), 254);
    assert_int_equal(emb_error_set(NULL, EMB_BUDGET, "nobody listens"), EMB_BUDGET);
}

static void machine_survives_json(void **state) {
    (void)state;
    emb_machine machine, again;
    emb_error error;
    assert_int_equal(emb_machine_probe(&machine, NULL, &error), EMB_OK);
    assert_true(machine.process_base_bytes > 0 && machine.cores > 0);
    static char text[20 << 10];
    size_t length;
    assert_int_equal(emb_machine_to_json(text, sizeof text, &length, &machine, &error), EMB_OK);
    assert_null(strstr(text, "held_bytes")); /* what is not known is left out, as it once was */
    assert_null(strstr(text, "device_reason"));
    machine.devices_count = EMB_DEVICES_MAX; /* the longest that there are */
    for (uint32_t i = 0; i < EMB_DEVICES_MAX; i++) {
        emb_device_info *gpu = &machine.devices[i];
        memset(gpu->name, '\1', sizeof gpu->name - 1);
        memset(gpu->driver, '\1', sizeof gpu->driver - 1);
        gpu->index = gpu->compute_capability = gpu->grown = gpu->grown_lanes = UINT32_MAX;
        gpu->memory_bytes = gpu->context_bytes = gpu->host_bytes = UINT64_MAX;
        gpu->cublaslt_bytes = gpu->held_bytes = gpu->free_bytes = UINT64_MAX;
    }
    memset(machine.device_reason, '\1', sizeof machine.device_reason - 1);
    memset(machine.cpu_name, '\1', sizeof machine.cpu_name - 1);
    machine.device_notice = UINT32_MAX;
    assert_int_equal(emb_machine_to_json(text, sizeof text, &length, &machine, &error), EMB_OK);
    assert_int_equal(strlen(text), length);
    assert_int_equal(emb_machine_from_json(&again, text, length, &error), EMB_OK);
    assert_memory_equal(&machine, &again, sizeof machine);
    assert_int_equal(emb_machine_to_json(text, 20, &length, &machine, &error),
                     EMB_INVALID_ARGUMENT);
}

static void bad_machines_are_refused_by_name(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "object"},
        {"{\"cores\": 4}", "missing"},
        {"{\"colour\": 4}", "colour"},
        {"{\"cores\": 4, \"cores\": 4}", "twice"},
        {"{\"cores\": 5000000000}", "cores"},
        {"{\"cores\": \"four\"}", "cores"},
        {"{\"cores\": 4", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        emb_machine machine;
        emb_error error;
        assert_int_equal(emb_machine_from_json(&machine, cases[i][0], strlen(cases[i][0]), &error),
                         EMB_BAD_FILE);
        assert_non_null(strstr(error.message, cases[i][1]));
    }
}

static void mark(void *user, uint32_t index) {
    ((uint32_t *)user)[index] = index + 1;
}

static void threads_run_on_booked_stacks(void **state) {
    (void)state;
    emb_ledger ledger;
    emb_thread_set set;
    emb_ledger_init(&ledger, NULL, 0);
    emb_thread_set_layout(&set, 3, &ledger);
    uint64_t bytes = ledger.bytes;
    assert_true(bytes >= 3 * EMB_STACK_BYTES);
    void *arena = emb_arena_open(bytes);
    emb_ledger_init(&ledger, arena, bytes);
    emb_thread_set_layout(&set, 3, &ledger);
    assert_false(ledger.overflow);
    uint32_t marks[3] = {0};
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(emb_thread_start(&set, i, mark, marks, NULL), EMB_OK);
    emb_thread_set_join(&set);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(marks[i], i + 1);
    emb_arena_close(arena, bytes);
}

static void *note_stack(void *user) {
    char here;
    *(uintptr_t *)user = (uintptr_t)&here;
    return NULL;
}

static void a_thread_has_the_stack_it_was_given(void **state) {
    (void)state;
    size_t bytes = EMB_STACK_BYTES;
    char *stack = emb_arena_open(bytes);
    pthread_t thread;
    uintptr_t place = 0;
    assert_non_null(stack);
    assert_int_equal(emb_thread_create(&thread, stack, bytes, note_stack, &place), 0);
    pthread_join(thread, NULL);
    assert_true(place > (uintptr_t)stack && place < (uintptr_t)stack + bytes);
    assert_int_equal(emb_thread_create(&thread, stack, 16, note_stack, &place), EINVAL);
    emb_arena_close(stack, bytes);
}

static void texts_are_escaped_for_json(void **state) {
    (void)state;
    static const char text[] =
        "a\"\\/\n\x1f\x7f\xc3\xa9\xf0\x9f\x98\x80|\xff\xc0\xaf\xed\xa0\x80\xe2\x82";
    static const char wanted[] = "a\\\"\\\\/\\u000a\\u001f\\u007f\xc3\xa9\xf0\x9f\x98\x80|"
                                 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                                 "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    char out[256];
    size_t length = 0;
    for (size_t at = 0, used; at < sizeof text - 1; at += used)
        length += emb_json_escape(out + length, text + at, sizeof text - 1 - at, &used);
    out[length] = '\0';
    assert_string_equal(out, wanted);
}

static void vectors_get_length_one(void **state) {
    (void)state;
    float unit[] = {3, 0, -4}, zeros[] = {0, -0.0f}, tiny[] = {1e-20f, 0},
          infinite[] = {1, INFINITY};
    float same[] = {0.1f, 0.7f, -0.3f};
    assert_true(emb_vector_length(unit, 3) == 5);
    emb_vector_normalize(unit, 3);
    assert_true(unit[0] == 0.6f && unit[1] == 0 && unit[2] == -0.8f);
    emb_vector_normalize(zeros, 2);
    assert_true(zeros[0] == 0 && zeros[1] == 0);
    emb_vector_normalize(tiny, 2);
    assert_true(tiny[0] > 0.99e-8f && tiny[0] < 1.01e-8f);
    emb_vector_normalize(infinite, 2);
    assert_true(isnan(infinite[1]));
    float nothing[] = {NAN, 1};
    emb_vector_normalize(nothing, 2);
    assert_true(isnan(nothing[0]) && isnan(nothing[1]));
    for (int i = 0; i < 3; i++) { /* each value rounded once */
        double length = sqrt(0.1f * (double)0.1f + 0.7f * (double)0.7f + 0.3f * (double)0.3f);
        float value = same[i], all[] = {0.1f, 0.7f, -0.3f};
        emb_vector_normalize(all, 3);
        assert_true(all[i] == (float)(value / length));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measuring_and_binding_agree),
        cmocka_unit_test(too_small_a_base_is_noticed),
        cmocka_unit_test(overflowing_sizes_are_noticed),
        cmocka_unit_test(same_name_is_the_same_item),
        cmocka_unit_test(arena_is_resident_at_once),
        cmocka_unit_test(long_messages_end_on_a_character),
        cmocka_unit_test(machine_survives_json),
        cmocka_unit_test(bad_machines_are_refused_by_name),
        cmocka_unit_test(threads_run_on_booked_stacks),
        cmocka_unit_test(a_thread_has_the_stack_it_was_given),
        cmocka_unit_test(texts_are_escaped_for_json),
        cmocka_unit_test(vectors_get_length_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
