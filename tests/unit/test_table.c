/* test_table.c - cells in quotes whose lines look like rows: from a file, how much of one is given
 * before the reader knows that its quote is never closed.
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

#define PIECES 64
#define LINES  200000

typedef struct reading {
    emb_status status;
    uint64_t bytes; /* of all texts */
    uint32_t texts;
    emb_error error;
} reading;

static char path[] = "/tmp/embound-table-XXXXXX";
static _Alignas(64) unsigned char memory[EMB_SOURCE_BYTES];

/* A table of `head`, many lines, and `tail`. */
static void write_table(const char *head, const char *line, const char *tail) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(head, file) >= 0);
    for (int i = 0; i < LINES; i++) assert_true(fputs(line, file) >= 0);
    assert_true(fputs(tail, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Reads to the end, or to what ends a job; failed rows are texts, too. */
static reading read_all(void) {
    const emb_source_options options = {.format = EMB_SOURCE_CSV};
    const char *const paths[] = {path};
    emb_source source;
    emb_piece pieces[PIECES];
    reading result = {0};
    emb_error error = {0};
    assert_int_equal(emb_source_open(&source, &options, paths, 1, -1, memory, sizeof memory, &error), EMB_OK);
    for (uint32_t count = 1; count > 0;) {
        emb_status status = emb_source_read(&source, pieces, PIECES, &count, &error);
        for (uint32_t i = 0; i < count; i++) {
            result.texts += (pieces[i].flags & EMB_PIECE_LAST) != 0;
            result.bytes += pieces[i].length;
        }
        if (status == EMB_OK) continue;
        result.status = status;
        result.error = error;
        if (status != EMB_BAD_TEXT) break;
    }
    emb_source_close(&source);
    return result;
}

static void expect_given_up(const char *words) {
    reading got = read_all();
    assert_int_equal(got.status, EMB_BAD_FILE);
    assert_int_equal(got.texts, 1);
    assert_true(got.bytes <= EMB_SOURCE_BYTES);
    assert_non_null(strstr(got.error.message, "line 3 to line 2000"));
    assert_non_null(strstr(got.error.message, words));
}

static void test_never_closed(void **state) {
    (void)state;
    write_table("id,text\n1,one\n2,\"two\n", "7,some words of a text\n", "");
    expect_given_up("never closed");
}

static void test_another_opens(void **state) {
    (void)state;
    write_table("id,text\n1,one\n2,\"two\n", "7,some words of a text\n", "8,\"a, b\"\n9,c\n");
    expect_given_up("another one opens");
    /* an empty cell in quotes reads as a quote written twice, and says nothing */
    write_table("id,text\n1,one\n2,\"two\n", "7,\"\"\n", "8,\"\"\"a\"\" b\"\n9,c\n");
    expect_given_up("another one opens");
}

static void test_legal(void **state) {
    (void)state;
    const char line[] = "7,some words of a text\n", quotes[] = "\"\"8\"\",and \"\"such\"\"\n";
    write_table("id,text\n1,\"one\n", line, "\"\n2,two\n");
    reading got = read_all();
    assert_int_equal(got.status, EMB_OK);
    assert_int_equal(got.texts, 2);
    assert_int_equal(got.bytes, strlen("one\ntwo") + (sizeof line - 1) * LINES);
    write_table("id,text\n1,\"one\n", quotes, "\"\r\n2,two\n");
    got = read_all();
    assert_int_equal(got.status, EMB_OK);
    assert_int_equal(got.texts, 2);
    assert_int_equal(got.bytes, strlen("one\ntwo") + (sizeof quotes - 1 - 4) * LINES);
}

static void test_bad_end(void **state) {
    (void)state;
    write_table("id,text\n1,\"one\n", "7,some words of a text\n", "end\" more\n2,two\n");
    reading got = read_all(); /* that quote closes, badly: a failed row, and the next is read */
    assert_int_equal(got.status, EMB_BAD_TEXT);
    assert_int_equal(got.texts, 2);
    assert_non_null(strstr(got.error.message, "text after a closing quote"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_closed),
        cmocka_unit_test(test_another_opens),
        cmocka_unit_test(test_legal),
        cmocka_unit_test(test_bad_end),
    };
    int file = mkstemp(path);
    if (file < 0) return 1;
    close(file);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
