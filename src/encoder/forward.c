/* forward.c - a lane's share of a pass: embed, every layer, pool. The only forward there is.
 *
 * With resident weights a pass is one tile of one lane, and its layers follow one another in cache.
 * With streamed weights a pass is many tiles, and all lanes share each layer while it is there.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "base/process.h"
#include "encoder/encoder.h"

/* Words before a tile's block of indices in the staging of a pass: each takes up to 2 for a token
 * and 7 more. */
static uint64_t staging_place(uint32_t tokens, uint32_t tiles) {
    return 2 * (uint64_t)tokens + 8 * (uint64_t)tiles;
}

void emb_packed_pass_layout(emb_packed_pass *packed, const emb_weights_config *config,
                            uint32_t tokens, uint32_t chunks, uint32_t tokens_per_tile,
                            const emb_books *books) {
    /* a cut and the first chunk of the next are more than a tile: so two cuts are, together */
    uint64_t tiles = 2 * ((uint64_t)tokens / (tokens_per_tile + 1)) + 1;
    if (tiles > chunks) tiles = chunks;
    memset(packed, 0, sizeof *packed);
    emb_ledger_item(books->host, "tiles of a pass");
    packed->tiles = emb_ledger_take(books->host, tiles, sizeof *packed->tiles);
    emb_ledger_item(books->pinned, "tiles of a pass");
    for (uint32_t i = 0; i < 2; i++)
        packed->staging[i] = emb_ledger_take(books->pinned, staging_place(tokens, (uint32_t)tiles),
                                             sizeof(uint32_t));
    emb_ledger_item(books->device, "tiles of a pass");
    packed->kept = emb_ledger_take(
        books->device, 1, config->backend->kept_place(config->backend, tokens, (uint32_t)tiles));
}

void emb_lane_layout(emb_lane *lane, uint32_t index, const emb_weights_config *config,
                     const emb_block_shape *blocks, uint32_t tokens_per_tile, bool with_x,
                     const emb_books *books) {
    emb_ledger *ledger = books->pinned; /* what a device reads from the host */
    memset(lane, 0, sizeof *lane);
    lane->index = index;
    emb_ledger_item(ledger, "lane buffers");
    uint64_t values = (uint64_t)tokens_per_tile * config->shape->spec.hidden;
    lane->indices =
        emb_ledger_take(ledger, emb_index_words(tokens_per_tile), sizeof *lane->indices);
    if (lane->indices) {
        lane->starts = lane->indices + EMB_INDEX_HEAD;
        lane->ids = lane->indices + emb_index_ids(tokens_per_tile);
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

/* Where a tile is packed: a block of indices. */
typedef struct tile_room {
    uint32_t *indices, *starts, *ids;
} tile_room;

/* Packs the cut's chunks one behind another: no padding. Gives the targets. */
static const uint32_t *pack_tile(emb_tile *tile, const tile_room *room, const emb_pass *pass,
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

/* Reads the word rows of the tile's tokens from the file; ids then index these. */
static emb_status gather_words(emb_encoder *encoder, emb_lane *lane, uint32_t *ids, uint32_t tokens,
                               emb_error *error) {
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

/* Packs the cut for layer n, with word rows for the first layer; hands it to the device, if any. */
static emb_status begin_tile(emb_tile *tile, const uint32_t **targets, emb_embedding *embedding,
                             emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                             const emb_tile_cut *cut, uint32_t n, emb_error *error) {
    const emb_device_calls *device = encoder->backend->device;
    const tile_room room = {lane->indices, lane->starts, lane->ids};
    *targets = pack_tile(tile, &room, pass, cut);
    *embedding = encoder->weights->embedding;
    if (n == 0 && !encoder->weights->words_resident) {
        EMB_TRY(gather_words(encoder, lane, lane->ids, tile->tokens, error));
        embedding->words = lane->gathered;
    }
    lane->replayed = device && device->begin(tile, targets, &lane->scratch);
    return EMB_OK;
}

/* Puts each token's vector where the window has the token. A CPU's activations are f32. */
static void keep_tokens(const emb_lane *lane, const emb_pass *pass, const float *x,
                        uint32_t hidden) {
    for (uint32_t i = 0; i < lane->tile.chunks; i++) {
        uint32_t start = lane->tile.starts[i], tokens = lane->tile.starts[i + 1] - start;
        uint64_t place = pass->table->starts[lane->tile_targets[i]];
        memcpy(pass->vectors + place * hidden, x + (uint64_t)start * hidden,
               (size_t)tokens * hidden * sizeof *x);
    }
}

static emb_status run_tile(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                           const emb_tile_cut *cut, uint32_t n, const emb_layer *layer,
                           emb_error *error) {
    const emb_backend *backend = encoder->backend;
    size_t row_bytes = (size_t)encoder->shape->spec.hidden * backend->activation_bytes;
    void *x = lane->x ? lane->x : (unsigned char *)pass->x + cut->row0 * row_bytes;
    bool last = n + 1 == encoder->shape->layers;
    emb_embedding embedding;
    if (n == 0 || pass->next) /* a lane's own pass is one tile, packed once */
        EMB_TRY(begin_tile(&lane->tile, &lane->tile_targets, &embedding, encoder, lane, pass, cut,
                           n, error));
    if (n == 0) {
        if (!lane->replayed)
            backend->embed(backend, &lane->scratch, x, &lane->tile, &embedding, &encoder->blocks);
        lane->rows_computed += lane->tile.tokens;
        lane->tiles++;
    }
    if (!lane->replayed) {
        backend->attention_block(backend, &lane->scratch, x, x, &lane->tile, layer,
                                 &encoder->blocks);
        backend->ffn_block(backend, &lane->scratch, x, x, &lane->tile, layer, &encoder->blocks);
    }
    if (last && encoder->keeps_tokens)
        keep_tokens(lane, pass, x, encoder->shape->spec.hidden);
    else if (last)
        backend->pool(backend, &lane->scratch, pass->vectors, lane->tile_targets, x, &lane->tile,
                      &encoder->pool, &encoder->blocks);
    /* a device runs behind: what it reads must stay until it is done */
    if (backend->device && last) return backend->device->finish(&lane->scratch, error);
    return EMB_OK;
}

/* The next cut of this layer for this lane; cuts_count when there is none. */
static uint32_t take_cut(const emb_pass *pass, uint32_t layer, uint32_t *own) {
    if (!pass->next) return (*own)++;
    return atomic_fetch_add_explicit(&pass->next[layer], 1, memory_order_relaxed);
}

static emb_status stopped(emb_weights *weights, emb_error *error) {
    pthread_mutex_lock(&weights->mutex);
    emb_status status = weights->status;
    if (status != EMB_OK && error) *error = weights->error;
    pthread_mutex_unlock(&weights->mutex);
    if (status != EMB_OK) return status;
    return emb_error_set(error, EMB_CANCELLED, "cancelled");
}

static emb_status check_cancel(const emb_pass *pass, emb_error *error) {
    if (!atomic_load_explicit(pass->cancel, memory_order_relaxed)) return EMB_OK;
    return emb_error_set(error, EMB_CANCELLED, "cancelled");
}

/* ---- streamed to a device -------------------------------------------------------------------- */

/* The host runs ahead of the device by up to a pass: it waits for nothing but its own lane, at the
 * end. So whatever the device still reads must stay:
 * - pinned staging of a pass: until each lane's own end of that pass. A lane may begin the next
 *   one while another has not ended this; so passes take turns in two stagings, and a lane that
 *   begins pass p + 2 knows that all have ended p: all had to enqueue p + 1 first.
 * - indices and activations on the device: emb_weights_acquire holds the lane's stream back until
 *   all lanes are done with the pass before.
 * - gathered word rows: until their tile has read them; the host waits there.
 * A cut belongs to one lane through all layers, so its activations need no hand-over. */

/* Packs cut c, uploads it and embeds its tokens. */
static emb_status begin_packed(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               uint32_t c, void *x, emb_error *error) {
    const emb_backend *backend = encoder->backend;
    emb_packed_pass *packed = pass->packed;
    emb_packed_tile *own = &packed->tiles[c];
    const emb_tile_cut *cut = &pass->cuts[c];
    uint32_t turn = pass->number0 / encoder->shape->layers % 2;
    uint32_t *block = packed->staging[turn] + staging_place(cut->row0, c);
    const tile_room room = {block, block + EMB_INDEX_HEAD, block + emb_index_ids(cut->tokens)};
    own->targets = pack_tile(&own->tile, &room, pass, cut);
    own->tile.kept = packed->kept + backend->kept_place(backend, cut->row0, c);
    emb_embedding embedding = encoder->weights->embedding;
    bool gather = !encoder->weights->words_resident;
    if (gather) {
        EMB_TRY(gather_words(encoder, lane, room.ids, own->tile.tokens, error));
        embedding.words = lane->gathered;
    }
    backend->device->begin(&own->tile, &own->targets, &lane->scratch);
    backend->embed(backend, &lane->scratch, x, &own->tile, &embedding, &encoder->blocks);
    lane->rows_computed += own->tile.tokens;
    lane->tiles++;
    return gather ? backend->device->finish(&lane->scratch, error) : EMB_OK;
}

static emb_status run_packed(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass, uint32_t c,
                             uint32_t n, const emb_layer *layer, emb_error *error) {
    const emb_backend *backend = encoder->backend;
    size_t row_bytes = (size_t)encoder->shape->spec.hidden * backend->activation_bytes;
    void *x = (unsigned char *)pass->x + pass->cuts[c].row0 * row_bytes;
    if (n == 0) EMB_TRY(begin_packed(encoder, lane, pass, c, x, error));
    const emb_packed_tile *own = &pass->packed->tiles[c];
    backend->attention_block(backend, &lane->scratch, x, x, &own->tile, layer, &encoder->blocks);
    backend->ffn_block(backend, &lane->scratch, x, x, &own->tile, layer, &encoder->blocks);
    if (n + 1 == encoder->shape->layers)
        backend->pool(backend, &lane->scratch, pass->vectors, own->targets, x, &own->tile,
                      &encoder->pool, &encoder->blocks);
    return EMB_OK;
}

static emb_status forward_packed(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                                 emb_error *error) {
    emb_weights *weights = encoder->weights;
    for (uint32_t n = 0; n < encoder->shape->layers; n++) {
        const emb_layer *layer = emb_weights_acquire(weights, pass->number0 + n, lane);
        if (!layer) return stopped(weights, error);
        for (uint32_t c = lane->index; c < pass->cuts_count; c += weights->lanes) {
            EMB_TRY(check_cancel(pass, error));
            EMB_TRY(run_packed(encoder, lane, pass, c, n, layer, error));
        }
        emb_weights_release(weights, pass->number0 + n, lane);
    }
    return encoder->backend->device->finish(&lane->scratch, error);
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static emb_status forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                          emb_error *error) {
    for (uint32_t n = 0; n < encoder->shape->layers; n++) {
        const emb_layer *layer = emb_weights_acquire(encoder->weights, pass->number0 + n, lane);
        if (!layer) return stopped(encoder->weights, error);
        uint32_t own = 0, c;
        while ((c = take_cut(pass, n, &own)) < pass->cuts_count) {
            EMB_TRY(check_cancel(pass, error));
            EMB_TRY(run_tile(encoder, lane, pass, &pass->cuts[c], n, layer, error));
        }
        emb_weights_release(encoder->weights, pass->number0 + n, lane);
    }
    return EMB_OK;
}

emb_status emb_encoder_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               emb_error *error) {
    double before = emb_process_seconds();
    lane->seconds_encode = lane->seconds_wait = 0;
    EMB_TRY((pass->packed ? forward_packed : forward)(encoder, lane, pass, error));
    lane->seconds_encode = emb_process_seconds() - before - lane->seconds_wait;
    return EMB_OK;
}

emb_status emb_encoder_warm(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                            emb_error *error) {
    const emb_layer *layer = encoder->weights->layers;
    EMB_TRY(run_tile(encoder, lane, pass, pass->cuts, 0, layer, error));
    uint32_t last = encoder->shape->layers - 1;
    if (last) EMB_TRY(run_tile(encoder, lane, pass, pass->cuts, last, layer, error));
    return EMB_OK;
}

emb_status emb_encoder_record(emb_encoder *encoder, emb_lane *lane, uint32_t tokens,
                              emb_error *error) {
    const emb_backend *backend = encoder->backend;
    emb_embedding embedding = encoder->weights->embedding;
    if (!encoder->weights->words_resident) embedding.words = lane->gathered;
    emb_tile *tile = &lane->tile;
    void *x = lane->x;
    backend->device->record(tile, tokens, &lane->scratch);
    backend->embed(backend, &lane->scratch, x, tile, &embedding, &encoder->blocks);
    for (uint32_t n = 0; n < encoder->shape->layers; n++) {
        const emb_layer *layer = &encoder->weights->layers[n];
        backend->attention_block(backend, &lane->scratch, x, x, tile, layer, &encoder->blocks);
        backend->ffn_block(backend, &lane->scratch, x, x, tile, layer, &encoder->blocks);
    }
    return backend->device->recorded(&lane->scratch, error);
}
