/* test_loss.c - the losses and their gradients against plain sums in double precision, over more
 * rows than a tile of similarities has, with every set of kernels and any number of threads.
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

#include "backend/backend.h"
#include "train/loss/loss.h"

typedef struct loss_case {
    emb_train_loss loss;
    uint32_t examples, columns, width;
} loss_case;

static const loss_case cases[] = {
    {{EMB_LOSS_RANKING, 20, 0}, 2, 2, 8},
    {{EMB_LOSS_RANKING, 20, 1}, 5, 3, 16},
    {{EMB_LOSS_RANKING, 7.5f, 0}, EMB_LOSS_ROWS + 6, 2, 24},
    {{EMB_LOSS_RANKING, 20, 1}, EMB_LOSS_ROWS * 2 + 1, 2, 32},
    {{EMB_LOSS_RANKING, 20, 0}, 200, 4, 32}, /* 600 candidates: three tiles, the last in part */
    {{EMB_LOSS_RANKING, 20, 1}, EMB_LOSS_COLUMNS + 44, 3, 48},
    {{EMB_LOSS_RANKING, 20, 1}, 1, 2, 8},
    {{EMB_LOSS_COSENT, 20, 0}, 3, 2, 8},
    {{EMB_LOSS_COSENT, 20, 0}, 150, 2, 40},
    {{EMB_LOSS_COSENT, 1, 0}, 2, 2, 16},
    {{EMB_LOSS_COSINE, 20, 0}, 1, 2, 8},
    {{EMB_LOSS_COSINE, 20, 0}, 150, 2, 40},
};
#define CASES (sizeof cases / sizeof cases[0])

typedef struct inputs {
    float *vectors, *labels;
    size_t values;
} inputs;

/* Vectors near enough to one another that no softmax is all but one. */
static inputs make_inputs(const loss_case *c) {
    inputs in = {.values = (size_t)c->examples * c->columns * c->width};
    uint32_t state = 12345 + c->examples;
    in.vectors = malloc(in.values * sizeof *in.vectors);
    in.labels = malloc(c->examples * sizeof *in.labels);
    for (size_t i = 0; i < in.values; i++) {
        state = state * 1664525u + 1013904223u;
        in.vectors[i] = 0.3f + (float)(state >> 8) / (1 << 24);
    }
    for (uint32_t i = 0; i < c->examples; i++)
        in.labels[i] = (float)(i * 7 % 5) / 5; /* with ties */
    return in;
}

/* ---- in double precision --------------------------------------------------------------------- */

typedef struct plain {
    const loss_case *c;
    double *units, *lengths, *d; /* d: of the units, then of the vectors */
} plain;

static double dot(const double *a, const double *b, uint32_t width) {
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) sum += a[i] * b[i];
    return sum;
}

static double cosine(const plain *p, uint32_t a, uint32_t b) {
    return dot(p->units + (size_t)a * p->c->width, p->units + (size_t)b * p->c->width, p->c->width);
}

static void add_gradient(plain *p, uint32_t a, uint32_t b, double d_cosine) {
    uint32_t width = p->c->width;
    for (uint32_t i = 0; i < width; i++) {
        p->d[(size_t)a * width + i] += d_cosine * p->units[(size_t)b * width + i];
        p->d[(size_t)b * width + i] += d_cosine * p->units[(size_t)a * width + i];
    }
}

/* Row `from + i` must find row `to + i` among `count` rows from `to` on. */
static double plain_ranking(plain *p, uint32_t from, uint32_t to, uint32_t count, double weight) {
    double loss = 0, scale = p->c->loss.scale;
    for (uint32_t i = 0; i < p->c->examples; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < count; j++) sum += exp(scale * cosine(p, from + i, to + j));
        loss += log(sum) - scale * cosine(p, from + i, to + i);
        for (uint32_t j = 0; j < count; j++) {
            double share = exp(scale * cosine(p, from + i, to + j)) / sum;
            add_gradient(p, from + i, to + j, weight * scale * (share - (i == j)));
        }
    }
    return weight * loss;
}

static double plain_cosent(plain *p, const float *labels) {
    uint32_t n = p->c->examples;
    double sum = 1, scale = p->c->loss.scale;
    for (int again = 0; again < 2; again++) {
        double total = sum;
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = 0; j < n; j++) {
                if (!(labels[i] > labels[j])) continue;
                double value = exp(scale * (cosine(p, j, n + j) - cosine(p, i, n + i)));
                if (!again) sum += value;
                if (!again) continue;
                add_gradient(p, j, n + j, scale * value / total);
                add_gradient(p, i, n + i, -scale * value / total);
            }
        }
    }
    return log(sum);
}

static double plain_cosine(plain *p, const float *labels) {
    uint32_t n = p->c->examples;
    double loss = 0;
    for (uint32_t i = 0; i < n; i++) {
        double away = cosine(p, i, n + i) - labels[i];
        loss += away * away / n;
        add_gradient(p, i, n + i, 2 * away / n);
    }
    return loss;
}

/* Gives the loss; p->d becomes the gradient of the vectors. */
static double run_plain(plain *p, const inputs *in) {
    uint32_t n = p->c->examples, width = p->c->width, rows = n * p->c->columns;
    double loss;
    memset(p->d, 0, in->values * sizeof *p->d);
    for (uint32_t r = 0; r < rows; r++) {
        double *unit = p->units + (size_t)r * width;
        for (uint32_t i = 0; i < width; i++) unit[i] = in->vectors[(size_t)r * width + i];
        p->lengths[r] = sqrt(dot(unit, unit, width));
        for (uint32_t i = 0; i < width; i++) unit[i] /= p->lengths[r];
    }
    if (p->c->loss.kind == EMB_LOSS_COSENT) {
        loss = plain_cosent(p, in->labels);
    } else if (p->c->loss.kind == EMB_LOSS_COSINE) {
        loss = plain_cosine(p, in->labels);
    } else {
        double weight = (p->c->loss.symmetric ? 0.5 : 1.0) / n;
        loss = plain_ranking(p, 0, n, rows - n, weight);
        if (p->c->loss.symmetric) loss += plain_ranking(p, n, 0, n, weight);
    }
    for (uint32_t r = 0; r < rows; r++) {
        double *d = p->d + (size_t)r * width, *unit = p->units + (size_t)r * width;
        double along = dot(d, unit, width);
        for (uint32_t i = 0; i < width; i++) d[i] = (d[i] - along * unit[i]) / p->lengths[r];
    }
    return loss;
}

static plain open_plain(const loss_case *c, size_t values) {
    plain p = {.c = c};
    p.units = malloc(values * sizeof *p.units);
    p.lengths = malloc((size_t)c->examples * c->columns * sizeof *p.lengths);
    p.d = malloc(values * sizeof *p.d);
    return p;
}

static void close_plain(plain *p) {
    free(p->units);
    free(p->lengths);
    free(p->d);
}

/* ---- ours ------------------------------------------------------------------------------------ */

static void layout(emb_loss_room *room, emb_team *team, const loss_case *c, uint32_t threads,
                   emb_ledger *ledger) {
    emb_loss_layout(room, c->examples, c->columns, c->width, threads, ledger);
    emb_team_layout(team, threads, ledger);
}

static double run_ours(const loss_case *c, const inputs *in, const emb_train_kernels *kernels,
                       uint32_t threads, float *gradients) {
    emb_loss_room room;
    emb_team team;
    emb_ledger ledger;
    emb_error error;
    emb_ledger_init(&ledger, NULL, 0);
    layout(&room, &team, c, threads, &ledger);
    uint64_t bytes = ledger.bytes;
    void *memory = emb_arena_open(bytes);
    assert_non_null(memory);
    emb_ledger_init(&ledger, memory, bytes);
    layout(&room, &team, c, threads, &ledger);
    assert_int_equal(emb_team_open(&team, &error), EMB_OK);
    room.kernels = kernels;
    room.team = &team;
    emb_loss_batch batch = {c->examples, c->columns, in->vectors, in->labels, gradients};
    double loss = emb_loss_run(&room, &c->loss, &batch);
    emb_team_close(&team);
    emb_arena_close(memory, bytes);
    return loss;
}

static void check_case(const loss_case *c, const emb_train_kernels *kernels) {
    inputs in = make_inputs(c);
    plain p = open_plain(c, in.values);
    float *ours = malloc(in.values * sizeof *ours), *again = malloc(in.values * sizeof *again);
    double wanted = run_plain(&p, &in), highest = 0, furthest = 0;
    double loss = run_ours(c, &in, kernels, 1, ours);
    for (size_t i = 0; i < in.values; i++) {
        highest = fmax(highest, fabs(p.d[i]));
        furthest = fmax(furthest, fabs(p.d[i] - ours[i]));
    }
    if (!(fabs(loss - wanted) <= 2e-5 * fmax(1, fabs(wanted))) ||
        !(furthest <= 3e-5 * highest + 1e-7))
        fail_msg("%s, loss %d, %u examples of %u: loss %.9g, wanted %.9g; gradients up to %g are "
                 "%g away",
                 kernels->name, (int)c->loss.kind, c->examples, c->columns, loss, wanted, highest,
                 furthest);
    for (uint32_t threads = 2; threads <= 5; threads += 3) {
        assert_true(run_ours(c, &in, kernels, threads, again) == loss);
        assert_memory_equal(again, ours, in.values * sizeof *ours);
    }
    free(ours), free(again), free(in.vectors), free(in.labels);
    close_plain(&p);
}

static void test_plain_kernels(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) check_case(&cases[i], &emb_train_ref);
}

static void test_best_kernels(void **state) {
    (void)state;
    uint32_t features;
    emb_error error;
    assert_int_equal(emb_cpu_detect(&features, &error), EMB_OK);
    for (size_t i = 0; i < CASES; i++)
        check_case(&cases[i], emb_train_kernels_of(features, EMB_DTYPE_F32));
}

/* The sums above are right themselves: their gradients against differences of their losses. */
static void test_plain_sums(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        const loss_case *c = &cases[i];
        if (c->examples > 5) continue;
        inputs in = make_inputs(c);
        plain p = open_plain(c, in.values), other = open_plain(c, in.values);
        run_plain(&p, &in);
        for (size_t v = 0; v < in.values; v += 3) {
            float kept = in.vectors[v], up = kept + 1e-3f, down = kept - 1e-3f;
            in.vectors[v] = up;
            double above = run_plain(&other, &in);
            in.vectors[v] = down;
            double slope = (above - run_plain(&other, &in)) / ((double)up - down);
            in.vectors[v] = kept;
            assert_true(fabs(slope - p.d[v]) <= 1e-4 * fmax(1, fabs(slope)));
        }
        free(in.vectors), free(in.labels);
        close_plain(&p);
        close_plain(&other);
    }
}

/* All labels alike: no pair is to be above another, so there is nothing to learn. */
static void test_equal_labels(void **state) {
    (void)state;
    loss_case c = {{EMB_LOSS_COSENT, 20, 0}, 6, 2, 8};
    inputs in = make_inputs(&c);
    float gradients[6 * 2 * 8];
    for (uint32_t i = 0; i < c.examples; i++) in.labels[i] = 0.5f;
    assert_true(run_ours(&c, &in, &emb_train_ref, 1, gradients) == 0);
    for (size_t i = 0; i < in.values; i++) assert_true(gradients[i] == 0);
    free(in.vectors), free(in.labels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_sums),
        cmocka_unit_test(test_plain_kernels),
        cmocka_unit_test(test_best_kernels),
        cmocka_unit_test(test_equal_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
