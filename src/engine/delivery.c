/* delivery.c - collect: rows of finished windows in the order submitted, long texts averaged.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/process.h"
#include "base/vector.h"
#include "engine/engine.h"

/* Adds the part's chunk vectors to the sum, in chunk order. */
static void add_chunks(emb_engine *engine, const emb_window *window, const emb_part *part) {
    uint32_t width = engine->model->shape.output_width;
    double *sum = engine->memory.sum;
    if (part->first) {
        memset(sum, 0, width * sizeof *sum);
        engine->delivery.summed = 0;
    }
    for (uint32_t c = 0; c < part->chunks; c++) {
        const float *vector = window->vectors + (uint64_t)(part->chunk0 + c) * width;
        for (uint32_t i = 0; i < width; i++) sum[i] += vector[i];
    }
    engine->delivery.summed += part->chunks;
}

static void write_mean(emb_engine *engine, float *values) {
    uint32_t width = engine->model->shape.output_width;
    for (uint32_t i = 0; i < width; i++)
        values[i] = (float)(engine->memory.sum[i] / (double)engine->delivery.summed);
    if (engine->plan.normalize) emb_vector_normalize(values, width);
}

/* Infinities and NaN have all exponent bits set. Without an early exit the loop is vectorised. */
static bool all_finite(const float *values, uint32_t count) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000;
}

/* A text's token vectors are at its tokens' place in the window; the text is a single chunk. */
static void make_token_row(emb_row *row, const emb_engine *engine, const emb_window *window,
                           const emb_part *part) {
    if (row->status != EMB_OK) {
        row->tokens = 0;
        return;
    }
    uint32_t hidden = engine->model->shape.spec.hidden;
    row->values = window->vectors + (uint64_t)window->table.starts[part->chunk0] * hidden;
    for (uint64_t i = 0; i < row->tokens && row->status == EMB_OK; i++)
        if (!all_finite(row->values + i * hidden, hidden)) row->status = EMB_NOT_FINITE;
    if (row->status == EMB_OK) return;
    row->values = engine->memory.nan_row;
    row->tokens = 0;
}

/* Completes the row of a text whose last part this is. */
static void make_row(emb_row *row, emb_engine *engine, emb_window *window, const emb_part *part) {
    uint32_t dim = engine->plan.dim;
    float *values = engine->memory.nan_row;
    emb_status status = part->status;
    EMB_ASSERT(window->done && (status != EMB_OK || part->chunk0 < window->table.chunks));
    bool tokens = engine->plan.output == EMB_OUTPUT_TOKENS;
    if (status == EMB_OK && !tokens) {
        values = window->vectors + (uint64_t)part->chunk0 * engine->model->shape.output_width;
        if (part->text_chunks > 1) write_mean(engine, values);
        if (part->tokens == 0) memset(values, 0, dim * sizeof *values); /* nothing to encode */
        if (engine->plan.normalize_kept) emb_vector_normalize(values, dim);
        if (!all_finite(values, dim)) {
            status = EMB_NOT_FINITE;
            values = engine->memory.nan_row;
        }
    }
    *row = (emb_row){
        .text = engine->delivery.text++,
        .user = part->user,
        .status = status,
        .chunks = part->text_chunks,
        .tokens = part->tokens,
        .tokens_dropped = part->tokens_dropped,
        .values = values,
    };
    if (tokens) make_token_row(row, engine, window, part);
    emb_counter_add(&engine->counts.texts_failed, row->status != EMB_OK);
}

/* Takes the rows of one finished window, as many as fit; gives their number. */
static uint32_t take_rows(emb_row *rows, uint32_t capacity, emb_engine *engine,
                          emb_window *window) {
    emb_delivery *out = &engine->delivery;
    uint32_t count = 0;
    for (; out->part < window->parts_count; out->part++) {
        const emb_part *part = &window->parts[out->part];
        if (part->last && count == capacity) return count;
        bool single = part->first && part->last && part->chunks <= 1;
        if (!single && part->status != EMB_WITHDRAWN) add_chunks(engine, window, part);
        if (part->last) make_row(&rows[count++], engine, window, part);
    }
    out->sequence++;
    out->part = 0;
    return count;
}

/* Waits until the window is done; gives false on timeout or if the engine has stopped. The
 * descriptor is cleared before the conditions are checked, so that no cancel is lost. */
static bool wait_done(emb_engine *engine, emb_window *window, double deadline) {
    pthread_mutex_lock(&engine->mutex);
    engine->awaited = window->sequence;
    while (!window->done && engine->status == EMB_OK) {
        emb_wake_tell(&engine->ready, false);
        double left = deadline - emb_process_seconds();
        if (left <= 0 || atomic_load(&engine->cancel)) break;
        pthread_mutex_unlock(&engine->mutex);
        emb_wake_wait(&engine->ready, left);
        pthread_mutex_lock(&engine->mutex);
    }
    bool done = window->done;
    pthread_mutex_unlock(&engine->mutex);
    return done;
}

/* Says whether the next collect has something to do at once. */
static void tell_ready(emb_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    engine->awaited = engine->delivery.sequence;
    const emb_window *window = emb_engine_window(engine, engine->awaited);
    bool done = engine->awaited < engine->dispatched && window->done;
    emb_wake_tell(&engine->ready, done || engine->status != EMB_OK);
    if (atomic_load(&engine->cancel)) emb_wake_tell(&engine->ready, true);
    pthread_mutex_unlock(&engine->mutex);
}

/* Frees every window whose rows are all delivered. */
static void release_windows(emb_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    EMB_ASSERT(engine->delivery.sequence <= engine->dispatched);
    engine->released = engine->delivery.sequence;
    pthread_mutex_unlock(&engine->mutex);
}

static emb_status collect(emb_engine *engine, emb_row *rows, uint32_t capacity, uint32_t *count,
                          int timeout_ms, emb_error *error) {
    emb_delivery *out = &engine->delivery;
    release_windows(engine); /* the rows of the previous collect are no longer valid */
    double deadline = timeout_ms < 0 ? HUGE_VAL : emb_process_seconds() + 1e-3 * (double)timeout_ms;
    while (*count < capacity && out->sequence < engine->dispatched) {
        emb_window *window = emb_engine_window(engine, out->sequence);
        if (!wait_done(engine, window, *count ? 0 : deadline)) {
            if (*count) return EMB_OK;
            EMB_TRY(emb_engine_status(engine, error));
            return emb_error_set(error, EMB_TIMEOUT, "no row was ready within %d ms", timeout_ms);
        }
        *count += take_rows(rows + *count, capacity - *count, engine, window);
        if (*count) continue;
        release_windows(engine); /* it held only parts of a long text: no row points into it */
        if (atomic_load(&engine->piece_waits) && timeout_ms != 0) return EMB_OK;
    }
    return *count ? EMB_OK : emb_engine_status(engine, error);
}

emb_status emb_engine_collect(emb_engine *engine, emb_row *rows, uint32_t capacity, uint32_t *count,
                              int timeout_ms, emb_error *error) {
    if (!engine || !count || (capacity && !rows))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "collect: engine, rows and count must not be NULL");
    *count = 0;
    if (atomic_load(&engine->cancel)) return emb_error_set(error, EMB_CANCELLED, "cancelled");
    emb_status status = collect(engine, rows, capacity, count, timeout_ms, error);
    tell_ready(engine);
    return status;
}
