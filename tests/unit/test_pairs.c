/* test_pairs.c - scored pairs whose table changes between the look through it and the reading.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "source/open.h"
#include "source/pairs.h"

#define PIECES 256

typedef struct reading {
    emb_status status;
    uint32_t texts;
    emb_error error;
} reading;

static char path[] = "/tmp/embound-pairs-XXXXXX";
static unsigned char buffer[EMB_SOURCE_BYTES];

static void write_table(const char *mode, const char *rows) {
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    assert_true(fputs(rows, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void inspect(emb_pairs *pairs, const emb_source_options *options) {
    emb_error error = {0};
    assert_int_equal(emb_pairs_inspect(pairs, path, NULL, options, buffer, &error), EMB_OK);
}

/* Reads to the end or to the first failure that ends a job. */
static reading read_all(emb_pairs *pairs, const emb_source_options *options, double *scores) {
    emb_piece pieces[PIECES];
    reading result = {0};
    result.status = emb_pairs_open(pairs, options, scores, -1, buffer, &result.error);
    for (uint32_t count = 1; result.status == EMB_OK && count > 0;) {
        result.status =
            pairs->source.ops->next(&pairs->source, pieces, PIECES, &count, &result.error);
        for (uint32_t i = 0; i < count && result.status == EMB_OK; i++) {
            result.texts += (pieces[i].flags & EMB_PIECE_LAST) != 0;
        }
    }
    emb_source_close(&pairs->source);
    return result;
}

static void test_unchanged(void **state) {
    (void)state;
    emb_source_options options = {.no_header = true};
    emb_pairs pairs;
    double scores[4] = {0, 0, 0, -7};
    write_table("w", "a\tb\tc\td\t1\tone\ttwo\n\na\tb\tc\td\t2\tthree\tfour");
    inspect(&pairs, &options);
    assert_int_equal(pairs.rows_max, 3); /* the blank line among them */
    reading got = read_all(&pairs, &options, scores);
    assert_int_equal(got.status, EMB_OK);
    assert_int_equal(got.texts, 4);
    assert_int_equal(pairs.pairs, 2);
    assert_true(scores[0] == 1 && scores[1] == 2 && scores[3] == -7);
}

static void test_grown(void **state) {
    (void)state;
    emb_source_options options = {.no_header = true};
    emb_pairs pairs;
    double scores[4] = {0, 0, -7, -7};
    write_table("w", "a\tb\tc\td\t1\tone\ttwo\na\tb\tc\td\t2\tthree\tfour\n");
    inspect(&pairs, &options);
    assert_int_equal(pairs.rows_max, 2);
    assert_int_equal(read_all(&pairs, &options, scores).status, EMB_OK);
    /* whole or half, a row too many gives neither a score nor a text */
    write_table("a", "a\tb\tc\td\t3\tfive\tsix");
    for (int again = 0; again < 2; again++) {
        reading got = read_all(&pairs, &options, scores);
        assert_int_equal(got.status, EMB_BAD_FILE);
        assert_non_null(strstr(got.error.message, "changed while it was read"));
        assert_true(got.texts <= 4);
        assert_true(scores[2] == -7 && scores[3] == -7);
    }
}

int main(void) {
    int descriptor = mkstemp(path);
    if (descriptor < 0) return 1;
    close(descriptor);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_grown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
