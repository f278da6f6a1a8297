/* pass.h - a tile of tokens through the whole encoder, forwards and back.
 *
 * Fed by params (weights) and a tile; feeds the loss (vectors) and the optimiser (gradients). The
 * layers are walked by encoder/walk.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_PASS_H
#define EMB_TRAIN_PASS_H

#include "train/layerwise.h"
#include "train/lora.h"

/* What a training lane works with: one tile at a time. */
typedef struct emb_train_lane {
    emb_train_run run; /* its spec is `spec` */
    emb_layer_spec spec;
    const emb_params *params; /* of the model */
    emb_lora *lora;           /* NULL: all parameters are trained */
    float *values;            /* that are trained: parameters, or adapters */
    float *gradients;         /* of the same order; with layerwise of those at hand alone */
    emb_layerwise *layerwise; /* NULL: gradients stay for the end of the step */
    emb_pool_rule pool;
    uint32_t tokens_max;
    uint32_t slabs;                      /* tiles whose sums are kept at the same time */
    uint32_t attention_slabs, ffn_slabs; /* the last so many keep the insides of these blocks */
    uint32_t every; /* layers from one sum that a slab keeps to the next: fewer than all, and those
                       between are computed again a segment at a time */
    uint64_t slab_bytes, attention_bytes, ffn_bytes; /* of a slab; of a layer's inside */
    unsigned char *kept;                             /* [slabs, slab_bytes] */
    unsigned char *attentions, *ffns; /* [attention_slabs or ffn_slabs, layers], or NULL */
    uint32_t slab;                    /* at hand */
    unsigned char *segment; /* [2 * every - 1, tokens_max, hidden] sums between those of the slab:
                               its own if it keeps all, else one of all slabs */
    uint32_t held;          /* number of the segment in it; those of other tiles: none */
    void *x, *d;            /* [tokens_max, hidden] a block's input; the gradient on its way */
    float *relative;        /* [heads, 2 * chunk_tokens_max - 1], or NULL */
    float *d_relative;      /* the same */
} emb_train_lane;

/* What a lane is booked for. */
typedef struct emb_train_sizes {
    uint32_t tokens; /* of a tile, at most */
    uint32_t slabs;
    uint32_t chunk_tokens_max;
    uint32_t threads;
    uint32_t attention_slabs, ffn_slabs; /* of these, that keep insides */
    uint32_t every;                      /* layers; 0: all. Fewer, and no slab keeps insides */
    void *state;                         /* the device's, or NULL */
} emb_train_sizes;

/* Books a lane. Neither values nor gradients. */
void emb_train_lane_layout(emb_train_lane *lane, const emb_params *params, const emb_train_ops *ops,
                           const emb_train_sizes *sizes, emb_ledger *ledger);

/* Which slab the passes that follow keep their sums in, or have kept them in. */
void emb_train_lane_select(emb_train_lane *lane, uint32_t slab);

/* After the parameters changed: what the lane keeps of them. */
void emb_train_lane_refresh(emb_train_lane *lane);

/* vectors[targets[c]] = the pooled vector of chunk c; NULL: none is wanted again. Keeps what back
 * needs. */
void emb_train_forward(emb_train_lane *lane, void *vectors, const uint32_t *targets,
                       const emb_tile *tile);

/* Adds to the gradients what d_vectors[targets[c]] gives; the last forward into the slab at hand
 * was of this tile. */
void emb_train_backward(emb_train_lane *lane, const void *d_vectors, const uint32_t *targets,
                        const emb_tile *tile);

#endif
