/* test_trainer.c - the trainer's public calls: gradients of a batch in tiles of any size, vectors
 * with the parameters at hand, counters, and what is refused.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/run.h"
#include "train/trainer.h"

enum { EXAMPLES = 24, COLUMNS = 3, TEXTS = EXAMPLES * COLUMNS, TEXT_BYTES = 400 };

static const char *const models[] = {"tests/data/tiny-bert", "tests/data/tiny-mpnet"};
static const char *const words[] = {"river", "stone", "moon",  "the", "bounded", "memory",
                                    "walks", "slow",  "light", "a",   "42",      "plan"};

static char bytes[TEXTS][TEXT_BYTES];
static emb_text texts[TEXTS];

/* Of 1 to 40 words each. */
static void make_texts(void) {
    uint32_t state = 7;
    for (uint32_t t = 0; t < TEXTS; t++) {
        size_t used = 0;
        uint32_t count = 1 + t * t % 40;
        for (uint32_t w = 0; w < count; w++) {
            state = state * 1664525u + 1013904223u;
            used += (size_t)snprintf(bytes[t] + used, TEXT_BYTES - used, "%s%s", w ? " " : "",
                                     words[(state >> 16) % (sizeof words / sizeof words[0])]);
        }
        texts[t] = (emb_text){.data = bytes[t], .length = used};
    }
}

static emb_train_options usual_options(void) {
    return (emb_train_options){
        .struct_bytes = sizeof(emb_train_options),
        .batch_examples = EXAMPLES,
        .example_texts = COLUMNS,
        .threads = 2,
        .learning_rate = 1e-3f,
        .clip_norm = 1,
        .steps = 10,
    };
}

static emb_model *open_model(const char *path) {
    emb_model *model = NULL;
    emb_error error;
    assert_int_equal(emb_model_open(&model, path, &error), EMB_OK);
    return model;
}

static emb_trainer *open_trainer(const emb_model *model, const emb_train_options *options) {
    emb_trainer *trainer = NULL;
    emb_error error;
    if (emb_trainer_open(&trainer, model, options, &error) != EMB_OK) fail_msg("%s", error.message);
    return trainer;
}

static emb_train_step step(emb_trainer *trainer) {
    emb_train_step out;
    emb_error error;
    if (emb_trainer_step(&out, trainer, texts, NULL, EXAMPLES, &error) != EMB_OK)
        fail_msg("%s", error.message);
    return out;
}

/* With the tiles of `all`, which keeps everything: what a budget does not keep is computed again,
 * with the same bits. */
static void check_budgets(const emb_train_options *given, const emb_trainer *all, double loss) {
    static const uint32_t spare[] = {8u << 10, 128u << 10, 512u << 10,
                                     1u << 20, 2u << 20,   4u << 20};
    uint32_t shared = 0, insides = 0;
    for (uint32_t i = 0; i < sizeof spare / sizeof *spare; i++) {
        emb_train_options options = *given;
        emb_train_plan plan;
        emb_error error;
        emb_trainer *trainer;
        options.host_bytes_max = 1;
        assert_int_equal(emb_trainer_open(&trainer, all->model, &options, &error), EMB_BUDGET);
        options.host_bytes_max = error.bytes_min + spare[i];
        emb_status status = emb_trainer_open(&trainer, all->model, &options, &error);
        if (status == EMB_BUDGET && i == 0) continue; /* the process grew by a few pages */
        assert_int_equal(status, EMB_OK);
        emb_trainer_plan(&plan, trainer);
        assert_true(plan.host_bytes <= options.host_bytes_max && plan.tiles == all->plan.tiles);
        assert_true(plan.tiles_kept >= 1 && plan.tiles_kept <= plan.tiles);
        shared += plan.tiles_kept < plan.tiles;
        insides += plan.attention_kept + plan.ffn_kept > 0;
        assert_true(step(trainer).loss == loss);
        assert_memory_equal(trainer->lane.gradients, all->lane.gradients,
                            all->params.values * sizeof(float));
        emb_trainer_close(trainer);
    }
    assert_true(shared >= 2 && insides >= 2);
}

/* Whether several tiles give the gradients of one. */
static void check_tiles(const char *path, float dropout) {
    emb_model *model = open_model(path);
    emb_train_options options = usual_options();
    options.dropout = options.attention_dropout = dropout;
    options.tokens_per_tile = 1u << 16;
    emb_trainer *whole = open_trainer(model, &options);
    options.tokens_per_tile = 1; /* becomes the longest text's */
    emb_trainer *parts = open_trainer(model, &options);
    emb_train_plan large, small;
    emb_trainer_plan(&large, whole);
    emb_trainer_plan(&small, parts);
    assert_true(large.tokens_per_tile > 8 * small.tokens_per_tile);
    emb_train_step a = step(whole), b = step(parts);
    double highest = 0, furthest = 0;
    assert_true(a.tokens == b.tokens && fabs(a.loss - b.loss) <= 1e-5 * a.loss);
    assert_true(a.tokens > 8 * small.tokens_per_tile);
    for (uint64_t i = 0; i < whole->params.values; i++) {
        double one = whole->lane.gradients[i], other = parts->lane.gradients[i];
        highest = fmax(highest, fabs(one));
        furthest = fmax(furthest, fabs(one - other));
    }
    assert_true(highest > 0 && furthest <= 1e-5 * highest);
    emb_trainer_close(whole);
    check_budgets(&options, parts, b.loss);
    emb_trainer_close(parts);
    emb_model_close(model);
}

static void test_tiles(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        check_tiles(models[i], 0);
        check_tiles(models[i], 0.1f);
    }
}

static double cosine(const float *a, const float *b, uint32_t count) {
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < count; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* Before any step they are the model's vectors; afterwards no longer, and dropout is not in them.
 */
static void test_encode(void **state) {
    (void)state;
    for (uint32_t m = 0; m < 2; m++) {
        emb_limits limits = emb_limits_default();
        run_text sent[TEXTS];
        run_row rows[TEXTS];
        run engine;
        emb_error error;
        const float *vectors;
        limits.long_rule = EMB_LONG_TRUNCATE;
        assert_int_equal(run_open(&engine, models[m], &limits, NULL, &error), EMB_OK);
        uint32_t dim = engine.plan.dim;
        float *values = malloc((size_t)TEXTS * dim * sizeof *values);
        float *kept = malloc((size_t)TEXTS * dim * sizeof *kept);
        for (uint32_t t = 0; t < TEXTS; t++) sent[t] = (run_text){texts[t].data, texts[t].length};
        assert_int_equal(run_texts(&engine, sent, TEXTS, 0, rows, values, &error), EMB_OK);
        emb_train_options options = usual_options();
        options.dropout = options.attention_dropout = 0.5f;
        emb_trainer *trainer = open_trainer(engine.model, &options);
        assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, TEXTS, &error), EMB_OK);
        for (uint32_t t = 0; t < TEXTS; t++)
            assert_true(cosine(vectors + (size_t)t * dim, values + (size_t)t * dim, dim) >
                        0.999999);
        step(trainer);
        step(trainer);
        assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, TEXTS, &error), EMB_OK);
        memcpy(kept, vectors, (size_t)TEXTS * dim * sizeof *kept);
        assert_true(cosine(kept, values, dim) < 0.99999);
        assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, TEXTS, &error), EMB_OK);
        assert_memory_equal(kept, vectors, (size_t)TEXTS * dim * sizeof *kept);
        emb_trainer_close(trainer);
        run_close(&engine);
        free(values), free(kept);
    }
}

static void test_counters(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options();
    emb_train_plan plain, more;
    emb_train_stats stats;
    emb_trainer *trainer = open_trainer(model, &options);
    emb_trainer_plan(&plain, trainer);
    uint64_t tokens = step(trainer).tokens + step(trainer).tokens;
    emb_trainer_stats(&stats, trainer);
    assert_true(stats.steps == 2 && stats.examples == 2 * EXAMPLES && stats.tokens == tokens);
    assert_true(stats.host_bytes_planned == plain.host_bytes && stats.seconds > 0);
    assert_true(stats.host_bytes_now > 0 && stats.host_bytes_peak >= stats.host_bytes_now);
    emb_trainer_close(trainer);
    options.caller_bytes = 5u << 20;
    trainer = open_trainer(model, &options);
    emb_trainer_plan(&more, trainer);
    assert_string_equal(more.region.items[1].name, "caller's buffers");
    assert_true(more.region.items[1].bytes == options.caller_bytes);
    assert_true(more.region.bytes == more.host_bytes && more.host_bytes > plain.host_bytes);
    emb_trainer_close(trainer);
    emb_model_close(model);
}

/* A second directory of one trainer is as whole as the first: it opens as a model. */
static void test_saves(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options();
    emb_trainer *trainer = open_trainer(model, &options);
    char folder[] = "/tmp/embound-trainer-XXXXXX", place[64];
    emb_error error = {0};
    assert_non_null(mkdtemp(folder));
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(place, sizeof place, "%s/%u", folder, i);
        assert_int_equal(emb_trainer_save(trainer, place, 0, &error), EMB_OK);
        emb_model_close(open_model(place));
    }
    emb_tree_remove(folder);
    emb_trainer_close(trainer);
    emb_model_close(model);
}

static void test_refusals(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options();
    emb_trainer *trainer = open_trainer(model, &options), *none;
    emb_error error = {0};
    emb_train_step out;
    const float *vectors;
    assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, TEXTS + 1, &error),
                     EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, 0, &error), EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_trainer_step(&out, trainer, texts, NULL, EXAMPLES + 1, &error),
                     EMB_INVALID_ARGUMENT);
    char folder[] = "/tmp/embound-trainer-XXXXXX", place[64];
    struct stat about;
    assert_non_null(mkdtemp(folder));
    snprintf(place, sizeof place, "%s/out", folder);
    assert_int_equal(emb_trainer_try_save(trainer, place, 0, &error), EMB_OK);
    assert_true(stat(place, &about) != 0 && rmdir(folder) == 0); /* nothing was left */
    assert_int_equal(emb_trainer_try_save(trainer, place, 0, &error), EMB_IO);
    assert_int_equal(emb_trainer_try_save(trainer, models[0], 1, &error), EMB_INVALID_ARGUMENT);
    emb_trainer_close(trainer);
    options.host_bytes_max = 1u << 20;
    assert_int_equal(emb_trainer_open(&none, model, &options, &error), EMB_BUDGET);
    assert_true(error.bytes_min > options.host_bytes_max && error.region == EMB_REGION_HOST);
    emb_model_close(model);
}

/* Two calls of half a batch are one step of the whole; each has dropout of its own. */
static void test_accumulate(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options();
    emb_train_step whole, part;
    emb_train_stats stats;
    emb_error error;
    options.loss = (emb_train_loss){.kind = EMB_LOSS_TRIPLET};
    emb_trainer *one = open_trainer(model, &options);
    options.accumulate = 2;
    emb_trainer *two = open_trainer(model, &options);
    for (int round = 0; round < 2; round++) {
        whole = step(one);
        for (uint32_t half = 0; half < 2; half++) {
            assert_int_equal(
                emb_trainer_step(&part, two, texts + half * TEXTS / 2, NULL, EXAMPLES / 2, &error),
                EMB_OK);
            assert_true(part.updated == half && part.step == whole.step);
        }
        assert_true(whole.updated == 1 && part.learning_rate == whole.learning_rate);
        assert_true(fabs(part.gradient_norm - whole.gradient_norm) < 1e-4 * whole.gradient_norm);
    }
    emb_trainer_stats(&stats, two);
    assert_true(stats.steps == 2 && stats.examples == 2 * EXAMPLES);
    emb_trainer_close(one);
    emb_trainer_close(two);
    options.dropout = 0.1f;
    two = open_trainer(model, &options);
    double first = step(two).loss;
    assert_true(step(two).loss != first);
    emb_trainer_close(two);
    emb_model_close(model);
}

/* What has gone beyond all bounds is not written over what is good. */
static void test_not_finite(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options();
    char folder[] = "/tmp/embound-trainer-XXXXXX", place[64], model_place[64];
    emb_train_step out = {.updated = 0};
    emb_error error = {0};
    struct stat about;
    assert_non_null(mkdtemp(folder));
    snprintf(place, sizeof place, "%s/state", folder);
    snprintf(model_place, sizeof model_place, "%s/out", folder);
    options.schedule = EMB_SCHEDULE_CONSTANT;
    options.learning_rate = 1e38f;
    emb_trainer *trainer = open_trainer(model, &options);
    assert_int_equal(emb_trainer_store(trainer, place, NULL, &error), EMB_OK);
    emb_status status = EMB_OK;
    for (int i = 0; i < 5 && status == EMB_OK; i++)
        status = emb_trainer_step(&out, trainer, texts, NULL, EXAMPLES, &error);
    assert_int_equal(status, EMB_NOT_FINITE);
    assert_non_null(strstr(error.message, "step 2: "));
    assert_int_equal(emb_trainer_store(trainer, place, NULL, &error), EMB_NOT_FINITE);
    assert_int_equal(emb_trainer_save(trainer, model_place, 0, &error), EMB_NOT_FINITE);
    assert_non_null(strstr(error.message, "learning rate"));
    assert_true(stat(model_place, &about) != 0);
    assert_int_equal(emb_trainer_resume(NULL, trainer, place, &error), EMB_OK);
    assert_int_equal(emb_trainer_save(trainer, model_place, 0, &error), EMB_OK);
    emb_trainer_close(trainer);
    emb_model_close(model);
    unlink(place);
    emb_tree_remove(folder);
}

static void refuse(const emb_model *model, const emb_train_options *options, const char *word) {
    emb_trainer *none = NULL;
    emb_error error = {0};
    assert_int_equal(emb_trainer_open(&none, model, options, &error), EMB_INVALID_ARGUMENT);
    if (none || !strstr(error.message, word)) fail_msg("%s: %s", word, error.message);
}

/* Losses that their options or targets do not fit. */
static void test_losses_refused(void **state) {
    (void)state;
    emb_model *model = open_model(models[0]);
    emb_train_options options = usual_options(), bad;
    const emb_train_loss losses[] = {{.kind = EMB_LOSS_DISTILL},
                                     {.kind = (emb_loss_kind)6},
                                     {.margin = -1},
                                     {.distance = (emb_distance)2},
                                     {.widths_count = 9},
                                     {.widths_count = 1, .widths = {0}},
                                     {.widths_count = 1, .widths = {4000}}};
    const char *const said[] = {"teacher_width", "number 6", "margin",    "distance",
                                "9 Matryoshka",  "width 0",  "width 4000"};
    for (uint32_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        bad = options;
        bad.loss = losses[i];
        refuse(model, &bad, said[i]);
    }
    const uint32_t counts[] = {1, 3, 1, 2, 2, 0}; /* of each loss, not its number of texts */
    for (uint32_t kind = 0; kind < 6; kind++) {
        bad = options;
        bad.loss = (emb_train_loss){.kind = (emb_loss_kind)kind, .teacher_width = 8};
        bad.example_texts = counts[kind];
        refuse(model, &bad, kind < 5 ? "example_texts" : "one text");
    }
    options.loss = (emb_train_loss){.kind = EMB_LOSS_DISTILL, .teacher_width = 2};
    emb_trainer *trainer = open_trainer(model, &options);
    float teacher[TEXTS * 2];
    emb_train_step out;
    emb_error error;
    for (uint32_t i = 0; i < TEXTS * 2; i++) teacher[i] = (float)(i % 7) + 1;
    assert_int_equal(emb_trainer_step(&out, trainer, texts, NULL, EXAMPLES, &error),
                     EMB_INVALID_ARGUMENT);
    assert_int_equal(emb_trainer_step(&out, trainer, texts, teacher, EXAMPLES, &error), EMB_OK);
    teacher[TEXTS * 2 - 1] = NAN;
    assert_int_equal(emb_trainer_step(&out, trainer, texts, teacher, EXAMPLES, &error),
                     EMB_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "of example 23 is not finite"));
    emb_trainer_close(trainer);
    emb_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),          cmocka_unit_test(test_encode),
        cmocka_unit_test(test_counters),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_accumulate),     cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_losses_refused), cmocka_unit_test(test_saves),
    };
    make_texts();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
