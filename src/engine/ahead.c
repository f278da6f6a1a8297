/* ahead.c - several threads tokenise complete texts of one submit ahead of the intake.
 *
 * A GPU encodes more tokens per second than one thread can produce. The intake then gets ids
 * instead of bytes, in the order of the texts, and does the rest as usual.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "engine/engine.h"

#define BYTES_MIN       4096 /* below it waking threads takes longer than tokenising */
#define BYTES_PER_TOKEN 3    /* fewer than in most languages, so that what is read ahead fits */
#define TURNS           8    /* in which each reader takes its share, for balance */

/* How many pieces from here on make up one complete text of bytes; 0 if they do not. */
static uint32_t whole_text(const emb_piece *pieces, uint32_t count, uint64_t *bytes) {
    *bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t flags = pieces[i].flags, wanted = i == 0 ? EMB_PIECE_FIRST : 0;
        if ((flags & ~(uint32_t)EMB_PIECE_LAST) != wanted) return 0;
        if (!pieces[i].data && pieces[i].length) return 0;
        *bytes += pieces[i].length;
        if (flags & EMB_PIECE_LAST) return i + 1;
    }
    return 0;
}

/* The tokens and chunks that the free windows have room for. */
static void free_room(emb_engine *engine, uint64_t *tokens, uint64_t *chunks) {
    const emb_plan *plan = &engine->plan;
    uint64_t windows = engine->released + plan->windows - engine->dispatched;
    *tokens = windows * plan->window_tokens;
    *chunks = windows * plan->window_chunks;
    const emb_window *filling = emb_engine_window(engine, engine->dispatched);
    if (windows == 0 || filling->sequence != engine->dispatched) return;
    *tokens -= filling->table.tokens;
    *chunks -= filling->table.chunks;
}

/* Lists the texts to read; gives their number. */
static uint32_t list_texts(emb_engine *engine, const emb_piece *pieces, uint32_t count) {
    uint64_t tokens, chunks, bytes, all = 0;
    uint32_t texts = 0;
    free_room(engine, &tokens, &chunks);
    for (uint32_t at = 0; at < count && texts < EMB_AHEAD_TEXTS && texts < chunks;) {
        uint32_t whole = whole_text(pieces + at, count - at, &bytes);
        uint64_t wanted = bytes / BYTES_PER_TOKEN + engine->model->info.special_tokens;
        if (whole == 0 || wanted > tokens) break;
        tokens -= wanted;
        all += bytes;
        engine->memory.ahead_texts[texts++] =
            (emb_ahead_text){.pieces = pieces + at, .pieces_count = whole};
        at += whole;
    }
    return texts > 1 && all >= BYTES_MIN ? texts : 0;
}

static void read_text(emb_reader *reader, emb_ahead_text *text) {
    uint32_t first = reader->used;
    bool done = false;
    emb_text_begin(&reader->tokenizer);
    for (uint32_t i = 0; i < text->pieces_count; i++) {
        const emb_piece *piece = &text->pieces[i];
        size_t used = 0, count = 0;
        emb_text_feed(&reader->tokenizer, piece->length ? piece->data : "", piece->length,
                      piece->flags & EMB_PIECE_LAST, reader->ids + reader->used,
                      EMB_AHEAD_IDS - reader->used, &used, &count, &done);
        reader->used += (uint32_t)count;
        EMB_ASSERT(reader->used <= EMB_AHEAD_IDS);
        if (used < piece->length) break;
    }
    text->ids = reader->ids + first;
    text->ids_count = done ? reader->used - first : EMB_AHEAD_FAILED;
}

/* Takes texts until none are left. */
static void read_texts(emb_engine *engine, emb_reader *reader, uint32_t texts) {
    uint32_t many = 1 + texts / (TURNS * engine->plan.readers);
    reader->used = 0;
    for (;;) {
        uint32_t from = atomic_fetch_add_explicit(&engine->ahead.next, many, memory_order_relaxed);
        uint32_t to = from + many < texts ? from + many : texts;
        if (from >= texts) return;
        for (uint32_t i = from; i < to; i++) read_text(reader, &engine->memory.ahead_texts[i]);
    }
}

uint32_t emb_engine_read_ahead(emb_engine *engine, const emb_piece *pieces, uint32_t count) {
    emb_ahead *ahead = &engine->ahead;
    uint32_t texts = list_texts(engine, pieces, count);
    if (texts == 0) return 0;
    pthread_mutex_lock(&ahead->mutex);
    atomic_store_explicit(&ahead->next, 0, memory_order_relaxed);
    ahead->texts = texts;
    ahead->busy = engine->plan.readers - 1;
    ahead->round++;
    pthread_cond_broadcast(&ahead->work);
    pthread_mutex_unlock(&ahead->mutex);
    read_texts(engine, engine->memory.readers, texts);
    pthread_mutex_lock(&ahead->mutex);
    while (ahead->busy) pthread_cond_wait(&ahead->done, &ahead->mutex);
    pthread_mutex_unlock(&ahead->mutex);
    return texts;
}

void emb_engine_reader(void *user, uint32_t index) {
    emb_engine *engine = user;
    emb_ahead *ahead = &engine->ahead;
    emb_reader *reader = &engine->memory.readers[engine->memory.threads.count - index];
    uint64_t round = 0;
    pthread_mutex_lock(&ahead->mutex);
    while (!ahead->stop) {
        if (round == ahead->round) {
            pthread_cond_wait(&ahead->work, &ahead->mutex);
            continue;
        }
        round = ahead->round;
        uint32_t texts = ahead->texts;
        pthread_mutex_unlock(&ahead->mutex);
        read_texts(engine, reader, texts);
        pthread_mutex_lock(&ahead->mutex);
        EMB_ASSERT(ahead->busy > 0);
        if (--ahead->busy == 0) pthread_cond_signal(&ahead->done);
    }
    pthread_mutex_unlock(&ahead->mutex);
}

void emb_engine_stop_readers(emb_engine *engine) {
    pthread_mutex_lock(&engine->ahead.mutex);
    engine->ahead.stop = true;
    pthread_cond_broadcast(&engine->ahead.work);
    pthread_mutex_unlock(&engine->ahead.mutex);
}
