/* vector.h - the length of a vector, and normalising it: the only implementation, so the only
 * rounding.
 *
 * Inline, so that the Python extension, which sees only the library's public calls, has the same
 * bits.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_VECTOR_H
#define EMB_BASE_VECTOR_H

#include <math.h>
#include <stddef.h>

/* The square root of the sum of squares, in f64 and in order. */
static inline double emb_vector_length(const float *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* Divides by the length, in f64; by 1e-12 if that is larger, so that zeros stay zeros. Values that
 * are not finite stay so. */
static inline void emb_vector_normalize(float *values, size_t count) {
    double length = emb_vector_length(values, count);
    if (length < 1e-12) length = 1e-12;
    for (size_t i = 0; i < count; i++) values[i] = (float)(values[i] / length);
}

#endif
