/* lora.h - low-rank adapters (Hu et al. 2022): the model's parameters stay as they are, and of each
 * target matrix W only A [rank, cols] and B [rows, rank] are trained, in W + alpha / rank * B * A.
 *
 * The blocks know nothing of it: before a layer is computed its matrices are put together in
 * memory for one layer, and the gradient of one comes into memory for one layer, from where it goes
 * to A and B at once. Matrices of other dtypes than f32 are restored on the way, so that the model
 * takes the bytes that its files have.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_LORA_H
#define EMB_TRAIN_LORA_H

#include "embound_train.h"
#include "train/cpu/kernels.h"
#include "train/params.h"

enum { EMB_LORA_LINEARS = 6 };

/* Queries, keys, values; attention's output; the feed-forward's two. */
typedef struct emb_lora_linear {
    emb_tensor_role role;
    uint32_t rows, cols;
    bool target;
    uint64_t a, b;   /* target: first values of A and B in layer 0 */
    uint64_t weight; /* of the layer at hand: value of `weights`, if `own` */
    uint64_t d_weight;
    bool own, wanted; /* in `weights`; in `d_weights`: as one with queries, keys and values */
} emb_lora_linear;

typedef struct emb_lora {
    const emb_train_kernels *kernels; /* of f32 */
    emb_team *team;
    emb_params base;    /* the model's, frozen */
    emb_params trained; /* A and B of each target of each layer, in the order of the linears */
    float *values;      /* [base.values] */
    unsigned char *stored;
    uint32_t rank, threads;
    float scale; /* alpha / rank */
    emb_lora_linear linears[EMB_LORA_LINEARS];
    uint64_t layer_values;      /* of the adapters of a layer */
    float *weights, *d_weights; /* of the layer at hand */
    uint64_t d_weights_count;
    float *scaled, *along; /* [most rows, rank] */
    float *work;           /* [threads, EMB_TRAIN_WORK] */
    int8_t *codes;         /* [threads, most columns], where the model has int4 */
    float *staging;        /* [emb_stored_staging] */
    uint32_t *places;      /* [tokens of a tile] 0, 1, ..., if the words are not f32 */
} emb_lora;

/* What an adapter's tensor belongs to: trained.tensors[i] is B if i is odd, else A. */
static inline bool emb_lora_is_b(uint32_t index) {
    return index % 2;
}

/* Books the frozen parameters, the table of the adapters, and a layer's memory. */
void emb_lora_layout(emb_lora *lora, const emb_shape *shape, const emb_model_files *files,
                     const emb_train_lora *options, uint32_t tile_tokens, uint32_t threads,
                     emb_ledger *ledger);

/* Reads the frozen parameters, and begins the adapters as PEFT does: A uniform within
 * 1 / sqrt(cols), B 0. kernels and team are set; scratch as for emb_params_load. Fails: as it does.
 */
emb_status emb_lora_load(emb_lora *lora, float *adapters, uint64_t seed, void *scratch,
                         emb_error *error);

/* The layer's weights with its adapters, until another's are asked for. */
emb_layer_params emb_lora_weights(const emb_lora *lora, const float *adapters, uint32_t layer);

/* The share of the layers' weights whose gradients are not computed. */
double emb_lora_spares(const emb_lora *lora);

/* Where a layer's gradients go: cleared; NULL where they are not wanted. */
emb_layer_params emb_lora_gradients(const emb_lora *lora);

/* Adds to the adapters' gradients what those of the layer's weights give. */
void emb_lora_project(const emb_lora *lora, const float *adapters, float *d_adapters,
                      uint32_t layer);

/* The embedding's weights for one tile. Words that are not f32 are restored to `room` [tokens of
 * the tile, hidden], a row a token, and *tile has their places for ids. */
emb_embed_params emb_lora_embed(const emb_lora *lora, float *room, emb_tile *tile);

/* Gives *count rows of a tensor of `base` with its adapter, from `row` on: all that are left, or a
 * part of them. Until the next call of any of these. */
const float *emb_lora_rows(const emb_lora *lora, const float *adapters, const emb_param *tensor,
                           uint32_t row, uint32_t *count);

#endif
