/* memory.h - every buffer of an engine, and the structs that hold them: windows, readers, sites.
 *
 * Booked by layout.c: to measure a plan, then to bind an engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENGINE_MEMORY_H
#define EMB_ENGINE_MEMORY_H

#include "base/threads.h"
#include "base/token_table.h"
#include "encoder/encoder.h"
#include "plan/plan.h"

/* A text, or the part of it whose chunks lie in one window. */
typedef struct emb_part {
    uint64_t user;
    uint64_t tokens, tokens_dropped; /* of the whole text; set on the last part */
    uint32_t chunk0, chunks;
    uint32_t text_chunks; /* of the whole text; set on the last part */
    emb_status status;
    bool first, last;
} emb_part;

/* Chunks read ahead together, their order, their tiles, and the resulting vectors. */
typedef struct emb_window {
    emb_token_table table;
    emb_part *parts; /* [window_chunks] */
    uint32_t parts_count;
    uint32_t *order;    /* [window_chunks] */
    emb_tile_cut *cuts; /* [window_chunks] */
    uint32_t cuts_count;
    atomic_uint *next; /* [layers]; streamed passes */
    float *vectors;    /* [window_chunks, output_width]; of tokens: [window_tokens, hidden] */
    uint64_t sequence; /* its number since open */
    uint64_t text0;    /* number of the text of its first part */
    uint32_t site;     /* the site that encodes it; streamed passes */
    uint64_t pass;     /* number of its pass on its site since open; once begun */
    bool begun;        /* a lane of its site has reached it; streamed passes */
    uint32_t cuts_taken, cuts_done, lanes_done;
    bool withdrawn; /* one of its texts was withdrawn; guarded by the engine's mutex once queued */
    bool done;
} emb_window;

/* A thread's state for tokenising complete texts ahead of the intake. The first reader is the
 * caller's own thread. */
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

/* Where the model is: the CPU, or one of the GPUs. Each site has all the weights. */
typedef struct emb_site {
    emb_weights weights;
    emb_layer_spec blocks;
    void *pass_x;     /* [window_tokens, hidden] if weights are streamed */
    uint64_t passes;  /* begun since open, if weights are streamed; guarded by the engine's mutex */
    bool runs_device; /* weights are streamed to a device */
    emb_device_pass on_device;
    emb_encoder encoder; /* filled by the engine */
} emb_site;

/* Every buffer of an engine. Pointers are NULL while measuring. */
typedef struct emb_memory {
    emb_engine *engine;
    emb_tokenizer tokenizer;
    emb_thread_set threads; /* lanes, a loader per site if weights are streamed, readers but one */
    emb_reader *readers;    /* [plan.readers]; NULL if there is only one */
    emb_ahead_text *ahead_texts; /* [EMB_AHEAD_TEXTS] with them */
    emb_site *sites;             /* [plan.devices_count] */
    emb_lane *lanes;             /* [plan.lanes]; lane i belongs to site i % devices_count */
    emb_window *windows;         /* [plan.windows] */
    emb_piece *slab;             /* [emb_engine_slab_pieces()] submitted at once by embed */
    uint32_t *open_ids;          /* [chunk_tokens_max] the chunk being filled */
    uint32_t *fresh_ids;         /* [EMB_FRESH_IDS] from the tokenizer, not yet in a chunk */
    uint32_t *length_counts;     /* [chunk_tokens_max + 1] for ordering */
    double *sum;                 /* [emb_row_width()] of a long text's chunk vectors */
    float *nan_row;              /* [emb_row_width()] */
} emb_memory;

#define EMB_FRESH_IDS 512

/* Enough for the readers to share evenly; with one reader, enough to keep calls few. */
static inline uint32_t emb_engine_slab_pieces(const emb_plan *plan) {
    return plan->readers > 1 ? 180 : 32;
}

/* Books (or binds) everything for these shapes. (layout.c) */
void emb_engine_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                       const emb_backend *backend, emb_plan_books *books);

/* Orders the window's chunks by length, longest first (stable for equal lengths), and cuts those of
 * texts not withdrawn into tiles of at most tokens_per_tile tokens. `counts` is memory's
 * length_counts. (batches.c) */
void emb_engine_cut_window(emb_window *window, uint32_t *counts, uint32_t chunk_tokens_max,
                           uint32_t tokens_per_tile);

/* Cuts a queued window again if texts of it were withdrawn since; its cuts still fit the plan.
 * The caller holds the engine's mutex. (batches.c) */
void emb_engine_cut_again(emb_window *window, uint32_t tokens_per_tile);

/* Filters a list of the window's chunks, keeping those of texts not withdrawn, in order; gives
 * their number. (withdraw.c) */
uint32_t emb_engine_leave_out(const emb_window *window, uint32_t *chunks, uint32_t count);

#endif
