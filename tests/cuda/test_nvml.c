/* test_nvml.c - what the CUDA module reads from NVML, against the fake one: the process's own
 * bytes, the card's, and the context's where only the card's are told.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/cuda/host/nvml.h"

#define MIB  (1ull << 20)
#define CARD "0000:01:00.0"

static emb_cuda_nvml open_as(const char *mode, const char *bus) {
    setenv("EMB_FAKE_NVML", mode, 1);
    return emb_cuda_nvml_open(FAKE_NVML, bus);
}

static void expect_share(const emb_cuda_nvml *nvml, emb_cuda_before before, uint64_t used_first,
                         uint64_t taken, uint64_t held, uint64_t context) {
    uint64_t got_held = 1, got_context = 1;
    emb_cuda_nvml_share(&got_held, &got_context, nvml, &before, used_first, taken);
    assert_int_equal(got_held, held);
    assert_int_equal(got_context, context);
}

static void test_own_figure(void **state) {
    (void)state;
    char me[16];
    snprintf(me, sizeof me, "%d", (int)getpid());
    emb_cuda_nvml nvml = open_as(me, CARD);
    uint64_t bytes = 0;
    assert_true(emb_cuda_nvml_own(&bytes, &nvml));
    assert_int_equal(bytes, 540 * MIB);
    emb_cuda_before before;
    emb_cuda_nvml_before(&before, &nvml, true);
    assert_true(before.active && before.own == 540 * MIB && before.used == 1096 * MIB);
    expect_share(&nvml, before, 0, 2000 * MIB, 540 * MIB, 0); /* a context that was there */
    before.own = 40 * MIB;
    expect_share(&nvml, before, 0, 2000 * MIB, 40 * MIB, 500 * MIB);
    before = (emb_cuda_before){0}; /* not among the processes before */
    expect_share(&nvml, before, 0, 2000 * MIB, 0, 540 * MIB);
}

/* As in a container: the driver's process numbers are not ours. */
static void test_others_are_not_ours(void **state) {
    (void)state;
    emb_cuda_nvml nvml = open_as("1", CARD);
    uint64_t bytes = 0;
    assert_false(emb_cuda_nvml_own(&bytes, &nvml));
    assert_true(emb_cuda_nvml_used(&bytes, &nvml));
    assert_int_equal(bytes, 1096 * MIB);
    assert_true(emb_cuda_nvml_free(&bytes, &nvml) && bytes == 3000 * MIB);
    const uint64_t all = 1096 * MIB;
    emb_cuda_before fresh = {.used = 600 * MIB}, shared = {.used = 900 * MIB, .active = true};
    expect_share(&nvml, fresh, 600 * MIB, all, 0, 496 * MIB);
    expect_share(&nvml, shared, 600 * MIB, all, 496 * MIB, 0);
    expect_share(&nvml, shared, 0, all, all, 0); /* whose it is cannot be known */
    /* others gave back more than the context took, or took more than there is: no difference */
    fresh.used = 1200 * MIB;
    expect_share(&nvml, fresh, 0, all, 0, all);
    fresh.used = 1 * MIB;
    expect_share(&nvml, fresh, 0, 500 * MIB, 0, 500 * MIB);
}

static void test_nothing_told(void **state) {
    (void)state;
    uint64_t bytes = 7;
    emb_cuda_nvml absent = emb_cuda_nvml_open("/no/such/library", CARD);
    emb_cuda_nvml broken = open_as("broken", CARD), unknown = open_as("1", "none");
    const emb_cuda_nvml *all[] = {&absent, &broken, &unknown};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_false(emb_cuda_nvml_own(&bytes, all[i]));
        assert_false(emb_cuda_nvml_used(&bytes, all[i]));
        assert_false(emb_cuda_nvml_free(&bytes, all[i]));
        assert_int_equal(bytes, 7);
        expect_share(all[i], (emb_cuda_before){.used = 5}, 5, 9, 0, 4);
        expect_share(all[i], (emb_cuda_before){.active = true}, 5, 9, 4, 0);
        expect_share(all[i], (emb_cuda_before){0}, 0, 9, 0, 9);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_figure),
        cmocka_unit_test(test_others_are_not_ours),
        cmocka_unit_test(test_nothing_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
