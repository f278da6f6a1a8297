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

#define WIDTHS(a, b, c)  .widths_count = 3, .widths = {a, b, c}
#define WEIGHTS(a, b, c) .width_weights = {a, b, c}

static const loss_case cases[] = {
    {{.kind = EMB_LOSS_RANKING, .scale = 20}, 2, 2, 8},
    {{.kind = EMB_LOSS_RANKING, .scale = 20, .symmetric = 1}, 5, 3, 16},
    {{.kind = EMB_LOSS_RANKING, .scale = 7.5f}, EMB_LOSS_ROWS + 6, 2, 24},
    {{.kind = EMB_LOSS_RANKING, .scale = 20, .symmetric = 1}, EMB_LOSS_ROWS * 2 + 1, 2, 32},
    {{.kind = EMB_LOSS_RANKING, .scale = 20},
     200,
     4,
     32}, /* 600 candidates: three tiles, the last in part */
    {{.kind = EMB_LOSS_RANKING, .scale = 20, .symmetric = 1}, EMB_LOSS_COLUMNS + 44, 3, 48},
    {{.kind = EMB_LOSS_RANKING, .scale = 20, .symmetric = 1}, 1, 2, 8},
    {{.kind = EMB_LOSS_COSENT, .scale = 20}, 3, 2, 8},
    {{.kind = EMB_LOSS_COSENT, .scale = 20}, 150, 2, 40},
    {{.kind = EMB_LOSS_COSENT, .scale = 1}, 2, 2, 16},
    {{.kind = EMB_LOSS_COSINE, .scale = 20}, 1, 2, 8},
    {{.kind = EMB_LOSS_COSINE, .scale = 20}, 150, 2, 40},
    {{.kind = EMB_LOSS_TRIPLET, .margin = 5}, 1, 3, 8},
    {{.kind = EMB_LOSS_TRIPLET, .margin = 0.02f}, 90, 3, 40}, /* some are far enough away */
    {{.kind = EMB_LOSS_TRIPLET, .margin = 5}, 4, 5, 16},
    {{.kind = EMB_LOSS_TRIPLET, .distance = EMB_DISTANCE_COSINE, .margin = 0.5f}, 5, 4, 16},
    {{.kind = EMB_LOSS_TRIPLET, .distance = EMB_DISTANCE_COSINE, .margin = 0.01f}, 90, 3, 40},
    {{.kind = EMB_LOSS_BATCH_HARD, .margin = 5}, 5, 1, 8},
    {{.kind = EMB_LOSS_BATCH_HARD, .margin = 0.6f}, EMB_LOSS_COLUMNS + 44, 1, 24},
    {{.kind = EMB_LOSS_BATCH_HARD, .distance = EMB_DISTANCE_COSINE, .margin = 0.1f}, 150, 1, 24},
    {{.kind = EMB_LOSS_DISTILL, .teacher_width = 24}, 5, 1, 8},
    {{.kind = EMB_LOSS_DISTILL, .teacher_width = 40}, EMB_LOSS_COLUMNS + 44, 1, 24},
    {{.kind = EMB_LOSS_DISTILL, .teacher_width = 9}, 70, 2, 16},
    {{.kind = EMB_LOSS_RANKING, .scale = 20, WIDTHS(24, 7, 3), WEIGHTS(1, 0.5f, 2)}, 5, 3, 24},
    {{.kind = EMB_LOSS_RANKING, .scale = 20, .symmetric = 1, WIDTHS(40, 24, 10)}, 90, 2, 40},
    {{.kind = EMB_LOSS_COSENT, .scale = 20, WIDTHS(16, 8, 5)}, 40, 2, 40},
    {{.kind = EMB_LOSS_COSINE, WIDTHS(40, 13, 1), WEIGHTS(1, 0, 3)}, 40, 2, 40},
    {{.kind = EMB_LOSS_TRIPLET, .margin = 0.3f, WIDTHS(16, 8, 4)}, 5, 3, 16},
    {{.kind = EMB_LOSS_BATCH_HARD, .margin = 0.3f, WIDTHS(24, 12, 6)}, 70, 1, 24},
    {{.kind = EMB_LOSS_DISTILL, .teacher_width = 40, WIDTHS(24, 12, 6)}, 70, 1, 24},
};
#define CASES (sizeof cases / sizeof cases[0])

typedef struct inputs {
    float *vectors, *targets;
    size_t values;
} inputs;

/* A score; a class, of which the first text has one of its own; a teacher's value. */
static float target(const loss_case *c, size_t i) {
    if (c->loss.kind == EMB_LOSS_BATCH_HARD) return i ? (float)(i * 7 % 3) : 9;
    if (c->loss.kind == EMB_LOSS_DISTILL) return 0.2f + (float)(i * i * 31 % 97) / 97;
    return (float)(i * 7 % 5) / 5; /* with ties */
}

/* Vectors near enough to one another that no softmax is all but one. */
static inputs make_inputs(const loss_case *c) {
    inputs in = {.values = (size_t)c->examples * c->columns * c->width};
    uint32_t state = 12345 + c->examples;
    size_t targets = c->examples;
    if (c->loss.kind == EMB_LOSS_DISTILL) targets *= c->columns * c->loss.teacher_width;
    in.vectors = malloc(in.values * sizeof *in.vectors);
    in.targets = malloc(targets * sizeof *in.targets);
    for (size_t i = 0; i < in.values; i++) {
        state = state * 1664525u + 1013904223u;
        in.vectors[i] = 0.3f + (float)(state >> 8) / (1 << 24);
    }
    for (size_t i = 0; i < targets; i++) in.targets[i] = target(c, i);
    return in;
}

/* ---- in double precision --------------------------------------------------------------------- */

/* The first `width` values of all vectors. points: the units, or for distances of vectors as they
 * are the vectors; d_points is their gradient, d that of the vectors. */
typedef struct plain {
    const loss_case *c;
    uint32_t width;
    double *points, *lengths, *d_points, *d;
} plain;

static double dot(const double *a, const double *b, uint32_t width) {
    double sum = 0;
    for (uint32_t i = 0; i < width; i++) sum += a[i] * b[i];
    return sum;
}

static double cosine(const plain *p, uint32_t a, uint32_t b) {
    return dot(p->points + (size_t)a * p->width, p->points + (size_t)b * p->width, p->width);
}

static void add_gradient(plain *p, uint32_t a, uint32_t b, double d_cosine) {
    uint32_t width = p->width;
    for (uint32_t i = 0; i < width; i++) {
        p->d_points[(size_t)a * width + i] += d_cosine * p->points[(size_t)b * width + i];
        p->d_points[(size_t)b * width + i] += d_cosine * p->points[(size_t)a * width + i];
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

/* The distance of two rows; adds weight times its gradient. */
static double distance(plain *p, uint32_t a, uint32_t b, double weight) {
    uint32_t width = p->width;
    const double *x = p->points + (size_t)a * width, *y = p->points + (size_t)b * width;
    double sum = 0;
    if (p->c->loss.distance == EMB_DISTANCE_COSINE) {
        add_gradient(p, a, b, -weight);
        return 1 - cosine(p, a, b);
    }
    for (uint32_t i = 0; i < width; i++) sum += (x[i] - y[i] + 1e-6) * (x[i] - y[i] + 1e-6);
    for (uint32_t i = 0; i < width; i++) {
        double slope = weight * (x[i] - y[i] + 1e-6) / sqrt(sum);
        p->d_points[(size_t)a * width + i] += slope;
        p->d_points[(size_t)b * width + i] -= slope;
    }
    return sqrt(sum);
}

static double plain_triplet(plain *p, uint32_t a, uint32_t near, uint32_t far, double weight) {
    double value = distance(p, a, near, 0) - distance(p, a, far, 0) + p->c->loss.margin;
    if (value <= 0) return 0;
    distance(p, a, near, weight);
    distance(p, a, far, -weight);
    return weight * value;
}

static double plain_triplets(plain *p) {
    uint32_t n = p->c->examples;
    double loss = 0;
    for (uint32_t k = 2; k < p->c->columns; k++)
        for (uint32_t i = 0; i < n; i++)
            loss += plain_triplet(p, i, n + i, k * n + i, 1.0 / (n * (p->c->columns - 2.0)));
    return loss;
}

static double plain_hardest(plain *p, const float *classes) {
    uint32_t n = p->c->examples, count = 0;
    double loss = 0;
    for (int again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t alike = n, other = n;
            for (uint32_t j = 0; j < n; j++) {
                double far = distance(p, i, j, 0);
                if (classes[i] != classes[j])
                    other = other == n || far < distance(p, i, other, 0) ? j : other;
                else if (i != j)
                    alike = alike == n || far > distance(p, i, alike, 0) ? j : alike;
            }
            if (alike == n || other == n) continue;
            if (!again) count++;
            if (again) loss += plain_triplet(p, i, alike, other, 1.0 / count);
        }
    }
    return loss;
}

static double teacher_cosine(const plain *p, const float *teacher, uint32_t a, uint32_t b) {
    uint32_t n = p->c->examples, width = p->c->loss.teacher_width, columns = p->c->columns;
    const float *x = teacher + ((size_t)(a % n) * columns + a / n) * width;
    const float *y = teacher + ((size_t)(b % n) * columns + b / n) * width;
    double xy = 0, xx = 0, yy = 0;
    for (uint32_t i = 0; i < width; i++) {
        xy += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    return xy / sqrt(xx * yy);
}

static double plain_distill(plain *p, const float *teacher) {
    uint32_t n = p->c->examples, rows = n * p->c->columns;
    double loss = 0, inside = rows * (p->c->columns - 1.0), others = rows * (rows - 1.0) - inside;
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < rows; j++) {
            if (i == j) continue;
            double away = cosine(p, i, j) - teacher_cosine(p, teacher, i, j);
            double weight = 1 / (i % n == j % n ? inside : others);
            loss += weight * away * away;
            add_gradient(p, i, j, 2 * weight * away);
        }
    }
    return loss;
}

static double run_kind(plain *p, const inputs *in) {
    uint32_t n = p->c->examples, rows = n * p->c->columns;
    double weight = (p->c->loss.symmetric ? 0.5 : 1.0) / n;
    switch (p->c->loss.kind) {
    case EMB_LOSS_COSENT:
        return plain_cosent(p, in->targets);
    case EMB_LOSS_COSINE:
        return plain_cosine(p, in->targets);
    case EMB_LOSS_TRIPLET:
        return plain_triplets(p);
    case EMB_LOSS_BATCH_HARD:
        return plain_hardest(p, in->targets);
    case EMB_LOSS_DISTILL:
        return plain_distill(p, in->targets);
    default:
        return plain_ranking(p, 0, n, rows - n, weight) +
               (p->c->loss.symmetric ? plain_ranking(p, n, 0, n, weight) : 0);
    }
}

/* Adds `weight` times the gradient of the loss of the first `width` values. */
static double run_width(plain *p, const inputs *in, uint32_t width, double weight) {
    const loss_case *c = p->c;
    uint32_t rows = c->examples * c->columns;
    bool distances = c->loss.kind == EMB_LOSS_TRIPLET || c->loss.kind == EMB_LOSS_BATCH_HARD;
    bool as_they_are = distances && !c->loss.distance && !c->loss.widths_count;
    p->width = width;
    memset(p->d_points, 0, in->values * sizeof *p->d_points);
    for (uint32_t r = 0; r < rows; r++) {
        double *point = p->points + (size_t)r * width;
        for (uint32_t i = 0; i < width; i++) point[i] = in->vectors[(size_t)r * c->width + i];
        p->lengths[r] = as_they_are ? 1 : sqrt(dot(point, point, width));
        for (uint32_t i = 0; i < width; i++) point[i] /= p->lengths[r];
    }
    double loss = run_kind(p, in);
    for (uint32_t r = 0; r < rows; r++) {
        double *d = p->d_points + (size_t)r * width, *point = p->points + (size_t)r * width;
        double along = as_they_are ? 0 : dot(d, point, width);
        for (uint32_t i = 0; i < width; i++)
            p->d[(size_t)r * c->width + i] += weight * (d[i] - along * point[i]) / p->lengths[r];
    }
    return weight * loss;
}

/* Gives the loss; p->d becomes the gradient of the vectors. */
static double run_plain(plain *p, const inputs *in) {
    const emb_train_loss *l = &p->c->loss;
    double loss = 0, weights = 0;
    memset(p->d, 0, in->values * sizeof *p->d);
    if (!l->widths_count) return run_width(p, in, p->c->width, 1);
    for (uint32_t w = 0; w < l->widths_count; w++) weights += l->width_weights[w];
    for (uint32_t w = 0; w < l->widths_count; w++)
        loss += run_width(p, in, l->widths[w], weights > 0 ? l->width_weights[w] : 1);
    return loss;
}

static plain open_plain(const loss_case *c, size_t values) {
    plain p = {.c = c};
    p.points = malloc(values * sizeof *p.points);
    p.lengths = malloc((size_t)c->examples * c->columns * sizeof *p.lengths);
    p.d_points = malloc(values * sizeof *p.d_points);
    p.d = malloc(values * sizeof *p.d);
    return p;
}

static void close_plain(plain *p) {
    free(p->points);
    free(p->lengths);
    free(p->d_points);
    free(p->d);
}

/* ---- ours ------------------------------------------------------------------------------------ */

static void layout(emb_loss_room *room, emb_team *team, const loss_case *c, uint32_t threads,
                   emb_ledger *ledger) {
    emb_loss_layout(room, &c->loss, c->examples, c->columns, c->width, threads, ledger);
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
    emb_loss_batch batch = {c->examples, c->columns, in->vectors, in->targets, gradients};
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
    free(ours), free(again), free(in.vectors), free(in.targets);
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
        free(in.vectors), free(in.targets);
        close_plain(&p);
        close_plain(&other);
    }
}

/* All labels alike: no pair is to be above another, so there is nothing to learn. */
static void test_equal_labels(void **state) {
    (void)state;
    loss_case c = {{.kind = EMB_LOSS_COSENT, .scale = 20}, 6, 2, 8};
    inputs in = make_inputs(&c);
    float gradients[6 * 2 * 8];
    for (uint32_t i = 0; i < c.examples; i++) in.targets[i] = 0.5f;
    assert_true(run_ours(&c, &in, &emb_train_ref, 1, gradients) == 0);
    for (size_t i = 0; i < in.values; i++) assert_true(gradients[i] == 0);
    free(in.vectors), free(in.targets);
}

/* The whole width with the weight 1 is the loss itself, bit for bit. */
static void test_one_width(void **state) {
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        loss_case c = cases[i], wide = c;
        bool euclidean = c.loss.kind >= EMB_LOSS_TRIPLET && c.loss.kind <= EMB_LOSS_BATCH_HARD &&
                         c.loss.distance == EMB_DISTANCE_EUCLIDEAN;
        if (c.loss.widths_count || euclidean) continue; /* those are of units then */
        inputs in = make_inputs(&c);
        float *first = malloc(in.values * sizeof *first),
              *other = malloc(in.values * sizeof *other);
        wide.loss.widths_count = 1;
        wide.loss.widths[0] = c.width;
        double loss = run_ours(&c, &in, &emb_train_ref, 2, first);
        assert_true(run_ours(&wide, &in, &emb_train_ref, 2, other) == loss);
        assert_memory_equal(first, other, in.values * sizeof *first);
        free(first), free(other), free(in.vectors), free(in.targets);
    }
}

/* Where no text has one of its class beside it, or all are of one class, nothing is learnt. */
static void test_lone_classes(void **state) {
    (void)state;
    loss_case c = {{.kind = EMB_LOSS_BATCH_HARD, .margin = 5}, 6, 1, 8};
    inputs in = make_inputs(&c);
    float gradients[6 * 8];
    for (int alike = 0; alike < 2; alike++) {
        for (uint32_t i = 0; i < c.examples; i++) in.targets[i] = alike ? 3 : (float)i;
        assert_true(run_ours(&c, &in, &emb_train_ref, 1, gradients) == 0);
        for (size_t i = 0; i < in.values; i++) assert_true(gradients[i] == 0);
    }
    free(in.vectors), free(in.targets);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_sums),   cmocka_unit_test(test_plain_kernels),
        cmocka_unit_test(test_best_kernels), cmocka_unit_test(test_equal_labels),
        cmocka_unit_test(test_one_width),    cmocka_unit_test(test_lone_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
