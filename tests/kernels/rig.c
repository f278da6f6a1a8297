/* rig.c - see rig.h.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels/rig.h"

#include <math.h>
#include <stdarg.h>

enum { GUARD = 256, PATTERN = 0xa5 };

/* Stands in front of the first guard. */
typedef struct rig_header {
    unsigned char *start;
    size_t bytes;
} rig_header;

rig_counts rig_total;

bool rig_check(bool ok, const char *format, ...) {
    rig_total.checks++;
    if (ok) return true;
    if (rig_total.failures++ < 20) {
        va_list arguments;
        va_start(arguments, format);
        printf("FAILED: ");
        vprintf(format, arguments);
        printf("\n");
        va_end(arguments);
    }
    return false;
}

void *rig_take(size_t bytes, size_t offset) {
    unsigned char *start = malloc(bytes + offset + 3 * (size_t)GUARD + 64);
    if (!start) exit(71);
    size_t at = (size_t)((uintptr_t)(start + 2 * GUARD) & ~(uintptr_t)63) - (uintptr_t)start;
    unsigned char *buffer = start + at + offset;
    rig_header header = {start, bytes};
    memset(buffer - GUARD, PATTERN, GUARD);
    memset(buffer, 0xff, bytes); /* NaN in f32, in bf16 and in double */
    memset(buffer + bytes, PATTERN, GUARD);
    memcpy(buffer - GUARD - sizeof header, &header, sizeof header);
    return buffer;
}

static rig_header header_of(const void *buffer) {
    rig_header header;
    memcpy(&header, (const unsigned char *)buffer - GUARD - sizeof header, sizeof header);
    return header;
}

bool rig_intact(const void *buffer) {
    const unsigned char *bytes = buffer;
    size_t count = header_of(buffer).bytes;
    for (size_t i = 0; i < GUARD; i++)
        if (bytes[-1 - (ptrdiff_t)i] != PATTERN || bytes[count + i] != PATTERN) return false;
    return true;
}

void rig_give(void *buffer) {
    rig_check(rig_intact(buffer), "a kernel wrote outside a buffer of %zu bytes",
              header_of(buffer).bytes);
    free(header_of(buffer).start);
}

static uint32_t state;

void rig_seed(uint32_t seed) {
    state = seed * 2654435761u + 1;
}

float rig_random(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (float)(int32_t)state * (1.0f / 2147483648.0f);
}

void rig_fill(float *values, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) values[i] = scale * rig_random();
}

/* ---- one layer ------------------------------------------------------------------------------- */

static void layout(rig_layer *rig, emb_ledger *ledger) {
    uint32_t hidden = rig->shape.hidden, wide = rig->shape.intermediate;
    const emb_backend *backend = rig->backend;
    emb_layer *layer = &rig->layer;
    layer->qkv.group = layer->attention_out.group = 32;
    layer->ffn_in.group = layer->ffn_out.group = 64;
    backend->linear_layout(backend, &layer->qkv, 3 * hidden, hidden, rig->dtype, ledger);
    backend->linear_layout(backend, &layer->attention_out, hidden, hidden, rig->dtype, ledger);
    backend->linear_layout(backend, &layer->ffn_in, wide, hidden, rig->dtype, ledger);
    backend->linear_layout(backend, &layer->ffn_out, hidden, wide, rig->dtype, ledger);
    backend->lane_layout(backend, &rig->scratch, &rig->shape, rig->tokens_max, ledger);
}

static void round_weights(float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
        memcpy(&values[i], &bits, 4);
    }
}

/* Packs what the rows stand for once quantized, and leaves that in `weights`. */
static void pack_quantized(rig_layer *rig, emb_linear *linear, uint32_t row0, uint32_t rows,
                           float *weights) {
    bool four = rig->dtype == EMB_DTYPE_INT4;
    uint32_t cols = linear->cols, group = four ? linear->group : cols;
    uint32_t groups = emb_quantized_groups(cols, group);
    size_t count = (size_t)rows * cols, scales = (size_t)rows * groups;
    emb_quantized_rows quantized = {four ? 4 : 8,
                                    rows,
                                    cols,
                                    group,
                                    rig_take(count, 0),
                                    rig_take(scales * sizeof(float), 0),
                                    rig_take(scales, 0)};
    emb_quantize_rows(&quantized, weights, NULL);
    for (size_t i = 0; i < count; i++) {
        size_t at = i / cols * groups + i % cols / group;
        int zero = four ? quantized.zeros[at] : 0;
        weights[i] = quantized.scales[at] * (float)(quantized.values[i] - zero);
    }
    rig->backend->linear_pack_quantized(rig->backend, linear, row0, &quantized);
    rig_give(quantized.values);
    rig_give(quantized.scales);
    rig_give(quantized.zeros);
}

static void fill_linear(rig_layer *rig, uint32_t index, emb_linear *linear) {
    size_t count = (size_t)linear->rows * linear->cols;
    rig->weights[index] = rig_take(count * sizeof(float), 4);
    rig->biases[index] = linear->bias;
    rig_fill(rig->weights[index], count, 1.7f / sqrtf((float)linear->cols));
    if (rig->dtype == EMB_DTYPE_BF16) round_weights(rig->weights[index], count);
    rig_fill(linear->bias, linear->rows, 0.5f);
    /* in parts, as a loader does */
    for (uint32_t row = 0; row < linear->rows; row += 2 * EMB_PACK_ROWS) {
        uint32_t rows =
            linear->rows - row < 2 * EMB_PACK_ROWS ? linear->rows - row : 2 * EMB_PACK_ROWS;
        float *weights = rig->weights[index] + (size_t)row * linear->cols;
        if (emb_dtype_quantized(rig->dtype))
            pack_quantized(rig, linear, row, rows, weights);
        else
            rig->backend->linear_pack(rig->backend, linear, row, rows, weights);
    }
}

static float *take_vector(size_t count, float center, float scale) {
    float *values = rig_take(count * sizeof(float), 4);
    for (size_t i = 0; i < count; i++) values[i] = center + scale * rig_random();
    return values;
}

void rig_layer_open(rig_layer *rig, const emb_backend *backend, emb_dtype dtype,
                    const rig_sizes *sizes, uint32_t tokens_max) {
    uint32_t hidden = sizes->heads * sizes->head_dim;
    memset(rig, 0, sizeof *rig);
    rig->backend = backend;
    rig->dtype = dtype;
    rig->tokens_max = tokens_max;
    rig->shape = (emb_layer_spec){.hidden = sizes->heads * sizes->head_dim,
                                  .heads = sizes->heads,
                                  .kv_heads = sizes->heads,
                                  .head_dim = sizes->head_dim,
                                  .intermediate = sizes->intermediate,
                                  .norm_epsilon = 1e-12f,
                                  .chunk_tokens_max = sizes->chunk_tokens_max};
    emb_ledger ledger;
    emb_ledger_init(&ledger, NULL, 0);
    layout(rig, &ledger);
    uint64_t bytes = ledger.bytes;
    rig->arena = rig_take(bytes, 0);
    emb_ledger_init(&ledger, rig->arena, bytes);
    layout(rig, &ledger);
    rig_check(!ledger.overflow && ledger.bytes == bytes, "layout measured %llu, bound %llu bytes",
              (unsigned long long)bytes, (unsigned long long)ledger.bytes);
    emb_layer *layer = &rig->layer;
    emb_linear *linears[4] = {&layer->qkv, &layer->attention_out, &layer->ffn_in, &layer->ffn_out};
    for (uint32_t i = 0; i < 4; i++) fill_linear(rig, i, linears[i]);
    for (uint32_t i = 0; i < 2; i++) {
        rig->gains[i] = take_vector(hidden, 1.0f, 0.3f);
        rig->shifts[i] = take_vector(hidden, 0.0f, 0.3f);
    }
    layer->attention_gain = rig->gains[0];
    layer->attention_shift = rig->shifts[0];
    layer->ffn_gain = rig->gains[1];
    layer->ffn_shift = rig->shifts[1];
    if (sizes->relative) {
        size_t distances = 2 * (size_t)sizes->chunk_tokens_max - 1;
        rig->relative = take_vector(sizes->heads * distances, 0.0f, 2.0f);
        rig->shape.relative = rig->relative;
    }
}

void rig_layer_close(rig_layer *rig) {
    for (uint32_t i = 0; i < 4; i++) rig_give(rig->weights[i]);
    for (uint32_t i = 0; i < 2; i++) {
        rig_give(rig->gains[i]);
        rig_give(rig->shifts[i]);
    }
    if (rig->relative) rig_give(rig->relative);
    rig_give(rig->arena);
}

double rig_difference(const float *got, const double *expected, size_t count) {
    double worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs(got[i] - expected[i]) / fmax(1.0, fabs(expected[i]));
        if (!(difference <= worst)) worst = difference == difference ? difference : INFINITY;
    }
    return worst;
}

double rig_cosine(const float *got, const double *expected, size_t rows, size_t cols) {
    double worst = 1.0;
    for (size_t r = 0; r < rows; r++, got += cols, expected += cols) {
        double dot = 0.0, a = 0.0, b = 0.0;
        for (size_t i = 0; i < cols; i++) {
            dot += got[i] * expected[i];
            a += (double)got[i] * got[i];
            b += expected[i] * expected[i];
        }
        double cosine = dot / sqrt(a * b);
        if (!(cosine >= worst)) worst = cosine == cosine ? cosine : -1.0;
    }
    return worst;
}
