/* weights.c - books and loads the parameters: all at open, or layer by layer into one or two slots.
 *
 * Fed by model (rows of tensors), feeds forward.c. Never holds a second copy of a weight: rows go
 * through a small staging buffer into the backend's packed form.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "encoder/encoder.h"

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
static bool balances(const emb_weights *w, emb_tensor_role role) {
    return !w->stored && w->dtype == EMB_DTYPE_INT4 && emb_int4_balances(role);
}

/* Whether the input of this matrix has factors, in some layer at least. */
static bool smooths(const emb_weights *w, emb_tensor_role role) {
    for (uint32_t n = 0; w->stored && n < w->shape->layers; n++)
        if (emb_model_has_smooth(w->files, role, n)) return true;
    return balances(w, role);
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
static uint64_t layer_in_block(emb_layer *layer, const emb_weights *weights, void *block,
                               uint64_t bytes) {
    emb_ledger ledger;
    emb_ledger_init_foreign(&ledger, block, bytes);
    layer_layout(layer, weights, &ledger);
    return ledger.bytes;
}

static void *words_layout(const emb_weights_config *config, emb_ledger *ledger) {
    return emb_ledger_take(ledger, config->shape->vocabulary,
                           emb_dtype_row_bytes(config->dtype, config->shape->spec.hidden));
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
        pinned->words = words_layout(config, books->pinned);
    }
    if (config->layers_pinned) {
        emb_ledger_item(books->pinned, "layers");
        pinned->layers = emb_ledger_take(books->pinned, config->shape->layers,
                                         layer_in_block(NULL, &like, NULL, 0));
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
    w->layer_bytes = layer_in_block(NULL, w, NULL, 0);
    emb_ledger_item(books->device, item);
    for (uint32_t i = 0; i < kept; i++) {
        emb_layer *layer = w->layers ? &w->layers[i] : NULL;
        if (w->slots && on_device) {
            w->blocks[i] = emb_ledger_take(books->device, 1, w->layer_bytes);
            layer_in_block(layer, w, w->blocks[i], w->layer_bytes);
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

/* A block of rows in quantised form, for formats that have one. */
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

void emb_weights_layout(emb_weights *weights, const emb_weights_config *config,
                        const emb_books *books) {
    const emb_shape *s = config->shape;
    emb_ledger *ledger = books->device;
    memset(weights, 0, sizeof *weights);
    weights->files = config->files;
    weights->shape = s;
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

    emb_ledger_item(ledger, "embeddings");
    weights->words = config->words_pinned     ? config->pinned.words
                     : config->words_resident ? words_layout(config, ledger)
                                              : NULL;
    weights->positions =
        emb_ledger_take(ledger, (uint64_t)config->chunk_tokens_max * s->spec.hidden, sizeof(float));
    weights->embed_gain = emb_ledger_take(ledger, s->spec.hidden, sizeof(float));
    weights->embed_shift = emb_ledger_take(ledger, s->spec.hidden, sizeof(float));
    if (s->relative_buckets)
        weights->relative = emb_ledger_take(
            ledger, (uint64_t)s->spec.heads * (2 * config->chunk_tokens_max - 1), sizeof(float));

    layers_layout(weights, books);

    emb_ledger_item(books->host, "weight reading");
    uint64_t values = staging_values(weights);
    weights->staging = emb_ledger_take(books->host, values, sizeof(float));
    weights->staging_scratch = emb_ledger_take(books->host, emb_model_scratch_bytes(values), 1);
    staging_layout(weights, books->host);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Vectors go through staging too: `out` may be a device's memory. */
static emb_status read_vector(emb_weights *w, emb_tensor_role role, uint32_t layer, uint32_t count,
                              float *out, emb_error *error) {
    EMB_TRY(
        emb_model_read_rows(w->files, role, layer, 0, 1, w->staging, w->staging_scratch, error));
    w->backend->convert(w->backend, out, EMB_DTYPE_F32, w->staging, 1, count);
    return EMB_OK;
}

/* The same for rows [row0, row0 + count) of a linear's bias. */
static emb_status read_bias(emb_weights *w, emb_tensor_role role, uint32_t layer, uint32_t row0,
                            uint32_t count, const emb_linear *linear, emb_error *error) {
    EMB_TRY(read_vector(w, role, layer, count, linear->bias + row0, error));
    unsigned char *narrow = linear->bias_narrow;
    if (narrow)
        w->backend->convert(w->backend, narrow + row0 * emb_dtype_bytes(linear->dtype),
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
    const float *factors = balances(w, role) ? w->factors : w->staging;
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
    bool balanced = balances(w, role);
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
        EMB_TRY(read_vector(w, vectors[i].role, n, s->spec.hidden, vectors[i].out, error));
    return w->backend->layer_finish ? w->backend->layer_finish(w->backend, layer, w->device, error)
                                    : EMB_OK;
}

/* T5's buckets as MPNet uses them: near distances have one each, far ones share on a log scale.
 * distance = key - query. */
static uint32_t relative_bucket(int32_t distance, uint32_t buckets, uint32_t distance_max) {
    uint32_t half = buckets / 2, bucket = distance > 0 ? half : 0;
    uint32_t away = (uint32_t)(distance < 0 ? -distance : distance), exact = half / 2;
    if (away < exact) return bucket + away;
    /* in f32 throughout, as the reference computes it: a bucket border is a rounding away */
    float scaled = logf((float)away / (float)exact) /
                   (float)log((double)distance_max / (double)exact) * (float)(half - exact);
    uint32_t far = exact + (uint32_t)scaled;
    return bucket + (far < half ? far : half - 1);
}

static emb_status load_relative(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    uint32_t width = 2 * w->chunk_tokens_max - 1;
    const float *buckets = w->staging;
    float *row = w->staging + (size_t)s->relative_buckets * s->spec.heads;
    EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_RELATIVE, 0, 0, s->relative_buckets,
                                w->staging, w->staging_scratch, error));
    for (uint32_t head = 0; head < s->spec.heads; head++) {
        for (uint32_t i = 0; i < width; i++) {
            int32_t distance = (int32_t)i - (int32_t)(w->chunk_tokens_max - 1);
            uint32_t bucket = relative_bucket(distance, s->relative_buckets, s->relative_distance);
            row[i] = buckets[bucket * s->spec.heads + head];
        }
        w->backend->convert(w->backend, w->relative + (size_t)head * width, EMB_DTYPE_F32, row, 1,
                            width);
    }
    return EMB_OK;
}

/* Positions with token type row 0 added, one row at a time: the type's row stays in staging. */
static emb_status load_positions(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    float *type = w->staging, *row = w->staging + s->spec.hidden;
    memset(type, 0, s->spec.hidden * sizeof *type);
    if (s->has_token_types)
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_TOKEN_TYPES, 0, 0, 1, type,
                                    w->staging_scratch, error));
    for (uint32_t i = 0; i < w->chunk_tokens_max; i++) {
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_POSITIONS, 0, s->position_offset + i, 1,
                                    row, w->staging_scratch, error));
        for (uint32_t c = 0; s->has_token_types && c < s->spec.hidden; c++) row[c] += type[c];
        w->backend->convert(w->backend, w->positions + (size_t)i * s->spec.hidden, EMB_DTYPE_F32,
                            row, 1, s->spec.hidden);
    }
    return EMB_OK;
}

emb_status emb_weights_read_word(const emb_weights *w, void *out, uint32_t row, float *values,
                                 void *scratch, emb_error *error) {
    uint32_t hidden = w->shape->spec.hidden;
    if (w->stored) { /* int8 as it is, in the place where it stays */
        unsigned char *at = out;
        uint64_t scale_at = emb_dtype_scale_at(hidden);
        emb_quantized_rows one = {
            .values = (int8_t *)at,
            .scales = (float *)(void *)(at + scale_at),
        };
        memset(at + hidden, 0, scale_at - hidden);
        return emb_model_read_quantized(w->files, EMB_TENSOR_WORDS, 0, row, 1, &one, scratch,
                                        error);
    }
    EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_WORDS, 0, row, 1, values, scratch, error));
    w->backend->convert(w->backend, out, w->dtype, values, 1, hidden);
    return EMB_OK;
}

/* Rows of int8 are where they stay, or go through staging to the device's memory. */
static emb_status load_stored_words(emb_weights *w, unsigned char *words, uint64_t row_bytes,
                                    emb_error *error) {
    uint32_t vocabulary = w->shape->vocabulary, words_of_row = (uint32_t)row_bytes / 4;
    bool staged = w->backend->device && !w->words_pinned;
    for (uint32_t row = 0, rows; row < vocabulary; row += rows) {
        unsigned char *at = words + row * row_bytes, *to = staged ? (void *)w->staging : at;
        rows = vocabulary - row < EMB_PACK_ROWS ? vocabulary - row : EMB_PACK_ROWS;
        for (uint32_t i = 0; i < rows; i++)
            EMB_TRY(emb_weights_read_word(w, to + i * row_bytes, row + i, NULL, w->staging_scratch,
                                          error));
        if (staged)
            w->backend->convert(w->backend, at, EMB_DTYPE_F32, w->staging, rows, words_of_row);
    }
    return EMB_OK;
}

static emb_status load_words(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    uint64_t row_bytes = emb_dtype_row_bytes(w->dtype, s->spec.hidden);
    unsigned char *words = w->words;
    if (!(w->words_pinned ? w->fills_pinned : w->words_resident)) return EMB_OK;
    if (w->stored) return load_stored_words(w, words, row_bytes, error);
    for (uint32_t row = 0; row < s->vocabulary; row += EMB_PACK_ROWS) {
        uint32_t rows = s->vocabulary - row < EMB_PACK_ROWS ? s->vocabulary - row : EMB_PACK_ROWS;
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_WORDS, 0, row, rows, w->staging,
                                    w->staging_scratch, error));
        w->backend->convert(w->backend, words + row * row_bytes, w->dtype, w->staging, rows,
                            s->spec.hidden);
    }
    return EMB_OK;
}

static emb_status load_embeddings(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    EMB_TRY(load_words(w, error));
    EMB_TRY(load_positions(w, error));
    EMB_TRY(read_vector(w, EMB_TENSOR_EMBED_GAIN, 0, s->spec.hidden, w->embed_gain, error));
    EMB_TRY(read_vector(w, EMB_TENSOR_EMBED_SHIFT, 0, s->spec.hidden, w->embed_shift, error));
    if (s->relative_buckets) EMB_TRY(load_relative(w, error));
    w->embedding = (emb_embedding){w->dtype, w->words, w->positions, w->embed_gain, w->embed_shift};
    return EMB_OK;
}

/* Lanes of a device may read what was loaded only once it has arrived there. */
static emb_status wait_uploaded(const emb_weights *w, emb_error *error) {
    const emb_device_calls *device = w->backend->device;
    return device ? device->uploaded(w->device, error) : EMB_OK;
}

void emb_weights_init(emb_weights *weights) {
    pthread_mutex_init(&weights->mutex, NULL);
    pthread_cond_init(&weights->changed, NULL);
}

static void *filled_event(const emb_weights *w, uint32_t slot) {
    return w->events[slot];
}

/* The events of all lanes that used this slot. */
static void **done_events(const emb_weights *w, uint32_t slot) {
    return w->events + w->slots + (size_t)slot * w->lanes;
}

static emb_status fill_pinned_layers(emb_weights *w, emb_error *error) {
    for (uint32_t n = 0; n < w->shape->layers; n++) {
        emb_layer layer;
        layer_in_block(&layer, w, w->pinned.layers + n * w->layer_bytes, w->layer_bytes);
        EMB_TRY(emb_weights_load_layer(w, &layer, n, error));
    }
    return EMB_OK;
}

/* Enqueues the copy of layer `number` into its slot, behind the work of all lanes that still read
 * what the slot held: their marks for it are made, see emb_weights_loader. */
static emb_status copy_layer(emb_weights *w, uint64_t number, emb_error *error) {
    uint32_t slot = (uint32_t)(number % w->slots), n = (uint32_t)(number % w->shape->layers);
    const emb_device_copy copy = {
        .to = w->blocks[slot],
        .from = w->pinned.layers + n * w->layer_bytes,
        .bytes = w->layer_bytes,
        .after = done_events(w, slot),
        .after_count = w->lanes,
        .done = filled_event(w, slot),
    };
    return w->backend->device->copy(w->copier, &copy, w->device, error);
}

/* A device warms its lanes with the first layer, also where layers will be streamed; the way that
 * they will come is gone once too. */
static emb_status load_layers(emb_weights *w, emb_error *error) {
    const emb_device_calls *device = w->backend->device;
    if (device && w->slots)
        EMB_TRY(device->copier_open(&w->copier, w->events, w->slots * (1 + w->lanes), w->device,
                                    error));
    if (w->layers_pinned) {
        if (w->fills_pinned) EMB_TRY(fill_pinned_layers(w, error));
        EMB_TRY(wait_uploaded(w, error));
        EMB_TRY(copy_layer(w, 0, error));
        return device->event_finish(filled_event(w, 0), w->device, error);
    }
    uint32_t first = w->slots == 0 ? w->shape->layers : device ? 1 : 0;
    for (uint32_t n = 0; n < first; n++)
        EMB_TRY(emb_weights_load_layer(w, &w->layers[n], n, error));
    return EMB_OK;
}

emb_status emb_weights_load(emb_weights *weights, emb_error *error) {
    EMB_TRY(load_embeddings(weights, error));
    EMB_TRY(load_layers(weights, error));
    return wait_uploaded(weights, error);
}

void emb_weights_close(emb_weights *weights) {
    if (weights->copier)
        weights->backend->device->copier_close(weights->copier, weights->events,
                                               weights->slots * (1 + weights->lanes));
    pthread_cond_destroy(&weights->changed);
    pthread_mutex_destroy(&weights->mutex);
}

/* ---- streaming ------------------------------------------------------------------------------- */

/* On a device the host's counters say what has been enqueued, and events on the device hold back
 * what was enqueued too early. Layer n goes to slot s = n % slots:
 *   loader  enqueues the copy of n behind done(s, each lane), marks filled(s); then loaded = n + 1
 *   lanes   once loaded > n: wait for filled(s), enqueue their tiles, mark done(s, lane); once all
 *           have: released = n + 1, and the loader may enqueue n + slots
 * An event is marked anew only when everyone who must wait for its mark before has begun to:
 * filled(s) again for n + slots, after all lanes released n; done(s, lane) again for n + slots,
 * after the loader enqueued that copy. */

/* Fills the slot of layer `number`; a copy from pinned memory is under way when this returns. */
static emb_status fill_slot(emb_weights *w, uint64_t number, emb_error *error) {
    const emb_device_calls *device = w->backend->device;
    if (w->layers_pinned) return copy_layer(w, number, error);
    uint32_t slot = (uint32_t)(number % w->slots);
    for (uint32_t i = 0; device && i < w->lanes; i++)
        EMB_TRY(device->event_finish(done_events(w, slot)[i], w->device, error));
    EMB_TRY(
        emb_weights_load_layer(w, &w->layers[slot], (uint32_t)(number % w->shape->layers), error));
    return wait_uploaded(w, error);
}

/* What this lane enqueues next reads the layer. At the first one of a pass it also begins to write
 * what other lanes may still read of the pass before: activations and indices, cut otherwise. */
static void wait_on_device(const emb_weights *w, uint64_t number, emb_lane *lane) {
    const emb_device_calls *device = w->backend->device;
    if (w->layers_pinned)
        device->lane_wait(&lane->scratch, filled_event(w, (uint32_t)(number % w->slots)));
    if (number == 0 || number % w->shape->layers) return;
    for (uint32_t i = 0; i < w->lanes; i++)
        if (i != lane->index)
            device->lane_wait(&lane->scratch,
                              done_events(w, (uint32_t)((number - 1) % w->slots))[i]);
}

void emb_weights_loader(void *user, uint32_t index) {
    emb_weights *w = user;
    (void)index;
    pthread_mutex_lock(&w->mutex);
    while (!w->stop && w->status == EMB_OK) {
        if (w->loaded >= w->wanted || w->loaded >= w->released + w->slots) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        uint64_t number = w->loaded;
        pthread_mutex_unlock(&w->mutex);
        emb_error error = {0};
        emb_status status = fill_slot(w, number, &error);
        pthread_mutex_lock(&w->mutex);
        if (status == EMB_OK) {
            w->loaded = number + 1;
        } else {
            w->status = status;
            w->error = error;
        }
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
}

void emb_weights_stop(emb_weights *w) {
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

void emb_weights_begin_pass(emb_weights *w) {
    pthread_mutex_lock(&w->mutex);
    w->wanted += w->shape->layers;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

const emb_layer *emb_weights_acquire(emb_weights *w, uint64_t number, emb_lane *lane) {
    if (w->slots == 0) return &w->layers[number % w->shape->layers];
    double before = emb_process_seconds();
    pthread_mutex_lock(&w->mutex);
    /* `released >= number`: every lane has finished the layer before, whose activations this layer
     * reads */
    while (!w->stop && w->status == EMB_OK && (w->loaded <= number || w->released < number))
        pthread_cond_wait(&w->changed, &w->mutex);
    bool ready = !w->stop && w->status == EMB_OK;
    pthread_mutex_unlock(&w->mutex);
    lane->seconds_wait += emb_process_seconds() - before;
    if (ready && w->backend->device) wait_on_device(w, number, lane);
    return ready ? &w->layers[number % w->slots] : NULL;
}

void emb_weights_release(emb_weights *w, uint64_t number, emb_lane *lane) {
    if (w->slots == 0) return;
    if (w->backend->device)
        w->backend->device->lane_mark(&lane->scratch,
                                      done_events(w, (uint32_t)(number % w->slots))[lane->index]);
    pthread_mutex_lock(&w->mutex);
    if (++w->releases == w->lanes) {
        w->releases = 0;
        w->released = number + 1;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
}
