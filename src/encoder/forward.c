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

void emb_lane_layout(emb_lane *lane, const emb_weights_config *config,
                     const emb_block_shape *blocks, uint32_t tokens_per_tile, bool with_x,
                     const emb_books *books) {
    emb_ledger *ledger = books->pinned; /* what a device reads from the host */
    memset(lane, 0, sizeof *lane);
    emb_ledger_item(ledger, "lane buffers");
    uint64_t values = (uint64_t)tokens_per_tile * config->shape->hidden;
    lane->indices =
        emb_ledger_take(ledger, emb_index_words(tokens_per_tile), sizeof *lane->indices);
    if (lane->indices) {
        lane->starts = lane->indices + EMB_INDEX_HEAD;
        lane->ids = lane->indices + emb_index_ids(tokens_per_tile);
    }
    if (!config->words_resident) {
        lane->gathered = emb_ledger_take(ledger, values, emb_format_bytes(config->format));
        lane->gather_row = emb_ledger_take(ledger, config->shape->hidden, sizeof(float));
        lane->gather_scratch =
            emb_ledger_take(ledger, emb_model_scratch_bytes(config->shape->hidden), 1);
    }
    emb_ledger_item(books->device, "lane buffers");
    if (with_x) lane->x = emb_ledger_take(books->device, values, config->backend->activation_bytes);
    config->backend->lane_layout(&lane->scratch, blocks, config->format, tokens_per_tile,
                                 books->device);
    if (config->backend->lane_state_bytes) {
        emb_ledger_item(books->host, "lane buffers");
        lane->scratch.state = emb_ledger_take(books->host, config->backend->lane_state_bytes, 1);
    }
}

/* Packs the cut's chunks one behind another: no padding. */
static void pack_tile(emb_tile *tile, emb_lane *lane, const emb_pass *pass,
                      const emb_tile_cut *cut) {
    const emb_token_table *table = pass->table;
    uint32_t tokens = 0;
    lane->targets = lane->ids + cut->tokens;
    for (uint32_t i = 0; i < cut->chunks; i++) {
        uint32_t chunk = pass->order[cut->order0 + i];
        uint32_t start = table->starts[chunk], length = table->starts[chunk + 1] - start;
        lane->starts[i] = tokens;
        lane->targets[i] = chunk;
        memcpy(lane->ids + tokens, table->ids + start, length * sizeof *lane->ids);
        tokens += length;
    }
    lane->starts[cut->chunks] = tokens;
    *tile = (emb_tile){.tokens = tokens,
                       .chunks = cut->chunks,
                       .ids = lane->ids,
                       .starts = lane->starts,
                       .indices = lane->indices};
}

/* Reads the word rows of the tile's tokens from the file; ids then index these. */
static emb_status gather_words(emb_encoder *encoder, emb_lane *lane, uint32_t tokens,
                               emb_error *error) {
    const emb_weights *w = encoder->weights;
    uint32_t hidden = encoder->shape->hidden;
    uint64_t row_bytes = hidden * emb_format_bytes(w->format);
    for (uint32_t i = 0; i < tokens; i++) {
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_WORDS, 0, lane->ids[i], 1,
                                    lane->gather_row, lane->gather_scratch, error));
        encoder->backend->convert((unsigned char *)lane->gathered + i * row_bytes, w->format,
                                  lane->gather_row, hidden);
        lane->ids[i] = i;
    }
    return EMB_OK;
}

/* Packs the cut for layer n, with word rows for the first layer; hands it to the device, if any. */
static emb_status begin_tile(emb_tile *tile, const uint32_t **targets, emb_embedding *embedding,
                             emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                             const emb_tile_cut *cut, uint32_t n, emb_error *error) {
    const emb_device_calls *device = encoder->backend->device;
    pack_tile(tile, lane, pass, cut);
    *targets = lane->targets;
    *embedding = encoder->weights->embedding;
    if (n == 0 && !encoder->weights->words_resident) {
        EMB_TRY(gather_words(encoder, lane, tile->tokens, error));
        embedding->words = lane->gathered;
    }
    lane->replayed = device && device->begin(tile, targets, &lane->scratch);
    return EMB_OK;
}

static emb_status run_tile(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                           const emb_tile_cut *cut, uint32_t n, const emb_layer *layer,
                           emb_error *error) {
    const emb_backend *backend = encoder->backend;
    size_t row_bytes = (size_t)encoder->shape->hidden * backend->activation_bytes;
    void *x = lane->x ? lane->x : (unsigned char *)pass->x + cut->row0 * row_bytes;
    bool last = n + 1 == encoder->shape->layers;
    emb_embedding embedding;
    if (n == 0 || pass->next) /* a lane's own pass is one tile, packed once */
        EMB_TRY(begin_tile(&lane->tile, &lane->tile_targets, &embedding, encoder, lane, pass, cut,
                           n, error));
    if (n == 0) {
        if (!lane->replayed) backend->embed(x, &lane->tile, &embedding, &encoder->blocks);
        lane->rows_computed += lane->tile.tokens;
        lane->tiles++;
    }
    if (!lane->replayed) {
        backend->attention_block(x, x, &lane->tile, layer, &encoder->blocks, &lane->scratch);
        backend->ffn_block(x, x, &lane->tile, layer, &encoder->blocks, &lane->scratch);
    }
    if (last)
        backend->pool(pass->vectors, lane->tile_targets, x, &lane->tile, &encoder->pool,
                      &encoder->blocks);
    /* a device runs behind: what it reads must stay until it is done */
    if (backend->device && (last || pass->next))
        return backend->device->finish(&lane->scratch, error);
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

emb_status emb_encoder_forward(emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                               emb_error *error) {
    double before = emb_process_seconds();
    lane->seconds_encode = lane->seconds_wait = 0;
    for (uint32_t n = 0; n < encoder->shape->layers; n++) {
        const emb_layer *layer =
            emb_weights_acquire(encoder->weights, pass->number0 + n, &lane->seconds_wait);
        if (!layer) return stopped(encoder->weights, error);
        uint32_t own = 0, c;
        while ((c = take_cut(pass, n, &own)) < pass->cuts_count) {
            if (atomic_load_explicit(pass->cancel, memory_order_relaxed))
                return emb_error_set(error, EMB_CANCELLED, "cancelled");
            EMB_TRY(run_tile(encoder, lane, pass, &pass->cuts[c], n, layer, error));
        }
        emb_weights_release(encoder->weights, pass->number0 + n);
    }
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
    backend->embed(x, tile, &embedding, &encoder->blocks);
    for (uint32_t n = 0; n < encoder->shape->layers; n++) {
        const emb_layer *layer = &encoder->weights->layers[n];
        backend->attention_block(x, x, tile, layer, &encoder->blocks, &lane->scratch);
        backend->ffn_block(x, x, tile, layer, &encoder->blocks, &lane->scratch);
    }
    return backend->device->recorded(&lane->scratch, error);
}
