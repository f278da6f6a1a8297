/* block.h - what attention and feed-forward have in common: norm(x + last(inner(first(x)))).
 *
 * What is between the two matrices, attention's context or the intermediate after GELU, is computed
 * in slices of cols, each multiplied by its cols of `last` before the next is computed. Within the
 * blocks dtypes differ only in this:
 *              slices                  written by kernels as   products give    norm adds
 *  f32, bf16   one, of all cols        operands                a sum and bias   x
 *  int8, int4  of cols with one scale  f32, to be rounded      x and a sum      bias
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CPU_BLOCK_H
#define EMB_BACKEND_CPU_BLOCK_H

#include "backend/cpu/cpu.h"

/* A block's state for some rows. */
typedef struct emb_cpu_block {
    /* from cut */
    const emb_cpu_kernels *kernels;
    const emb_layer_spec *shape;
    uint32_t slice;   /* cols of a slice; the last one may have fewer */
    void *operands;   /* [rows, hidden] of x; NULL where operands are f32, as x is */
    void *inner;      /* [rows, slice] as kernels write it */
    void *rounded;    /* [rows, slice] inner as operands; inner itself, unless quantized */
    float *projected; /* sums [block_rows, hidden]; NULL if quantized: they are added to x in out */
    void *unpacked;   /* of the product kernel */
    /* set after cut */
    const emb_linear *first, *last;
    const float *gain, *shift; /* [hidden] */
    const emb_observer *observer;
    /* from begin */
    uint32_t rows;
    const float *x;          /* [rows, hidden] */
    float *out;              /* [rows, hidden]; may be x */
    emb_cpu_product product; /* of x by `first`; the outputs and their destination are set later */
} emb_cpu_block;

/* Cuts a block's buffers off a scratch, from `end` on, and gives where they end; `rounded`, if it
 * is not `inner`, is the last of them: its place may be used otherwise until add. */
uintptr_t emb_cpu_block_cut(emb_cpu_block *b, const emb_backend *self, const emb_layer_spec *shape,
                            uint32_t rows, uint32_t slice, uintptr_t end);

/* Values between rows of inner, for a slice of so many cols. */
size_t emb_cpu_inner_stride(const emb_cpu_kernels *kernels, uint32_t cols);

/* Takes x as operands and, where products add, as what they add to. */
void emb_cpu_block_begin(emb_cpu_block *b, float *out, const float *x, uint32_t rows);

/* Multiplies the slice of `cols` from `col0` on, held in inner, by `last`; norm follows the last
 * slice. gelu: rounds GELU of it, as gelu_operands does. next: see emb_cpu_product. */
void emb_cpu_block_add(const emb_cpu_block *b, uint32_t col0, uint32_t cols, bool gelu,
                       const emb_cpu_product *next);

/* Rows per step when `rows` are cut into as few steps as allowed, as equal as possible. */
static inline uint32_t emb_cpu_even_rows(uint32_t rows, uint32_t step_max) {
    uint32_t steps = (rows + step_max - 1) / step_max;
    return (rows + steps - 1) / steps;
}

#endif
