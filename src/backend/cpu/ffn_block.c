/* ffn_block.c - the feed-forward, norm(x + ffn_out(gelu(ffn_in(x)))), for any kernels.
 *
 * Works in blocks of tokens, so that the intermediate stays in the cache, and within them in slices
 * of the intermediate.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/block.h"

static uintptr_t cut(emb_cpu_block *b, const emb_backend *self, const emb_layer_spec *shape,
                     uint32_t tokens, void *memory) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    uint32_t rows = tokens < kernels->block_rows ? tokens : kernels->block_rows;
    uint32_t slice = shape->intermediate;
    if (kernels->quantized) slice = emb_cpu_dot_slice(slice);
    return emb_cpu_block_cut(b, self, shape, rows, slice, (uintptr_t)memory);
}

uint64_t emb_cpu_ffn_bytes(const emb_backend *self, const emb_layer_spec *shape, uint32_t tokens) {
    emb_cpu_block b;
    return cut(&b, self, shape, tokens, NULL);
}

/* Computes `cols` values of the intermediate, from col0 on, and adds their product. */
static void add_slice(const emb_cpu_block *b, uint32_t col0, uint32_t cols) {
    uint32_t end = col0 + cols;
    emb_cpu_product down = {.linear = b->last, .col0 = col0, .cols = cols};
    emb_cpu_product after = {.linear = b->first, .column0 = end < b->last->cols ? end : 0};
    emb_cpu_product up = b->product;
    up.column0 = col0;
    up.columns = cols;
    up.out = b->inner;
    up.out_stride = emb_cpu_inner_stride(b->kernels, cols);
    up.gelu = !b->kernels->gelu_operands;
    up.next = &down;
    b->kernels->product(&up);
    emb_cpu_block_add(b, col0, cols, !up.gelu, &after);
}

void emb_cpu_ffn_block(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                       const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape) {
    if (tile->tokens == 0) return;
    emb_cpu_block b;
    cut(&b, self, shape, tile->tokens, lane->memory);
    b.first = &layer->ffn_in;
    b.last = &layer->ffn_out;
    b.gain = layer->ffn_gain;
    b.shift = layer->ffn_shift;
    b.observer = lane->observer;
    uint32_t step = emb_cpu_even_rows(tile->tokens, b.kernels->block_rows);
    for (uint32_t t = 0; t < tile->tokens; t += step) {
        uint32_t rows = tile->tokens - t < step ? tile->tokens - t : step;
        size_t at = (size_t)t * shape->hidden;
        emb_cpu_block_begin(&b, (float *)out + at, (const float *)in + at, rows);
        for (uint32_t col = 0; col < shape->intermediate; col += b.slice) {
            uint32_t left = shape->intermediate - col;
            add_slice(&b, col, left < b.slice ? left : b.slice);
        }
    }
}
