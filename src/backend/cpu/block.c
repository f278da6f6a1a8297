/* block.c - how a block begins, and how its slices are added to its output: see block.h.
 *
 * The order in which sums, bias and x are added up is part of the numerics.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/block.h"

/* Values between rows of operands. A quantized row's scale and zero, after its values, keep strides
 * off those that emb_cpu_stride avoids. */
static size_t operand_stride(const emb_cpu_kernels *kernels, uint32_t cols) {
    if (kernels->quantized)
        return emb_cpu_round_up(emb_cpu_dot_depth(cols) + sizeof(emb_cpu_token), 16);
    return emb_cpu_stride(cols, kernels->operand_bytes);
}

size_t emb_cpu_inner_stride(const emb_cpu_kernels *kernels, uint32_t cols) {
    return kernels->quantized ? cols : operand_stride(kernels, cols);
}

uintptr_t emb_cpu_block_cut(emb_cpu_block *b, const emb_backend *self, const emb_layer_spec *shape,
                            uint32_t rows, uint32_t slice, uintptr_t end) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    size_t bytes = kernels->operand_bytes;
    *b = (emb_cpu_block){.kernels = kernels, .shape = shape, .slice = slice};
    if (kernels->operands)
        b->operands = emb_cpu_cut(&end, rows, operand_stride(kernels, shape->hidden), bytes);
    b->inner =
        emb_cpu_cut(&end, rows, emb_cpu_inner_stride(kernels, slice), kernels->context_bytes);
    if (kernels->quantized) {
        uint32_t deepest = shape->hidden > slice ? shape->hidden : slice;
        b->unpacked = emb_cpu_cut(&end, 1, emb_cpu_dot_work(self->dtype, deepest), 1);
        b->rounded = emb_cpu_cut(&end, rows, operand_stride(kernels, slice), bytes);
    } else {
        uint32_t step = rows < kernels->block_rows ? rows : kernels->block_rows;
        b->projected = emb_cpu_cut(&end, step, shape->hidden, sizeof(float));
        b->rounded = b->inner;
    }
    return end;
}

/* Calls the observer with a matrix's input. */
static void show(const emb_cpu_block *b, const emb_cpu_product *p) {
    if (!b->observer || b->kernels->operands) return;
    b->observer->see(b->observer->user, p->linear, p->in, p->in_stride, p->rows);
}

void emb_cpu_block_begin(emb_cpu_block *b, float *out, const float *x, uint32_t rows) {
    const emb_cpu_kernels *kernels = b->kernels;
    uint32_t hidden = b->shape->hidden;
    b->rows = rows;
    b->x = x;
    b->out = out;
    b->product = (emb_cpu_product){
        .linear = b->first, .rows = rows, .in = x, .in_stride = hidden, .work = b->unpacked};
    if (kernels->operands) {
        b->product.in = b->operands;
        b->product.in_stride = operand_stride(kernels, hidden);
        kernels->operands(b->operands, b->product.in_stride, x, rows, hidden, b->first->smooth);
    }
    show(b, &b->product);
    if (kernels->quantized && out != x) memcpy(out, x, (size_t)rows * hidden * sizeof *out);
}

/* Zeroes what pads the rows of operands to a whole step of depth: a kernel multiplies it by a
 * weight of zero, and zero times garbage from an earlier use could be NaN. */
static void clear_padding(const emb_cpu_kernels *kernels, void *operands, size_t stride,
                          uint32_t rows, uint32_t cols) {
    size_t bytes = kernels->operand_bytes, pad = emb_cpu_packed_depth(kernels, cols) - cols;
    if (pad == 0) return;
    for (uint32_t r = 0; r < rows; r++)
        memset((unsigned char *)operands + (r * stride + cols) * bytes, 0, pad * bytes);
}

/* Rounds a slice of inner to the operands that `last` reads. */
static void round_slice(const emb_cpu_block *b, uint32_t col0, uint32_t cols, bool gelu) {
    const emb_cpu_kernels *kernels = b->kernels;
    size_t stride = operand_stride(kernels, cols);
    if (!kernels->quantized) {
        clear_padding(kernels, b->rounded, stride, b->rows, cols);
        return;
    }
    const float *smooth = b->last->smooth ? b->last->smooth + col0 : NULL;
    (gelu ? kernels->gelu_operands : kernels->operands)(b->rounded, stride, b->inner, b->rows, cols,
                                                        smooth);
}

/* Norms rows [row0, row0 + rows) into out. */
static void norm_rows(const emb_cpu_block *b, uint32_t row0, uint32_t rows) {
    uint32_t hidden = b->shape->hidden;
    emb_cpu_norm norm = {b->gain, b->shift, hidden, b->shape->norm_epsilon, 0};
    float *out = b->out + (size_t)row0 * hidden;
    if (!b->projected) {
        b->kernels->norm(out, out, b->last->bias, rows, &norm);
        return;
    }
    norm.add_stride = hidden;
    b->kernels->norm(out, b->x + (size_t)row0 * hidden, b->projected, rows, &norm);
}

void emb_cpu_block_add(const emb_cpu_block *b, uint32_t col0, uint32_t cols, bool gelu,
                       const emb_cpu_product *next) {
    const emb_cpu_kernels *kernels = b->kernels;
    uint32_t hidden = b->shape->hidden;
    size_t stride = operand_stride(kernels, cols);
    round_slice(b, col0, cols, gelu);
    /* where products add to out, all rows go at once: weights are read once */
    uint32_t step = b->projected ? emb_cpu_even_rows(b->rows, kernels->block_rows) : b->rows;
    for (uint32_t t = 0; t < b->rows; t += step) {
        emb_cpu_product product = {
            .linear = b->last,
            .columns = hidden,
            .col0 = col0,
            .cols = cols,
            .rows = b->rows - t < step ? b->rows - t : step,
            .in = (unsigned char *)b->rounded + t * stride * kernels->operand_bytes,
            .in_stride = stride,
            .out = b->projected ? b->projected : b->out + (size_t)t * hidden,
            .out_stride = hidden,
            .add = !b->projected,
            .work = b->unpacked,
            .next = next,
        };
        show(b, &product);
        kernels->product(&product);
        if (col0 + cols == b->last->cols) norm_rows(b, t, product.rows);
    }
}
