/* common.c - all operations except the two blocks: the same plain code for every instruction set.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cpu/cpu.h"

#include "base/vector.h"

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
    linear->bias_typed = NULL;
}

void emb_cpu_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                  const float *values) {
    emb_cpu_kernels_of(self)->pack(linear, row0, rows, values);
}

void emb_cpu_lane_layout(const emb_backend *self, emb_lane_scratch *lane,
                         const emb_layer_spec *shape, uint32_t tokens, emb_ledger *ledger) {
    uint64_t attention_bytes = emb_cpu_attention_bytes(self, shape, tokens);
    uint64_t ffn_bytes = emb_cpu_ffn_bytes(self, shape, tokens);
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

/* How many words ahead rows are prefetched, and rows per call of norm. */
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
        /* words are scattered over the table: their rows are prefetched */
        if (t + WORDS_AHEAD < tile->tokens)
            fetch(embedding->words, tile->ids[t + WORDS_AHEAD] * row_bytes, row_bytes);
        add_word(x + (size_t)t * hidden, embedding, tile->ids[t], t - tile->starts[chunk], hidden);
        if ((t + 1) % NORM_ROWS && t + 1 < tile->tokens) continue;
        uint32_t first = t / NORM_ROWS * NORM_ROWS;
        float *rows = x + (size_t)first * hidden;
        kernels->norm(rows, rows, NULL, t + 1 - first, &norm);
    }
}

/* ---- pool, convert --------------------------------------------------------------------------- */

static void sum_tokens(float *out, const float *in, uint32_t tokens, uint32_t hidden) {
    memcpy(out, in, hidden * sizeof *out);
    for (uint32_t t = 1; t < tokens; t++) {
        const float *row = in + (size_t)t * hidden;
        for (uint32_t i = 0; i < hidden; i++) out[i] += row[i];
    }
}

static void max_tokens(float *out, const float *in, uint32_t tokens, uint32_t hidden) {
    memcpy(out, in, hidden * sizeof *out);
    for (uint32_t t = 1; t < tokens; t++) {
        const float *row = in + (size_t)t * hidden;
        /* a NaN must propagate: the engine checks for it */
        for (uint32_t i = 0; i < hidden; i++)
            out[i] = out[i] < row[i] || row[i] != row[i] ? row[i] : out[i];
    }
}

void emb_cpu_pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                  const uint32_t *targets, const void *in, const emb_tile *tile,
                  const emb_pool_rule *rule, const emb_layer_spec *shape) {
    (void)self, (void)lane;
    uint32_t hidden = shape->hidden;
    const float *values = in;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        float *row = rows + (size_t)targets[c] * hidden;
        const float *first = values + (size_t)tile->starts[c] * hidden;
        uint32_t tokens = tile->starts[c + 1] - tile->starts[c];
        if (rule->pooling == EMB_POOLING_CLS) {
            memcpy(row, first, hidden * sizeof *row);
        } else if (rule->pooling == EMB_POOLING_MAX) {
            max_tokens(row, first, tokens, hidden);
        } else {
            sum_tokens(row, first, tokens, hidden);
            for (uint32_t i = 0; i < hidden; i++) row[i] /= (float)tokens;
        }
        if (rule->normalize) emb_vector_normalize(row, hidden);
    }
}

/* int8 rows, each followed by its scale. */
static void convert_quantized(void *out, const float *in, uint64_t rows, uint32_t cols) {
    uint64_t row_bytes = emb_dtype_row_bytes(EMB_DTYPE_INT8, cols);
    for (uint64_t r = 0; r < rows; r++, in += cols) {
        int8_t *row = (int8_t *)out + r * row_bytes;
        float scale;
        emb_quantized_rows quantized = {8, 1, cols, cols, row, &scale, NULL};
        emb_quantize_rows(&quantized, in, NULL);
        memset(row + cols, 0, emb_dtype_scale_at(cols) - cols);
        memcpy(row + emb_dtype_scale_at(cols), &scale, sizeof scale);
    }
}

void emb_cpu_convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                     uint64_t rows, uint32_t cols) {
    (void)self;
    uint64_t count = rows * cols;
    if (emb_dtype_quantized(dtype)) {
        convert_quantized(out, in, rows, cols);
    } else if (dtype == EMB_DTYPE_BF16) {
        uint16_t *values = out;
        for (uint64_t i = 0; i < count; i++) values[i] = emb_cpu_round_bf16(in[i]);
    } else {
        memcpy(out, in, count * sizeof *in);
    }
}
