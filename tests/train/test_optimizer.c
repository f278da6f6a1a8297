/* test_optimizer.c - steps of each optimizer against their formulas in doubles, of every set of
 * kernels: torch's AdamW and SGD, decay of matrices alone, rates that fall from layer to layer.
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

#include <cmocka.h>

#include "plan/plan.h"
#include "train/cpu/random.h"
#include "train/optimizer.h"

enum { STEPS = 4 };

typedef struct rig {
    emb_model *model;
    emb_params params;
    emb_optimizer optimizer;
    emb_team team;
    float *values, *gradients;
    double *wanted, *m, *v;
    void *memory;
    uint64_t bytes;
} rig;

static float random_value(uint64_t key, uint64_t place) {
    return (float)emb_random_bits(emb_hash_mix(key, place), 0) * (2.0f / 4294967296.0f) - 1.0f;
}

static void layout(rig *r, const emb_train_options *options, emb_ledger *ledger) {
    emb_params_layout(&r->params, &r->model->shape, r->model->files, ledger);
    emb_optimizer_layout(&r->optimizer, &r->params, options, ledger);
    emb_team_layout(&r->team, 2, ledger);
    r->values = emb_ledger_take(ledger, r->params.values, sizeof(float));
    r->gradients = emb_ledger_take(ledger, r->params.values, sizeof(float));
    r->wanted = emb_ledger_take(ledger, r->params.values, sizeof(double));
    r->m = emb_ledger_take(ledger, r->params.values, sizeof(double));
    r->v = emb_ledger_take(ledger, r->params.values, sizeof(double));
}

static void rig_open(rig *r, const emb_train_options *options, const emb_train_kernels *kernels) {
    emb_error error;
    emb_ledger ledger;
    memset(r, 0, sizeof *r);
    assert_int_equal(emb_model_open(&r->model, "tests/data/tiny-bert", &error), EMB_OK);
    emb_ledger_init(&ledger, NULL, 0);
    layout(r, options, &ledger);
    r->bytes = ledger.bytes;
    r->memory = emb_arena_open(r->bytes);
    assert_non_null(r->memory);
    emb_ledger_init(&ledger, r->memory, r->bytes);
    layout(r, options, &ledger);
    assert_int_equal(emb_team_open(&r->team, &error), EMB_OK);
    r->optimizer.team = &r->team;
    r->optimizer.kernels = kernels;
    emb_optimizer_init(&r->optimizer, options);
    for (uint32_t i = 0; i < r->params.count; i++) {
        const emb_param *t = &r->params.tensors[i];
        for (uint64_t k = t->first; k < t->first + (uint64_t)t->rows * t->cols; k++)
            r->wanted[k] = r->values[k] = random_value(1, k);
    }
}

static void rig_close(rig *r) {
    emb_team_close(&r->team);
    emb_arena_close(r->memory, r->bytes);
    emb_model_close(r->model);
}

/* One value's step, as torch.optim has it. */
static void move(rig *r, const emb_train_options *o, uint64_t i, double rate, double decay,
                 double clip) {
    double g = r->gradients[i] * clip, n = (double)r->optimizer.step + 1;
    if (o->optimizer == EMB_OPTIMIZER_SGD) {
        g += decay * r->wanted[i];
        r->m[i] = o->momentum * r->m[i] + g;
        r->wanted[i] -= rate * (o->nesterov ? g + o->momentum * r->m[i] : r->m[i]);
        return;
    }
    r->wanted[i] *= 1 - rate * decay;
    r->m[i] = 0.9 * r->m[i] + 0.1 * g;
    r->v[i] = 0.999 * r->v[i] + 0.001 * g * g;
    double deviation = sqrt(r->v[i]) / sqrt(1 - pow(0.999, n)) + 1e-8;
    r->wanted[i] -= rate / (1 - pow(0.9, n)) * r->m[i] / deviation;
}

static void step(rig *r, const emb_train_options *o) {
    uint64_t n = r->optimizer.step;
    double rate = emb_optimizer_rate(&r->optimizer, n + 1);
    for (uint32_t i = 0; i < r->params.count; i++) {
        const emb_param *t = &r->params.tensors[i];
        for (uint64_t k = t->first; k < t->first + (uint64_t)t->rows * t->cols; k++)
            r->gradients[k] = random_value(2 + n, k);
    }
    double norm = emb_optimizer_norm(&r->optimizer, r->gradients);
    for (uint32_t i = 0; i < r->params.count; i++) {
        const emb_param *t = &r->params.tensors[i];
        uint32_t layers = r->params.shape->layers;
        uint32_t behind = t->role < EMB_TENSOR_QUERY ? layers : layers - 1 - t->layer;
        double own = rate * pow(o->layer_decay > 0 ? o->layer_decay : 1, behind);
        for (uint64_t k = t->first; k < t->first + (uint64_t)t->rows * t->cols; k++)
            move(r, o, k, own, t->rank == 2 ? o->weight_decay : 0, o->clip_norm / norm);
    }
    emb_optimizer_update(&r->optimizer, r->values, r->gradients, norm);
}

static void check(const emb_train_options *options, const emb_train_kernels *kernels) {
    rig r;
    rig_open(&r, options, kernels);
    for (uint32_t n = 0; n < STEPS; n++) step(&r, options);
    for (uint64_t i = 0; i < r.params.values; i++) {
        double away = fabs(r.values[i] - r.wanted[i]), most = 2e-6;
        if (away > most) fail_msg("value %llu is off by %g", (unsigned long long)i, away);
    }
    rig_close(&r);
}

static void formulas(void **state) {
    const emb_train_options all[] = {
        {.weight_decay = 0.1f},
        {.layer_decay = 0.5f, .weight_decay = 0.1f},
        {.optimizer = EMB_OPTIMIZER_SGD},
        {.optimizer = EMB_OPTIMIZER_SGD, .momentum = 0.9f, .weight_decay = 0.1f},
        {.optimizer = EMB_OPTIMIZER_SGD, .momentum = 0.9f, .nesterov = 1, .layer_decay = 0.8f},
    };
    uint32_t features;
    emb_error error;
    (void)state;
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        emb_train_options options = all[i];
        options.learning_rate = 1e-2f;
        options.schedule = EMB_SCHEDULE_CONSTANT;
        options.clip_norm = 2; /* less than any gradient's length here */
        check(&options, &emb_train_ref);
        check(&options, emb_train_kernels_of(features, EMB_DTYPE_F32));
#ifdef EMB_X86
        if (features & EMB_CPU_AVX2) check(&options, &emb_train_avx2);
#endif
    }
}

/* Momentum takes a moment a value, SGD without it nothing. */
static void memory(void **state) {
    emb_train_options options = {.optimizer = EMB_OPTIMIZER_SGD};
    uint64_t bytes[3];
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        rig r;
        options.momentum = i ? 0.9f : 0.0f;
        if (i == 2) options = (emb_train_options){.optimizer = EMB_OPTIMIZER_ADAMW};
        rig_open(&r, &options, &emb_train_ref);
        bytes[i] = r.bytes;
        rig_close(&r);
    }
    assert_true(bytes[1] > bytes[0] && bytes[2] - bytes[1] == bytes[1] - bytes[0]);
}

/* Over hundreds of steps whose gradients shrink, 8 bits move values as far as 32 do: rounding of
 * the moments has no direction. */
static void eight_bits(void **state) {
    (void)state;
    static float one[EMB_TRAIN_BLOCK], other[EMB_TRAIN_BLOCK], gradients[EMB_TRAIN_BLOCK];
    static float m[EMB_TRAIN_BLOCK], v[EMB_TRAIN_BLOCK], scales[2];
    static int8_t m8[EMB_TRAIN_BLOCK];
    static uint8_t v8[EMB_TRAIN_BLOCK];
    uint32_t features;
    emb_error error;
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    const emb_train_kernels *sets[] = {emb_train_kernels_of(0, EMB_DTYPE_F32),
                                       emb_train_kernels_of(features, EMB_DTYPE_F32)};
    for (uint32_t k = 0; k < 2; k++) {
        memset(one, 0, sizeof one), memset(other, 0, sizeof other);
        memset(m, 0, sizeof m), memset(v, 0, sizeof v), memset(scales, 0, sizeof scales);
        memset(m8, 0, sizeof m8), memset(v8, 0, sizeof v8);
        for (uint32_t step = 1; step <= 400; step++) {
            emb_adamw how = {1, 0.9f, 0.999f, 1, 1e-3f, 1, 1e-8f};
            how.rate /= (float)(1 - pow(0.9, step));
            how.spread /= (float)sqrt(1 - pow(0.999, step));
            for (uint32_t i = 0; i < EMB_TRAIN_BLOCK; i++) /* of many sizes; most go one way */
                gradients[i] = (random_value(step, i) + 0.5f) * (float)(1 + i % 50) *
                               (step < 100 ? 1.0f : 0.25f);
            sets[k]->adamw(one, m, v, gradients, EMB_TRAIN_BLOCK, &how);
            sets[k]->adamw8(other, m8, v8, scales, gradients, EMB_TRAIN_BLOCK, &how);
        }
        double far = 0, far8 = 0;
        for (uint32_t i = 0; i < EMB_TRAIN_BLOCK; i++) far -= one[i], far8 -= other[i];
        assert_true(far > 0 && fabs(far8 / far - 1) < 0.05);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formulas), cmocka_unit_test(memory),
                                       cmocka_unit_test(eight_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
