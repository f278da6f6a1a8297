/* test_fail.c - what the programs put into an emb_error: nothing is left of the error before, and a
 * cut never parts a character.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fail.h"

static void nothing_stale(void **unused) {
    (void)unused;
    emb_error error = {.bytes_min = 7, .region = EMB_REGION_DEVICE};
    assert_int_equal(emb_app_fail(&error, EMB_IO, "file %d", 3), EMB_IO);
    assert_string_equal(error.message, "file 3");
    assert_int_equal(error.bytes_min, 0);
    assert_int_equal(error.region, EMB_REGION_HOST);
    assert_int_equal(emb_app_fail(NULL, EMB_IO, "file %d", 3), EMB_IO);
}

/* Characters of two, three and four bytes, at each place that the cut can go through. */
static void cut_between_characters(void **unused) {
    (void)unused;
    static const char *const characters[] = {"\xc3\xa9", "\xe6\x9d\xb1", "\xf0\x9f\x98\x80"};
    for (size_t c = 0; c < 3; c++) {
        size_t bytes = strlen(characters[c]);
        for (size_t before = 240; before < 260; before++) {
            char text[400] = "";
            emb_error error;
            memset(text, 'a', before);
            for (size_t at = before; at < 300; at += bytes) memcpy(text + at, characters[c], bytes);
            emb_app_fail(&error, EMB_IO, "%s", text);
            size_t length = strlen(error.message), most = sizeof error.message - 1;
            size_t whole = before >= most ? most : before + (most - before) / bytes * bytes;
            assert_int_equal(length, whole);
            assert_memory_equal(error.message, text, length);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_stale),
        cmocka_unit_test(cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
