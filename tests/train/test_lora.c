/* test_lora.c - adapters: their gradients against differences of the loss, over f32 and quantized
 * models; what is trained and what stays; the model written with them; checkpoints; memory.
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
#include <unistd.h>

#include <cmocka.h>

#include "embound_experimental.h"
#include "package/directory.h"
#include "train/cpu/random.h"
#include "train/stored.h"
#include "train/trainer.h"

enum { EXAMPLES = 4, TEXTS = 2 * EXAMPLES, CHUNKS = 4, TOKENS = 60 };
static const char *const words[] = {"a cat sleeps",    "a cat is asleep",    "rain in the north",
                                    "it rains there",  "bread and butter",   "butter on bread",
                                    "two trains left", "the trains departed"};
static char folder[] = "/tmp/embound-lora-XXXXXX";

/* Every tiny model as it is and in each quantized dtype. */
static const char *const bases[] = {"tests/data/tiny-bert", "tests/data/tiny-mpnet"};
static const emb_dtype dtypes[] = {EMB_DTYPE_F32, EMB_DTYPE_INT8, EMB_DTYPE_INT4, EMB_DTYPE_FP8};
enum { BASES = 2, DTYPES = 4 };
static char paths[BASES * DTYPES][96];

static emb_model *open_model(const char *path) {
    emb_model *model = NULL;
    emb_error error;
    if (emb_model_open(&model, path, &error) != EMB_OK) fail_msg("%s", error.message);
    return model;
}

static emb_train_options usual(uint32_t targets) {
    return (emb_train_options){
        .struct_bytes = sizeof(emb_train_options),
        .batch_examples = EXAMPLES,
        .example_texts = 2,
        .threads = 2,
        .seed = 3,
        .learning_rate = 1e-2f,
        .schedule = EMB_SCHEDULE_CONSTANT,
        .lora = {.rank = 4, .targets = targets, .alpha = 6},
    };
}

static emb_trainer *open_trainer(const emb_model *model, const emb_train_options *options) {
    emb_trainer *trainer = NULL;
    emb_error error;
    if (emb_trainer_open(&trainer, model, options, &error) != EMB_OK) fail_msg("%s", error.message);
    return trainer;
}

/* Gives the last step's loss. */
static double train(emb_trainer *trainer, uint32_t steps) {
    emb_text texts[TEXTS];
    emb_train_step step = {0};
    emb_error error = {0};
    for (uint32_t i = 0; i < TEXTS; i++)
        texts[i] = (emb_text){.data = words[i], .length = strlen(words[i])};
    for (uint32_t n = 0; n < steps; n++)
        assert_int_equal(emb_trainer_step(&step, trainer, texts, NULL, EXAMPLES, &error), EMB_OK);
    return step.loss;
}

static const float *encode(emb_trainer *trainer) {
    emb_text texts[TEXTS];
    const float *vectors;
    emb_error error;
    for (uint32_t i = 0; i < TEXTS; i++)
        texts[i] = (emb_text){.data = words[i], .length = strlen(words[i])};
    assert_int_equal(emb_trainer_encode(&vectors, trainer, texts, TEXTS, &error), EMB_OK);
    return vectors;
}

static float random_value(uint64_t place) {
    return (float)emb_random_bits(emb_hash_mix(7, place), 0) * (2.0f / 4294967296.0f) - 1.0f;
}

/* ---- gradients ------------------------------------------------------------------------------- */

typedef struct pass {
    emb_trainer *trainer;
    uint32_t ids[TOKENS];
    float *vectors, *d_vectors; /* [CHUNKS, hidden] */
    uint64_t width;
} pass;

/* The sum of vectors times d_vectors, and with `back` its gradient. */
static double run(pass *p, bool back) {
    static const uint32_t starts[CHUNKS + 1] = {0, 7, 10, 30, TOKENS};
    static const uint32_t targets[CHUNKS] = {0, 1, 2, 3};
    emb_train_lane *lane = &p->trainer->lane;
    emb_tile tile = {.tokens = TOKENS, .chunks = CHUNKS, .ids = p->ids, .starts = starts};
    double sum = 0;
    emb_train_lane_refresh(lane);
    emb_train_forward(lane, p->vectors, targets, &tile);
    for (uint64_t i = 0; i < p->width; i++) sum += (double)p->vectors[i] * p->d_vectors[i];
    if (!back) return sum;
    memset(lane->gradients, 0, p->trainer->lora.trained.values * sizeof(float));
    emb_train_backward(lane, p->d_vectors, targets, &tile);
    return sum;
}

/* The loss changes along the gradient as much as the gradient is long. */
static void check_differences(const char *path, uint32_t targets) {
    const double step = 2e-3;
    emb_model *model = open_model(path);
    emb_train_options options = usual(targets);
    pass p = {.trainer = open_trainer(model, &options)};
    const emb_params *trained = &p.trainer->lora.trained;
    float *values = p.trainer->lane.values, *gradient = malloc(trained->values * sizeof(float));
    p.width = (uint64_t)CHUNKS * model->shape.spec.hidden;
    p.vectors = malloc(p.width * sizeof(float));
    p.d_vectors = malloc(p.width * sizeof(float));
    for (uint64_t i = 0; i < p.width; i++) p.d_vectors[i] = random_value(i);
    for (uint32_t i = 0; i < TOKENS; i++)
        p.ids[i] = 5 + emb_random_bits(3, i) % (model->shape.vocabulary - 5);
    for (uint32_t i = 1; i < trained->count; i += 2) /* B is not 0 as in the beginning */
        for (uint64_t k = 0; k < (uint64_t)trained->tensors[i].rows * 4; k++)
            values[trained->tensors[i].first + k] = 0.05f * random_value(1000 + k);
    run(&p, true);
    double length = 0;
    memcpy(gradient, p.trainer->lane.gradients, trained->values * sizeof(float));
    for (uint64_t i = 0; i < trained->values; i++) length += pow(gradient[i], 2);
    length = sqrt(length);
    for (uint64_t i = 0; i < trained->values; i++)
        values[i] += (float)(step * gradient[i] / length);
    double above = run(&p, false);
    for (uint64_t i = 0; i < trained->values; i++)
        values[i] -= (float)(2 * step * gradient[i] / length);
    double below = run(&p, false), slope = (above - below) / (2 * step);
    if (!(fabs(slope - length) < 1e-2 * length))
        fail_msg("%s, targets %u: %g along a gradient of %g", path, targets, slope, length);
    free(p.vectors), free(p.d_vectors), free(gradient);
    emb_trainer_close(p.trainer);
    emb_model_close(model);
}

static void differences(void **state) {
    static const uint32_t sets[] = {0, EMB_LORA_ALL, EMB_LORA_KEY | EMB_LORA_FFN_IN,
                                    EMB_LORA_ATTENTION_OUT, EMB_LORA_FFN_OUT};
    (void)state;
    for (uint32_t i = 0; i < BASES * DTYPES; i++)
        for (uint32_t k = 0; k < sizeof sets / sizeof sets[0]; k++)
            check_differences(paths[i], sets[k]);
}

/* ---- the frozen model ------------------------------------------------------------------------ */

/* What is kept in the files' dtypes is what reading as f32 gives, to the bit. */
static void stored(void **state) {
    (void)state;
    for (uint32_t i = 0; i < BASES * DTYPES; i++) {
        emb_model *model = open_model(paths[i]);
        emb_train_options options = usual(0);
        emb_trainer *t = open_trainer(model, &options);
        bool f32 = emb_model_stored_dtype(model->files) == EMB_DTYPE_F32;
        assert_true((t->lora.base.stored > 0) != f32);
        for (uint32_t k = 0; k < t->lora.base.count; k++) {
            const emb_param *p = &t->lora.base.tensors[k];
            float row[1024], wanted[1024];
            emb_error error;
            for (uint32_t r = 0; r < p->rows && p->dtype != EMB_DTYPE_F32; r += 7) {
                emb_stored_row(row, &t->lora.base, t->lora.stored, p, r, t->lora.codes);
                assert_int_equal(emb_model_read_rows(model->files, p->role, p->layer, r, 1, wanted,
                                                     t->scratch, &error),
                                 EMB_OK);
                assert_memory_equal(row, wanted, p->cols * sizeof *row);
            }
        }
        emb_trainer_close(t);
        emb_model_close(model);
    }
}

static uint64_t item(const emb_trainer *trainer, const char *name) {
    emb_train_plan plan;
    emb_trainer_plan(&plan, trainer);
    for (uint32_t i = 0; i < plan.region.items_count; i++)
        if (!strcmp(plan.region.items[i].name, name)) return plan.region.items[i].bytes;
    return 0;
}

/* Gradients and moments are the adapters', the model takes no more than its files. */
static void memory(void **state) {
    (void)state;
    for (uint32_t i = 0; i < BASES * DTYPES; i++) {
        emb_model *model = open_model(paths[i]);
        emb_train_options options = usual(0);
        emb_trainer *t = open_trainer(model, &options);
        uint64_t values = t->lora.trained.values, tables = 64 * 1024;
        uint64_t between = 1024; /* buffers, in a build with a sanitizer */
        assert_true(values < model->info.parameters / 8);
        assert_in_range(item(t, "optimizer"), 2 * values * sizeof(float),
                        2 * values * sizeof(float) + between);
        assert_in_range(item(t, "gradients"), values * sizeof(float),
                        values * sizeof(float) + between);
        assert_true(item(t, "adapters") < values * sizeof(float) + tables);
        assert_true(item(t, "parameters") < model->info.file_bytes + tables);
        emb_trainer_close(t);
        emb_model_close(model);
    }
}

/* ---- training -------------------------------------------------------------------------------- */

/* The loss falls, the model stays, and the model written with the adapters gives the vectors that
 * they gave. */
static void check_training(const char *path) {
    emb_error error;
    char place[128];
    emb_model *model = open_model(path);
    emb_train_options options = usual(EMB_LORA_ALL);
    emb_trainer *t = open_trainer(model, &options), *fresh = open_trainer(model, &options);
    double first = train(t, 1), last = train(t, 40);
    assert_true(last < 0.5 * first);
    assert_memory_equal(t->lora.values, fresh->lora.values, t->lora.base.values * sizeof(float));
    assert_memory_equal(t->lora.stored, fresh->lora.stored, t->lora.base.stored);
    emb_trainer_close(fresh);
    snprintf(place, sizeof place, "%s/merged", folder);
    if (emb_trainer_save(t, place, 0, &error) != EMB_OK) fail_msg("%s", error.message);
    emb_model *merged = open_model(place);
    assert_int_equal(merged->info.stored_dtype, EMB_DTYPE_F32);
    options.lora = (emb_train_lora){0};
    emb_trainer *whole = open_trainer(merged, &options);
    const float *a = encode(t), *b = encode(whole);
    for (uint32_t i = 0; i < TEXTS * model->shape.spec.hidden; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-5f);
    assert_int_equal(emb_trainer_save_adapter(whole, folder, 0, &error), EMB_INVALID_ARGUMENT);
    emb_trainer_close(whole);
    emb_trainer_close(t);
    emb_model_close(merged);
    emb_model_close(model);
    emb_tree_remove(place);
}

static void training(void **state) {
    (void)state;
    for (uint32_t i = 0; i < BASES * DTYPES; i++) check_training(paths[i]);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void resumes(void **state) {
    char place[128];
    (void)state;
    snprintf(place, sizeof place, "%s/state", folder);
    for (uint32_t i = 0; i < BASES * DTYPES; i++) {
        emb_error error = {0};
        emb_model *model = open_model(paths[i]), *another = open_model(paths[(i + 1) % DTYPES]);
        emb_train_options options = usual(0);
        options.optimizer_bits = i % 2 ? 8 : 32;
        emb_trainer *whole = open_trainer(model, &options);
        options.threads = 1;
        emb_trainer *other = open_trainer(model, &options);
        train(whole, 3);
        assert_int_equal(emb_trainer_store(whole, place, NULL, &error), EMB_OK);
        double loss = train(whole, 4);
        assert_int_equal(emb_trainer_resume(NULL, other, place, &error), EMB_OK);
        assert_true(train(other, 4) == loss);
        emb_trainer_close(other);
        other = open_trainer(another, &options);
        assert_int_equal(emb_trainer_resume(NULL, other, place, &error), EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "another model"));
        emb_trainer_close(other);
        options.lora.alpha = 5;
        other = open_trainer(model, &options);
        assert_int_equal(emb_trainer_resume(NULL, other, place, &error), EMB_BAD_FILE);
        emb_trainer_close(other);
        emb_trainer_close(whole);
        emb_model_close(model);
        emb_model_close(another);
    }
    unlink(place);
}

static void refusals(void **state) {
    static const struct {
        emb_train_lora lora;
        const char *words;
    } cases[] = {{{.targets = EMB_LORA_KEY}, "no rank"},
                 {{.alpha = 3}, "no rank"},
                 {{.rank = 33}, "at most 32"},
                 {{.rank = 2, .targets = 64}, "no name"},
                 {{.rank = 2, .alpha = -1}, "above 0"}};
    emb_model *model = open_model(paths[0]), *int8 = open_model(paths[1]);
    emb_trainer *none;
    emb_error error;
    emb_train_options options = usual(0);
    (void)state;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        options.lora = cases[i].lora;
        assert_int_equal(emb_trainer_open(&none, model, &options, &error), EMB_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, cases[i].words));
    }
    options.lora = (emb_train_lora){0};
    assert_int_equal(emb_trainer_open(&none, int8, &options, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "--lora"));
    emb_model_close(model);
    emb_model_close(int8);
}

/* ---- models ---------------------------------------------------------------------------------- */

static int make_models(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    for (uint32_t i = 0; i < BASES * DTYPES; i++) {
        emb_quantize_result result;
        emb_error error;
        emb_quantize_options options = {.struct_bytes = sizeof options,
                                        .dtype = dtypes[i % DTYPES]};
        snprintf(paths[i], sizeof paths[i], "%s", bases[i / DTYPES]);
        if (i % DTYPES == 0) continue;
        snprintf(paths[i], sizeof paths[i], "%s/model-%u", folder, i);
        emb_model *model = open_model(bases[i / DTYPES]);
        if (emb_model_quantize(&result, model, paths[i], &options, NULL, NULL, &error) != EMB_OK)
            fail_msg("%s", error.message);
        emb_model_close(model);
    }
    return 0;
}

static int remove_models(void **state) {
    (void)state;
    emb_tree_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored),   cmocka_unit_test(differences), cmocka_unit_test(memory),
        cmocka_unit_test(training), cmocka_unit_test(resumes),     cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
