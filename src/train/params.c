/* params.c - the table of a model's parameters, and reading them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/params.h"

#include <string.h>

#include "base/error.h"
#include "encoder/positions.h"
#include "train/stored.h"

/* The order inside a layer: queries, keys and values lie side by side, as one matrix. */
static const emb_tensor_role layer_order[] = {
    EMB_TENSOR_QUERY,          EMB_TENSOR_KEY,
    EMB_TENSOR_VALUE,          EMB_TENSOR_QUERY_BIAS,
    EMB_TENSOR_KEY_BIAS,       EMB_TENSOR_VALUE_BIAS,
    EMB_TENSOR_ATTENTION_OUT,  EMB_TENSOR_ATTENTION_OUT_BIAS,
    EMB_TENSOR_ATTENTION_GAIN, EMB_TENSOR_ATTENTION_SHIFT,
    EMB_TENSOR_FFN_IN,         EMB_TENSOR_FFN_IN_BIAS,
    EMB_TENSOR_FFN_OUT,        EMB_TENSOR_FFN_OUT_BIAS,
    EMB_TENSOR_FFN_GAIN,       EMB_TENSOR_FFN_SHIFT,
};
enum { LAYER_TENSORS = sizeof layer_order / sizeof *layer_order };

/* Whether what follows continues the same matrix. */
static bool continues(emb_tensor_role role) {
    return role == EMB_TENSOR_QUERY || role == EMB_TENSOR_KEY || role == EMB_TENSOR_QUERY_BIAS ||
           role == EMB_TENSOR_KEY_BIAS;
}

static void place(emb_params *params, emb_tensor_role role, uint32_t layer, bool frozen) {
    emb_param tensor = {
        .role = role, .layer = layer, .dtype = EMB_DTYPE_F32, .first = params->values};
    if (!emb_model_tensor_shape(params->files, role, layer, &tensor.rank, &tensor.rows,
                                &tensor.cols))
        return;
    if (frozen && emb_model_quantizable(role))
        tensor.dtype = emb_model_tensor_dtype(params->files, role, layer);
    if (tensor.dtype != EMB_DTYPE_F32) tensor.first = params->stored;
    if (params->tensors) params->tensors[params->count] = tensor;
    params->count++;
    if (tensor.dtype != EMB_DTYPE_F32) {
        params->stored += emb_stored_bytes(params->files, &tensor);
        return;
    }
    params->values += (uint64_t)tensor.rows * tensor.cols;
    if (continues(role)) return;
    uint64_t first = params->ranges_end;
    params->values += (EMB_PARAM_BLOCK - params->values % EMB_PARAM_BLOCK) % EMB_PARAM_BLOCK;
    params->ranges_end = params->values;
    emb_param_range range = {.first = first,
                             .values = params->values - first,
                             .depth = role < EMB_TENSOR_QUERY ? 0 : layer + 1,
                             .matrix = tensor.rank == 2};
    if (params->ranges) params->ranges[params->ranges_count] = range;
    params->ranges_count++;
}

static void lay_out(emb_params *params, const emb_shape *shape, const emb_model_files *files,
                    bool frozen, emb_ledger *ledger) {
    uint64_t most = EMB_TENSOR_QUERY + (uint64_t)shape->layers * LAYER_TENSORS;
    *params = (emb_params){.shape = shape, .files = files};
    params->tensors = emb_ledger_take(ledger, most, sizeof *params->tensors);
    params->ranges = emb_ledger_take(ledger, most, sizeof *params->ranges);
    for (uint32_t role = 0; role < EMB_TENSOR_QUERY; role++)
        place(params, (emb_tensor_role)role, 0, frozen);
    params->layers_first = params->values;
    for (uint32_t i = 0; i < shape->layers * LAYER_TENSORS; i++)
        place(params, layer_order[i % LAYER_TENSORS], i / LAYER_TENSORS, frozen);
}

void emb_params_layout(emb_params *params, const emb_shape *shape, const emb_model_files *files,
                       emb_ledger *ledger) {
    lay_out(params, shape, files, false, ledger);
}

void emb_params_layout_frozen(emb_params *params, const emb_shape *shape,
                              const emb_model_files *files, emb_ledger *ledger) {
    lay_out(params, shape, files, true, ledger);
}

emb_status emb_params_load(float *values, const emb_params *params, void *scratch,
                           emb_error *error) {
    for (uint32_t i = 0; i < params->count; i++) {
        const emb_param *t = &params->tensors[i];
        if (t->dtype != EMB_DTYPE_F32) continue;
        for (uint32_t row = 0; row < t->rows; row += EMB_PARAM_ROWS) {
            uint32_t rows = t->rows - row < EMB_PARAM_ROWS ? t->rows - row : EMB_PARAM_ROWS;
            EMB_TRY(emb_model_read_rows(params->files, t->role, t->layer, row, rows,
                                        values + t->first + (size_t)row * t->cols, scratch, error));
        }
    }
    return EMB_OK;
}

size_t emb_params_scratch_bytes(const emb_params *params) {
    const emb_layer_spec *spec = &params->shape->spec;
    uint32_t cols = spec->intermediate > spec->hidden ? spec->intermediate : spec->hidden;
    return emb_model_scratch_bytes((uint64_t)EMB_PARAM_ROWS * cols);
}

const emb_param *emb_params_find(const emb_params *params, emb_tensor_role role, uint32_t layer) {
    for (uint32_t i = 0; i < params->count; i++)
        if (params->tensors[i].role == role && params->tensors[i].layer == layer)
            return &params->tensors[i];
    return NULL;
}

static float *find(const emb_params *params, float *part, uint64_t first, emb_tensor_role role,
                   uint32_t layer) {
    const emb_param *tensor = emb_params_find(params, role, layer);
    bool there = tensor && tensor->dtype == EMB_DTYPE_F32 && tensor->first >= first;
    return there ? part + (tensor->first - first) : NULL;
}

emb_embed_params emb_params_embed_from(const emb_params *params, float *part, uint64_t first) {
    return (emb_embed_params){
        .words = find(params, part, first, EMB_TENSOR_WORDS, 0),
        .positions = find(params, part, first, EMB_TENSOR_POSITIONS, 0),
        .token_types = find(params, part, first, EMB_TENSOR_TOKEN_TYPES, 0),
        .gain = find(params, part, first, EMB_TENSOR_EMBED_GAIN, 0),
        .shift = find(params, part, first, EMB_TENSOR_EMBED_SHIFT, 0),
        .relative = find(params, part, first, EMB_TENSOR_RELATIVE, 0),
    };
}

emb_layer_params emb_params_layer_from(const emb_params *params, float *part, uint64_t first,
                                       uint32_t layer) {
    return (emb_layer_params){
        .qkv = find(params, part, first, EMB_TENSOR_QUERY, layer),
        .qkv_bias = find(params, part, first, EMB_TENSOR_QUERY_BIAS, layer),
        .attention_out = find(params, part, first, EMB_TENSOR_ATTENTION_OUT, layer),
        .attention_out_bias = find(params, part, first, EMB_TENSOR_ATTENTION_OUT_BIAS, layer),
        .attention_gain = find(params, part, first, EMB_TENSOR_ATTENTION_GAIN, layer),
        .attention_shift = find(params, part, first, EMB_TENSOR_ATTENTION_SHIFT, layer),
        .ffn_in = find(params, part, first, EMB_TENSOR_FFN_IN, layer),
        .ffn_in_bias = find(params, part, first, EMB_TENSOR_FFN_IN_BIAS, layer),
        .ffn_out = find(params, part, first, EMB_TENSOR_FFN_OUT, layer),
        .ffn_out_bias = find(params, part, first, EMB_TENSOR_FFN_OUT_BIAS, layer),
        .ffn_gain = find(params, part, first, EMB_TENSOR_FFN_GAIN, layer),
        .ffn_shift = find(params, part, first, EMB_TENSOR_FFN_SHIFT, layer),
    };
}

emb_embed_params emb_params_embed(const emb_params *params, float *values) {
    return emb_params_embed_from(params, values, 0);
}

emb_layer_params emb_params_layer(const emb_params *params, float *values, uint32_t layer) {
    return emb_params_layer_from(params, values, 0, layer);
}

static uint32_t bucket_of(const emb_shape *shape, uint32_t chunk_tokens_max, uint32_t i) {
    int32_t distance = (int32_t)i - (int32_t)(chunk_tokens_max - 1);
    return emb_relative_bucket(distance, shape->relative_buckets, shape->relative_distance);
}

void emb_params_spread_relative(float *relative, const float *buckets, const emb_shape *shape,
                                uint32_t chunk_tokens_max) {
    uint32_t width = 2 * chunk_tokens_max - 1, heads = shape->spec.heads;
    for (uint32_t i = 0; i < width; i++) {
        const float *row = buckets + (size_t)bucket_of(shape, chunk_tokens_max, i) * heads;
        for (uint32_t h = 0; h < heads; h++) relative[(size_t)h * width + i] = row[h];
    }
}

void emb_params_gather_relative(float *d_buckets, const float *d_relative, const emb_shape *shape,
                                uint32_t chunk_tokens_max) {
    uint32_t width = 2 * chunk_tokens_max - 1, heads = shape->spec.heads;
    for (uint32_t i = 0; i < width; i++) {
        float *row = d_buckets + (size_t)bucket_of(shape, chunk_tokens_max, i) * heads;
        for (uint32_t h = 0; h < heads; h++) row[h] += d_relative[(size_t)h * width + i];
    }
}
