/* test_members.c - the members of plans, counters and models by name: values, words, older callers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "embound.h"

static emb_member find(emb_struct kind, const void *object, const char *name) {
    emb_member member;
    for (uint32_t i = 0; emb_member_get(&member, kind, object, i); i++)
        if (strcmp(member.name, name) == 0) return member;
    fail_msg("no member %s", name);
    return member;
}

static void test_values(void **state) {
    (void)state;
    emb_plan plan = {.struct_bytes = sizeof plan,
                     .rung = EMB_RUNG_STREAM,
                     .device = EMB_DEVICE_CUDA,
                     .dtype = EMB_DTYPE_INT4,
                     .normalize = 1,
                     .lanes = 7,
                     .host_bytes = UINT64_C(1) << 40,
                     .numerics_id = "bert-ref-f32"};
    assert_int_equal(find(EMB_STRUCT_PLAN, &plan, "rung").number, 4);
    assert_string_equal(find(EMB_STRUCT_PLAN, &plan, "rung_name").text, "layers streamed");
    assert_string_equal(find(EMB_STRUCT_PLAN, &plan, "device").text, "cuda");
    assert_string_equal(find(EMB_STRUCT_PLAN, &plan, "dtype").text, "int4");
    assert_int_equal(find(EMB_STRUCT_PLAN, &plan, "dtype").number, EMB_DTYPE_INT4);
    assert_int_equal(find(EMB_STRUCT_PLAN, &plan, "normalize").kind, EMB_MEMBER_FLAG);
    assert_int_equal(find(EMB_STRUCT_PLAN, &plan, "normalize").number, 1);
    assert_int_equal(find(EMB_STRUCT_PLAN, &plan, "lanes").number, 7);
    assert_true(find(EMB_STRUCT_PLAN, &plan, "host_bytes").number == UINT64_C(1) << 40);
    assert_ptr_equal(find(EMB_STRUCT_PLAN, &plan, "numerics_id").text, plan.numerics_id);
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats, .tokens = 12, .seconds_wait = 0.5};
    assert_int_equal(find(EMB_STRUCT_STATS, &stats, "tokens").number, 12);
    assert_true(find(EMB_STRUCT_STATS, &stats, "seconds_wait").real == 0.5);
    emb_model_info info = {.struct_bytes = sizeof info, .name = "toy", .smooths = 1};
    assert_string_equal(find(EMB_STRUCT_MODEL, &info, "name").text, "toy");
    assert_int_equal(find(EMB_STRUCT_MODEL, &info, "smooths").number, 1);
    assert_string_equal(find(EMB_STRUCT_MODEL, &info, "pooling").text, "model");
}

/* Every name once, and an end. */
static void test_names(void **state) {
    (void)state;
    static emb_plan plan = {.struct_bytes = sizeof plan};
    static emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    static emb_model_info info = {.struct_bytes = sizeof info};
    const void *const objects[] = {&plan, &stats, &info};
    for (uint32_t kind = 0; kind < 3; kind++) {
        emb_member member, other;
        uint32_t count = 0;
        for (; emb_member_get(&member, (emb_struct)kind, objects[kind], count); count++) {
            assert_non_null(member.text);
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(emb_member_get(&other, (emb_struct)kind, objects[kind], i), 1);
                assert_string_not_equal(member.name, other.name);
            }
        }
        assert_in_range(count, 19, 60);
        assert_int_equal(emb_member_get(&member, (emb_struct)kind, objects[kind], UINT32_MAX), 0);
    }
    emb_member none;
    assert_int_equal(emb_member_get(&none, (emb_struct)3, &plan, 0), 0);
}

/* Nothing is read behind the end of a struct that was compiled with an older header. */
static void test_older_caller(void **state) {
    (void)state;
    emb_model_info info = {.struct_bytes = offsetof(emb_model_info, stored_group),
                           .layers = 6,
                           .stored_group = 32,
                           .unknown_keys = "x"};
    assert_int_equal(find(EMB_STRUCT_MODEL, &info, "layers").number, 6);
    assert_int_equal(find(EMB_STRUCT_MODEL, &info, "stored_group").number, 0);
    assert_string_equal(find(EMB_STRUCT_MODEL, &info, "unknown_keys").text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_older_caller)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
