/* encoder.h - tiles of tokens through all layers, with weights resident or streamed.
 *
 * Fed by engine (windows), uses model (weights) and a backend's operations; feeds the window's
 * vectors. Knows no plan: shapes come as numbers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_ENCODER_H
#define EMB_ENCODER_ENCODER_H

#include <pthread.h>
#include <stdatomic.h>

#include "backend/backend.h"
#include "base/token_table.h"
#include "model/model.h"

/* ---- weights --------------------------------------------------------------------------------- */

struct emb_lane;

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
    float *relative;              /* see emb_block_shape; NULL for BERT */
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
    uint64_t wanted;   /* numbers below this may be loaded: passes begun * layers */
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
    uint32_t slots, lanes, chunk_tokens_max, device;
    bool words_resident, words_pinned, layers_pinned, fills_pinned;
    emb_pinned_weights pinned;
} emb_weights_config;

/* Books the pinned copies that the configuration names. */
void emb_pinned_weights_layout(emb_pinned_weights *pinned, const emb_weights_config *config,
                               const emb_books *books);

/* Books resident weights, or slots: vectors and matrices as the device's, staging as the host's. */
void emb_weights_layout(emb_weights *weights, const emb_weights_config *config,
                        const emb_books *books);

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

/* Announces one more pass, so that its layers may be loaded. Called once a pass. */
void emb_weights_begin_pass(emb_weights *weights);

/* Gives layer `number` (see `loaded`), waiting for it if it is streamed; NULL once stopped or
 * failed. Adds the time waited to the lane's. Each lane acquires and releases every layer once.
 * On a device nothing waits for the layer but what the lane enqueues next, and it is released when
 * all that the lane has enqueued is done. */
const emb_layer *emb_weights_acquire(emb_weights *weights, uint64_t number, struct emb_lane *lane);
void emb_weights_release(emb_weights *weights, uint64_t number, struct emb_lane *lane);

/* ---- lanes, tiles, passes -------------------------------------------------------------------- */

/* One thread's own buffers. */
typedef struct emb_lane {
    uint32_t index; /* among those that share the weights */
    emb_lane_scratch scratch;
    void *x;           /* [tokens_per_tile, hidden]; NULL if the pass holds the activations */
    uint32_t *indices; /* [emb_index_words()] with ids, starts and targets */
    uint32_t *ids;     /* [tokens_per_tile] */
    uint32_t *starts;  /* [chunks + 1] */
    void *gathered;    /* [tokens_per_tile, hidden] word rows, if they are not resident */
    float *gather_row; /* one row as f32 on its way */
    void *gather_scratch;
    emb_tile tile; /* being run */
    const uint32_t *tile_targets;
    bool replayed; /* a recording takes the tile through embed and all layers */
    double seconds_encode, seconds_wait; /* of the tile or pass just done */
    uint64_t rows_computed, tiles;       /* that this lane took through the layers, since open */
} emb_lane;

/* A range of a window's order; its activations start at row0 of the pass. */
typedef struct emb_tile_cut {
    uint32_t order0, chunks, tokens, row0;
} emb_tile_cut;

/* The tiles of a streamed pass on a device. Each is packed and uploaded once, at the first layer,
 * and stays until the pass is done; so the host enqueues a pass without waiting. */
typedef struct emb_packed_tile {
    emb_tile tile;
    const uint32_t *targets;
} emb_packed_tile;

typedef struct emb_packed_pass {
    emb_packed_tile *tiles; /* [tiles_max] */
    uint32_t *staging[2];   /* pinned: the tiles' blocks of indices; passes take turns */
    unsigned char *kept;    /* the device's: the same, and what it makes of them */
} emb_packed_pass;

/* Books them for passes of at most so many tokens and chunks. */
void emb_packed_pass_layout(emb_packed_pass *packed, const emb_weights_config *config,
                            uint32_t tokens, uint32_t chunks, uint32_t tokens_per_tile,
                            const emb_books *books);

/* What goes through all layers together. Shared by all lanes if weights are streamed, one lane's
 * own (a single tile) if they are resident. */
typedef struct emb_pass {
    const emb_token_table *table;
    const uint32_t *order; /* chunk numbers, longest first */
    const emb_tile_cut *cuts;
    uint32_t cuts_count;
    void *x;                 /* activations of row0 of the first cut onwards */
    float *vectors;          /* [chunks of the table, hidden] */
    uint64_t number0;        /* of the pass's first layer, see emb_weights */
    atomic_uint *next;       /* [layers] next cut to take at each layer; NULL: one lane alone */
    emb_packed_pass *packed; /* streamed to a device; else NULL */
    const atomic_bool *cancel;
} emb_pass;

typedef struct emb_encoder {
    const emb_backend *backend;
    emb_block_shape blocks;
    emb_pool_rule pool;
    bool keeps_tokens; /* instead of pooling, the last layer as it is: vectors [tokens, hidden] */
    emb_weights *weights;
    const emb_shape *shape;
} emb_encoder;

/* Books one lane, the index-th of those that share the weights. with_x: the lane holds its
 * activations itself. */
void emb_lane_layout(emb_lane *lane, uint32_t index, const emb_weights_config *config,
                     const emb_block_shape *blocks, uint32_t tokens_per_tile, bool with_x,
                     const emb_books *books);

/* Runs this lane's share of a pass: embed, layers, pool. Called by every lane of the pass.
 * Fails: EMB_IO, EMB_BAD_FILE (streaming or gathering), EMB_CANCELLED. */
emb_status emb_encoder_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               emb_error *error);

/* Runs a pass of one tile once through a lane with the first layer's weights in every layer's
 * place: so that a device has loaded every kernel before the engine is ready. The vectors mean
 * nothing. Streamed weights must not have begun. Fails as forward does. */
emb_status emb_encoder_warm(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                            emb_error *error);

/* Records embed and all layers for tiles of up to `tokens` tokens on a device's lane, after it was
 * warmed. Needs resident layers. Fails: EMB_DEVICE; the lane then works without a recording. */
emb_status emb_encoder_record(emb_encoder *encoder, emb_lane *lane, uint32_t tokens,
                              emb_error *error);

#endif
