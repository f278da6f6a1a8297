/* encoder.h - tiles of tokens through all layers, with weights resident or streamed.
 *
 * Fed by engine (windows), uses model (weights) and a backend's operations; feeds the window's
 * vectors. Knows nothing of plans: shapes come as numbers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENCODER_ENCODER_H
#define EMB_ENCODER_ENCODER_H

#include <stdatomic.h>

#include "base/token_table.h"
#include "encoder/walk.h"
#include "encoder/weights.h"

/* One thread's own buffers. */
typedef struct emb_lane {
    uint32_t index; /* among those that share the weights */
    emb_lane_scratch scratch;
    void *x;           /* [tokens_per_tile, hidden]; NULL: the pass holds the activations */
    uint32_t *indices; /* [emb_index_words()] with ids, starts and targets */
    uint32_t *ids;     /* [tokens_per_tile] */
    uint32_t *starts;  /* [chunks + 1] */
    void *gathered;    /* [tokens_per_tile, hidden] word rows, if they are not resident */
    float *gather_row; /* one row as f32, before it is rounded */
    void *gather_scratch;
    emb_tile tile; /* the current tile */
    const uint32_t *tile_targets;
    bool replayed;                       /* a recorded graph runs the tile's embed and layers */
    double seconds_encode, seconds_wait; /* of the tile or pass just done */
    uint64_t rows_computed, tiles;       /* processed by this lane since open */
} emb_lane;

/* A range of a window's order; its activations start at row0 of the pass. */
typedef struct emb_tile_cut {
    uint32_t order0, chunks, tokens, row0;
} emb_tile_cut;

/* The tiles of a streamed pass on a device. Each is filled and uploaded once, at the first layer,
 * and kept until the pass is done, so that the host enqueues a pass without waiting. */
typedef struct emb_device_tile {
    emb_tile tile;
    const uint32_t *targets;
} emb_device_tile;

typedef struct emb_device_pass {
    emb_device_tile *tiles; /* [tiles_max] */
    uint32_t *staging[2];   /* pinned: the tiles' blocks of indices; passes alternate */
    unsigned char *kept;    /* device memory: the same, and what is derived from them there */
} emb_device_pass;

/* Books them for passes of at most so many tokens and chunks. */
void emb_device_pass_layout(emb_device_pass *on_device, const emb_weights_config *config,
                            uint32_t tokens, uint32_t chunks, uint32_t tokens_per_tile,
                            const emb_books *books);

/* What goes through all layers together. With streamed weights all lanes share it; with resident
 * weights it is a single tile, owned by one lane. */
typedef struct emb_pass {
    const emb_token_table *table;
    const uint32_t *order; /* chunk numbers, longest first */
    const emb_tile_cut *cuts;
    uint32_t cuts_count;
    void *x;                    /* activations of row0 of the first cut onwards */
    float *vectors;             /* [chunks of the table, output_width]; see keeps_tokens */
    uint64_t number0;           /* of the pass's first layer, see emb_weights */
    atomic_uint *next;          /* [layers] next cut to take at each layer; NULL: a single lane */
    emb_device_pass *on_device; /* streamed to a device; else NULL */
    const atomic_bool *cancel;
} emb_pass;

typedef struct emb_encoder {
    const emb_backend *backend;
    emb_layer_spec blocks;
    emb_pool_rule pool;
    bool keeps_tokens; /* no pooling: vectors are the last layer's output [tokens, hidden] */
    emb_weights *weights;
    const emb_shape *shape;
} emb_encoder;

/* Books one lane, the index-th of those that share the weights. with_x: the lane has its own buffer
 * for activations. */
void emb_lane_layout(emb_lane *lane, uint32_t index, const emb_weights_config *config,
                     const emb_layer_spec *blocks, uint32_t tokens_per_tile, bool with_x,
                     const emb_books *books);

/* Runs this lane's share of a pass: embed, layers, pool. Called by every lane of the pass.
 * Fails: EMB_IO, EMB_BAD_FILE (streaming or gathering), EMB_CANCELLED. */
emb_status emb_encoder_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               emb_error *error);

/* Runs a pass of one tile through a lane, with the first layer's weights for every layer, so that a
 * device has loaded every kernel before the engine is ready. The vectors are meaningless. Streamed
 * weights must not have begun. Fails as forward does. */
emb_status emb_encoder_warm(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                            emb_error *error);

/* Records embed and all layers as a graph for tiles of up to `tokens` tokens on a device's lane,
 * once it is warmed up. Needs resident layers. Fails: EMB_DEVICE; the lane then works without the
 * graph. */
emb_status emb_encoder_record(emb_encoder *encoder, emb_lane *lane, uint32_t tokens,
                              emb_error *error);

#endif
