/* withdraw.c - withdraws single texts: what is left of their work is skipped, and nothing else
 * changes, as no vector depends on what is computed next to it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "engine/engine.h"

/* Marks the text's part in a window, if it has one there. */
static void mark_part(emb_window *window, uint64_t text) {
    uint64_t number = window->text0;
    for (uint32_t p = 0; p < window->parts_count && number <= text; p++) {
        emb_part *part = &window->parts[p];
        if (number == text) {
            part->status = EMB_WITHDRAWN;
            window->withdrawn = true;
        }
        number += part->last;
    }
}

/* Marks windows not yet delivered; one that may be in delivery is left alone. The status of a
 * text's last part is the one that counts, so a text is withdrawn completely or not at all. */
static void mark_windows(emb_engine *engine, uint64_t text) {
    pthread_mutex_lock(&engine->mutex);
    for (uint64_t n = engine->awaited; n <= engine->dispatched; n++) {
        emb_window *window = emb_engine_window(engine, n);
        bool delivered = n == engine->awaited && n < engine->dispatched && window->done;
        if (window->sequence == n && !delivered) mark_part(window, text);
    }
    pthread_mutex_unlock(&engine->mutex);
}

emb_status emb_engine_withdraw(emb_engine *engine, uint64_t text, emb_error *error) {
    if (!engine)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "withdraw: engine must not be NULL");
    emb_intake *in = &engine->intake;
    uint64_t whole = emb_counter_read(&engine->counts.texts);
    bool open = in->text_open && text == whole;
    if (text >= whole && !open)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "withdraw: text %llu was not submitted; the next one is %llu",
                             (unsigned long long)text, (unsigned long long)whole);
    EMB_TRY(emb_engine_status(engine, error));
    mark_windows(engine, text);
    if (open) in->status = EMB_WITHDRAWN;
    return EMB_OK;
}

/* Parts are in the order of their chunks; one without chunks begins where the next one does. */
static bool is_withdrawn(const emb_window *window, uint32_t chunk) {
    uint32_t low = 0, high = window->parts_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (window->parts[middle].chunk0 <= chunk)
            low = middle;
        else
            high = middle;
    }
    return window->parts[low].status == EMB_WITHDRAWN;
}

uint32_t emb_engine_leave_out(const emb_window *window, uint32_t *chunks, uint32_t count) {
    uint32_t kept = 0;
    if (!window->withdrawn) return count;
    for (uint32_t i = 0; i < count; i++)
        if (!is_withdrawn(window, chunks[i])) chunks[kept++] = chunks[i];
    return kept;
}
