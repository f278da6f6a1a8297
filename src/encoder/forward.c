/* forward.c - a lane's share of a pass: embed, every layer, pool; as visitors of the walk.
 *
 * With resident weights a pass is one tile of one lane, and its layers follow one another in cache.
 * With streamed weights a pass is many tiles, and all lanes share each layer while it is there.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/process.h"
#include "encoder/tiles.h"

/* Packs the cut for layer n, with word rows for the first layer; hands it to the device, if any. */
static emb_status begin_tile(emb_tile *tile, const uint32_t **targets, emb_embedding *embedding,
                             emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                             const emb_tile_cut *cut, uint32_t n, emb_error *error) {
    const emb_device_calls *device = encoder->backend->device;
    const emb_tile_room room = {lane->indices, lane->starts, lane->ids};
    *targets = emb_tile_fill(tile, &room, pass, cut);
    *embedding = encoder->weights->embedding;
    if (n == 0 && !encoder->weights->words_resident) {
        EMB_TRY(emb_tile_gather(encoder, lane, lane->ids, tile->tokens, error));
        embedding->words = lane->gathered;
    }
    lane->replayed = device && device->begin(tile, targets, &lane->scratch);
    return EMB_OK;
}

static emb_status run_tile(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                           const emb_tile_cut *cut, uint32_t n, const emb_layer *layer,
                           emb_error *error) {
    const emb_backend *backend = encoder->backend;
    size_t row_bytes = (size_t)encoder->shape->spec.hidden * backend->activation_bytes;
    void *x = lane->x ? lane->x : (unsigned char *)pass->x + cut->row0 * row_bytes;
    bool last = n + 1 == encoder->shape->layers;
    emb_embedding embedding;
    if (n == 0 || pass->next) /* a lane's own pass is one tile, filled once */
        EMB_TRY(begin_tile(&lane->tile, &lane->tile_targets, &embedding, encoder, lane, pass, cut,
                           n, error));
    if (n == 0) {
        if (!lane->replayed)
            backend->embed(backend, &lane->scratch, x, &lane->tile, &embedding, &encoder->blocks);
        lane->rows_computed += lane->tile.tokens;
        lane->tiles++;
    }
    if (!lane->replayed) {
        const emb_layer_step step = emb_lane_step(encoder, lane);
        emb_walk_layer(&step, x, x, &lane->tile, layer);
    }
    if (last) emb_outside_rows(encoder, lane, pass, &lane->tile, lane->tile_targets, x);
    /* a device runs behind: what it reads must stay until it is done */
    if (backend->device && last) return backend->device->finish(&lane->scratch, error);
    return EMB_OK;
}

/* The next cut of this layer for this lane; cuts_count when there is none. */
static uint32_t take_cut(const emb_pass *pass, uint32_t layer, uint32_t *own) {
    if (!pass->next) return (*own)++;
    return atomic_fetch_add_explicit(&pass->next[layer], 1, memory_order_relaxed);
}

static emb_status visit(void *user, uint32_t n, emb_error *error) {
    const emb_pass_share *s = user;
    const emb_pass *pass = s->pass;
    uint32_t own = 0, c;
    while ((c = take_cut(pass, n, &own)) < pass->cuts_count) {
        EMB_TRY(emb_pass_check(pass, error));
        EMB_TRY(run_tile(s->encoder, s->lane, pass, &pass->cuts[c], n, s->layer, error));
    }
    return EMB_OK;
}

emb_status emb_encoder_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               emb_error *error) {
    double before = emb_process_seconds();
    emb_pass_share s = {encoder, lane, pass, NULL};
    const emb_visitor visitor = {
        .user = &s, .enter = emb_pass_enter, .visit = visit, .leave = emb_pass_leave};
    lane->seconds_encode = lane->seconds_wait = 0;
    if (pass->on_device)
        EMB_TRY(emb_device_forward(encoder, lane, pass, error));
    else
        EMB_TRY(emb_walk(&visitor, encoder->shape->layers, error));
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

/* ---- recording ------------------------------------------------------------------------------- */

static emb_status record_layer(void *user, uint32_t n, emb_error *error) {
    const emb_pass_share *s = user;
    const emb_layer_step step = emb_lane_step(s->encoder, s->lane);
    (void)error;
    emb_walk_layer(&step, s->lane->x, s->lane->x, &s->lane->tile, &s->encoder->weights->layers[n]);
    return EMB_OK;
}

emb_status emb_encoder_record(emb_encoder *encoder, emb_lane *lane, uint32_t tokens,
                              emb_error *error) {
    const emb_backend *backend = encoder->backend;
    emb_embedding embedding = encoder->weights->embedding;
    if (!encoder->weights->words_resident) embedding.words = lane->gathered;
    emb_pass_share s = {encoder, lane, NULL, NULL};
    const emb_visitor visitor = {.user = &s, .visit = record_layer};
    backend->device->record(&lane->tile, tokens, &lane->scratch);
    backend->embed(backend, &lane->scratch, lane->x, &lane->tile, &embedding, &encoder->blocks);
    EMB_TRY(emb_walk(&visitor, encoder->shape->layers, error));
    return backend->device->recorded(&lane->scratch, error);
}
