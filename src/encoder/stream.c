/* stream.c - layers loaded one by one into one or two slots, for all lanes of a pass.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/process.h"
#include "encoder/weights_parts.h"

/* On a device the host's counters say what has been enqueued, and events order it there. Layer n
 * goes to slot s = n % slots:
 *   loader  enqueues the copy of n after done(s, each lane), marks filled(s); then loaded = n + 1
 *   lanes   once loaded > n: wait for filled(s), enqueue their tiles, mark done(s, lane); once all
 *           have: released = n + 1, and the loader may enqueue n + slots
 * An event is marked again only once everyone that must wait for its previous mark does:
 * filled(s) again for n + slots, after all lanes released n; done(s, lane) again for n + slots,
 * after the loader enqueued that copy. */

static void *filled_event(const emb_weights *w, uint32_t slot) {
    return w->events[slot];
}

/* The events of all lanes for this slot. */
static void **done_events(const emb_weights *w, uint32_t slot) {
    return w->events + w->slots + (size_t)slot * w->lanes;
}

/* Enqueues the copy of layer `number` into its slot, after the work of all lanes that still read
 * the slot's previous layer: their events are marked already, see emb_weights_loader. */
emb_status emb_weights_copy_layer(emb_weights *w, uint64_t number, emb_error *error) {
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

/* Fills the slot of layer `number`; a copy from pinned memory may still be running when this
 * returns. */
static emb_status fill_slot(emb_weights *w, uint64_t number, emb_error *error) {
    const emb_device_calls *device = w->backend->device;
    if (w->layers_pinned) return emb_weights_copy_layer(w, number, error);
    uint32_t slot = (uint32_t)(number % w->slots);
    for (uint32_t i = 0; device && i < w->lanes; i++)
        EMB_TRY(device->event_finish(done_events(w, slot)[i], w->device, error));
    EMB_TRY(
        emb_weights_load_layer(w, &w->layers[slot], (uint32_t)(number % w->shape->layers), error));
    return emb_weights_wait_uploaded(w, error);
}

/* Makes what this lane enqueues next wait for the layer. At the first layer of a pass it must also
 * wait for the other lanes: it overwrites activations and indices that they may still read for the
 * pass before, whose tiles were cut differently. */
static void wait_on_device(const emb_weights *w, uint64_t number, uint32_t index,
                           emb_lane_scratch *queue) {
    const emb_device_calls *device = w->backend->device;
    if (w->layers_pinned) device->lane_wait(queue, filled_event(w, (uint32_t)(number % w->slots)));
    if (number == 0 || number % w->shape->layers) return;
    for (uint32_t i = 0; i < w->lanes; i++)
        if (i != index)
            device->lane_wait(queue, done_events(w, (uint32_t)((number - 1) % w->slots))[i]);
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

void emb_weights_skip_pass(emb_weights *w) {
    pthread_mutex_lock(&w->mutex);
    w->wanted -= w->shape->layers; /* perhaps below `loaded` now: the loader waits for more */
    pthread_mutex_unlock(&w->mutex);
}

const emb_layer *emb_weights_acquire(emb_weights *w, uint64_t number, uint32_t index,
                                     emb_lane_scratch *queue, double *seconds_wait) {
    if (w->slots == 0) return &w->layers[number % w->shape->layers];
    double before = emb_process_seconds();
    pthread_mutex_lock(&w->mutex);
    /* `released >= number`: every lane has finished the previous layer, which this one reads */
    while (!w->stop && w->status == EMB_OK && (w->loaded <= number || w->released < number))
        pthread_cond_wait(&w->changed, &w->mutex);
    bool ready = !w->stop && w->status == EMB_OK;
    pthread_mutex_unlock(&w->mutex);
    *seconds_wait += emb_process_seconds() - before;
    if (ready && w->backend->device) wait_on_device(w, number, index, queue);
    return ready ? &w->layers[number % w->slots] : NULL;
}

void emb_weights_release(emb_weights *w, uint64_t number, uint32_t index, emb_lane_scratch *queue) {
    if (w->slots == 0) return;
    if (w->backend->device)
        w->backend->device->lane_mark(queue, done_events(w, (uint32_t)(number % w->slots))[index]);
    pthread_mutex_lock(&w->mutex);
    if (++w->releases == w->lanes) {
        w->releases = 0;
        w->released = number + 1;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
}

emb_status emb_weights_stopped(emb_weights *weights, emb_error *error) {
    pthread_mutex_lock(&weights->mutex);
    emb_status status = weights->status;
    if (status != EMB_OK && error) *error = weights->error;
    pthread_mutex_unlock(&weights->mutex);
    if (status != EMB_OK) return status;
    return emb_error_set(error, EMB_CANCELLED, "cancelled");
}
