/* batch.h - the texts of one step as token ids, and the tiles that they are worked on in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_BATCH_H
#define EMB_TRAIN_BATCH_H

#include "plan/plan.h"
#include "train/ops.h"

typedef struct emb_train_batch {
    const emb_model *model;
    emb_tokenizer tokenizer;
    uint32_t texts_max, length_max, tile_tokens;
    uint32_t texts, tokens, truncated;
    uint32_t *ids;    /* [texts_max * length_max] */
    uint32_t *starts; /* [texts_max + 1] */
    uint32_t *order;  /* [texts_max] by length, the longest first */
    uint32_t *counts; /* [length_max + 1] */
    uint32_t tiles;
    uint32_t *cuts; /* [texts_max + 1] where in the order each tile begins, and the last ends */
    /* the tile at hand */
    uint32_t *tile_ids;    /* [tile_tokens] */
    uint32_t *tile_starts; /* [tile_tokens + 1] */
} emb_train_batch;

void emb_train_batch_layout(emb_train_batch *batch, const emb_model *model, uint32_t texts,
                            uint32_t length, uint32_t tile_tokens, emb_ledger *ledger);

/* Begins a batch, adds a text: its ids with special tokens, cut to length_max; and orders them all
 * by length and cuts the order into tiles. Fails: EMB_BAD_TEXT. */
void emb_train_batch_begin(emb_train_batch *batch);
emb_status emb_train_batch_add(emb_train_batch *batch, const emb_text *text, emb_error *error);
void emb_train_batch_end(emb_train_batch *batch);

/* Fills tile number `index`; *targets are the rows of its texts. */
void emb_train_batch_tile(emb_train_batch *batch, emb_tile *tile, const uint32_t **targets,
                          uint32_t index);

/* Tiles that `texts` of at most `length` tokens can come to. */
uint32_t emb_train_batch_tiles(uint32_t texts, uint32_t length, uint32_t tile_tokens);

#endif
