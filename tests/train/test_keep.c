/* test_keep.c - what is kept of a batch's activations: never beyond the bytes, and as good as the
 * best of all ways to spend them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "train/keep.h"

enum { TILES = 9 };

/* Passes forward that are computed again, tile by tile. */
static double again(const emb_keep_costs *c, const emb_train_sizes *s) {
    double sum = 0;
    for (uint32_t tile = 0; tile < c->tiles; tile++) {
        uint32_t slab = tile < s->slabs ? tile : s->slabs - 1;
        if (tile + 1 >= s->slabs && tile + 1 < c->tiles) sum += c->sums.share;
        if (slab + s->attention_slabs < s->slabs) sum += c->attention.share;
        if (slab + s->ffn_slabs < s->slabs) sum += c->ffn.share;
    }
    return sum;
}

static uint64_t bytes_of(const emb_keep_costs *c, const emb_train_sizes *s) {
    return (s->slabs - 1) * c->sums.bytes + s->attention_slabs * c->attention.bytes +
           s->ffn_slabs * c->ffn.bytes;
}

/* The least that any choice within the bytes computes again. */
static double least(const emb_keep_costs *c, uint64_t bytes) {
    double best = 1e9;
    emb_train_sizes s = {0};
    bool attention = c->attention.bytes, ffn = c->ffn.bytes;
    for (s.slabs = 1; s.slabs <= c->tiles; s.slabs++)
        for (s.attention_slabs = 0; s.attention_slabs <= attention * s.slabs; s.attention_slabs++)
            for (s.ffn_slabs = 0; s.ffn_slabs <= ffn * s.slabs; s.ffn_slabs++)
                if (bytes_of(c, &s) <= bytes && again(c, &s) < best) best = again(c, &s);
    return best;
}

static void test_choice(void **state) {
    static const emb_keep_costs costs[] = {
        {TILES, {325, 1}, {618, 0.3}, {600, 0.32}}, /* six layers, 384 wide */
        {TILES, {100, 1}, {300, 0.3}, {100, 0.3}},
        {TILES, {100, 1}, {0, 0.3}, {0, 0.3}}, /* operations that keep nothing */
        {1, {325, 1}, {618, 0.3}, {600, 0.32}},
    };
    (void)state;
    for (uint32_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        double before = 1e9;
        for (uint64_t bytes = 0; bytes < TILES * 1600; bytes += 50) {
            emb_train_sizes sizes = {.tokens = 7};
            emb_train_keep_choose(&sizes, &costs[i], bytes);
            assert_true(sizes.tokens == 7 && sizes.slabs >= 1 && sizes.slabs <= costs[i].tiles);
            assert_true(sizes.attention_slabs <= sizes.slabs && sizes.ffn_slabs <= sizes.slabs);
            assert_true(bytes_of(&costs[i], &sizes) <= bytes);
            double cost = again(&costs[i], &sizes);
            assert_true(cost <= least(&costs[i], bytes) + 1e-9 && cost <= before);
            before = cost;
        }
        assert_true(costs[i].attention.bytes == 0 || before < 1e-9);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
