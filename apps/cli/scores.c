/* scores.c - Pearson and Spearman correlation. Sorts by heap, because qsort may allocate.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/scores.h"

#include <math.h>

double emb_scores_cosine(const float *a, const float *b, uint32_t dim) {
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < dim; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

double emb_scores_pearson(const double *a, const double *b, uint32_t count) {
    double mean_a = 0, mean_b = 0, ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < count; i++) {
        mean_a += a[i] / count;
        mean_b += b[i] / count;
    }
    for (uint32_t i = 0; i < count; i++) {
        double x = a[i] - mean_a, y = b[i] - mean_b;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* Sifts the entry at `root` down until the heap property holds. */
static void sink(uint32_t *order, const double *values, uint32_t root, uint32_t count) {
    uint32_t moving = order[root];
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= count) break;
        if (child + 1 < count && values[order[child + 1]] > values[order[child]]) child++;
        if (values[order[child]] <= values[moving]) break;
        order[root] = order[child];
        root = child;
    }
    order[root] = moving;
}

static void rank(double *ranks, const double *values, uint32_t count, uint32_t *order) {
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t i = count / 2; i-- > 0;) sink(order, values, i, count);
    for (uint32_t end = count; end-- > 1;) {
        uint32_t largest = order[0];
        order[0] = order[end];
        order[end] = largest;
        sink(order, values, 0, end);
    }
    for (uint32_t start = 0; start < count;) {
        uint32_t end = start + 1;
        while (end < count && values[order[end]] == values[order[start]]) end++;
        double shared = ((double)start + (double)end - 1) / 2 + 1;
        for (; start < end; start++) ranks[order[start]] = shared;
    }
}

double emb_scores_spearman(const double *a, const double *b, uint32_t count, double *ranks_a,
                           double *ranks_b, uint32_t *order) {
    rank(ranks_a, a, count, order);
    rank(ranks_b, b, count, order);
    return emb_scores_pearson(ranks_a, ranks_b, count);
}
