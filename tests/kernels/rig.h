/* rig.h - what the kernel tests share: guarded buffers, random values, a layer in a backend's form
 * and as plain numbers, and the same blocks in double precision.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_KERNELS_RIG_H
#define EMB_TESTS_KERNELS_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

typedef struct rig_counts {
    uint64_t checks, failures;
} rig_counts;

extern rig_counts rig_total;

/* Counts a check; prints the message of the first failures. */
bool rig_check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* bytes at `offset` past a cache line, with a pattern before and after. */
void *rig_take(size_t bytes, size_t offset);
bool rig_intact(const void *buffer);
void rig_give(void *buffer);

void rig_seed(uint32_t seed);
float rig_random(void); /* in [-1, 1) */
void rig_fill(float *values, size_t count, float scale);

/* One layer: plain weights that both sides see, rounded to bf16 if that is the dtype. */
typedef struct rig_layer {
    const emb_backend *backend;
    emb_dtype dtype;
    emb_layer_spec shape;
    uint32_t tokens_max;
    float *weights[4], *biases[4], *gains[2], *shifts[2], *relative;
    emb_layer layer;
    emb_lane_scratch scratch;
    void *arena;
} rig_layer;

typedef struct rig_sizes {
    uint32_t heads, head_dim, intermediate, chunk_tokens_max;
    bool relative;
} rig_sizes;

void rig_layer_open(rig_layer *rig, const emb_backend *backend, emb_dtype dtype,
                    const rig_sizes *sizes, uint32_t tokens_max);
void rig_layer_close(rig_layer *rig);

/* The same in double precision, from the plain weights. */
void rig_oracle_attention(double *out, const float *in, const emb_tile *tile, const rig_layer *rig);
void rig_oracle_ffn(double *out, const float *in, const emb_tile *tile, const rig_layer *rig);
void rig_oracle_norm(double *row, const float *gain, const float *shift, uint32_t hidden,
                     double epsilon);

/* Largest difference, relative to the larger of 1 and the value. */
double rig_difference(const float *got, const double *expected, size_t count);
/* Smallest cosine of any row. */
double rig_cosine(const float *got, const double *expected, size_t rows, size_t cols);

#endif
