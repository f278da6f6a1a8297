/* lanes.c - what each compute thread does: take queued work, run it through the encoder, report.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "base/assert.h"
#include "engine/engine.h"

static void account(emb_engine *engine, emb_lane *lane, emb_status status, const emb_error *error) {
    emb_engine_counts *counts = &engine->counts;
    emb_counter_add(&counts->encode_ns, (uint64_t)(1e9 * lane->seconds_encode));
    emb_counter_add(&counts->wait_ns, (uint64_t)(1e9 * lane->seconds_wait));
    emb_counter_add(&counts->rows_computed, lane->rows_computed);
    emb_counter_add(&counts->tiles, lane->tiles);
    lane->rows_computed = lane->tiles = 0;
    if (status != EMB_OK) emb_engine_fail(engine, status, error);
}

/* If the engine failed or was cancelled a tile of this window may be missing: then it is never
 * done. */
static void finish_window(emb_engine *engine, emb_window *window) {
    if (engine->status != EMB_OK) return;
    emb_engine_window_done(engine, window);
}

/* The oldest queued window that still has tiles to take; NULL if there is none. */
static emb_window *window_with_tiles(emb_engine *engine) {
    for (; engine->encoding < engine->dispatched; engine->encoding++) {
        emb_window *window = emb_engine_window(engine, engine->encoding);
        if (window->sequence == engine->encoding && window->cuts_taken < window->cuts_count)
            return window;
    }
    return NULL;
}

/* Takes the next tile of a window, less texts withdrawn meanwhile. NULL: nothing is left of it. */
static const emb_tile_cut *take_cut(emb_window *window) {
    EMB_ASSERT(window->cuts_taken < window->cuts_count && !window->done);
    emb_tile_cut *cut = &window->cuts[window->cuts_taken++];
    cut->chunks = emb_engine_leave_out(window, window->order + cut->order0, cut->chunks);
    cut->tokens = 0;
    for (uint32_t i = 0; i < cut->chunks; i++) {
        const uint32_t *start = &window->table.starts[window->order[cut->order0 + i]];
        cut->tokens += start[1] - start[0];
    }
    return cut->chunks ? cut : NULL;
}

static void finish_cut(emb_engine *engine, emb_window *window) {
    EMB_ASSERT(window->cuts_done < window->cuts_taken);
    if (++window->cuts_done == window->cuts_count) finish_window(engine, window);
}

/* Weights resident: each tile is a pass of its own, and lanes never wait for one another. */
static void run_tiles(emb_engine *engine, emb_site *site, emb_lane *lane) {
    pthread_mutex_lock(&engine->mutex);
    while (!engine->stop) {
        emb_window *window = window_with_tiles(engine);
        if (!window) {
            pthread_cond_wait(&engine->work, &engine->mutex);
            continue;
        }
        const emb_tile_cut *cut = take_cut(window);
        if (!cut) {
            finish_cut(engine, window);
            continue;
        }
        emb_counter_add(&engine->counts.passes, 1);
        pthread_mutex_unlock(&engine->mutex);
        emb_pass pass = {
            .table = &window->table,
            .order = window->order,
            .cuts = cut,
            .cuts_count = 1,
            .vectors = window->vectors,
            .cancel = &engine->cancel,
        };
        emb_error error = {0};
        emb_status status = emb_encoder_forward(&site->encoder, lane, &pass, &error);
        pthread_mutex_lock(&engine->mutex);
        account(engine, lane, status, &error);
        finish_cut(engine, window);
    }
    pthread_mutex_unlock(&engine->mutex);
}

/* The first lane that reaches a window begins its pass, less texts withdrawn while it was queued.
 * If nothing is left, it ends the window instead, and the next one gets the pass's number and the
 * layers loaded for it. Cuts the window under the mutex: the site's other lanes could not begin
 * before anyway, and it happens only after a withdrawal. */
static void begin_pass(emb_engine *engine, emb_site *site, emb_window *window) {
    window->begun = true;
    emb_engine_cut_again(window, engine->plan.tokens_per_tile);
    if (window->cuts_count == 0) {
        emb_weights_skip_pass(&site->weights);
        finish_window(engine, window);
        return;
    }
    window->pass = site->passes++;
    emb_counter_add(&engine->counts.passes, 1);
}

/* The window of this number, if this site has something to compute for it. It may be another
 * site's, already done, or hold only failed texts. */
static emb_window *window_of_site(emb_engine *engine, emb_site *site, uint64_t sequence) {
    emb_window *window = emb_engine_window(engine, sequence);
    if (window->sequence != sequence || window->cuts_count == 0) return NULL;
    if (&engine->memory.sites[window->site] != site) return NULL;
    if (!window->begun) begin_pass(engine, site, window);
    return window->cuts_count ? window : NULL;
}

/* Weights streamed: all lanes of a site go through a window together, layer by layer. */
static void run_passes(emb_engine *engine, emb_site *site, emb_lane *lane) {
    uint32_t lanes = engine->plan.lanes / engine->plan.devices_count;
    uint64_t sequence = 0;
    pthread_mutex_lock(&engine->mutex);
    while (!engine->stop) {
        if (sequence == engine->dispatched) {
            pthread_cond_wait(&engine->work, &engine->mutex);
            continue;
        }
        emb_window *window = window_of_site(engine, site, sequence);
        if (!window) {
            sequence++;
            continue;
        }
        pthread_mutex_unlock(&engine->mutex);
        emb_pass pass = {
            .table = &window->table,
            .order = window->order,
            .cuts = window->cuts,
            .cuts_count = window->cuts_count,
            .x = site->pass_x,
            .vectors = window->vectors,
            .number0 = window->pass * engine->model->shape.layers,
            .next = window->next,
            .on_device = site->runs_device ? &site->on_device : NULL,
            .cancel = &engine->cancel,
        };
        emb_error error = {0};
        emb_status status = emb_encoder_forward(&site->encoder, lane, &pass, &error);
        pthread_mutex_lock(&engine->mutex);
        account(engine, lane, status, &error);
        EMB_ASSERT(window->sequence == sequence && window->lanes_done < lanes);
        if (++window->lanes_done == lanes) finish_window(engine, window);
        sequence++;
    }
    pthread_mutex_unlock(&engine->mutex);
}

void emb_engine_lane(void *user, uint32_t index) {
    emb_engine *engine = user;
    emb_site *site = &engine->memory.sites[index % engine->plan.devices_count];
    emb_lane *lane = &engine->memory.lanes[index];
    const emb_backend *backend = engine->backend;
    if (backend->thread_open) backend->thread_open(backend, &lane->scratch);
    if (engine->plan.weight_slots)
        run_passes(engine, site, lane);
    else
        run_tiles(engine, site, lane);
    if (backend->thread_close) backend->thread_close(backend, &lane->scratch);
}
