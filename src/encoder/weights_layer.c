/* weights_layer.c - reads a layer's matrices and vectors into the backend's form.
 *
 * Never holds a second copy of a weight: rows go through a small staging buffer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "encoder/weights_parts.h"

/* Vectors that a family may lack: they are then zeros. */
static bool may_lack(emb_tensor_role role) {
    return role == EMB_TENSOR_EMBED_SHIFT || role == EMB_TENSOR_QUERY_BIAS ||
           role == EMB_TENSOR_KEY_BIAS || role == EMB_TENSOR_VALUE_BIAS ||
           role == EMB_TENSOR_ATTENTION_OUT_BIAS || role == EMB_TENSOR_ATTENTION_SHIFT ||
           role == EMB_TENSOR_FFN_IN_BIAS || role == EMB_TENSOR_FFN_OUT_BIAS ||
           role == EMB_TENSOR_FFN_SHIFT;
}

/* Vectors go through staging too: `out` may be a device's memory. */
emb_status emb_weights_read_vector(emb_weights *w, emb_tensor_role role, uint32_t layer,
                                   uint32_t count, float *out, emb_error *error) {
    uint32_t rank, rows, cols;
    if (may_lack(role) && !emb_model_tensor_shape(w->files, role, layer, &rank, &rows, &cols))
        memset(w->staging, 0, count * sizeof *w->staging);
    else
        EMB_TRY(emb_model_read_rows(w->files, role, layer, 0, 1, w->staging, w->staging_scratch,
                                    error));
    w->backend->convert(w->backend, out, EMB_DTYPE_F32, w->staging, 1, count);
    return EMB_OK;
}

/* The same for rows [row0, row0 + count) of a linear's bias. */
static emb_status read_bias(emb_weights *w, emb_tensor_role role, uint32_t layer, uint32_t row0,
                            uint32_t count, const emb_linear *linear, emb_error *error) {
    EMB_TRY(emb_weights_read_vector(w, role, layer, count, linear->bias + row0, error));
    unsigned char *typed = linear->bias_typed;
    if (typed)
        w->backend->convert(w->backend, typed + row0 * emb_dtype_bytes(linear->dtype),
                            linear->dtype, w->staging, 1, count);
    return EMB_OK;
}

/* Reads rows of a tensor into staging, `done` rows of the block being there already: as f32, or as
 * the files have them. */
static emb_status stage_rows(emb_weights *w, emb_tensor_role role, uint32_t layer, uint32_t row0,
                             uint32_t rows, uint32_t done, const emb_linear *linear,
                             emb_error *error) {
    size_t cols = linear->cols;
    if (!w->stored || !emb_dtype_quantized(linear->dtype))
        return emb_model_read_rows(w->files, role, layer, row0, rows, w->staging + done * cols,
                                   w->staging_scratch, error);
    bool grouped = w->dtype == EMB_DTYPE_INT4;
    size_t scales = grouped ? done * emb_quantized_groups(linear->cols, linear->group) : done;
    emb_quantized_rows part = {.values = w->quantized.values + done * cols,
                               .scales = w->quantized.scales + scales,
                               .zeros = grouped ? w->quantized.zeros + scales : NULL};
    return emb_model_read_quantized(w->files, role, layer, row0, rows, &part, w->staging_scratch,
                                    error);
}

static void divide_columns(float *values, const float *by, uint32_t rows, uint32_t cols) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) values[r * cols + c] /= by[c];
}

/* Packs what is staged, [rows, linear->cols], at row0 of the linear. importance: as
 * emb_quantize_rows takes it. */
static void pack_staged(emb_weights *w, emb_linear *linear, uint32_t row0, uint32_t rows,
                        const float *importance) {
    if (!emb_dtype_quantized(linear->dtype)) {
        w->backend->linear_pack(w->backend, linear, row0, rows, w->staging);
        return;
    }
    w->quantized.rows = rows;
    w->quantized.cols = linear->cols;
    w->quantized.group = w->dtype == EMB_DTYPE_INT4 ? linear->group : linear->cols;
    if (!w->stored && w->dtype == EMB_DTYPE_FP8)
        emb_quantize_fp8((uint8_t *)w->quantized.values, w->quantized.scales, w->staging, rows,
                         linear->cols);
    else if (!w->stored)
        emb_quantize_rows(&w->quantized, w->staging, importance);
    w->backend->linear_pack_quantized(w->backend, linear, row0, &w->quantized);
}

/* The factors of a linear's input; ones where only other matrices have some. */
static emb_status load_smooth(emb_weights *w, emb_linear *linear, emb_tensor_role role,
                              uint32_t layer, emb_error *error) {
    const float *factors = emb_weights_balances(w, role) ? w->factors : w->staging;
    if (!linear->smooth) return EMB_OK;
    for (uint32_t i = 0; i < linear->cols; i++) w->staging[i] = 1;
    if (w->stored && emb_model_has_smooth(w->files, role, layer))
        EMB_TRY(emb_model_read_smooth(w->files, role, layer, w->staging, error));
    w->backend->convert(w->backend, linear->smooth, EMB_DTYPE_F32, factors, 1, linear->cols);
    return EMB_OK;
}

/* Packs one tensor [rows, linear->cols] as the linear. */
static emb_status load_matrix(emb_weights *w, emb_linear *linear, emb_tensor_role role,
                              uint32_t layer, emb_error *error) {
    bool balanced = emb_weights_balances(w, role);
    if (balanced)
        EMB_TRY(emb_model_read_balance(w->files, layer, w->factors, w->importance,
                                       w->staging_scratch, error));
    for (uint32_t row = 0; row < linear->rows; row += EMB_PACK_ROWS) {
        uint32_t count = linear->rows - row < EMB_PACK_ROWS ? linear->rows - row : EMB_PACK_ROWS;
        EMB_TRY(stage_rows(w, role, layer, row, count, 0, linear, error));
        if (balanced) divide_columns(w->staging, w->factors, count, linear->cols);
        pack_staged(w, linear, row, count, balanced ? w->importance : NULL);
    }
    return load_smooth(w, linear, role, layer, error);
}

/* Queries, keys and values are three tensors and one linear; a hidden size that is no multiple of
 * EMB_PACK_ROWS makes blocks that straddle two of them. */
static emb_status load_qkv(emb_weights *w, emb_linear *linear, uint32_t layer, emb_error *error) {
    static const emb_tensor_role roles[3] = {EMB_TENSOR_QUERY, EMB_TENSOR_KEY, EMB_TENSOR_VALUE};
    static const emb_tensor_role biases[3] = {EMB_TENSOR_QUERY_BIAS, EMB_TENSOR_KEY_BIAS,
                                              EMB_TENSOR_VALUE_BIAS};
    uint32_t hidden = w->shape->spec.hidden;
    for (uint32_t row0 = 0; row0 < linear->rows; row0 += EMB_PACK_ROWS) {
        uint32_t count = linear->rows - row0 < EMB_PACK_ROWS ? linear->rows - row0 : EMB_PACK_ROWS;
        for (uint32_t done = 0; done < count;) {
            uint32_t part = (row0 + done) / hidden, within = (row0 + done) % hidden;
            uint32_t rows = count - done < hidden - within ? count - done : hidden - within;
            EMB_TRY(stage_rows(w, roles[part], layer, within, rows, done, linear, error));
            done += rows;
        }
        pack_staged(w, linear, row0, count, NULL);
    }
    EMB_TRY(load_smooth(w, linear, EMB_TENSOR_QUERY, layer, error));
    for (uint32_t part = 0; part < 3; part++)
        EMB_TRY(read_bias(w, biases[part], layer, part * hidden, hidden, linear, error));
    return EMB_OK;
}

emb_status emb_weights_load_layer(emb_weights *w, emb_layer *layer, uint32_t n, emb_error *error) {
    const emb_shape *s = w->shape;
    EMB_TRY(load_qkv(w, &layer->qkv, n, error));
    EMB_TRY(load_matrix(w, &layer->attention_out, EMB_TENSOR_ATTENTION_OUT, n, error));
    EMB_TRY(load_matrix(w, &layer->ffn_in, EMB_TENSOR_FFN_IN, n, error));
    EMB_TRY(load_matrix(w, &layer->ffn_out, EMB_TENSOR_FFN_OUT, n, error));
    EMB_TRY(read_bias(w, EMB_TENSOR_ATTENTION_OUT_BIAS, n, 0, s->spec.hidden, &layer->attention_out,
                      error));
    EMB_TRY(
        read_bias(w, EMB_TENSOR_FFN_IN_BIAS, n, 0, s->spec.intermediate, &layer->ffn_in, error));
    EMB_TRY(read_bias(w, EMB_TENSOR_FFN_OUT_BIAS, n, 0, s->spec.hidden, &layer->ffn_out, error));
    const struct {
        emb_tensor_role role;
        float *out;
    } vectors[] = {
        {EMB_TENSOR_ATTENTION_GAIN, layer->attention_gain},
        {EMB_TENSOR_ATTENTION_SHIFT, layer->attention_shift},
        {EMB_TENSOR_FFN_GAIN, layer->ffn_gain},
        {EMB_TENSOR_FFN_SHIFT, layer->ffn_shift},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        EMB_TRY(
            emb_weights_read_vector(w, vectors[i].role, n, s->spec.hidden, vectors[i].out, error));
    return w->backend->layer_finish ? w->backend->layer_finish(w->backend, layer, w->device, error)
                                    : EMB_OK;
}
