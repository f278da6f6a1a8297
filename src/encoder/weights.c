/* weights.c - loads what stays for the life of an engine: embeddings, resident layers, pinned
 * copies.
 *
 * Fed by model (rows of tensors), feeds the forward.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "encoder/weights_parts.h"

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
    EMB_TRY(emb_weights_load_positions(w, error));
    EMB_TRY(
        emb_weights_read_vector(w, EMB_TENSOR_EMBED_GAIN, 0, s->spec.hidden, w->embed_gain, error));
    EMB_TRY(emb_weights_read_vector(w, EMB_TENSOR_EMBED_SHIFT, 0, s->spec.hidden, w->embed_shift,
                                    error));
    if (s->relative_buckets) EMB_TRY(emb_weights_load_relative(w, error));
    w->embedding = (emb_embedding){w->dtype, w->words, w->positions, w->embed_gain, w->embed_shift};
    return EMB_OK;
}

/* Lanes of a device may read what was loaded only once it has arrived there. */
emb_status emb_weights_wait_uploaded(const emb_weights *w, emb_error *error) {
    const emb_device_calls *device = w->backend->device;
    return device ? device->uploaded(w->device, error) : EMB_OK;
}

void emb_weights_init(emb_weights *weights) {
    pthread_mutex_init(&weights->mutex, NULL);
    pthread_cond_init(&weights->changed, NULL);
}

static emb_status fill_pinned_layers(emb_weights *w, emb_error *error) {
    for (uint32_t n = 0; n < w->shape->layers; n++) {
        emb_layer layer;
        emb_weights_layer_in_block(&layer, w, w->pinned.layers + n * w->layer_bytes,
                                   w->layer_bytes);
        EMB_TRY(emb_weights_load_layer(w, &layer, n, error));
    }
    return EMB_OK;
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
        EMB_TRY(emb_weights_wait_uploaded(w, error));
        EMB_TRY(emb_weights_copy_layer(w, 0, error));
        return device->event_finish(w->events[0], w->device, error);
    }
    uint32_t first = w->slots == 0 ? w->shape->layers : device ? 1 : 0;
    for (uint32_t n = 0; n < first; n++)
        EMB_TRY(emb_weights_load_layer(w, &w->layers[n], n, error));
    return EMB_OK;
}

emb_status emb_weights_load(emb_weights *weights, emb_error *error) {
    EMB_TRY(load_embeddings(weights, error));
    EMB_TRY(load_layers(weights, error));
    return emb_weights_wait_uploaded(weights, error);
}

void emb_weights_close(emb_weights *weights) {
    if (weights->copier)
        weights->backend->device->copier_close(weights->copier, weights->events,
                                               weights->slots * (1 + weights->lanes));
    pthread_cond_destroy(&weights->changed);
    pthread_mutex_destroy(&weights->mutex);
}
