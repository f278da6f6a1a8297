/* test_driver.c - what is asked of a driver before anything is paid for a GPU, against the fake
 * one: how many there are, and each reason for which there is none; and whom a build is for.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "backend/cuda/sizes/support.h"

#define PATIENCE_MS 20000

static emb_cuda_found found;
static emb_error error;
static bool notice;

static emb_status look_as(const char *driver, const char *visible, uint32_t timeout_ms) {
    setenv("EMB_FAKE_DRIVER", driver, 1);
    setenv("EMB_FAKE_DEVICES", "3", 1);
    setenv("EMB_FAKE_CAPABILITY", "89", 1);
    if (visible)
        setenv("CUDA_VISIBLE_DEVICES", visible, 1);
    else
        unsetenv("CUDA_VISIBLE_DEVICES");
    memset(&error, 0, sizeof error);
    return emb_cuda_look(&found, &notice, timeout_ms, &error);
}

static void test_found(void **state) {
    (void)state;
    assert_int_equal(look_as("", NULL, PATIENCE_MS), EMB_OK);
    assert_true(notice);
    assert_int_equal(found.driver_version, 13000);
    assert_int_equal(found.count, 3);
    assert_int_equal(found.capabilities[2], 89);
    assert_int_equal(look_as("", "1,2", PATIENCE_MS), EMB_OK);
    assert_int_equal(found.count, 2);
    assert_int_equal(look_as("old", NULL, PATIENCE_MS), EMB_OK);
    assert_int_equal(found.driver_version, 11040);
}

static void test_reasons(void **state) {
    (void)state;
    static const struct {
        const char *driver, *visible;
        bool notice;
        const char *says;
    } cases[] = {
        {"none", NULL, true, "finds no GPU"},
        {"", "99", true, "CUDA_VISIBLE_DEVICES=99 leaves no GPU"},
        {"", "", false, "is to be used"},
        {"", "-1", false, "is to be used"},
        {"803", NULL, true, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)"},
        {"999", NULL, true, "(999)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(look_as(cases[i].driver, cases[i].visible, PATIENCE_MS), EMB_DEVICE);
        assert_int_equal(notice, cases[i].notice);
        assert_non_null(strstr(error.message, cases[i].says));
    }
}

static bool is_no_answer(emb_status status) {
    return status == EMB_DEVICE && notice && strstr(error.message, "did not answer within 0.05 s");
}

/* The thread that waits for it stays behind, and harms nobody; nobody waits again, whoever asks. In
 * a process of its own, as it is remembered; its own child asks anew. */
static void test_no_answer(void **state) {
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not know threads of a child of fork */
#endif
    pid_t child = fork();
    if (child == 0) {
        bool told = is_no_answer(look_as("hangs", NULL, 50));
        time_t before = time(NULL);
        told = told && is_no_answer(look_as("hangs", NULL, PATIENCE_MS)) &&
               time(NULL) - before < PATIENCE_MS / 2000;
        told = told && look_as("hangs", "-1", PATIENCE_MS) == EMB_DEVICE && !notice;
        pid_t second = told ? fork() : -1;
        if (second == 0) _exit(look_as("", NULL, PATIENCE_MS) == EMB_OK ? 0 : 1);
        int status = 1;
        waitpid(second, &status, 0);
        _exit(status == 0 ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_child_of_fork(void **state) {
    (void)state;
    assert_int_equal(look_as("", NULL, PATIENCE_MS), EMB_OK);
    pid_t child = fork();
    if (child == 0) {
        bool refused = look_as("", NULL, PATIENCE_MS) == EMB_DEVICE && notice &&
                       strstr(error.message, "forked") && strstr(error.message, "spawn");
        _exit(refused ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_architectures(void **state) {
    (void)state;
    static const struct {
        const char *built;
        uint32_t capability;
        bool runs;
    } cases[] = {
        {"75-real,80-real,90a-real,90-virtual", 75, true},
        {"75-real,80-real,90a-real,90-virtual", 86, true}, /* of the same major version */
        {"75-real,80-real,90a-real,90-virtual", 120, true},
        {"90a-real", 90, true},
        {"90a-real", 100, false},
        {"90a-real", 89, false},
        {"100f-real", 103, true},
        {"100f-real", 120, false}, /* of its family alone */
        {"100f-virtual", 120, false},
        {"80-real", 75, false},
        {"80-real", 90, false},
        {"80", 90, true},
        {"86-real", 80, false},
        {"native", 61, true},
        {"", 90, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(emb_cuda_built_for(cases[i].built, cases[i].capability), cases[i].runs);
}

static void test_supported(void **state) {
    (void)state;
    static const emb_layer_spec l6 = {.hidden = 384, .head_dim = 32, .intermediate = 1536},
                                wide = {.hidden = 2048, .head_dim = 64, .intermediate = 8192},
                                odd = {.hidden = 384, .head_dim = 12, .intermediate = 1536},
                                tall = {.hidden = 1280, .head_dim = 160, .intermediate = 5120},
                                mid = {.hidden = 72, .head_dim = 24, .intermediate = 144};
    static const struct {
        const emb_layer_spec *shape;
        uint32_t capability;
        emb_dtype dtype;
        emb_gemm gemm;
        const char *reason[2]; /* NULL: it is supported */
    } cases[] = {
        {&l6, 75, EMB_DTYPE_F16, EMB_GEMM_OWN, {NULL}},
        {&l6, 90, EMB_DTYPE_FP8, EMB_GEMM_OWN, {NULL}},
        {&l6, 90, EMB_DTYPE_BF16, EMB_GEMM_CUBLASLT, {NULL}},
        {&mid, 90, EMB_DTYPE_F32, EMB_GEMM_OWN, {NULL}},
        {&l6, 61, EMB_DTYPE_F32, EMB_GEMM_OWN, {"7.5", "newer"}},
        {&l6, 75, EMB_DTYPE_BF16, EMB_GEMM_OWN, {"bf16", "8.0"}},
        {&l6, 86, EMB_DTYPE_FP8, EMB_GEMM_OWN, {"fp8", "8.9"}},
        {&l6, 90, EMB_DTYPE_INT8, EMB_GEMM_CUBLASLT, {"cuBLASLt", "int8"}},
        {&wide, 90, EMB_DTYPE_F16, EMB_GEMM_OWN, {"hidden size is 2048", "1536"}},
        {&odd, 90, EMB_DTYPE_F16, EMB_GEMM_OWN, {"12 values", "multiples of 8"}},
        {&tall, 90, EMB_DTYPE_F32, EMB_GEMM_OWN, {"160 values", "up to 128"}},
        {&mid, 90, EMB_DTYPE_INT8, EMB_GEMM_OWN, {"is 72", "multiples of 16"}},
        {&mid, 90, EMB_DTYPE_INT4, EMB_GEMM_OWN, {"size 144", "multiples of 32"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool refused = cases[i].reason[0] != NULL;
        emb_status status = emb_cuda_supports_shape(cases[i].capability, cases[i].dtype,
                                                    cases[i].gemm, cases[i].shape, &error);
        assert_int_equal(status, refused ? EMB_UNSUPPORTED : EMB_OK);
        for (size_t w = 0; refused && w < 2; w++)
            assert_non_null(strstr(error.message, cases[i].reason[w]));
        assert_int_equal(emb_cuda_sizes(cases[i].capability, cases[i].dtype, cases[i].gemm,
                                        cases[i].shape) == NULL,
                         refused);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_answer), /* before this process has used the driver */
        cmocka_unit_test(test_found),         cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_child_of_fork), cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_supported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
