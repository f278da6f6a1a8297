/* attention_block.c - attention, norm(x + attention_out(attention(qkv(x)))), for any kernels.
 *
 * Works on one group of heads at a time, so that only that group's queries, keys and values are
 * held; the context of the groups of a slice is multiplied together. Splits tokens, outputs and the
 * sums of slices, which are added in order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/block.h"

enum { QUERIES, KEYS, VALUES };

typedef struct attention_block {
    emb_cpu_block block; /* inner: the context of a slice's heads */
    const emb_tile *tile;
    const emb_layer *layer;
    uint32_t heads, columns; /* of a group: heads that are attended one after another */
    size_t inner_stride;
    float *group; /* [tokens, 3 * columns]: its queries, keys and values. NULL with attention_bytes:
                     each in turn is held where the group's context will be */
    size_t group_stride;
    uint8_t *codes[2]; /* queries and keys with attention_bytes: [tokens, heads, head_dim in
                          sixteens] */
    float *widest[2];  /* [chunks, heads] of the codes */
    size_t code_stride;
    float *work; /* of the attention kernel */
} attention_block;

/* Heads whose columns fill whole panels, so that no panel is computed twice. */
static uint32_t group_heads(const emb_cpu_kernels *kernels, const emb_layer_spec *shape) {
    for (uint32_t heads = 1; heads < shape->heads; heads++) {
        bool whole = heads * shape->head_dim % kernels->panel_rows == 0;
        if (whole && shape->heads % heads == 0) return heads;
    }
    return shape->heads;
}

/* Columns of the heads of a slice: whole groups. */
static uint32_t slice_columns(const emb_cpu_kernels *kernels, uint32_t hidden, uint32_t group) {
    if (!kernels->quantized) return hidden;
    uint32_t groups = EMB_CPU_DOT_CONTEXT / group;
    while (groups > 1 && hidden % (groups * group)) groups--;
    return groups > 1 ? groups * group : group;
}

/* Cuts the buffers from which a group's heads are attended. */
static uintptr_t cut_group(attention_block *a, const emb_cpu_kernels *kernels, uint32_t head_dim,
                           uint32_t tokens, uintptr_t end) {
    if (!kernels->attention_bytes) {
        a->group_stride = (size_t)3 * a->columns;
        a->group = emb_cpu_cut(&end, tokens, a->group_stride, sizeof(float));
        return end;
    }
    a->group_stride = a->inner_stride;
    a->code_stride = a->heads * emb_cpu_code_bytes(head_dim);
    for (uint32_t part = QUERIES; part <= KEYS; part++) {
        a->codes[part] = emb_cpu_cut(&end, tokens + EMB_CPU_CODES_AHEAD, a->code_stride, 1);
        a->widest[part] = emb_cpu_cut(&end, tokens, a->heads, sizeof(float));
    }
    return end;
}

static uintptr_t cut(attention_block *a, const emb_backend *self, const emb_layer_spec *shape,
                     uint32_t tokens, void *memory) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    uint32_t longest = tokens < shape->chunk_tokens_max ? tokens : shape->chunk_tokens_max;
    memset(a, 0, sizeof *a);
    a->heads = group_heads(kernels, shape);
    a->columns = a->heads * shape->head_dim;
    uint32_t slice = slice_columns(kernels, shape->hidden, a->columns);
    a->inner_stride = emb_cpu_inner_stride(kernels, slice);
    uintptr_t end = emb_cpu_block_cut(&a->block, self, shape, tokens, slice, (uintptr_t)memory);
    /* a slice is rounded once its groups are done */
    uintptr_t start = a->block.rounded == a->block.inner ? end : (uintptr_t)a->block.rounded;
    uintptr_t group_end = cut_group(a, kernels, shape->head_dim, tokens, start);
    if (group_end > end) end = group_end;
    a->work = emb_cpu_cut(&end, 1, emb_cpu_attention_work(kernels, shape->head_dim, longest),
                          sizeof(float));
    return end;
}

uint64_t emb_cpu_attention_bytes(const emb_backend *self, const emb_layer_spec *shape,
                                 uint32_t tokens) {
    attention_block a;
    return cut(&a, self, shape, tokens, NULL);
}

/* Where the queries, keys or values of the group that begins with head0 are. */
static float *part_at(const attention_block *a, uint32_t head0, uint32_t part) {
    if (a->group) return a->group + (size_t)part * a->columns;
    return (float *)a->block.inner + head0 * a->block.shape->head_dim % a->block.slice;
}

/* The product that computes them. */
static emb_cpu_product part_of(const attention_block *a, uint32_t head0, uint32_t part) {
    emb_cpu_product product = a->block.product;
    product.column0 = part * a->block.shape->hidden + head0 * a->block.shape->head_dim;
    product.columns = a->columns;
    product.out = part_at(a, head0, part);
    product.out_stride = a->group_stride;
    return product;
}

/* Where the codes of the group's head h and of chunk c are. */
static emb_cpu_codes codes_of(const attention_block *a, uint32_t part, uint32_t c, uint32_t h) {
    size_t at =
        a->tile->starts[c] * a->code_stride + h * emb_cpu_code_bytes(a->block.shape->head_dim);
    return (emb_cpu_codes){a->codes[part] + at, a->code_stride,
                           a->widest[part][(size_t)c * a->heads + h]};
}

static void write_codes(const attention_block *a, uint32_t head0, uint32_t part) {
    uint32_t head_dim = a->block.shape->head_dim;
    const uint32_t *starts = a->tile->starts;
    for (uint32_t c = 0; c < a->tile->chunks; c++) {
        const float *in = part_at(a, head0, part) + starts[c] * a->group_stride;
        for (uint32_t h = 0; h < a->heads; h++, in += head_dim) {
            emb_cpu_codes codes = codes_of(a, part, c, h);
            a->block.kernels->attention_bytes(&codes, in, a->group_stride,
                                              starts[c + 1] - starts[c], head_dim, part == KEYS);
            a->widest[part][(size_t)c * a->heads + h] = codes.widest;
        }
    }
}

/* Queries, keys and values of a group's heads; the first two in bytes, if attention reads bytes. */
static void project_group(const attention_block *a, uint32_t head0) {
    uint32_t head1 = head0 + a->heads;
    for (uint32_t part = QUERIES; part <= VALUES; part++) {
        emb_cpu_product product = part_of(a, head0, part);
        emb_cpu_product next = {.linear = &a->layer->ffn_in};
        if (part < VALUES)
            next = part_of(a, head0, part + 1);
        else if (head1 < a->block.shape->heads)
            next = part_of(a, head1, QUERIES);
        product.next = &next;
        a->block.kernels->product(&product);
        if (a->block.kernels->attention_bytes && part < VALUES) write_codes(a, head0, part);
    }
}

/* Head h of the group, of chunk c. */
static void attend_head(const attention_block *a, uint32_t head0, uint32_t c, uint32_t h) {
    const emb_layer_spec *shape = a->block.shape;
    const emb_cpu_kernels *kernels = a->block.kernels;
    size_t start = a->tile->starts[c], from = start * a->group_stride + h * shape->head_dim;
    uint32_t head = head0 + h, column = head * shape->head_dim % a->block.slice;
    const float *relative = shape->relative;
    if (relative)
        relative += head * (2 * (size_t)shape->chunk_tokens_max - 1) + shape->chunk_tokens_max - 1;
    emb_cpu_attention attention = {
        .queries = part_at(a, head0, QUERIES) + from,
        .keys = part_at(a, head0, KEYS) + from,
        .values = part_at(a, head0, VALUES) + from,
        .stride = a->group_stride,
        .tokens = a->tile->starts[c + 1] - a->tile->starts[c],
        .head_dim = shape->head_dim,
        .scale = 1.0f / sqrtf((float)shape->head_dim),
        .relative = relative,
        .out = (unsigned char *)a->block.inner +
               (start * a->inner_stride + column) * kernels->context_bytes,
        .out_stride = a->inner_stride,
        .work = a->work,
    };
    if (kernels->attention_bytes) {
        attention.query_codes = codes_of(a, QUERIES, c, h);
        attention.key_codes = codes_of(a, KEYS, c, h);
    }
    kernels->attention(&attention);
}

void emb_cpu_attention_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                             const void *in, const emb_tile *tile, const emb_layer *layer,
                             const emb_layer_spec *shape) {
    if (tile->tokens == 0) return;
    attention_block a;
    cut(&a, self, shape, tile->tokens, lane->memory);
    a.tile = tile;
    a.layer = layer;
    a.block.first = &layer->qkv;
    a.block.last = &layer->attention_out;
    a.block.gain = layer->attention_gain;
    a.block.shift = layer->attention_shift;
    a.block.observer = lane->observer;
    emb_cpu_block_begin(&a.block, out, in, tile->tokens);
    uint32_t slice = a.block.slice;
    for (uint32_t head = 0; head < shape->heads; head += a.heads) {
        project_group(&a, head);
        for (uint32_t c = 0; c < tile->chunks; c++)
            for (uint32_t h = 0; h < a.heads; h++) attend_head(&a, head, c, h);
        uint32_t end = (head + a.heads) * shape->head_dim;
        if (end % slice == 0) emb_cpu_block_add(&a.block, end - slice, slice, false, NULL);
    }
}
