/* test_train.c - gradients of a tiny encoder: against differences of the loss, of every set of
 * kernels, with dropout, in one tile and in several, whatever is kept for the way back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/plan.h"
#include "train/cpu/kernels.h"
#include "train/cpu/random.h"
#include "train/pass.h"

enum { CHUNKS = 6, TOKENS = 75, THREADS = 2 };
static const uint32_t starts[CHUNKS + 1] = {0, 7, 10, 30, 31, 63, 75};

/* What of a tile is kept: nothing but the sums. */
static const emb_train_sizes sums_alone = {
    .tokens = TOKENS, .slabs = 2, .chunk_tokens_max = 40, .threads = THREADS};

typedef struct rig {
    emb_train_sizes sizes;
    emb_model *model;
    emb_params params;
    emb_team team;
    emb_train_lane lane;
    void *scratch, *memory;
    uint64_t bytes;
    float *vectors, *d_vectors, *first; /* first: gradients to compare with */
    uint32_t ids[TOKENS];
} rig;

static void layout(rig *r, emb_ledger *ledger) {
    uint64_t width = (uint64_t)CHUNKS * r->model->shape.spec.hidden;
    emb_params_layout(&r->params, &r->model->shape, r->model->files, ledger);
    emb_team_layout(&r->team, THREADS, ledger);
    emb_train_lane_layout(&r->lane, &r->params, &emb_train_cpu_ops, &r->sizes, ledger);
    r->lane.values = emb_ledger_take(ledger, r->params.values, sizeof(float));
    r->lane.gradients = emb_ledger_take(ledger, r->params.values, sizeof(float));
    r->first = emb_ledger_take(ledger, r->params.values, sizeof(float));
    r->vectors = emb_ledger_take(ledger, width, sizeof(float));
    r->d_vectors = emb_ledger_take(ledger, width, sizeof(float));
    r->scratch = emb_ledger_take(ledger, emb_params_scratch_bytes(&r->params), 1);
}

static float random_value(uint64_t place) {
    return (float)emb_random_bits(emb_hash_mix(7, place), 0) * (2.0f / 4294967296.0f) - 1.0f;
}

static void rig_open(rig *r, const char *path, const emb_train_sizes *sizes) {
    emb_error error;
    emb_ledger ledger;
    memset(r, 0, sizeof *r);
    r->sizes = *sizes;
    assert_int_equal(emb_model_open(&r->model, path, &error), EMB_OK);
    emb_ledger_init(&ledger, NULL, 0);
    layout(r, &ledger);
    r->bytes = ledger.bytes;
    r->memory = emb_arena_open(r->bytes);
    assert_non_null(r->memory);
    emb_ledger_init(&ledger, r->memory, r->bytes);
    layout(r, &ledger);
    assert_int_equal(emb_params_load(r->lane.values, &r->params, r->scratch, &error), EMB_OK);
    assert_int_equal(emb_team_open(&r->team, &error), EMB_OK);
    r->lane.run.team = &r->team;
    r->lane.run.kernels = &emb_train_ref;
    r->lane.pool = (emb_pool_rule){r->model->shape.pooling, 1};
    for (uint32_t i = 0; i < TOKENS; i++)
        r->ids[i] = 5 + emb_random_bits(3, i) % (r->model->shape.vocabulary - 5);
    for (uint32_t i = 0; i < CHUNKS * r->model->shape.spec.hidden; i++)
        r->d_vectors[i] = random_value(i);
}

static void rig_close(rig *r) {
    emb_team_close(&r->team);
    emb_arena_close(r->memory, r->bytes);
    emb_model_close(r->model);
}

/* Vectors of chunks [first, end) into the slab, and with `back` their gradients. */
static void run(rig *r, uint32_t first, uint32_t end, bool forward, bool back) {
    uint32_t own[CHUNKS + 1], targets[CHUNKS];
    for (uint32_t c = first; c <= end; c++) own[c - first] = starts[c] - starts[first];
    for (uint32_t c = first; c < end; c++) targets[c - first] = c;
    emb_tile tile = {.tokens = own[end - first],
                     .chunks = end - first,
                     .ids = r->ids + starts[first],
                     .starts = own};
    if (forward) emb_train_forward(&r->lane, r->vectors, targets, &tile);
    if (back) emb_train_backward(&r->lane, r->d_vectors, targets, &tile);
}

static void gradients(rig *r) {
    emb_train_lane_refresh(&r->lane);
    memset(r->lane.gradients, 0, r->params.values * sizeof(float));
    run(r, 0, CHUNKS, true, true);
}

static double loss(rig *r) {
    double sum = 0;
    emb_train_lane_refresh(&r->lane);
    run(r, 0, CHUNKS, true, false);
    for (uint32_t i = 0; i < CHUNKS * r->model->shape.spec.hidden; i++)
        sum += (double)r->vectors[i] * r->d_vectors[i];
    return sum;
}

/* How far gradients are from r->first, of its length. */
static double away(const rig *r) {
    double off = 0, all = 0;
    for (uint64_t i = 0; i < r->params.values; i++) {
        off += pow((double)r->lane.gradients[i] - r->first[i], 2);
        all += pow(r->first[i], 2);
    }
    return sqrt(off / all);
}

static void keep(rig *r) {
    memcpy(r->first, r->lane.gradients, r->params.values * sizeof(float));
}

/* The loss changes along the gradient as much as the gradient is long. */
static void check_differences(rig *r) {
    const double step = 2e-4;
    double length = 0;
    gradients(r);
    for (uint64_t i = 0; i < r->params.values; i++) length += pow(r->lane.gradients[i], 2);
    length = sqrt(length);
    keep(r);
    for (uint64_t i = 0; i < r->params.values; i++)
        r->lane.values[i] += (float)(step * r->first[i] / length);
    double above = loss(r);
    for (uint64_t i = 0; i < r->params.values; i++)
        r->lane.values[i] -= (float)(2 * step * r->first[i] / length);
    double below = loss(r);
    for (uint64_t i = 0; i < r->params.values; i++)
        r->lane.values[i] += (float)(step * r->first[i] / length);
    assert_true(fabs((above - below) / (2 * step) - length) < 1e-2 * length);
}

static const char *const paths[] = {"tests/data/tiny-bert", "tests/data/tiny-mpnet"};

static void each_model(void (*check)(rig *r)) {
    for (uint32_t i = 0; i < 2; i++) {
        rig r;
        rig_open(&r, paths[i], &sums_alone);
        check(&r);
        r.lane.run.dropout = (emb_dropout){0.1f, 0.2f, 42};
        check(&r);
        rig_close(&r);
    }
}

static void check_kernels(rig *r) {
    uint32_t features;
    emb_error error;
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    gradients(r);
    keep(r);
#ifdef EMB_X86
    if (features & EMB_CPU_AVX2) {
        r->lane.run.kernels = &emb_train_avx2;
        gradients(r);
        assert_true(away(r) < 1e-5);
    }
    if (features & EMB_CPU_AVX512) {
        r->lane.run.kernels = &emb_train_avx512;
        gradients(r);
        assert_true(away(r) < 1e-5);
    }
#endif
    r->lane.run.kernels = &emb_train_ref;
}

/* Three tiles, of which the first keeps a slab and the last two share the other, from the last to
 * the first: as the trainer goes. */
static void shared_slabs(rig *r) {
    memset(r->lane.gradients, 0, r->params.values * sizeof(float));
    emb_train_lane_select(&r->lane, 0);
    run(r, 0, 2, true, false);
    emb_train_lane_select(&r->lane, 1);
    run(r, 2, 4, true, false);
    run(r, 4, CHUNKS, true, true);
    run(r, 2, 4, true, true);
    emb_train_lane_select(&r->lane, 0);
    run(r, 0, 2, false, true);
}

static void check_tiles(rig *r) {
    gradients(r);
    keep(r);
    shared_slabs(r);
    assert_true(away(r) < 1e-5);
}

/* The gradients of r->first, bit for bit, whatever is kept. */
static void check_kept(const rig *r, const char *path, const emb_train_sizes *sizes) {
    rig other;
    rig_open(&other, path, sizes);
    other.lane.run.kernels = r->lane.run.kernels;
    other.lane.run.dropout = r->lane.run.dropout;
    emb_train_lane_refresh(&other.lane);
    shared_slabs(&other);
    assert_memory_equal(other.lane.gradients, r->first, r->params.values * sizeof(float));
    rig_close(&other);
}

static void kept(void **state) {
    uint32_t features;
    emb_error error;
    (void)state;
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    for (uint32_t i = 0; i < 8; i++) {
        rig r;
        const char *path = paths[i % 2];
        rig_open(&r, path, &sums_alone);
        if (i & 2) r.lane.run.kernels = emb_train_kernels_of(features, EMB_DTYPE_F32);
        if (i & 4) r.lane.run.dropout = (emb_dropout){0.2f, 0.3f, 5};
        emb_train_lane_refresh(&r.lane);
        shared_slabs(&r);
        keep(&r);
        for (uint32_t n = 0; n < 9; n++) {
            emb_train_sizes sizes = sums_alone;
            sizes.attention_slabs = n % 3;
            sizes.ffn_slabs = n / 3;
            check_kept(&r, path, &sizes);
        }
        rig_close(&r);
    }
}

/* Sums of every so many layers, whether the last segment is whole or not. */
static void segments(void **state) {
    const char *all[] = {paths[0], paths[1], *state};
    for (uint32_t i = 0; i < 3 && all[i]; i++) {
        rig r;
        rig_open(&r, all[i], &sums_alone);
        r.lane.run.dropout = (emb_dropout){0.2f, 0.3f, 5};
        emb_train_lane_refresh(&r.lane);
        shared_slabs(&r);
        keep(&r);
        for (uint32_t every = 1; every < r.model->shape.layers && every < 6; every++) {
            emb_train_sizes sizes = sums_alone;
            sizes.every = every;
            check_kept(&r, all[i], &sizes);
        }
        rig_close(&r);
    }
}

static void differences(void **state) {
    (void)state;
    each_model(check_differences);
}

static void kernels(void **state) {
    (void)state;
    each_model(check_kernels);
}

static void tiles(void **state) {
    (void)state;
    each_model(check_tiles);
}

/* Dropped values are zero, and as many as asked for; every set of kernels drops the same. */
static void dropout(void **state) {
    enum { COUNT = 10007 };
    static float in[COUNT], out[COUNT], other[COUNT];
    uint32_t dropped = 0, features;
    emb_error error;
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) in[i] = 1;
    emb_train_ref.drop(out, in, COUNT, emb_hash_mix(1, 2), 0.3f);
    for (uint32_t i = 0; i < COUNT; i++) dropped += out[i] == 0;
    assert_true(dropped > 0.28 * COUNT && dropped < 0.32 * COUNT);
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    emb_train_kernels_of(features, EMB_DTYPE_F32)->drop(other, in, COUNT, emb_hash_mix(1, 2), 0.3f);
    assert_memory_equal(out, other, sizeof out);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences),
        cmocka_unit_test(kernels),
        cmocka_unit_test(tiles),
        cmocka_unit_test(kept),
        cmocka_unit_test_prestate(segments, argc > 1 ? argv[1] : NULL),
        cmocka_unit_test(dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
