/* batches.c - orders the chunks of a window by length and cuts them into tiles.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "base/sort.h"
#include "engine/memory.h"

static uint32_t chunk_length(const emb_token_table *table, uint32_t chunk) {
    return table->starts[chunk + 1] - table->starts[chunk];
}

/* Cuts the first `chunks` of the order, less those of withdrawn texts. */
static void cut_order(emb_window *window, uint32_t chunks, uint32_t tokens_per_tile) {
    uint32_t wanted = emb_engine_leave_out(window, window->order, chunks);
    window->cuts_count = 0;
    uint32_t row0 = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t length = chunk_length(&window->table, window->order[i]);
        if (length == 0) break; /* texts without a token, last in the order */
        emb_tile_cut *cut = window->cuts_count ? &window->cuts[window->cuts_count - 1] : NULL;
        if (!cut || cut->tokens + length > tokens_per_tile) {
            cut = &window->cuts[window->cuts_count++];
            *cut = (emb_tile_cut){.order0 = i, .row0 = row0};
        }
        cut->chunks++;
        cut->tokens += length;
        row0 += length;
    }
    EMB_ASSERT(row0 <= window->table.tokens);
}

void emb_engine_cut_window(emb_window *window, uint32_t *counts, uint32_t chunk_tokens_max,
                           uint32_t tokens_per_tile) {
    emb_sort_by_length(window->order, counts, window->table.starts, window->table.chunks,
                       chunk_tokens_max);
    cut_order(window, window->table.chunks, tokens_per_tile);
}

void emb_engine_cut_again(emb_window *window, uint32_t tokens_per_tile) {
    if (!window->withdrawn || window->cuts_count == 0) return;
    const emb_tile_cut *last = &window->cuts[window->cuts_count - 1];
    cut_order(window, last->order0 + last->chunks, tokens_per_tile);
}
