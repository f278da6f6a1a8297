/* scores.h - cosine of two vectors, correlation of two lists of numbers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_SCORES_H
#define EMB_CLI_SCORES_H

#include <stdint.h>

/* NaN if one of the vectors [dim] has no length. */
double emb_scores_cosine(const float *a, const float *b, uint32_t dim);

/* NaN if one of the lists is constant. */
double emb_scores_pearson(const double *a, const double *b, uint32_t count);

/* Pearson of the ranks; equal values share the mean of their ranks.
 * Needs: two arrays of `count` ranks and one of `count` places to work in. */
double emb_scores_spearman(const double *a, const double *b, uint32_t count, double *ranks_a,
                           double *ranks_b, uint32_t *order);

#endif
