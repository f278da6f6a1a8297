/* weights_layout.c - books the parameters: all layers, or one or two slots of a layer each.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "encoder/weights_parts.h"

static uint32_t staging_cols(const emb_shape *shape) {
    return shape->spec.intermediate > shape->spec.hidden ? shape->spec.intermediate
                                                         : shape->spec.hidden;
}

/* Without files, which measuring can do without, nothing is. */
static bool is_stored(const emb_weights_config *config) {
    emb_dtype stored = config->files ? emb_model_stored_dtype(config->files) : EMB_DTYPE_DEFAULT;
    return (stored == EMB_DTYPE_INT8 && config->dtype == EMB_DTYPE_INT8) ||
           (stored == EMB_DTYPE_INT4 && config->dtype == EMB_DTYPE_INT4) ||
           (stored == EMB_DTYPE_FP8 && config->dtype == EMB_DTYPE_FP8);
}

/* int4 made here, of a matrix whose rounding follows the norm that feeds it. */
bool emb_weights_balances(const emb_weights *w, emb_tensor_role role) {
    return !w->stored && w->dtype == EMB_DTYPE_INT4 && emb_int4_balances(role);
}

/* Whether the input of this matrix has factors, in some layer at least. */
static bool smooths(const emb_weights *w, emb_tensor_role role) {
    for (uint32_t n = 0; w->stored && n < w->shape->layers; n++)
        if (emb_model_has_smooth(w->files, role, n)) return true;
    return emb_weights_balances(w, role);
}

/* One matrix, or several side by side, and its place for factors if its input has any. */
static void linear_layout(emb_linear *linear, const emb_weights *w, emb_tensor_role role,
                          uint32_t rows, uint32_t cols, emb_ledger *ledger) {
    bool keeps = w->dtype == EMB_DTYPE_FP8 && emb_fp8_keeps_f16(role);
    emb_dtype dtype = keeps ? EMB_DTYPE_F16 : w->dtype;
    linear->group = w->stored ? emb_model_stored_group(w->files, role, 0) : EMB_QUANTIZE_GROUP;
    w->backend->linear_layout(w->backend, linear, rows, cols, dtype, ledger);
    bool scaled = !keeps && smooths(w, role);
    linear->smooth = scaled ? emb_ledger_take(ledger, cols, sizeof(float)) : NULL;
}

static void layer_layout(emb_layer *layer, const emb_weights *weights, emb_ledger *ledger) {
    const emb_layer_spec *s = &weights->shape->spec;
    emb_layer measured; /* while measuring there is no table of layers to write into */
    if (!layer) layer = &measured;
    linear_layout(&layer->qkv, weights, EMB_TENSOR_QUERY, emb_spec_qkv_rows(s), s->hidden, ledger);
    linear_layout(&layer->attention_out, weights, EMB_TENSOR_ATTENTION_OUT, s->hidden,
                  emb_spec_context(s), ledger);
    linear_layout(&layer->ffn_in, weights, EMB_TENSOR_FFN_IN, emb_spec_ffn_rows(s), s->hidden,
                  ledger);
    linear_layout(&layer->ffn_out, weights, EMB_TENSOR_FFN_OUT, s->hidden, s->intermediate, ledger);
    layer->attention_gain = emb_ledger_take(ledger, s->hidden, sizeof(float));
    layer->attention_shift = emb_ledger_take(ledger, s->hidden, sizeof(float));
    layer->ffn_gain = emb_ledger_take(ledger, s->hidden, sizeof(float));
    layer->ffn_shift = emb_ledger_take(ledger, s->hidden, sizeof(float));
}

/* Binds a layer inside a block of its own (NULL: measures); gives the bytes. The same offsets in
 * pinned memory and in a device's slots make one copy of a layer. */
uint64_t emb_weights_layer_in_block(emb_layer *layer, const emb_weights *weights, void *block,
                                    uint64_t bytes) {
    emb_ledger ledger;
    emb_ledger_init_foreign(&ledger, block, bytes);
    layer_layout(layer, weights, &ledger);
    return ledger.bytes;
}

void emb_pinned_weights_layout(emb_pinned_weights *pinned, const emb_weights_config *config,
                               const emb_books *books) {
    emb_weights like = {.files = config->files,
                        .shape = config->shape,
                        .backend = config->backend,
                        .dtype = config->dtype,
                        .stored = is_stored(config)};
    memset(pinned, 0, sizeof *pinned);
    if (config->words_pinned) {
        emb_ledger_item(books->pinned, "embeddings");
        pinned->words = emb_outside_words_layout(config, books->pinned);
    }
    if (config->layers_pinned) {
        emb_ledger_item(books->pinned, "layers");
        pinned->layers = emb_ledger_take(books->pinned, config->shape->layers,
                                         emb_weights_layer_in_block(NULL, &like, NULL, 0));
    }
}

/* All layers, or slots: a device's in blocks, into which a layer is copied in one piece. */
static void layers_layout(emb_weights *w, const emb_books *books) {
    bool on_device = books->device != books->host;
    uint32_t kept = w->slots ? w->slots : w->shape->layers;
    const char *item = w->slots ? "layers, streamed" : "layers";
    emb_ledger_item(books->host, item);
    w->layers = emb_ledger_take(books->host, kept, sizeof *w->layers);
    if (w->slots && on_device)
        w->events =
            emb_ledger_take(books->host, (uint64_t)w->slots * (1 + w->lanes), sizeof *w->events);
    w->layer_bytes = emb_weights_layer_in_block(NULL, w, NULL, 0);
    emb_ledger_item(books->device, item);
    for (uint32_t i = 0; i < kept; i++) {
        emb_layer *layer = w->layers ? &w->layers[i] : NULL;
        if (w->slots && on_device) {
            w->blocks[i] = emb_ledger_take(books->device, 1, w->layer_bytes);
            emb_weights_layer_in_block(layer, w, w->blocks[i], w->layer_bytes);
        } else {
            layer_layout(layer, w, books->device);
        }
    }
}

/* Values that staging holds: a block of rows, or the relative bias of one head beside its buckets.
 */
static uint64_t staging_values(const emb_weights *w) {
    const emb_shape *s = w->shape;
    uint64_t rows = (uint64_t)EMB_PACK_ROWS * staging_cols(s);
    uint64_t relative = (uint64_t)s->relative_buckets * s->spec.heads + 2 * w->chunk_tokens_max;
    return rows > relative ? rows : relative;
}

/* A block of rows in quantized form, for formats that have one. */
static void staging_layout(emb_weights *w, emb_ledger *ledger) {
    bool grouped = w->dtype == EMB_DTYPE_INT4;
    uint32_t cols = staging_cols(w->shape);
    uint64_t groups = grouped ? emb_quantized_groups(cols, EMB_QUANTIZE_GROUP) : 1;
    w->quantized = (emb_quantized_rows){.bits = grouped ? 4 : 8};
    if (!emb_dtype_quantized(w->dtype)) return;
    w->quantized.values = emb_ledger_take(ledger, (uint64_t)EMB_PACK_ROWS * cols, 1);
    w->quantized.scales = emb_ledger_take(ledger, EMB_PACK_ROWS * groups, sizeof(float));
    if (grouped) w->quantized.zeros = emb_ledger_take(ledger, EMB_PACK_ROWS * groups, 1);
    if (!grouped || w->stored) return;
    w->factors = emb_ledger_take(ledger, w->shape->spec.hidden, sizeof(float));
    w->importance = emb_ledger_take(ledger, w->shape->spec.hidden, sizeof(float));
}

void emb_weights_layout(emb_weights *weights, emb_layer_spec *spec,
                        const emb_weights_config *config, const emb_books *books) {
    *spec = config->shape->spec;
    spec->chunk_tokens_min = config->chunk_tokens_min;
    spec->chunk_tokens_max = config->chunk_tokens_max;
    memset(weights, 0, sizeof *weights);
    weights->files = config->files;
    weights->shape = config->shape;
    weights->spec = spec;
    weights->backend = config->backend;
    weights->dtype = config->dtype;
    weights->stored = is_stored(config);
    weights->slots = config->slots;
    weights->lanes = config->lanes;
    weights->words_resident = config->words_resident || config->words_pinned;
    weights->words_pinned = config->words_pinned;
    weights->layers_pinned = config->layers_pinned;
    weights->fills_pinned = config->fills_pinned;
    weights->pinned = config->pinned;
    weights->device = config->device;
    weights->chunk_tokens_max = config->chunk_tokens_max;

    emb_outside_layout(weights, config, books->device);
    layers_layout(weights, books);

    emb_ledger_item(books->host, "weight reading");
    uint64_t values = staging_values(weights);
    weights->staging = emb_ledger_take(books->host, values, sizeof(float));
    weights->staging_scratch = emb_ledger_take(books->host, emb_model_scratch_bytes(values), 1);
    staging_layout(weights, books->host);
}
