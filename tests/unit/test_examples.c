/* test_examples.c - examples held in memory: what is read, files that change under the reader, and
 * the batches that are made of them.
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

#include "cli/batches.h"

enum { ROWS = 101, NAMES = 13 };

static char path[] = "/tmp/embound-examples-XXXXXX";
static const char *const paths[] = {path};
static unsigned char buffer[EMB_SOURCE_BYTES];

static void write_file(const char *bytes) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(bytes, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static emb_examples examples_of(emb_examples_kind kind, emb_source_format format) {
    return (emb_examples){.kind = kind,
                          .columns_option = "--columns",
                          .paths = paths,
                          .paths_count = 1,
                          .options = {.format = format},
                          .stop_descriptor = -1};
}

/* Looks the file through and takes the memory, which the caller frees. */
static void *inspect(emb_examples *examples) {
    emb_error error = {0};
    if (emb_examples_inspect(examples, buffer, &error) != EMB_OK) fail_msg("%s", error.message);
    return malloc(emb_examples_bytes(examples));
}

static void expect_text(const emb_examples *examples, uint32_t row, uint32_t which,
                        const char *wanted) {
    emb_text text = emb_examples_text(examples, row, which);
    assert_int_equal(text.length, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.length);
}

static void test_groups(void **state) {
    (void)state;
    emb_error error = {0};
    emb_examples examples = examples_of(EMB_EXAMPLES_GROUPS, EMB_SOURCE_CSV);
    write_file("negative_1,positive,anchor,id\nn,\"p, with\n\"\"lines\"\"\",a,1\n\nx,y,z\n");
    void *memory = inspect(&examples);
    assert_true(examples.count == 2 && examples.texts == 3 && examples.bytes == 20);
    assert_int_equal(emb_examples_read(&examples, memory, buffer, &error), EMB_OK);
    expect_text(&examples, 0, 0, "a");
    expect_text(&examples, 0, 1, "p, with\n\"lines\"");
    expect_text(&examples, 0, 2, "n");
    expect_text(&examples, 1, 0, "z");
    assert_null(examples.scores);
    free(memory);
}

static void test_scored(void **state) {
    (void)state;
    emb_error error = {0};
    emb_examples examples = examples_of(EMB_EXAMPLES_SCORED, EMB_SOURCE_JSONL);
    write_file("{\"score\":-2.5e1,\"sentence2\":\"b\\u00e9\\n\",\"x\":[{}],\"sentence1\":\"a\"}\n"
               "\n{\"sentence1\":\"c\",\"sentence2\":\"d\",\"score\":0.25}");
    void *memory = inspect(&examples);
    assert_int_equal(emb_examples_read(&examples, memory, buffer, &error), EMB_OK);
    assert_true(examples.count == 2 && examples.texts == 2);
    expect_text(&examples, 0, 0, "a");
    expect_text(&examples, 0, 1, "b\xC3\xA9\n");
    expect_text(&examples, 1, 1, "d");
    assert_true(examples.scores[0] == -25 && examples.scores[1] == 0.25f);
    free(memory);
}

/* Between the look and the reading: longer texts, more rows, fewer rows. */
static void test_changed(void **state) {
    (void)state;
    static const char *const files[][4] = {
        {"anchor,positive\na,b\nc,d\n", "anchor,positive\na,b\nc,dd\n",
         "anchor,positive\na,b\nc,d\ne,f\n", "anchor,positive\na,b\n"},
        {"{\"anchor\":\"a\",\"positive\":\"b\"}\n", "{\"anchor\":\"a\",\"positive\":\"bb\"}\n",
         "{\"anchor\":\"a\",\"positive\":\"b\"}\n{\"anchor\":\"a\",\"positive\":\"b\"}\n",
         "{\"anchor\":\"a\",\"positive\":\"b\",\"negative\":\"c\"}\n"}};
    static const emb_source_format formats[] = {EMB_SOURCE_CSV, EMB_SOURCE_JSONL};
    for (int f = 0; f < 2; f++) {
        for (int i = 1; i < 4; i++) {
            emb_error error = {0};
            emb_examples examples = examples_of(EMB_EXAMPLES_GROUPS, formats[f]);
            write_file(files[f][0]);
            void *memory = inspect(&examples);
            write_file(files[f][i]);
            assert_int_equal(emb_examples_read(&examples, memory, buffer, &error), EMB_BAD_FILE);
            assert_non_null(strstr(error.message, ": the file changed"));
            free(memory);
        }
    }
}

/* Lines are texts, whatever stands in them; a table has a column of that name, or a single one. */
static void test_texts(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *suffix;
        emb_source_format format;
    } files[] = {{"a,\"b\n\nc\td\n", ".txt", EMB_SOURCE_AUTO},
                 {"id,text\n1,\"a,\"\"b\"\n2,c\td\n", "", EMB_SOURCE_CSV},
                 {"any\n\"a,\"\"b\"\nc\td\n", "", EMB_SOURCE_CSV},
                 {"{\"text\":\"a,\\\"b\"}\n{\"text\":\"c\\td\"}\n", "", EMB_SOURCE_JSONL}};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        emb_error error = {0};
        char named[64];
        const char *list[] = {named};
        emb_examples examples = examples_of(EMB_EXAMPLES_TEXTS, files[f].format);
        snprintf(named, sizeof named, "%s%s", path, files[f].suffix);
        write_file(files[f].bytes);
        assert_int_equal(rename(path, named), 0);
        examples.paths = list;
        examples.texts_least = examples.texts_most = 1;
        void *memory = inspect(&examples);
        assert_int_equal(emb_examples_read(&examples, memory, buffer, &error), EMB_OK);
        assert_true(examples.count == 2 && examples.texts == 1);
        expect_text(&examples, 0, 0, "a,\"b");
        expect_text(&examples, 1, 0, "c\td");
        free(memory);
        unlink(named);
    }
}

/* A class is its label's text, in a string as well as in a cell or a number. */
static void test_labelled(void **state) {
    (void)state;
    static const char *const bytes[] = {
        "label,text\nx,a\n12,b\nx,c\n", "a,x\nb,12\nc,x\n",
        ("{\"text\":\"a\",\"label\":\"x\"}\n{\"label\":12,\"text\":\"b\"}\n"
         "{\"text\":\"c\",\"label\":\"x\"}\n")};
    uint64_t first = 0;
    for (int f = 0; f < 3; f++) {
        emb_error error = {0};
        emb_examples examples =
            examples_of(EMB_EXAMPLES_LABELLED, f == 2 ? EMB_SOURCE_JSONL : EMB_SOURCE_CSV);
        examples.options.no_header = f == 1;
        write_file(bytes[f]);
        void *memory = inspect(&examples);
        assert_int_equal(emb_examples_read(&examples, memory, buffer, &error), EMB_OK);
        assert_true(examples.count == 3 && examples.texts == 1 && !examples.scores);
        expect_text(&examples, 1, 0, "b");
        assert_true(examples.classes[0] == examples.classes[2]);
        assert_true(examples.classes[0] != examples.classes[1]);
        assert_true(f == 0 || examples.classes[0] == first);
        first = examples.classes[0];
        free(memory);
    }
    emb_error error = {0};
    emb_examples examples = examples_of(EMB_EXAMPLES_LABELLED, EMB_SOURCE_CSV);
    write_file("text,label\na,x\nb,\n");
    assert_int_equal(emb_examples_inspect(&examples, buffer, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "line 3: it has no label"));
}

/* ---- batches --------------------------------------------------------------------------------- */

/* ROWS examples, of which every NAMES-th has the same anchor. */
static void *open_rows(emb_examples *examples) {
    char bytes[ROWS * 32];
    size_t used = (size_t)snprintf(bytes, sizeof bytes, "anchor,positive\n");
    emb_error error = {0};
    for (int i = 0; i < ROWS; i++)
        used += (size_t)snprintf(bytes + used, sizeof bytes - used, "a%d,p%d\n", i % NAMES, i);
    write_file(bytes);
    *examples = examples_of(EMB_EXAMPLES_GROUPS, EMB_SOURCE_CSV);
    void *memory = inspect(examples);
    assert_int_equal(emb_examples_read(examples, memory, buffer, &error), EMB_OK);
    return memory;
}

/* Goes through an epoch: how often each row came, and the first row of each batch. */
static uint32_t go_through(emb_batches *b, uint32_t epoch, uint32_t *seen, uint32_t *firsts) {
    uint32_t batches = 0;
    memset(seen, 0, ROWS * sizeof *seen);
    emb_batches_begin(b, epoch);
    for (uint32_t count; (count = emb_batches_next(b)) && b->epoch == epoch; batches++) {
        bool names[NAMES] = {false};
        assert_true(count <= b->size && count >= b->least);
        firsts[batches] = b->rows[0];
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = b->rows[i];
            seen[row]++;
            assert_true(!b->no_duplicates || !names[row % NAMES]);
            names[row % NAMES] = true;
        }
    }
    assert_int_equal(b->epoch, epoch + 1);
    return batches;
}

static void test_batches(void **state) {
    (void)state;
    emb_examples examples;
    void *texts = open_rows(&examples);
    uint32_t seen[ROWS], firsts[ROWS], again[ROWS], other[ROWS];
    for (uint32_t size = 2; size <= 128; size *= 2) {
        for (int different = 0; different < 2; different++) {
            emb_batches b = {.examples = &examples,
                             .size = size,
                             .least = 2,
                             .seed = 3,
                             .shuffles = true,
                             .no_duplicates = different};
            void *memory = malloc(emb_batches_bytes(&b));
            emb_batches_bind(&b, memory);
            uint32_t count = go_through(&b, 4, seen, firsts), missing = 0;
            for (uint32_t i = 0; i < ROWS; i++) {
                assert_true(seen[i] <= 1);
                missing += !seen[i];
            }
            /* 101 is odd, and the one that is left over is no batch of two */
            assert_true(different ? missing <= NAMES : missing == (ROWS % size == 1));
            assert_true(different || count == emb_batches_per_epoch(&b));
            go_through(&b, 5, seen, other);
            assert_int_equal(go_through(&b, 4, seen, again), count);
            assert_memory_equal(again, firsts, count * sizeof *again);
            assert_true(size > 32 || memcmp(again, other, count * sizeof *again) != 0);
            free(memory);
        }
    }
    free(texts);
}

static void test_in_order(void **state) {
    (void)state;
    emb_examples examples;
    void *texts = open_rows(&examples);
    emb_batches b = {.examples = &examples, .size = 10, .least = 1};
    void *memory = malloc(emb_batches_bytes(&b));
    emb_batches_bind(&b, memory);
    emb_batches_begin(&b, 0);
    for (uint32_t row = 0; row < ROWS;) {
        uint32_t count = emb_batches_next(&b);
        for (uint32_t i = 0; i < count; i++) assert_int_equal(b.rows[i], row++);
    }
    assert_int_equal(emb_batches_next(&b), 10);
    assert_true(b.epoch == 1 && b.rows[0] == 0);
    free(memory);
    free(texts);
}

/* Of each label in a batch there are two at least, unless the whole file has one; every text comes
 * once an epoch. */
static void test_classes(void **state) {
    (void)state;
    emb_examples examples;
    void *texts = open_rows(&examples);
    uint64_t labels[ROWS];
    uint32_t seen[ROWS], firsts[ROWS], again[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) labels[i] = i < 5 ? 1000 + i : i * i % 7;
    for (uint32_t size = 4; size <= 64; size *= 2) {
        emb_classes classes = {.count = ROWS};
        emb_batches b = {.examples = &examples,
                         .size = size,
                         .least = 1,
                         .shuffles = size != 8,
                         .classes = &classes};
        void *memory = malloc(emb_batches_bytes(&b)), *more = malloc(emb_classes_bytes(&classes));
        emb_batches_bind(&b, memory);
        emb_classes_bind(&classes, more);
        emb_classes_sort(&classes, labels);
        assert_true(classes.classes == 9 && classes.pairs == 4);
        uint32_t count = go_through(&b, 2, seen, firsts);
        for (uint32_t i = 0; i < ROWS; i++) assert_int_equal(seen[i], 1);
        go_through(&b, 3, seen, again);
        assert_int_equal(go_through(&b, 2, seen, again), count);
        assert_memory_equal(again, firsts, count * sizeof *again);
        emb_batches_begin(&b, 2);
        for (uint32_t n = 0; n < count; n++) {
            uint32_t of[9] = {0}, taken = emb_batches_next(&b);
            for (uint32_t i = 0; i < taken; i++) of[classes.numbers[b.rows[i]]]++;
            for (uint32_t i = 0; i < taken; i++)
                assert_true(b.rows[i] < 5 || of[classes.numbers[b.rows[i]]] >= 2);
        }
        free(memory), free(more);
    }
    free(texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),   cmocka_unit_test(test_scored),
        cmocka_unit_test(test_changed),  cmocka_unit_test(test_batches),
        cmocka_unit_test(test_in_order), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_labelled), cmocka_unit_test(test_classes),
    };
    int descriptor = mkstemp(path);
    if (descriptor < 0) return 1;
    close(descriptor);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
