/* weights.h - where a model's parameters are, and how a layer of them is had: resident, or
 * streamed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_WEIGHTS_H
#define EMB_ENCODER_WEIGHTS_H

#include <pthread.h>

#include "backend/backend.h"
#include "model/model.h"

/* Copies in pinned host memory, packed as the device's, that stand in for the file. Filled once,
 * then only read: all devices of an engine share them. */
typedef struct emb_pinned_weights {
    void *words;           /* the embedding table, if words_pinned */
    unsigned char *layers; /* [layers, layer_bytes], if layers_pinned */
} emb_pinned_weights;

/* Where the parameters are, and how the next layer is had. */
typedef struct emb_weights {
    const emb_model_files *files;
    const emb_shape *shape;
    const emb_backend *backend;
    emb_dtype dtype;
    bool stored;                      /* the files hold matrices in `dtype`; else made from f32 */
    uint32_t slots;                   /* 0: all layers resident; 1, 2: buffers of one layer each */
    uint32_t device;                  /* index, if the backend has one */
    bool words_resident;              /* else rows are read from the file for each tile */
    bool words_pinned, layers_pinned; /* in `pinned` instead of the device's memory, or the file */
    bool fills_pinned;                /* the first of those that share the pinned copies */
    uint32_t chunk_tokens_max;
    emb_pinned_weights pinned;
    uint64_t layer_bytes; /* of a layer in one block, as pinned memory and device slots hold it */
    emb_embedding embedding;
    void *words; /* the table behind embedding.words, if resident or pinned */
    float *positions, *embed_gain, *embed_shift;
    emb_layer_spec *spec;         /* the caller's; its tables are booked and loaded here */
    emb_layer *layers;            /* [layers] resident, or [slots] */
    float *staging;               /* [EMB_PACK_ROWS, max cols] f32 rows on their way */
    void *staging_scratch;        /* bytes as the file has them */
    emb_quantized_rows quantized; /* [EMB_PACK_ROWS, max cols] staged rows, if the dtype is so */
    float *factors, *importance;  /* [hidden] of the balanced matrix at work; int4 made here */
    /* streaming: guarded by mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint32_t lanes;    /* that release each layer */
    uint64_t loaded;   /* layers loaded since open, over all passes: layer n of pass p is
                          number p * layers + n, in slot number % slots */
    uint64_t wanted;   /* numbers below this may be loaded: passes announced * layers */
    uint64_t released; /* numbers below this are free again (on a device: marked as such) */
    uint32_t releases; /* lanes that have released number `released` */
    bool stop;
    emb_status status; /* of the loader; sticky */
    emb_error error;
    /* streaming to a device */
    void *blocks[2]; /* [slots] where each slot's layer begins */
    void *copier;
    void **events; /* [slots] a slot is filled, then [slots, lanes] a lane is done with it */
} emb_weights;

typedef struct emb_weights_config {
    const emb_model_files *files;
    const emb_shape *shape;
    const emb_backend *backend;
    emb_dtype dtype;
    uint32_t slots, lanes, chunk_tokens_min, chunk_tokens_max, device;
    bool words_resident, words_pinned, layers_pinned, fills_pinned;
    emb_pinned_weights pinned;
} emb_weights_config;

/* Books the pinned copies that the configuration names. */
void emb_pinned_weights_layout(emb_pinned_weights *pinned, const emb_weights_config *config,
                               const emb_books *books);

/* Books resident weights, or slots: vectors and matrices as the device's, staging as the host's.
 * Fills the layers' spec, with the fields for whoever runs them; it must outlive the weights. */
void emb_weights_layout(emb_weights *weights, emb_layer_spec *spec,
                        const emb_weights_config *config, const emb_books *books);

/* After binding; paired with close. */
void emb_weights_init(emb_weights *weights);
void emb_weights_close(emb_weights *weights);

/* Loads what is resident, and the pinned copies. Fails: EMB_IO, EMB_BAD_FILE, EMB_DEVICE. */
emb_status emb_weights_load(emb_weights *weights, emb_error *error);

/* Reads one row of the word embedding into `out`, host memory, as a table in the weights' dtype
 * has it: see emb_dtype_row_bytes. values [hidden] and scratch are the caller's. Fails as load
 * does. */
emb_status emb_weights_read_word(const emb_weights *weights, void *out, uint32_t row, float *values,
                                 void *scratch, emb_error *error);

/* Fills `layer`, one of weights->layers, with layer n of the model. Fails as load does. */
emb_status emb_weights_load_layer(emb_weights *weights, emb_layer *layer, uint32_t n,
                                  emb_error *error);

/* The loader thread's main while slots > 0: fills slots ahead of the lanes until told to stop. */
void emb_weights_loader(void *weights, uint32_t index);
void emb_weights_stop(emb_weights *weights);

/* Announces one more pass, so that its layers may be loaded. Called once a pass. Threads: any. */
void emb_weights_begin_pass(emb_weights *weights);

/* Takes one announcement back: a pass less will come than was announced. Layers that were loaded
 * for it are the next one's. Threads: any; an engine may hold its mutex: the weights' own is always
 * taken after it. */
void emb_weights_skip_pass(emb_weights *weights);

/* Gives layer `number` (see `loaded`) to the index-th of the lanes that share the weights, waiting
 * for it if it is streamed; NULL once stopped or failed. Adds the time waited. Each lane acquires
 * and releases every layer once. On a device nothing waits for the layer but what is enqueued next
 * on the lane's `queue`, and it is released when all that was enqueued there is done. */
const emb_layer *emb_weights_acquire(emb_weights *weights, uint64_t number, uint32_t index,
                                     emb_lane_scratch *queue, double *seconds_wait);
void emb_weights_release(emb_weights *weights, uint64_t number, uint32_t index,
                         emb_lane_scratch *queue);

/* Why `acquire` gave NULL: the loader's failure, or EMB_CANCELLED. */
emb_status emb_weights_stopped(emb_weights *weights, emb_error *error);

#endif
