/* engine.h - the engine's state: what the caller's threads keep, and what they share with lanes.
 *
 * Threads: one that submits, one that collects (mostly the same), one per lane, and a loader if
 * weights are streamed. One mutex guards the hand-off of windows; it is never taken inside a tile.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_ENGINE_ENGINE_H
#define EMB_ENGINE_ENGINE_H

#include "base/counter.h"
#include "base/wake.h"
#include "engine/memory.h"

/* The text being read: used by the submitting thread only. */
typedef struct emb_intake {
    bool text_open;      /* between a FIRST piece and the end of its LAST */
    bool piece_open;     /* a piece is partly read: submit must begin with it again */
    size_t piece_used;   /* bytes or ids of it read so far */
    size_t piece_length; /* of the piece that is open */
    uint32_t piece_flags;
    bool ids;       /* the text comes as ids */
    bool text_done; /* the tokenizer has given every id */
    uint64_t user;
    emb_status status; /* of the text so far */
    uint64_t tokens;   /* encoded so far, special tokens included */
    uint64_t dropped;
    uint32_t chunks;       /* closed so far */
    uint32_t open_count;   /* ids in memory.open_ids */
    const uint32_t *fresh; /* ids that are not in a chunk yet */
    uint32_t fresh_used, fresh_count;
    uint64_t part_window; /* window that holds the text's last part so far, if has_part */
    bool has_part;
} emb_intake;

/* The rows being delivered: used by the collecting thread only. */
typedef struct emb_delivery {
    uint64_t sequence; /* window being delivered */
    uint32_t part;     /* next of its parts */
    uint64_t text;     /* number of the next row */
    uint64_t summed;   /* chunks in memory.sum */
} emb_delivery;

/* What emb_engine_stats reports; any thread may read it. */
typedef struct emb_engine_counts {
    /* added to by the submitting thread */
    emb_counter texts, texts_long, chunks, tokens, tokens_dropped, bytes_read, windows;
    emb_counter tokenize_ns;
    /* by the collecting thread */
    emb_counter texts_failed;
    /* under the engine's mutex */
    emb_counter passes, tiles, rows_computed, encode_ns, wait_ns;
    uint64_t graphs; /* since open */
} emb_engine_counts;

/* Tokenising on several threads: the caller's thread starts a round, and each takes the next
 * text. */
typedef struct emb_ahead {
    pthread_mutex_t mutex; /* guards what follows except `next` */
    pthread_cond_t work, done;
    uint64_t round; /* of work handed out */
    uint32_t busy;  /* readers that have not finished it */
    uint32_t texts;
    bool stop;
    atomic_uint next; /* text of the round that is not taken yet */
} emb_ahead;

struct emb_engine {
    const emb_model *model;
    const emb_backend *backend;
    emb_plan plan;
    emb_memory memory;
    void *arena;                          /* the host's */
    void *pinned_arena;                   /* NULL without a GPU */
    void *device_arenas[EMB_DEVICES_MAX]; /* of each GPU */
    uint64_t pinned_bytes, device_bytes;
    uint64_t arena_bytes;
    double opened_seconds;
    atomic_bool cancel;
    emb_engine_counts counts;

    emb_intake intake;
    emb_ahead ahead;
    emb_delivery delivery;
    atomic_bool piece_waits; /* submit has stopped inside a piece: it needs a window */
    /* both are raised under the mutex, so that waiting for them is safe; also read without it */
    _Atomic uint64_t dispatched; /* windows queued since open: the number of the one being filled */
    _Atomic uint64_t released;   /* windows whose rows are no longer valid: their slots are free */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;   /* a window was queued, or stop */
    emb_wake ready;        /* readable while collect has something to do: wait_done() says how */
    uint64_t awaited;      /* window whose rows collect returns next */
    uint64_t encoding;     /* oldest window with tiles to take */
    bool stop;
    emb_status status; /* sticky */
    emb_error error;
};

static inline emb_window *emb_engine_window(emb_engine *engine, uint64_t sequence) {
    return &engine->memory.windows[sequence % engine->plan.windows];
}

/* Marks a window whose vectors are complete. Holds the mutex. */
static inline void emb_engine_window_done(emb_engine *engine, emb_window *window) {
    window->done = true;
    if (window->sequence == engine->awaited) emb_wake_tell(&engine->ready, true);
}

/* Stops the engine with this status; the first one is kept. Holds the mutex. (engine.c) */
void emb_engine_fail(emb_engine *engine, emb_status status, const emb_error *error);

/* Gives the sticky status, with its message, or EMB_CANCELLED. Takes the mutex. (engine.c) */
emb_status emb_engine_status(emb_engine *engine, emb_error *error);

/* Tokenises the complete texts at the start of these pieces, as many as the free windows will
 * probably hold, into memory.ahead_texts; gives their number: 0 if there are none, or too few to
 * share. The caller's thread, between texts. (ahead.c) */
uint32_t emb_engine_read_ahead(emb_engine *engine, const emb_piece *pieces, uint32_t count);

/* The main of a reader other than the caller's thread; and stopping them. (ahead.c) */
void emb_engine_reader(void *engine, uint32_t index);
void emb_engine_stop_readers(emb_engine *engine);

/* A lane's main: takes tiles of queued windows until stop. (lanes.c) */
void emb_engine_lane(void *engine, uint32_t index);

#endif
