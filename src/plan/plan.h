/* plan.h - from limits to shapes and bytes, and from a window's lengths to tiles.
 *
 * emb_plan_make (public, plan.c) walks down the ladder and weighs each candidate with
 * emb_memory_layout; the engine binds with the same function. Nothing else knows sizes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PLAN_PLAN_H
#define EMB_PLAN_PLAN_H

#include "base/threads.h"
#include "base/token_table.h"
#include "encoder/encoder.h"
#include "model/model.h"
#include "text/text.h"

/* What emb_model_open leaves: metadata alone. */
struct emb_model {
    emb_model_files *files;
    emb_shape shape;
    emb_text_spec text;
    emb_text_added *added; /* the spec's */
    emb_model_info info;
};

/* A text, or the part of it whose chunks lie in one window. */
typedef struct emb_part {
    uint64_t user;
    uint64_t tokens, tokens_dropped; /* of the whole text; set on the last part */
    uint32_t chunk0, chunks;
    uint32_t text_chunks; /* of the whole text; set on the last part */
    emb_status status;
    bool first, last;
} emb_part;

/* Chunks read ahead together, their order and tiles, and the vectors that come out. */
typedef struct emb_window {
    emb_token_table table;
    emb_part *parts; /* [window_chunks] */
    uint32_t parts_count;
    uint32_t *order;    /* [window_chunks] */
    emb_tile_cut *cuts; /* [window_chunks] */
    uint32_t cuts_count;
    atomic_uint *next; /* [layers]; streamed passes */
    float *vectors;    /* [window_chunks, hidden]; of tokens: [window_tokens, hidden] */
    uint64_t sequence; /* its number since open */
    uint64_t pass;     /* number of its pass on its site since open */
    uint32_t site;     /* that encodes it; streamed passes */
    uint32_t cuts_taken, cuts_done, lanes_done;
    bool done;
} emb_window;

/* One that tokenises whole texts ahead of the intake. The first is the caller's own thread. */
typedef struct emb_reader {
    emb_tokenizer tokenizer;
    uint32_t *ids; /* [EMB_AHEAD_IDS] */
    uint32_t used;
} emb_reader;

/* A text tokenised ahead. */
typedef struct emb_ahead_text {
    const emb_piece *pieces;
    uint32_t pieces_count;
    uint32_t ids_count; /* EMB_AHEAD_FAILED: its ids did not fit */
    const uint32_t *ids;
} emb_ahead_text;

#define EMB_AHEAD_TEXTS  256
#define EMB_AHEAD_IDS    65536
#define EMB_AHEAD_FAILED UINT32_MAX

/* Where the model is: the CPU, or one GPU of several. Each site has all the weights. */
typedef struct emb_site {
    emb_weights weights;
    emb_block_shape blocks;
    void *pass_x; /* [window_tokens, hidden] if weights are streamed */
    bool packs;   /* weights are streamed to a device: passes are packed */
    emb_packed_pass packed;
    emb_encoder encoder; /* the engine's to fill */
} emb_site;

/* Every buffer of an engine. Pointers are NULL while measuring. */
typedef struct emb_memory {
    void *engine; /* [EMB_ENGINE_BYTES] the engine's own struct */
    emb_tokenizer tokenizer;
    emb_thread_set threads; /* lanes, a loader per site if weights are streamed, readers but one */
    emb_reader *readers;    /* [plan.readers]; NULL if there is one alone */
    emb_ahead_text *ahead_texts; /* [EMB_AHEAD_TEXTS] with them */
    emb_site *sites;             /* [plan.devices_count] */
    emb_lane *lanes;             /* [plan.lanes]; lane i belongs to site i % devices_count */
    emb_window *windows;         /* [plan.windows] */
    uint32_t *open_ids;          /* [chunk_tokens_max] the chunk being filled */
    uint32_t *fresh_ids;         /* [EMB_FRESH_IDS] from the tokenizer, not yet in a chunk */
    uint32_t *length_counts;     /* [chunk_tokens_max + 1] for ordering */
    double *sum;                 /* [hidden] of a long text's chunk vectors */
    float *nan_row;              /* [hidden] */
} emb_memory;

#define EMB_FRESH_IDS 512

/* The ledgers of an engine: one of each GPU's memory. While measuring, GPUs need the same. */
typedef struct emb_site_books {
    emb_ledger host, pinned, devices[EMB_DEVICES_MAX];
} emb_site_books;

/* Books (or binds) everything for these shapes. */
void emb_memory_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                       const emb_backend *backend, emb_site_books *books);

/* Room for the engine's struct, which plan cannot see; engine asserts that it fits. */
#define EMB_ENGINE_BYTES (20u << 10)

/* Writes the numerics_id of this model on this backend (64 bytes). */
void emb_plan_numerics(char out[64], const emb_model *model, const emb_backend *backend);

/* Orders the window's chunks by length, longest first (chunks of equal length as they came), and
 * cuts them into tiles of at most tokens_per_tile tokens. `counts` is memory's length_counts. */
void emb_plan_cut_window(emb_window *window, uint32_t *counts, uint32_t chunk_tokens_max,
                         uint32_t tokens_per_tile);

#endif
