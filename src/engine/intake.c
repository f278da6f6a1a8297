/* intake.c - submit and flush: pieces to ids to chunks to windows, on the caller's thread.
 *
 * Never blocks: when every window is in use it stops and remembers its place.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/process.h"
#include "engine/engine.h"

/* ---- windows --------------------------------------------------------------------------------- */

/* The window being filled, or NULL while all are in use. */
static emb_window *filling_window(emb_engine *engine) {
    if (engine->dispatched >= engine->released + engine->plan.windows) return NULL;
    return emb_engine_window(engine, engine->dispatched);
}

/* Under the mutex, as a lane may still be checking whether this slot holds an older window. */
static void reset_window(emb_engine *engine, emb_window *window) {
    EMB_ASSERT(engine->released + engine->plan.windows > engine->dispatched);
    pthread_mutex_lock(&engine->mutex);
    window->table.tokens = window->table.chunks = 0;
    window->table.starts[0] = 0;
    window->parts_count = window->cuts_count = 0;
    window->cuts_taken = window->cuts_done = window->lanes_done = 0;
    window->withdrawn = window->begun = window->done = false;
    window->sequence = engine->dispatched;
    pthread_mutex_unlock(&engine->mutex);
}

/* Hands the window being filled to the lanes. */
static void dispatch(emb_engine *engine) {
    emb_window *window = emb_engine_window(engine, engine->dispatched);
    EMB_ASSERT(window->sequence == engine->dispatched && window->parts_count > 0);
    emb_engine_cut_window(window, engine->memory.length_counts, engine->plan.chunk_tokens_max,
                          engine->plan.tokens_per_tile);
    bool streamed = engine->plan.weight_slots != 0 && window->cuts_count != 0;
    if (streamed) {
        for (uint32_t n = 0; n < engine->model->shape.layers; n++)
            atomic_store(&window->next[n], 0);
        /* sites take turns: windows have the same size, and rows are delivered in order */
        window->site = (uint32_t)(engine->dispatched % engine->plan.devices_count);
        emb_weights_begin_pass(&engine->memory.sites[window->site].weights);
    }
    pthread_mutex_lock(&engine->mutex);
    if (window->cuts_count == 0) emb_engine_window_done(engine, window);
    engine->dispatched++;
    emb_counter_add(&engine->counts.windows, 1);
    pthread_cond_broadcast(&engine->work);
    pthread_mutex_unlock(&engine->mutex);
}

/* Finds a window with room for one chunk of so many tokens (0: for a part without one). */
static emb_window *window_with_room(emb_engine *engine, uint32_t tokens) {
    for (;;) {
        emb_window *window = filling_window(engine);
        if (!window) return NULL;
        if (window->sequence != engine->dispatched) reset_window(engine, window);
        const emb_token_table *table = &window->table;
        if (table->tokens + tokens <= table->tokens_max && table->chunks < table->chunks_max &&
            window->parts_count < table->chunks_max)
            return window;
        dispatch(engine);
    }
}

/* ---- chunks and parts ------------------------------------------------------------------------ */

/* The current text's part in this window. */
static emb_part *current_part(emb_engine *engine, emb_window *window) {
    emb_intake *in = &engine->intake;
    if (in->has_part && in->part_window == window->sequence)
        return &window->parts[window->parts_count - 1];
    if (window->parts_count == 0) window->text0 = emb_counter_read(&engine->counts.texts);
    emb_part *part = &window->parts[window->parts_count++];
    *part = (emb_part){.user = in->user, .chunk0 = window->table.chunks, .first = !in->has_part};
    in->has_part = true;
    in->part_window = window->sequence;
    return part;
}

/* Wraps the open ids in special tokens and puts them into a window; false if there is none. */
static bool close_chunk(emb_engine *engine) {
    emb_intake *in = &engine->intake;
    const emb_specials *specials = &engine->model->text.specials;
    uint32_t tokens = specials->before + in->open_count + specials->after;
    emb_window *window = window_with_room(engine, tokens);
    if (!window) return false;
    emb_part *part = current_part(engine, window);
    emb_token_table *table = &window->table;
    uint32_t *ids = table->ids + table->tokens;
    memcpy(ids + specials->before, engine->memory.open_ids, in->open_count * sizeof *ids);
    emb_text_wrap(specials, ids, in->open_count);
    table->tokens += tokens;
    EMB_ASSERT(table->tokens <= table->tokens_max && table->chunks < table->chunks_max);
    table->starts[++table->chunks] = table->tokens;
    part->chunks++;
    in->chunks++;
    in->tokens += tokens;
    in->open_count = 0;
    return true;
}

/* Moves ids from the tokenizer into chunks; false if a window was needed and none was free. */
static bool drain_fresh(emb_engine *engine) {
    emb_intake *in = &engine->intake;
    uint32_t body = engine->plan.chunk_tokens_max - engine->model->info.special_tokens;
    while (in->fresh_used < in->fresh_count) {
        uint32_t left = in->fresh_count - in->fresh_used, room = body - in->open_count;
        if (in->status != EMB_OK || (room == 0 && engine->plan.long_rule != EMB_LONG_CHUNK)) {
            if (engine->plan.long_rule == EMB_LONG_ERROR && in->status == EMB_OK)
                in->status = EMB_TOO_LONG;
            in->dropped += left;
            in->fresh_used = in->fresh_count;
            break;
        }
        if (room == 0) {
            if (!close_chunk(engine)) return false;
            continue;
        }
        uint32_t count = left < room ? left : room;
        memcpy(engine->memory.open_ids + in->open_count, in->fresh + in->fresh_used,
               count * sizeof(uint32_t));
        in->open_count += count;
        in->fresh_used += count;
    }
    return true;
}

/* Closes the text's last chunk and completes its last part; false if there is no room. */
static bool finish_text(emb_engine *engine) {
    emb_intake *in = &engine->intake;
    if (in->status != EMB_OK) {
        in->dropped = 0; /* reported only for rows that succeed */
        emb_window *window = window_with_room(engine, 0);
        if (!window) return false;
        current_part(engine, window);
    } else if (!close_chunk(engine)) {
        return false;
    }
    emb_window *window = emb_engine_window(engine, in->part_window);
    EMB_ASSERT(window->sequence == in->part_window && window->parts_count > 0);
    emb_part *part = &window->parts[window->parts_count - 1];
    part->last = true;
    part->status = in->status;
    part->tokens = in->tokens;
    part->tokens_dropped = in->dropped;
    part->text_chunks = in->chunks;
    emb_engine_counts *counts = &engine->counts;
    emb_counter_add(&counts->texts, 1);
    emb_counter_add(&counts->texts_long,
                    in->chunks > 1 || in->dropped > 0 || in->status == EMB_TOO_LONG);
    emb_counter_add(&counts->chunks, in->chunks);
    emb_counter_add(&counts->tokens, in->tokens);
    emb_counter_add(&counts->tokens_dropped, in->dropped);
    memset(in, 0, sizeof *in);
    return true;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static void feed_ids(emb_engine *engine, const emb_piece *piece) {
    emb_intake *in = &engine->intake;
    size_t left = piece->length - in->piece_used;
    uint32_t count = left < EMB_FRESH_IDS ? (uint32_t)left : EMB_FRESH_IDS;
    const uint32_t *from = (const uint32_t *)piece->data + in->piece_used;
    for (uint32_t i = 0; i < count; i++) {
        if (from[i] >= engine->model->shape.vocabulary && in->status == EMB_OK)
            in->status = EMB_BAD_TEXT;
        engine->memory.fresh_ids[i] = from[i];
    }
    in->fresh = engine->memory.fresh_ids;
    in->fresh_used = 0;
    in->fresh_count = count;
    in->piece_used += count;
    in->text_done = (piece->flags & EMB_PIECE_LAST) && in->piece_used == piece->length;
}

static void feed_bytes(emb_engine *engine, const emb_piece *piece) {
    emb_intake *in = &engine->intake;
    size_t used = 0, count = 0;
    const char *bytes = piece->length ? (const char *)piece->data + in->piece_used : "";
    emb_text_feed(&engine->memory.tokenizer, bytes, piece->length - in->piece_used,
                  piece->flags & EMB_PIECE_LAST, engine->memory.fresh_ids, EMB_FRESH_IDS, &used,
                  &count, &in->text_done);
    in->fresh = engine->memory.fresh_ids;
    in->fresh_used = 0;
    in->fresh_count = (uint32_t)count;
    in->piece_used += used;
    emb_counter_add(&engine->counts.bytes_read, used);
}

static emb_status begin_piece(emb_engine *engine, const emb_piece *piece, emb_error *error) {
    emb_intake *in = &engine->intake;
    if (!piece->data && piece->length)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "a piece of %zu has no data",
                             piece->length);
    if (piece->flags & ~(uint32_t)(EMB_PIECE_FIRST | EMB_PIECE_LAST | EMB_PIECE_IDS))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a piece has flags 0x%x; use FIRST, LAST and IDS", piece->flags);
    bool first = piece->flags & EMB_PIECE_FIRST;
    if (first == in->text_open)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             first ? "a text begins before the LAST piece of the one before"
                                   : "a text must begin with a FIRST piece");
    bool ids = piece->flags & EMB_PIECE_IDS;
    if (!first && ids != in->ids)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "a text is either bytes or ids, in all of its pieces");
    if (first) {
        in->text_open = true;
        in->ids = ids;
        in->user = piece->user;
        emb_text_begin(&engine->memory.tokenizer);
    }
    in->piece_open = true;
    in->piece_length = piece->length;
    in->piece_flags = piece->flags;
    return EMB_OK;
}

/* A piece taken in part must be submitted again. */
static emb_status resume_piece(const emb_intake *in, const emb_piece *piece, emb_error *error) {
    if (piece->length == in->piece_length && piece->flags == in->piece_flags) return EMB_OK;
    return emb_error_set(error, EMB_INVALID_ARGUMENT,
                         "a piece of %zu was taken up to %zu: submit the same piece again first",
                         in->piece_length, in->piece_used);
}

/* The rest of a withdrawn text is not read. */
static void pass_over(emb_intake *in, const emb_piece *piece) {
    in->fresh_used = in->fresh_count;
    in->piece_used = piece->length;
    in->text_done = piece->flags & EMB_PIECE_LAST;
}

/* Reads the piece as far as windows allow; true once it is used up (and, after a LAST piece, the
 * text is complete). */
static bool take_piece(emb_engine *engine, const emb_piece *piece) {
    emb_intake *in = &engine->intake;
    for (;;) {
        if (in->status == EMB_WITHDRAWN) pass_over(in, piece);
        if (!drain_fresh(engine)) return false;
        if (in->text_done) return finish_text(engine);
        if (in->piece_used == piece->length && !(piece->flags & EMB_PIECE_LAST)) break;
        if (piece->flags & EMB_PIECE_IDS)
            feed_ids(engine, piece);
        else
            feed_bytes(engine, piece);
    }
    in->piece_open = false;
    in->piece_used = 0;
    return true;
}

/* Puts a text that was tokenised ahead into chunks; its last piece stays open if there is no room.
 * Gives the pieces used up. */
static uint32_t take_ahead(emb_engine *engine, const emb_ahead_text *text) {
    emb_intake *in = &engine->intake;
    const emb_piece *last = &text->pieces[text->pieces_count - 1];
    *in = (emb_intake){.text_open = true,
                       .piece_open = true,
                       .piece_used = last->length,
                       .piece_length = last->length,
                       .piece_flags = last->flags,
                       .text_done = true,
                       .user = text->pieces->user,
                       .fresh = text->ids,
                       .fresh_count = text->ids_count};
    for (uint32_t i = 0; i < text->pieces_count; i++)
        emb_counter_add(&engine->counts.bytes_read, text->pieces[i].length);
    return text->pieces_count - !take_piece(engine, last);
}

/* Tokenises on all readers what there is room for; gives the pieces used up. Stops at a text that
 * is not complete here, and when windows are full. */
static uint32_t submit_ahead(emb_engine *engine, const emb_piece *pieces, uint32_t count) {
    uint32_t taken = 0;
    while (!engine->intake.text_open) {
        uint32_t texts = emb_engine_read_ahead(engine, pieces + taken, count - taken);
        if (texts == 0) break;
        for (uint32_t i = 0; i < texts && !engine->intake.text_open; i++) {
            const emb_ahead_text *text = &engine->memory.ahead_texts[i];
            if (text->ids_count == EMB_AHEAD_FAILED) return taken;
            taken += take_ahead(engine, text);
        }
    }
    return taken;
}

emb_status emb_engine_submit(emb_engine *engine, const emb_piece *pieces, uint32_t count,
                             uint32_t *taken, emb_error *error) {
    if (!engine || !taken || (count && !pieces))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "submit: engine, pieces and taken must not be NULL");
    *taken = 0;
    EMB_TRY(emb_engine_status(engine, error));
    double before = emb_process_seconds();
    emb_status status = EMB_OK;
    while (*taken < count && status == EMB_OK) {
        if (!engine->intake.text_open && engine->plan.readers > 1)
            *taken += submit_ahead(engine, pieces + *taken, count - *taken);
        if (*taken == count) break;
        const emb_piece *piece = &pieces[*taken];
        status = engine->intake.piece_open ? resume_piece(&engine->intake, piece, error)
                                           : begin_piece(engine, piece, error);
        if (status != EMB_OK || !take_piece(engine, piece)) break;
        ++*taken;
    }
    atomic_store(&engine->piece_waits, engine->intake.piece_open);
    emb_counter_add(&engine->counts.tokenize_ns,
                    (uint64_t)(1e9 * (emb_process_seconds() - before)));
    return status;
}

emb_status emb_engine_flush(emb_engine *engine) {
    if (!engine) return EMB_INVALID_ARGUMENT;
    emb_window *window = filling_window(engine);
    if (window && window->sequence == engine->dispatched && window->parts_count) dispatch(engine);
    return EMB_OK;
}
