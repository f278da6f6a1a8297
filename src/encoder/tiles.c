/* tiles.c - a lane's buffers, and what comes before the layers: packing a cut's chunks into a tile,
 * and reading embedding rows from the file where the table is not resident.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "encoder/tiles.h"

void emb_lane_layout(emb_lane *lane, uint32_t index, const emb_weights_config *config,
                     const emb_layer_spec *blocks, uint32_t tokens_per_tile, bool with_x,
                     const emb_books *books) {
    emb_ledger *ledger = books->pinned; /* what a device reads from the host */
    memset(lane, 0, sizeof *lane);
    lane->index = index;
    emb_ledger_item(ledger, "lane buffers");
    uint64_t values = (uint64_t)tokens_per_tile * config->shape->spec.hidden;
    uint32_t chunks = emb_chunks_max(tokens_per_tile, blocks->chunk_tokens_min);
    lane->indices =
        emb_ledger_take(ledger, emb_index_words(tokens_per_tile, chunks), sizeof *lane->indices);
    if (lane->indices) {
        lane->starts = lane->indices + EMB_INDEX_HEAD;
        lane->ids = lane->indices + emb_index_ids(chunks);
    }
    if (!config->words_resident && !config->words_pinned) {
        lane->gathered =
            emb_ledger_take(ledger, tokens_per_tile,
                            emb_dtype_row_bytes(config->dtype, config->shape->spec.hidden));
        lane->gather_row = emb_ledger_take(ledger, config->shape->spec.hidden, sizeof(float));
        lane->gather_scratch =
            emb_ledger_take(ledger, emb_model_scratch_bytes(config->shape->spec.hidden), 1);
    }
    emb_ledger_item(books->device, "lane buffers");
    if (with_x) lane->x = emb_ledger_take(books->device, values, config->backend->activation_bytes);
    config->backend->lane_layout(config->backend, &lane->scratch, blocks, tokens_per_tile,
                                 books->device);
    if (config->backend->lane_state_bytes) {
        emb_ledger_item(books->host, "lane buffers");
        lane->scratch.state = emb_ledger_take(books->host, config->backend->lane_state_bytes, 1);
    }
}

const uint32_t *emb_tile_fill(emb_tile *tile, const emb_tile_room *room, const emb_pass *pass,
                              const emb_tile_cut *cut) {
    const emb_token_table *table = pass->table;
    uint32_t tokens = 0, *targets = room->ids + cut->tokens;
    for (uint32_t i = 0; i < cut->chunks; i++) {
        uint32_t chunk = pass->order[cut->order0 + i];
        uint32_t start = table->starts[chunk], length = table->starts[chunk + 1] - start;
        room->starts[i] = tokens;
        targets[i] = chunk;
        memcpy(room->ids + tokens, table->ids + start, length * sizeof *room->ids);
        tokens += length;
    }
    room->starts[cut->chunks] = tokens;
    *tile = (emb_tile){.tokens = tokens,
                       .chunks = cut->chunks,
                       .ids = room->ids,
                       .starts = room->starts,
                       .indices = room->indices};
    return targets;
}

emb_status emb_tile_gather(const emb_encoder *encoder, emb_lane *lane, uint32_t *ids,
                           uint32_t tokens, emb_error *error) {
    const emb_weights *w = encoder->weights;
    uint32_t hidden = encoder->shape->spec.hidden;
    uint64_t row_bytes = emb_dtype_row_bytes(w->dtype, hidden);
    for (uint32_t i = 0; i < tokens; i++) {
        EMB_TRY(emb_weights_read_word(w, (unsigned char *)lane->gathered + i * row_bytes, ids[i],
                                      lane->gather_row, lane->gather_scratch, error));
        ids[i] = i;
    }
    return EMB_OK;
}

emb_status emb_pass_check(const emb_pass *pass, emb_error *error) {
    if (!atomic_load_explicit(pass->cancel, memory_order_relaxed)) return EMB_OK;
    return emb_error_set(error, EMB_CANCELLED, "cancelled");
}

emb_layer_step emb_lane_step(const emb_encoder *encoder, emb_lane *lane) {
    return (emb_layer_step){encoder->backend, &encoder->blocks, &lane->scratch, NULL};
}

emb_status emb_pass_enter(void *share, uint32_t n, emb_error *error) {
    emb_pass_share *s = share;
    emb_weights *weights = s->encoder->weights;
    s->layer = emb_weights_acquire(weights, s->pass->number0 + n, s->lane->index, &s->lane->scratch,
                                   &s->lane->seconds_wait);
    return s->layer ? EMB_OK : emb_weights_stopped(weights, error);
}

void emb_pass_leave(void *share, uint32_t n) {
    const emb_pass_share *s = share;
    emb_weights_release(s->encoder->weights, s->pass->number0 + n, s->lane->index,
                        &s->lane->scratch);
}
