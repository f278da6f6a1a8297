/* test_layerwise.c - parameters that move on the way back end with the bits of those that wait for
 * all gradients, for every optimizer, with sums kept or not; in less memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "train/trainer.h"

enum { EXAMPLES = 4, TEXTS = 2 * EXAMPLES };
static const char *const words[] = {"a cat sleeps",    "a cat is asleep",    "rain in the north",
                                    "it rains there",  "bread and butter",   "butter on bread",
                                    "two trains left", "the trains departed"};
static const char *const models[] = {"tests/data/tiny-bert", "tests/data/tiny-mpnet"};

static const emb_train_options ways[] = {
    {.weight_decay = 0.1f},
    {.optimizer_bits = 8, .layer_decay = 0.8f},
    {.optimizer = EMB_OPTIMIZER_SGD},
    {.optimizer = EMB_OPTIMIZER_SGD, .momentum = 0.9f, .dropout = 0.1f, .attention_dropout = 0.1f},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static emb_train_options options_of(const emb_train_options *way, uint32_t layerwise) {
    emb_train_options options = *way;
    options.struct_bytes = sizeof options;
    options.batch_examples = EXAMPLES;
    options.example_texts = 2;
    options.threads = 2;
    options.max_length = 16;
    options.learning_rate = 1e-3f;
    options.layerwise = layerwise;
    options.steps = 10;
    return options;
}

static emb_trainer *open_trainer(const emb_model *model, const emb_train_options *options) {
    emb_trainer *trainer = NULL;
    emb_error error;
    if (emb_trainer_open(&trainer, model, options, &error) != EMB_OK) fail_msg("%s", error.message);
    return trainer;
}

static emb_status step(emb_train_step *out, emb_trainer *trainer, emb_error *error) {
    emb_text texts[TEXTS];
    for (uint32_t i = 0; i < TEXTS; i++)
        texts[i] = (emb_text){.data = words[i], .length = strlen(words[i])};
    return emb_trainer_step(out, trainer, texts, NULL, EXAMPLES, error);
}

/* In the smallest budget there is: what the process has held may still grow. */
static emb_trainer *open_least(const emb_model *model, emb_train_options *options) {
    emb_trainer *trainer = NULL;
    emb_error error = {.bytes_min = 1};
    emb_status status = EMB_BUDGET;
    while (status == EMB_BUDGET) {
        options->host_bytes_max = error.bytes_min;
        status = emb_trainer_open(&trainer, model, options, &error);
    }
    assert_int_equal(status, EMB_OK);
    assert_true(trainer->sizes.every < model->shape.layers);
    return trainer;
}

static void check(const emb_model *model, const emb_train_options *way, bool least) {
    emb_train_options options = options_of(way, 0);
    emb_error error = {0};
    emb_trainer *plain = open_trainer(model, &options);
    options.layerwise = 1;
    options.threads = 1;
    emb_trainer *parts = least ? open_least(model, &options) : open_trainer(model, &options);
    for (uint32_t n = 0; n < 3; n++) {
        emb_train_step a, b;
        assert_int_equal(step(&a, plain, &error), EMB_OK);
        assert_int_equal(step(&b, parts, &error), EMB_OK);
        assert_true(a.loss == b.loss && a.step == b.step && a.learning_rate == b.learning_rate);
        assert_true(fabs(a.gradient_norm - b.gradient_norm) <= 1e-5 * a.gradient_norm);
    }
    assert_memory_equal(plain->lane.values, parts->lane.values,
                        plain->params.values * sizeof(float));
    emb_optimizer_part one[EMB_OPTIMIZER_PARTS], other[EMB_OPTIMIZER_PARTS];
    emb_optimizer_list(one, &plain->optimizer);
    emb_optimizer_list(other, &parts->optimizer);
    for (uint32_t i = 0; i < EMB_OPTIMIZER_PARTS; i++)
        if (one[i].count) assert_memory_equal(one[i].bytes, other[i].bytes, one[i].count);
    emb_trainer_close(plain);
    emb_trainer_close(parts);
}

static void bits(void **state) {
    (void)state;
    for (uint32_t m = 0; m < 2; m++) {
        emb_model *model;
        emb_error error;
        assert_int_equal(emb_model_open(&model, models[m], &error), EMB_OK);
        for (uint32_t i = 0; i < WAYS; i++) {
            check(model, &ways[i], false);
            check(model, &ways[i], true);
        }
        emb_model_close(model);
    }
}

/* Words of any number of rows move block by block: with less room, more blocks. */
static void blocks(void **state) {
    emb_model *model;
    emb_error error;
    emb_train_step a, b;
    emb_train_options options = options_of(&ways[0], 0);
    (void)state;
    assert_int_equal(emb_model_open(&model, models[0], &error), EMB_OK);
    emb_trainer *plain = open_trainer(model, &options);
    options.layerwise = 1;
    emb_trainer *parts = open_trainer(model, &options);
    uint64_t least = (uint64_t)EMB_PARAM_BLOCK * model->shape.spec.hidden;
    assert_true(least < parts->layerwise.count);
    parts->layerwise.count = least + 40; /* as if there were no more */
    assert_int_equal(step(&a, plain, &error), EMB_OK);
    assert_int_equal(step(&b, parts, &error), EMB_OK);
    assert_memory_equal(plain->lane.values, parts->lane.values,
                        plain->params.values * sizeof(float));
    emb_trainer_close(plain);
    emb_trainer_close(parts);
    emb_model_close(model);
}

/* A parameter that is no number: later layers may have moved, and the message says so. */
static void not_finite(void **state) {
    emb_model *model;
    emb_error error = {0};
    emb_train_step out;
    emb_train_options options = options_of(&ways[0], 1);
    (void)state;
    assert_int_equal(emb_model_open(&model, models[0], &error), EMB_OK);
    emb_trainer *t = open_trainer(model, &options);
    uint64_t words_values = t->params.ranges[0].values;
    float *shadow = malloc(words_values * sizeof *shadow);
    emb_layer_params first = emb_params_layer(&t->params, t->lane.values, 0);
    memcpy(shadow, t->lane.values, words_values * sizeof *shadow);
    first.ffn_gain[0] = 1e38f; /* the sums overflow on the way back alone, or on the way there */
    assert_int_equal(step(&out, t, &error), EMB_NOT_FINITE);
    assert_memory_equal(shadow, t->lane.values, words_values * sizeof *shadow);
    assert_true(t->optimizer.step == 0);
    assert_int_equal(emb_trainer_store(t, "/tmp/embound_never_written", NULL, &error),
                     EMB_NOT_FINITE);
    free(shadow);
    emb_trainer_close(t);
    emb_model_close(model);
}

static void resumes(void **state) {
    char path[] = "/tmp/embound_layerwise_XXXXXX";
    int descriptor = mkstemp(path);
    emb_model *model;
    emb_error error = {0};
    emb_train_step a, b;
    emb_train_options options = options_of(&ways[0], 1);
    (void)state;
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(emb_model_open(&model, models[0], &error), EMB_OK);
    emb_trainer *whole = open_trainer(model, &options), *other = open_trainer(model, &options);
    assert_int_equal(step(&a, whole, &error), EMB_OK);
    assert_int_equal(emb_trainer_store(whole, path, NULL, &error), EMB_OK);
    assert_int_equal(emb_trainer_resume(NULL, other, path, &error), EMB_OK);
    assert_int_equal(step(&a, whole, &error), EMB_OK);
    assert_int_equal(step(&b, other, &error), EMB_OK);
    assert_true(a.step == 2 && b.step == 2);
    assert_memory_equal(whole->lane.values, other->lane.values,
                        whole->params.values * sizeof(float));
    emb_trainer_close(whole);
    emb_trainer_close(other);
    emb_model_close(model);
    unlink(path);
}

static void refuse(const emb_model *model, const emb_train_options *options, const char *why) {
    emb_trainer *none;
    emb_error error;
    assert_int_equal(emb_trainer_open(&none, model, options, &error), EMB_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, why));
}

static void refusals(void **state) {
    emb_model *model;
    emb_error error;
    emb_train_options options = options_of(&ways[0], 1);
    (void)state;
    assert_int_equal(emb_model_open(&model, models[0], &error), EMB_OK);
    options.clip_norm = 1;
    refuse(model, &options, "clip_norm of 0");
    options.clip_norm = 0;
    options.accumulate = 2;
    refuse(model, &options, "accumulate");
    options.accumulate = 0;
    options.lora.rank = 2;
    refuse(model, &options, "lora");
    options.lora.rank = 0;
    options.batch_examples = UINT32_MAX / 8;
    refuse(model, &options, "too many");
    emb_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits),    cmocka_unit_test(blocks),   cmocka_unit_test(not_finite),
        cmocka_unit_test(resumes), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
