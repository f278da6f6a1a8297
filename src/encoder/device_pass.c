/* device_pass.c - the forward of weights that are streamed to a device: a visitor of the walk.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "encoder/tiles.h"

/* Words before a tile's block of indices in the staging of a pass: each takes 1 for a token, 2 for
 * a chunk and 5 more. */
static uint64_t staging_place(uint32_t tokens, uint32_t tiles, uint32_t chunk_tokens_min) {
    uint64_t of_chunks = (2 * (uint64_t)tokens + chunk_tokens_min - 1) / chunk_tokens_min;
    return tokens + of_chunks + 8 * (uint64_t)tiles;
}

void emb_device_pass_layout(emb_device_pass *on_device, const emb_weights_config *config,
                            uint32_t tokens, uint32_t chunks, uint32_t tokens_per_tile,
                            const emb_books *books) {
    uint32_t least = config->chunk_tokens_min;
    /* a cut and the first chunk of the next are more than a tile: so two cuts are, together */
    uint64_t tiles = 2 * ((uint64_t)tokens / (tokens_per_tile + 1)) + 1;
    if (tiles > chunks) tiles = chunks;
    memset(on_device, 0, sizeof *on_device);
    emb_ledger_item(books->host, "tiles of a pass");
    on_device->tiles = emb_ledger_take(books->host, tiles, sizeof *on_device->tiles);
    emb_ledger_item(books->pinned, "tiles of a pass");
    for (uint32_t i = 0; i < 2; i++)
        on_device->staging[i] = emb_ledger_take(
            books->pinned, staging_place(tokens, (uint32_t)tiles, least), sizeof(uint32_t));
    emb_ledger_item(books->device, "tiles of a pass");
    on_device->kept = emb_ledger_take(
        books->device, 1,
        config->backend->kept_place(config->backend, tokens, (uint32_t)tiles, least));
}

/* The host runs ahead of the device by up to a pass: it waits for nothing but its own lane, at the
 * end. So whatever the device still reads must stay:
 * - pinned staging of a pass: until each lane's own end of that pass. A lane may begin the next
 *   one while another has not ended this; so passes take turns in two stagings, and a lane that
 *   begins pass p + 2 knows that all have ended p: all had to enqueue p + 1 first.
 * - indices and activations on the device: emb_weights_acquire holds the lane's stream back until
 *   all lanes are done with the pass before.
 * - gathered word rows: until their tile has read them; the host waits there.
 * A cut belongs to one lane through all layers, so its activations need no hand-over. */

/* Fills the tile of cut c, uploads it and embeds its tokens. */
static emb_status begin_tile(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass, uint32_t c,
                             void *x, emb_error *error) {
    const emb_backend *backend = encoder->backend;
    emb_device_pass *on_device = pass->on_device;
    emb_device_tile *own = &on_device->tiles[c];
    const emb_tile_cut *cut = &pass->cuts[c];
    uint32_t turn = pass->number0 / encoder->shape->layers % 2;
    uint32_t least = encoder->blocks.chunk_tokens_min;
    uint32_t *block = on_device->staging[turn] + staging_place(cut->row0, c, least);
    const emb_tile_room room = {block, block + EMB_INDEX_HEAD, block + emb_index_ids(cut->chunks)};
    own->targets = emb_tile_fill(&own->tile, &room, pass, cut);
    own->tile.kept = on_device->kept + backend->kept_place(backend, cut->row0, c, least);
    emb_embedding embedding = encoder->weights->embedding;
    bool gather = !encoder->weights->words_resident;
    if (gather) {
        EMB_TRY(emb_tile_gather(encoder, lane, room.ids, own->tile.tokens, error));
        embedding.words = lane->gathered;
    }
    backend->device->begin(&own->tile, &own->targets, &lane->scratch);
    backend->embed(backend, &lane->scratch, x, &own->tile, &embedding, &encoder->blocks);
    lane->rows_computed += own->tile.tokens;
    lane->tiles++;
    return gather ? backend->device->finish(&lane->scratch, error) : EMB_OK;
}

static emb_status run_tile(const emb_pass_share *s, uint32_t c, uint32_t n, emb_error *error) {
    emb_encoder *encoder = s->encoder;
    const emb_pass *pass = s->pass;
    const emb_layer_step step = emb_lane_step(encoder, s->lane);
    size_t row_bytes = (size_t)encoder->shape->spec.hidden * encoder->backend->activation_bytes;
    void *x = (unsigned char *)pass->x + pass->cuts[c].row0 * row_bytes;
    if (n == 0) EMB_TRY(begin_tile(encoder, s->lane, pass, c, x, error));
    const emb_device_tile *own = &pass->on_device->tiles[c];
    emb_walk_layer(&step, x, x, &own->tile, s->layer);
    if (n + 1 == encoder->shape->layers)
        emb_outside_rows(encoder, s->lane, pass, &own->tile, own->targets, x);
    return EMB_OK;
}

static emb_status visit(void *user, uint32_t n, emb_error *error) {
    const emb_pass_share *s = user;
    uint32_t lanes = s->encoder->weights->lanes;
    for (uint32_t c = s->lane->index; c < s->pass->cuts_count; c += lanes) {
        EMB_TRY(emb_pass_check(s->pass, error));
        EMB_TRY(run_tile(s, c, n, error));
    }
    return EMB_OK;
}

emb_status emb_device_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                              emb_error *error) {
    emb_pass_share s = {encoder, lane, pass, NULL};
    const emb_visitor visitor = {
        .user = &s, .enter = emb_pass_enter, .visit = visit, .leave = emb_pass_leave};
    EMB_TRY(emb_walk(&visitor, encoder->shape->layers, error));
    return encoder->backend->device->finish(&lane->scratch, error);
}
