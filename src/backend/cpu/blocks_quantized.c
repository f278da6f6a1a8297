/* blocks_quantized.c - the block operations of int8 and int4, for any instruction set's kernels.
 *
 * Nothing of a tile stands whole but its activations and their bytes. The heads of one group at a
 * time are projected, attended and projected back, added to the activations; so are the slices of
 * the feed-forward, a block of tokens at a time. Both quantize what they add slice by slice, with
 * a scale and a zero for each token. Splits tokens and outputs, and sums of slices in their order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/cpu.h"

enum { QUERIES, KEYS, VALUES };

/* What attention_block needs beside its arguments. A group: heads that are attended one behind
 * another; a slice: groups that are quantized together. */
typedef struct attention_buffers {
    uint8_t *in;    /* operands [tokens, hidden] */
    float *context; /* [tokens, slice]; with attention_bytes first a group's queries, keys, values
                       in its columns */
    float *group;   /* otherwise [tokens, 3 * columns] */
    uint8_t *codes[2]; /* with attention_bytes a group's queries and keys, [tokens, heads,
                          head_dim in sixteens] */
    float *widest[2];  /* [chunks, heads] of the codes */
    uint8_t *rounded;  /* operands [tokens, slice] of the context, in place of group or codes */
    float *work;       /* of the attention kernel */
    void *unpacked;    /* of the product kernel */
    uint32_t heads;    /* of one group */
    uint32_t columns, slice;
    size_t in_stride, group_stride, rounded_stride, code_stride;
} attention_buffers;

typedef struct ffn_buffers {
    uint8_t *in;    /* operands [block_rows, hidden] */
    float *full;    /* [block_rows, slice] */
    uint8_t *wide;  /* operands [block_rows, slice] */
    void *unpacked; /* of the product kernel */
    uint32_t slice; /* of the intermediate */
    size_t in_stride, wide_stride;
} ffn_buffers;

static size_t operand_stride(uint32_t cols) {
    return emb_cpu_stride(emb_cpu_dot_depth(cols) + sizeof(emb_cpu_token), 1);
}

/* Columns of the heads of a slice: whole groups. */
static uint32_t slice_columns(const emb_layer_spec *shape, uint32_t group) {
    uint32_t groups = EMB_CPU_DOT_CONTEXT / group;
    while (groups > 1 && shape->hidden % (groups * group)) groups--;
    return groups > 1 ? groups * group : group;
}

static uintptr_t cut_codes(attention_buffers *b, const emb_layer_spec *shape, uint32_t tokens,
                           uintptr_t end) {
    b->code_stride = b->heads * emb_cpu_code_bytes(shape->head_dim);
    for (uint32_t part = QUERIES; part <= KEYS; part++) {
        b->codes[part] = emb_cpu_cut(&end, tokens + EMB_CPU_CODES_AHEAD, b->code_stride, 1);
        b->widest[part] = emb_cpu_cut(&end, tokens, b->heads, sizeof(float));
    }
    return end;
}

static uintptr_t cut_attention(attention_buffers *b, const emb_cpu_kernels *kernels,
                               const emb_layer_spec *shape, emb_dtype dtype, uint32_t tokens,
                               void *base) {
    uintptr_t end = (uintptr_t)base;
    uint32_t longest = tokens < shape->chunk_tokens_max ? tokens : shape->chunk_tokens_max;
    memset(b, 0, sizeof *b);
    b->heads = emb_cpu_group_heads(kernels, shape);
    b->columns = b->heads * shape->head_dim;
    b->slice = slice_columns(shape, b->columns);
    b->in_stride = operand_stride(shape->hidden);
    b->in = emb_cpu_cut(&end, tokens, b->in_stride, 1);
    b->context = emb_cpu_cut(&end, tokens, b->slice, sizeof(float));
    b->rounded_stride = emb_cpu_round_up(emb_cpu_dot_depth(b->slice) + sizeof(emb_cpu_token), 16);
    uintptr_t rounded_end = end;
    b->rounded = emb_cpu_cut(&rounded_end, tokens, b->rounded_stride, 1);
    if (kernels->attention_bytes) {
        b->group_stride = b->slice;
        end = cut_codes(b, shape, tokens, end);
    } else {
        b->group_stride = (size_t)3 * b->columns;
        b->group = emb_cpu_cut(&end, tokens, b->group_stride, sizeof(float));
    }
    end = rounded_end > end ? rounded_end : end;
    b->work = emb_cpu_cut(&end, 1, emb_cpu_attention_work(kernels, shape->head_dim, longest),
                          sizeof(float));
    b->unpacked = emb_cpu_cut(&end, 1, emb_cpu_dot_work(dtype, shape->hidden), 1);
    return end;
}

static uintptr_t cut_ffn(ffn_buffers *b, const emb_cpu_kernels *kernels,
                         const emb_layer_spec *shape, emb_dtype dtype, uint32_t tokens,
                         void *base) {
    uintptr_t end = (uintptr_t)base;
    uint32_t rows = tokens < kernels->block_rows ? tokens : kernels->block_rows;
    b->slice = emb_cpu_dot_slice(shape->intermediate);
    b->in_stride = operand_stride(shape->hidden);
    b->wide_stride = operand_stride(b->slice);
    b->in = emb_cpu_cut(&end, rows, b->in_stride, 1);
    b->full = emb_cpu_cut(&end, rows, b->slice, sizeof(float));
    b->wide = emb_cpu_cut(&end, rows, b->wide_stride, 1);
    uint32_t deepest = shape->hidden > b->slice ? shape->hidden : b->slice;
    b->unpacked = emb_cpu_cut(&end, 1, emb_cpu_dot_work(dtype, deepest), 1);
    return end;
}

void emb_cpu_dot_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                             const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    emb_dtype dtype = self->dtype;
    attention_buffers attention;
    ffn_buffers ffn;
    uint64_t attention_bytes = cut_attention(&attention, kernels, shape, dtype, tokens, NULL);
    uint64_t ffn_bytes = cut_ffn(&ffn, kernels, shape, dtype, tokens, NULL);
    /* the two blocks never run at the same time on a lane: one buffer serves both */
    uint64_t bytes = attention_bytes > ffn_bytes ? attention_bytes : ffn_bytes;
    memset(lane, 0, sizeof *lane);
    lane->tokens_max = tokens;
    lane->memory = emb_ledger_take(ledger, bytes, 1);
}

/* A slice of a wide input begins at col `first`; smooth is of the whole. */
static const float *smooth_at(const emb_linear *linear, uint32_t first) {
    return linear->smooth ? linear->smooth + first : NULL;
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Where the group that begins with head0 has its queries, keys or values. */
static float *part_at(const attention_buffers *b, const emb_layer_spec *shape, uint32_t head0,
                      uint32_t part) {
    if (b->group) return b->group + (size_t)part * b->columns;
    return b->context + head0 * shape->head_dim % b->slice;
}

/* The product that gives them. */
static emb_cpu_product part_of(const attention_buffers *b, const emb_layer *layer,
                               const emb_layer_spec *shape, uint32_t tokens, uint32_t head0,
                               uint32_t part) {
    return (emb_cpu_product){
        .linear = &layer->qkv,
        .column0 = part * shape->hidden + head0 * shape->head_dim,
        .columns = b->columns,
        .rows = tokens,
        .in = b->in,
        .in_stride = b->in_stride,
        .out = part_at(b, shape, head0, part),
        .out_stride = b->group_stride,
        .work = b->unpacked,
    };
}

/* Where head h of chunk c has its codes. */
static emb_cpu_codes codes_of(const attention_buffers *b, const emb_tile *tile,
                              const emb_layer_spec *shape, uint32_t part, uint32_t c, uint32_t h) {
    size_t row = tile->starts[c];
    return (emb_cpu_codes){b->codes[part] + row * b->code_stride +
                               h * emb_cpu_code_bytes(shape->head_dim),
                           b->code_stride, b->widest[part][(size_t)c * b->heads + h]};
}

static void write_codes(const emb_cpu_kernels *kernels, const attention_buffers *b,
                        const emb_tile *tile, const emb_layer_spec *shape, uint32_t head0,
                        uint32_t part) {
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t tokens = tile->starts[c + 1] - tile->starts[c];
        const float *in = part_at(b, shape, head0, part) + tile->starts[c] * b->group_stride;
        for (uint32_t h = 0; h < b->heads; h++, in += shape->head_dim) {
            emb_cpu_codes codes = codes_of(b, tile, shape, part, c, h);
            kernels->attention_bytes(&codes, in, b->group_stride, tokens, shape->head_dim,
                                     part == KEYS);
            b->widest[part][(size_t)c * b->heads + h] = codes.widest;
        }
    }
}

/* Queries, keys and values of a group's heads; the first two in bytes, if attention wants that. */
static void project_group(const emb_cpu_kernels *kernels, const attention_buffers *b,
                          const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape,
                          uint32_t head0) {
    uint32_t head1 = head0 + b->heads;
    emb_cpu_product parts[4];
    for (uint32_t part = QUERIES; part <= VALUES; part++) {
        parts[part] = part_of(b, layer, shape, tile->tokens, head0, part);
        parts[part].next = &parts[part + 1];
    }
    parts[VALUES + 1] = (emb_cpu_product){.linear = &layer->ffn_in};
    if (head1 < shape->heads)
        parts[VALUES + 1] = part_of(b, layer, shape, tile->tokens, head1, QUERIES);
    for (uint32_t part = QUERIES; part <= VALUES; part++) {
        kernels->product(&parts[part]);
        if (kernels->attention_bytes && part != VALUES)
            write_codes(kernels, b, tile, shape, head0, part);
    }
}

/* Head h of the group, of chunk c. */
static void attend_head(const emb_cpu_kernels *kernels, const attention_buffers *b,
                        const emb_tile *tile, const emb_layer_spec *shape, uint32_t head0,
                        uint32_t c, uint32_t h) {
    size_t start = tile->starts[c], column = (size_t)h * shape->head_dim;
    size_t from = start * b->group_stride + column;
    const float *relative = shape->relative;
    if (relative)
        relative += (size_t)(head0 + h) * (2 * (size_t)shape->chunk_tokens_max - 1) +
                    shape->chunk_tokens_max - 1;
    emb_cpu_attention attention = {
        .values = part_at(b, shape, head0, VALUES) + from,
        .stride = b->group_stride,
        .tokens = tile->starts[c + 1] - tile->starts[c],
        .head_dim = shape->head_dim,
        .scale = 1.0f / sqrtf((float)shape->head_dim),
        .relative = relative,
        .out = b->context + start * b->slice + head0 * shape->head_dim % b->slice + column,
        .out_stride = b->slice,
        .work = b->work,
    };
    if (kernels->attention_bytes) {
        attention.query_codes = codes_of(b, tile, shape, QUERIES, c, h);
        attention.key_codes = codes_of(b, tile, shape, KEYS, c, h);
    } else {
        attention.queries = part_at(b, shape, head0, QUERIES) + from;
        attention.keys = part_at(b, shape, head0, KEYS) + from;
    }
    kernels->attention(&attention);
}

/* out += the share that the heads of a slice have in the block's output. */
static void add_heads(const emb_cpu_kernels *kernels, const attention_buffers *b, float *out,
                      const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape,
                      uint32_t first) {
    uint32_t tokens = tile->tokens, end = first + b->slice / shape->head_dim;
    for (uint32_t head = first; head < end; head += b->heads) {
        project_group(kernels, b, tile, layer, shape, head);
        for (uint32_t c = 0; c < tile->chunks; c++)
            for (uint32_t h = 0; h < b->heads; h++)
                attend_head(kernels, b, tile, shape, head, c, h);
    }
    emb_cpu_product product = {
        .linear = &layer->attention_out,
        .columns = shape->hidden,
        .col0 = first * shape->head_dim,
        .cols = b->slice,
        .rows = tokens,
        .in = b->rounded,
        .in_stride = b->rounded_stride,
        .out = out,
        .out_stride = shape->hidden,
        .add = true,
        .work = b->unpacked,
    };
    kernels->operands(b->rounded, b->rounded_stride, b->context, tokens, b->slice,
                      smooth_at(&layer->attention_out, product.col0));
    kernels->product(&product);
}

void emb_cpu_dot_attention_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                                 const void *in, const emb_tile *tile, const emb_layer *layer,
                                 const emb_layer_spec *shape) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    float *x = out;
    if (tile->tokens == 0) return;
    attention_buffers b;
    uint32_t tokens = tile->tokens, hidden = shape->hidden;
    cut_attention(&b, kernels, shape, layer->qkv.dtype, tokens, lane->memory);
    kernels->operands(b.in, b.in_stride, in, tokens, hidden, layer->qkv.smooth);
    if (out != in) memcpy(out, in, (size_t)tokens * hidden * sizeof *x);
    for (uint32_t head = 0; head < shape->heads; head += b.slice / shape->head_dim)
        add_heads(kernels, &b, x, tile, layer, shape, head);
    emb_cpu_norm norm = {layer->attention_gain, layer->attention_shift, hidden, shape->norm_epsilon,
                         0};
    kernels->norm(x, x, layer->attention_out.bias, tokens, &norm);
}

/* ---- feed-forward ---------------------------------------------------------------------------- */

/* out += what `count` values of the intermediate from `first` on have in the block's output. */
static void add_slice(const emb_cpu_kernels *kernels, const ffn_buffers *b, float *out,
                      uint32_t rows, const emb_layer *layer, const emb_layer_spec *shape,
                      uint32_t first, uint32_t count) {
    const emb_cpu_product after = {
        .linear = &layer->ffn_in,
        .column0 = first + count < shape->intermediate ? first + count : 0,
    };
    const emb_cpu_product narrow = {
        .linear = &layer->ffn_out,
        .columns = shape->hidden,
        .col0 = first,
        .cols = count,
        .rows = rows,
        .in = b->wide,
        .in_stride = b->wide_stride,
        .out = out,
        .out_stride = shape->hidden,
        .add = true,
        .work = b->unpacked,
        .next = &after,
    };
    const emb_cpu_product widen = {
        .linear = &layer->ffn_in,
        .column0 = first,
        .columns = count,
        .rows = rows,
        .in = b->in,
        .in_stride = b->in_stride,
        .out = b->full,
        .out_stride = count,
        .gelu = !kernels->gelu_operands,
        .work = b->unpacked,
        .next = &narrow,
    };
    kernels->product(&widen);
    (kernels->gelu_operands ? kernels->gelu_operands : kernels->operands)(
        b->wide, b->wide_stride, b->full, rows, count, smooth_at(&layer->ffn_out, first));
    kernels->product(&narrow);
}

void emb_cpu_dot_ffn_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                           const void *in, const emb_tile *tile, const emb_layer *layer,
                           const emb_layer_spec *shape) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    if (tile->tokens == 0) return;
    ffn_buffers b;
    uint32_t hidden = shape->hidden, wide = shape->intermediate;
    cut_ffn(&b, kernels, shape, layer->ffn_in.dtype, tile->tokens, lane->memory);
    emb_cpu_norm norm = {layer->ffn_gain, layer->ffn_shift, hidden, shape->norm_epsilon, 0};
    uint32_t step = emb_cpu_even_rows(tile->tokens, kernels->block_rows);
    for (uint32_t t = 0; t < tile->tokens; t += step) {
        uint32_t rows = tile->tokens - t < step ? tile->tokens - t : step;
        float *to = (float *)out + (size_t)t * hidden;
        const float *from = (const float *)in + (size_t)t * hidden;
        kernels->operands(b.in, b.in_stride, from, rows, hidden, layer->ffn_in.smooth);
        if (to != from) memcpy(to, from, (size_t)rows * hidden * sizeof *to);
        for (uint32_t first = 0; first < wide; first += b.slice)
            add_slice(kernels, &b, to, rows, layer, shape, first,
                      wide - first < b.slice ? wide - first : b.slice);
        kernels->norm(to, to, layer->ffn_out.bias, rows, &norm);
    }
}
