/* stored.c - frozen tensors as the files have them: 4-bit values two a byte, all else as it is.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/stored.h"

#include <string.h>

#include "base/error.h"

/* Where the parts of a tensor lie, from its first byte on. */
typedef struct parts {
    bool quantized, smooths;
    uint32_t groups; /* scales in a row */
    uint64_t row;    /* bytes of its values */
    uint64_t scales, zeros, smooth, end;
} parts;

static uint64_t aligned(uint64_t bytes) {
    return (bytes + EMB_ALIGN - 1) / EMB_ALIGN * EMB_ALIGN;
}

static parts parts_of(const emb_model_files *files, const emb_param *t) {
    bool int4 = t->dtype == EMB_DTYPE_INT4;
    uint32_t group = int4 ? emb_model_stored_group(files, t->role, t->layer) : t->cols;
    parts p = {.quantized = emb_dtype_quantized(t->dtype),
               .groups = emb_quantized_groups(t->cols, group)};
    p.smooths = p.quantized && emb_model_has_smooth(files, t->role, t->layer);
    p.row = int4          ? ((uint64_t)t->cols + 1) / 2
            : p.quantized ? t->cols
                          : t->cols * emb_dtype_bytes(t->dtype);
    uint64_t scales = p.quantized ? (uint64_t)t->rows * p.groups : 0;
    p.scales = aligned(t->rows * p.row);
    p.zeros = aligned(p.scales + scales * sizeof(float));
    p.smooth = aligned(p.zeros + (int4 ? scales : 0));
    p.end = aligned(p.smooth + (p.smooths ? t->cols * sizeof(float) : 0));
    return p;
}

uint64_t emb_stored_bytes(const emb_model_files *files, const emb_param *tensor) {
    return parts_of(files, tensor).end;
}

uint64_t emb_stored_staging(const emb_params *params) {
    const emb_layer_spec *spec = &params->shape->spec;
    uint32_t cols = spec->intermediate > spec->hidden ? spec->intermediate : spec->hidden;
    return params->stored ? (uint64_t)EMB_PARAM_ROWS * cols : 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void pack(unsigned char *out, const int8_t *codes, uint32_t cols) {
    memset(out, 0, ((size_t)cols + 1) / 2);
    for (uint32_t i = 0; i < cols; i++)
        out[i / 2] |= (unsigned char)((codes[i] & 15) << (i % 2 ? 4 : 0));
}

static void unpack(int8_t *out, const unsigned char *packed, uint32_t cols) {
    for (uint32_t i = 0; i < cols; i++)
        out[i] = (int8_t)(i % 2 ? packed[i / 2] >> 4 : packed[i / 2] & 15);
}

/* Exact: the values were of that dtype in the file. */
static void narrow(unsigned char *out, const float *values, size_t count, emb_dtype dtype) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        uint16_t half =
            dtype == EMB_DTYPE_F16 ? emb_quantize_f16(values[i]) : (uint16_t)(bits >> 16);
        memcpy(out + 2 * i, &half, sizeof half);
    }
}

static emb_status load_rows(unsigned char *to, const emb_params *params, const emb_param *t,
                            uint32_t row, uint32_t rows, void *scratch, float *staging,
                            emb_error *error) {
    parts p = parts_of(params->files, t);
    bool int4 = t->dtype == EMB_DTYPE_INT4;
    if (!p.quantized) {
        EMB_TRY(emb_model_read_rows(params->files, t->role, t->layer, row, rows, staging, scratch,
                                    error));
        narrow(to + row * p.row, staging, (size_t)rows * t->cols, t->dtype);
        return EMB_OK;
    }
    emb_quantized_rows codes = {.values = int4 ? (int8_t *)staging : (int8_t *)(to + row * p.row),
                                .scales = (float *)(void *)(to + p.scales) + (size_t)row * p.groups,
                                .zeros = to + p.zeros + (size_t)row * p.groups};
    EMB_TRY(emb_model_read_quantized(params->files, t->role, t->layer, row, rows, &codes, scratch,
                                     error));
    for (uint32_t i = 0; int4 && i < rows; i++)
        pack(to + (row + i) * p.row, codes.values + (size_t)i * t->cols, t->cols);
    return EMB_OK;
}

emb_status emb_stored_load(unsigned char *stored, const emb_params *params, void *scratch,
                           float *staging, emb_error *error) {
    for (uint32_t i = 0; i < params->count; i++) {
        const emb_param *t = &params->tensors[i];
        if (t->dtype == EMB_DTYPE_F32) continue;
        unsigned char *to = stored + t->first;
        parts p = parts_of(params->files, t);
        for (uint32_t row = 0; row < t->rows; row += EMB_PARAM_ROWS) {
            uint32_t left = t->rows - row, rows = left < EMB_PARAM_ROWS ? left : EMB_PARAM_ROWS;
            EMB_TRY(load_rows(to, params, t, row, rows, scratch, staging, error));
        }
        if (p.smooths)
            EMB_TRY(emb_model_read_smooth(params->files, t->role, t->layer,
                                          (float *)(void *)(to + p.smooth), error));
    }
    return EMB_OK;
}

/* ---- as f32 ---------------------------------------------------------------------------------- */

static void widen(float *out, const unsigned char *from, uint32_t cols, emb_dtype dtype) {
    for (uint32_t i = 0; i < cols; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * (size_t)i, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(out + i, &bits, sizeof bits);
        if (dtype == EMB_DTYPE_F16) out[i] = emb_quantize_widen_f16(half);
    }
}

void emb_stored_row(float *out, const emb_params *params, const unsigned char *stored,
                    const emb_param *t, uint32_t row, int8_t *codes) {
    parts p = parts_of(params->files, t);
    const unsigned char *from = stored + t->first, *values = from + row * p.row;
    if (!p.quantized) {
        widen(out, values, t->cols, t->dtype);
        return;
    }
    bool int4 = t->dtype == EMB_DTYPE_INT4;
    const float *smooth = (const float *)(const void *)(from + p.smooth);
    emb_quantized_rows rows = {
        .bits = int4 ? 4 : 8,
        .rows = 1,
        .cols = t->cols,
        .group = int4 ? emb_model_stored_group(params->files, t->role, t->layer) : t->cols,
        .values = int4 ? codes : (int8_t *)(uintptr_t)values,
        .scales = (float *)(uintptr_t)(from + p.scales) + (size_t)row * p.groups,
        .zeros = (uint8_t *)(uintptr_t)(from + p.zeros) + (size_t)row * p.groups};
    if (int4) unpack(codes, values, t->cols);
    if (t->dtype == EMB_DTYPE_FP8)
        for (uint32_t i = 0; i < t->cols; i++)
            out[i] = rows.scales[0] * emb_quantize_widen_fp8(values[i]);
    else
        emb_quantize_restore(out, &rows);
    for (uint32_t i = 0; p.smooths && i < t->cols; i++) out[i] *= smooth[i];
}
