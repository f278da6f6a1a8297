/* weights.c - loads what stays for the life of an engine: what is outside the layers (outside.c),
 * resident layers, pinned copies.
 *
 * Fed by model (rows of tensors), feeds the forward.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "encoder/weights_parts.h"

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
    EMB_TRY(emb_outside_load(weights, error));
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
