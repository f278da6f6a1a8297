/* blocks.c - the block operations of f32 and bf16, written once for any instruction set's kernels.
 *
 * Attention goes head group by head group, so that queries, keys and values of one group exist at
 * a time and not those of all heads; projections and the feed-forward go in blocks of tokens, so
 * that their intermediates stay in the cache. Splits tokens and outputs only, never a sum.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "backend/cpu/cpu.h"

/* What attention_block needs beside its arguments. */
typedef struct attention_buffers {
    const emb_observer *observer;
    void *in;       /* operands [tokens, hidden]; unused where operands are f32 */
    float *group;   /* [tokens, 3 * group_dim] */
    void *context;  /* operands [tokens, hidden] */
    float *narrow;  /* [block_rows, hidden] */
    float *work;    /* of the attention kernel */
    uint32_t heads; /* of one group */
    size_t group_stride, operand_stride;
} attention_buffers;

typedef struct ffn_buffers {
    void *in;      /* operands [block_rows, hidden]; unused where operands are f32 */
    void *wide;    /* operands [block_rows, intermediate] */
    float *narrow; /* [block_rows, hidden] */
    size_t operand_stride, wide_stride;
    const emb_observer *observer;
} ffn_buffers;

/* Shows what a matrix is about to be applied to. */
static void show(const emb_observer *observer, const emb_cpu_kernels *kernels,
                 const emb_cpu_product *p) {
    if (!observer || kernels->operands) return;
    observer->see(observer->user, p->linear, p->in, p->in_stride, p->rows);
}

/* Zeroes what pads the rows of operands to a whole step of depth: a kernel multiplies it by a
 * weight of zero, and zero times the rubbish of an earlier use could be NaN. */
static void clear_padding(const emb_cpu_kernels *kernels, void *operands, size_t stride,
                          uint32_t rows, uint32_t cols) {
    size_t bytes = kernels->operand_bytes, pad = emb_cpu_packed_depth(kernels, cols) - cols;
    if (pad == 0) return;
    for (uint32_t r = 0; r < rows; r++)
        memset((unsigned char *)operands + (r * stride + cols) * bytes, 0, pad * bytes);
}

/* Values between rows of operands. */
static size_t operand_stride(const emb_cpu_kernels *kernels, uint32_t cols) {
    return emb_cpu_stride(cols, kernels->operand_bytes);
}

uint32_t emb_cpu_group_heads(const emb_cpu_kernels *kernels, const emb_layer_spec *shape) {
    for (uint32_t heads = 1; heads < shape->heads; heads++) {
        bool whole = heads * shape->head_dim % kernels->panel_rows == 0;
        if (whole && shape->heads % heads == 0) return heads;
    }
    return shape->heads;
}

static uintptr_t cut_attention(attention_buffers *b, const emb_cpu_kernels *kernels,
                               const emb_layer_spec *shape, uint32_t tokens, void *base) {
    uintptr_t end = (uintptr_t)base;
    uint32_t rows = tokens < kernels->block_rows ? tokens : kernels->block_rows;
    b->heads = emb_cpu_group_heads(kernels, shape);
    b->group_stride = emb_cpu_stride((size_t)3 * b->heads * shape->head_dim, sizeof(float));
    b->operand_stride = operand_stride(kernels, shape->hidden);
    b->in = NULL;
    if (kernels->operands)
        b->in = emb_cpu_cut(&end, tokens, b->operand_stride, kernels->operand_bytes);
    b->group = emb_cpu_cut(&end, tokens, b->group_stride, sizeof(float));
    b->context = emb_cpu_cut(&end, tokens, b->operand_stride, kernels->operand_bytes);
    b->narrow = emb_cpu_cut(&end, rows, shape->hidden, sizeof(float));
    uint32_t longest = tokens < shape->chunk_tokens_max ? tokens : shape->chunk_tokens_max;
    b->work = emb_cpu_cut(&end, 1, emb_cpu_attention_work(kernels, shape->head_dim, longest),
                          sizeof(float));
    return end;
}

static uintptr_t cut_ffn(ffn_buffers *b, const emb_cpu_kernels *kernels,
                         const emb_layer_spec *shape, uint32_t tokens, void *base) {
    uintptr_t end = (uintptr_t)base;
    uint32_t rows = tokens < kernels->block_rows ? tokens : kernels->block_rows;
    b->operand_stride = operand_stride(kernels, shape->hidden);
    b->wide_stride = operand_stride(kernels, shape->intermediate);
    b->in = NULL;
    if (kernels->operands)
        b->in = emb_cpu_cut(&end, rows, b->operand_stride, kernels->operand_bytes);
    b->wide = emb_cpu_cut(&end, rows, b->wide_stride, kernels->operand_bytes);
    b->narrow = emb_cpu_cut(&end, rows, shape->hidden, sizeof(float));
    return end;
}

const char *emb_cpu_supports(const emb_backend *self, const emb_layer_spec *spec) {
    (void)self;
    return emb_spec_beyond_bert(spec);
}

void emb_cpu_linear_layout(const emb_backend *self, emb_linear *linear, uint32_t rows,
                           uint32_t cols, emb_dtype dtype, emb_ledger *ledger) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    linear->rows = rows;
    linear->cols = cols;
    linear->dtype = dtype;
    uint64_t padded = emb_cpu_round_up(rows, kernels->panel_rows);
    if (kernels->quantized)
        emb_cpu_dot_layout(linear, ledger);
    else
        linear->packed = emb_ledger_take(
            ledger, padded, emb_cpu_packed_depth(kernels, cols) * kernels->weight_bytes);
    linear->bias = emb_ledger_take(ledger, rows, sizeof(float));
    linear->bias_narrow = NULL;
}

void emb_cpu_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                  const float *values) {
    emb_cpu_kernels_of(self)->pack(linear, row0, rows, values);
}

void emb_cpu_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                         const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    attention_buffers attention;
    ffn_buffers ffn;
    uint64_t attention_bytes = cut_attention(&attention, kernels, shape, tokens, NULL);
    uint64_t ffn_bytes = cut_ffn(&ffn, kernels, shape, tokens, NULL);
    /* the two blocks never run at the same time on a lane: one buffer serves both */
    uint64_t bytes = attention_bytes > ffn_bytes ? attention_bytes : ffn_bytes;
    memset(lane, 0, sizeof *lane);
    lane->tokens_max = tokens;
    lane->memory = emb_ledger_take(ledger, bytes, 1);
}

/* ---- embed ----------------------------------------------------------------------------------- */

static void add_word(float *out, const emb_embedding *embedding, uint32_t id, uint32_t position,
                     uint32_t hidden) {
    const float *place = embedding->positions + (size_t)position * hidden;
    if (emb_dtype_quantized(embedding->dtype)) {
        uint64_t row_bytes = emb_dtype_row_bytes(embedding->dtype, hidden);
        const int8_t *word = (const int8_t *)embedding->words + id * row_bytes;
        float scale;
        memcpy(&scale, word + emb_dtype_scale_at(hidden), sizeof scale);
        for (uint32_t i = 0; i < hidden; i++) out[i] = (float)word[i] * scale + place[i];
    } else if (embedding->dtype == EMB_DTYPE_BF16) {
        const uint16_t *word = (const uint16_t *)embedding->words + (size_t)id * hidden;
        for (uint32_t i = 0; i < hidden; i++) out[i] = emb_cpu_widen(word[i]) + place[i];
    } else {
        const float *word = (const float *)embedding->words + (size_t)id * hidden;
        for (uint32_t i = 0; i < hidden; i++) out[i] = word[i] + place[i];
    }
}

/* Words that are asked for before they are read, and rows that one call of norm takes. */
enum { WORDS_AHEAD = 4, NORM_ROWS = 8 };

static void fetch(const void *table, uint64_t at, uint64_t bytes) {
    for (uint64_t b = 0; b < bytes; b += EMB_ALIGN)
        __builtin_prefetch((const unsigned char *)table + at + b);
}

void emb_cpu_embed(const emb_backend *self, emb_lane_scratch *lane, void *out, const emb_tile *tile,
                   const emb_embedding *embedding, const emb_layer_spec *shape) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    float *x = out;
    (void)lane;
    emb_cpu_norm norm = {embedding->gain, embedding->shift, shape->hidden, shape->norm_epsilon, 0};
    uint32_t hidden = shape->hidden, chunk = 0;
    uint64_t row_bytes = emb_dtype_row_bytes(embedding->dtype, hidden);
    for (uint32_t t = 0; t < tile->tokens; t++) {
        while (t >= tile->starts[chunk + 1]) chunk++;
        /* words lie anywhere in the table: their rows are asked for ahead of time */
        if (t + WORDS_AHEAD < tile->tokens)
            fetch(embedding->words, tile->ids[t + WORDS_AHEAD] * row_bytes, row_bytes);
        add_word(x + (size_t)t * hidden, embedding, tile->ids[t], t - tile->starts[chunk], hidden);
        if ((t + 1) % NORM_ROWS && t + 1 < tile->tokens) continue;
        uint32_t first = t / NORM_ROWS * NORM_ROWS;
        float *rows = x + (size_t)first * hidden;
        kernels->norm(rows, rows, NULL, t + 1 - first, &norm);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Queries, keys and values of heads [head0, head0 + b->heads) side by side in b->group. */
static void project_group(const emb_cpu_kernels *kernels, const attention_buffers *b,
                          const emb_cpu_product *like, const emb_layer_spec *shape,
                          uint32_t head0) {
    uint32_t columns = b->heads * shape->head_dim;
    for (uint32_t part = 0; part < 3; part++) {
        emb_cpu_product product = *like;
        product.column0 = part * shape->hidden + head0 * shape->head_dim;
        product.columns = columns;
        product.out = b->group + (size_t)part * columns;
        product.out_stride = b->group_stride;
        kernels->product(&product);
    }
}

static void attend_group(const emb_cpu_kernels *kernels, const attention_buffers *b,
                         const emb_tile *tile, const emb_layer_spec *shape, uint32_t head0) {
    size_t columns = (size_t)b->heads * shape->head_dim;
    size_t distances = 2 * (size_t)shape->chunk_tokens_max - 1;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        size_t start = tile->starts[c];
        for (uint32_t h = 0; h < b->heads; h++) {
            const float *queries = b->group + start * b->group_stride + h * shape->head_dim;
            size_t column = (size_t)(head0 + h) * shape->head_dim;
            const float *relative = shape->relative;
            if (relative) relative += (head0 + h) * distances + shape->chunk_tokens_max - 1;
            emb_cpu_attention attention = {
                .queries = queries,
                .keys = queries + columns,
                .values = queries + 2 * columns,
                .stride = b->group_stride,
                .tokens = tile->starts[c + 1] - tile->starts[c],
                .head_dim = shape->head_dim,
                .scale = 1.0f / sqrtf((float)shape->head_dim),
                .relative = relative,
                .out = (unsigned char *)b->context +
                       (start * b->operand_stride + column) * kernels->context_bytes,
                .out_stride = b->operand_stride,
                .work = b->work,
            };
            kernels->attention(&attention);
        }
    }
}

uint32_t emb_cpu_even_rows(uint32_t tokens, uint32_t block_rows) {
    uint32_t blocks = (tokens + block_rows - 1) / block_rows;
    return (tokens + blocks - 1) / blocks;
}

/* out = norm(in + context * W^T + bias) */
static void project_out(const emb_cpu_kernels *kernels, const attention_buffers *b, float *out,
                        const float *in, uint32_t tokens, const emb_layer *layer,
                        const emb_layer_spec *shape) {
    uint32_t hidden = shape->hidden, step = emb_cpu_even_rows(tokens, kernels->block_rows);
    emb_cpu_norm norm = {layer->attention_gain, layer->attention_shift, hidden, shape->norm_epsilon,
                         hidden};
    for (uint32_t t = 0; t < tokens; t += step) {
        uint32_t rows = tokens - t < step ? tokens - t : step;
        emb_cpu_product product = {
            .linear = &layer->attention_out,
            .columns = hidden,
            .rows = rows,
            .in = (unsigned char *)b->context + t * b->operand_stride * kernels->operand_bytes,
            .in_stride = b->operand_stride,
            .out = b->narrow,
            .out_stride = hidden,
        };
        show(b->observer, kernels, &product);
        kernels->product(&product);
        size_t first = (size_t)t * hidden;
        kernels->norm(out + first, in + first, b->narrow, rows, &norm);
    }
}

void emb_cpu_attention_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                             const void *in, const emb_tile *tile, const emb_layer *layer,
                             const emb_layer_spec *shape) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    if (tile->tokens == 0) return;
    attention_buffers b;
    cut_attention(&b, kernels, shape, tile->tokens, lane->memory);
    emb_cpu_product product = {
        .linear = &layer->qkv, .rows = tile->tokens, .in = in, .in_stride = shape->hidden};
    if (kernels->operands) {
        kernels->operands(b.in, b.operand_stride, in, tile->tokens, shape->hidden,
                          layer->qkv.smooth);
        product.in = b.in;
        product.in_stride = b.operand_stride;
    }
    b.observer = lane->observer;
    show(b.observer, kernels, &product);
    for (uint32_t head = 0; head < shape->heads; head += b.heads) {
        project_group(kernels, &b, &product, shape, head);
        attend_group(kernels, &b, tile, shape, head);
    }
    clear_padding(kernels, b.context, b.operand_stride, tile->tokens, shape->hidden);
    project_out(kernels, &b, out, in, tile->tokens, layer, shape);
}

/* ---- feed-forward ---------------------------------------------------------------------------- */

static void ffn_rows(const emb_cpu_kernels *kernels, const ffn_buffers *b, float *out,
                     const float *in, uint32_t rows, const emb_layer *layer,
                     const emb_layer_spec *shape) {
    emb_cpu_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->hidden, shape->norm_epsilon,
                         shape->hidden};
    emb_cpu_product widen = {
        .linear = &layer->ffn_in,
        .columns = shape->intermediate,
        .rows = rows,
        .in = in,
        .in_stride = shape->hidden,
        .out = b->wide,
        .out_stride = b->wide_stride,
        .gelu = true,
    };
    if (kernels->operands) {
        kernels->operands(b->in, b->operand_stride, in, rows, shape->hidden, layer->ffn_in.smooth);
        widen.in = b->in;
        widen.in_stride = b->operand_stride;
    }
    show(b->observer, kernels, &widen);
    kernels->product(&widen);
    clear_padding(kernels, b->wide, b->wide_stride, rows, shape->intermediate);
    emb_cpu_product narrow = {
        .linear = &layer->ffn_out,
        .columns = shape->hidden,
        .rows = rows,
        .in = b->wide,
        .in_stride = b->wide_stride,
        .out = b->narrow,
        .out_stride = shape->hidden,
    };
    show(b->observer, kernels, &narrow);
    kernels->product(&narrow);
    kernels->norm(out, in, b->narrow, rows, &norm);
}

void emb_cpu_ffn_block(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                       const emb_tile *tile, const emb_layer *layer, const emb_layer_spec *shape) {
    const emb_cpu_kernels *kernels = emb_cpu_kernels_of(self);
    if (tile->tokens == 0) return;
    ffn_buffers b;
    cut_ffn(&b, kernels, shape, tile->tokens, lane->memory);
    uint32_t step = emb_cpu_even_rows(tile->tokens, kernels->block_rows);
    b.observer = lane->observer;
    for (uint32_t t = 0; t < tile->tokens; t += step) {
        uint32_t rows = tile->tokens - t < step ? tile->tokens - t : step;
        size_t first = (size_t)t * shape->hidden;
        ffn_rows(kernels, &b, (float *)out + first, (const float *)in + first, rows, layer, shape);
    }
}
