/* test_checkpoint.c - a training that was stored and resumed ends with the bits of one that was
 * not; files that are no good are refused, and change nothing.
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

#include "embound_train.h"

enum { EXAMPLES = 4 };
static const char *const words[] = {"a cat sleeps",    "a cat is asleep",    "rain in the north",
                                    "it rains there",  "bread and butter",   "butter on bread",
                                    "two trains left", "the trains departed"};

static emb_trainer *open_trainer(emb_model **model, const char *path, uint32_t bits,
                                 uint32_t threads) {
    emb_error error = {0};
    emb_trainer *trainer;
    const emb_train_options options = {.struct_bytes = sizeof options,
                                       .batch_examples = EXAMPLES,
                                       .example_texts = 2,
                                       .threads = threads,
                                       .seed = 11,
                                       .dropout = 0.1f,
                                       .attention_dropout = 0.1f,
                                       .learning_rate = 1e-3f,
                                       .optimizer_bits = bits,
                                       .steps = 10};
    assert_int_equal(emb_model_open(model, path, &error), EMB_OK);
    assert_int_equal(emb_trainer_open(&trainer, *model, &options, &error), EMB_OK);
    return trainer;
}

/* Gives the last step's loss. */
static double train(emb_trainer *trainer, uint32_t steps) {
    emb_text texts[2 * EXAMPLES];
    emb_train_step step = {0};
    emb_error error = {0};
    for (uint32_t i = 0; i < 2 * EXAMPLES; i++)
        texts[i] = (emb_text){.data = words[i], .length = strlen(words[i])};
    for (uint32_t n = 0; n < steps; n++)
        assert_int_equal(emb_trainer_step(&step, trainer, texts, NULL, EXAMPLES, &error), EMB_OK);
    return step.loss;
}

static void resumes(void **state) {
    char path[] = "/tmp/embound_checkpoint_XXXXXX";
    int descriptor = mkstemp(path);
    (void)state;
    assert_true(descriptor >= 0);
    close(descriptor);
    for (uint32_t bits = 8; bits <= 32; bits += 24) {
        emb_model *models[2];
        emb_error error = {0};
        emb_trainer *whole = open_trainer(&models[0], "tests/data/tiny-bert", bits, 2);
        emb_trainer *other = open_trainer(&models[1], "tests/data/tiny-bert", bits, 1);
        emb_train_mark mark = {{3, 1, 4}, {1.5}}, found;
        train(whole, 3);
        assert_int_equal(emb_trainer_store(whole, path, &mark, &error), EMB_OK);
        double loss = train(whole, 4);
        assert_int_equal(emb_trainer_resume(&found, other, path, &error), EMB_OK);
        assert_memory_equal(&found, &mark, sizeof mark);
        assert_true(train(other, 4) == loss); /* of parameters after all steps but the last */
        emb_trainer_close(whole);
        emb_trainer_close(other);
        emb_model_close(models[0]);
        emb_model_close(models[1]);
    }
    unlink(path);
}

static void change(const char *path, long place, int cut) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, place, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, place, SEEK_SET), 0);
    fputc(byte ^ 64, file);
    fclose(file);
    if (cut) assert_int_equal(truncate(path, place), 0);
}

static void refuse(emb_trainer *trainer, const char *path, emb_status status, const char *why) {
    emb_error error = {0};
    assert_int_equal(emb_trainer_resume(NULL, trainer, path, &error), status);
    assert_non_null(strstr(error.message, why));
}

static void refuses(void **state) {
    char path[] = "/tmp/embound_checkpoint_XXXXXX";
    int descriptor = mkstemp(path);
    emb_model *models[4];
    emb_error error = {0};
    (void)state;
    assert_true(descriptor >= 0);
    close(descriptor);
    emb_trainer *bert = open_trainer(&models[0], "tests/data/tiny-bert", 32, 1);
    emb_trainer *mpnet = open_trainer(&models[1], "tests/data/tiny-mpnet", 32, 1);
    emb_trainer *eight = open_trainer(&models[2], "tests/data/tiny-bert", 8, 1);
    refuse(bert, path, EMB_BAD_FILE, "no checkpoint");
    refuse(bert, "/tmp/embound-is-not-here", EMB_NOT_FOUND, "embound-is-not-here");
    train(bert, 1);
    assert_int_equal(emb_trainer_store(bert, path, NULL, &error), EMB_OK);
    refuse(mpnet, path, EMB_BAD_FILE, "another shape");
    refuse(eight, path, EMB_INVALID_ARGUMENT, "32 bits");
    change(path, 40000, 0);
    refuse(bert, path, EMB_BAD_FILE, "damaged");
    change(path, 40000, 1);
    refuse(bert, path, EMB_BAD_FILE, "cut");
    change(path, 24, 0);
    refuse(bert, path, EMB_BAD_FILE, "header is damaged");
    emb_trainer *same = open_trainer(&models[3], "tests/data/tiny-bert", 32, 1);
    assert_true(train(bert, 1) == train(same, 2)); /* it goes on as if nothing had been */
    emb_trainer_close(same);
    assert_int_equal(emb_trainer_store(bert, "/tmp/no/such/folder/file", NULL, &error), EMB_IO);
    emb_trainer_close(bert);
    emb_trainer_close(mpnet);
    emb_trainer_close(eight);
    for (uint32_t i = 0; i < 4; i++) emb_model_close(models[i]);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(resumes), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
