/* outside.c - what is outside the layers: the weights before them, booked and loaded, and the rows
 * made after them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "encoder/tiles.h"
#include "encoder/weights_parts.h"

/* ---- booking --------------------------------------------------------------------------------- */

void *emb_outside_words_layout(const emb_weights_config *config, emb_ledger *ledger) {
    return emb_ledger_take(ledger, config->shape->vocabulary,
                           emb_dtype_row_bytes(config->dtype, config->shape->spec.hidden));
}

void emb_outside_layout(emb_weights *w, const emb_weights_config *config, emb_ledger *ledger) {
    const emb_shape *s = config->shape;
    emb_ledger_item(ledger, "embeddings");
    w->words = config->words_pinned     ? config->pinned.words
               : config->words_resident ? emb_outside_words_layout(config, ledger)
                                        : NULL;
    w->positions =
        emb_ledger_take(ledger, (uint64_t)config->chunk_tokens_max * s->spec.hidden, sizeof(float));
    w->embed_gain = emb_ledger_take(ledger, s->spec.hidden, sizeof(float));
    w->embed_shift = emb_ledger_take(ledger, s->spec.hidden, sizeof(float));
    if (s->relative_buckets)
        w->spec->relative = emb_ledger_take(
            ledger, (uint64_t)s->spec.heads * (2 * config->chunk_tokens_max - 1), sizeof(float));
}

/* ---- loading --------------------------------------------------------------------------------- */

emb_status emb_weights_read_word(const emb_weights *w, void *out, uint32_t row, float *values,
                                 void *scratch, emb_error *error) {
    uint32_t hidden = w->shape->spec.hidden;
    if (w->stored) { /* int8 as it is, in the place where it stays */
        unsigned char *at = out;
        uint64_t scale_at = emb_dtype_scale_at(hidden);
        emb_quantized_rows one = {
            .values = (int8_t *)at,
            .scales = (float *)(void *)(at + scale_at),
        };
        memset(at + hidden, 0, scale_at - hidden);
        return emb_model_read_quantized(w->files, EMB_TENSOR_WORDS, 0, row, 1, &one, scratch,
                                        error);
    }
    EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_WORDS, 0, row, 1, values, scratch, error));
    w->backend->convert(w->backend, out, w->dtype, values, 1, hidden);
    return EMB_OK;
}

/* Rows of int8 are where they stay, or go through staging to the device's memory. */
static emb_status load_stored_words(emb_weights *w, unsigned char *words, uint64_t row_bytes,
                                    emb_error *error) {
    uint32_t vocabulary = w->shape->vocabulary, words_of_row = (uint32_t)row_bytes / 4;
    bool staged = w->backend->device && !w->words_pinned;
    for (uint32_t row = 0, rows; row < vocabulary; row += rows) {
        unsigned char *at = words + row * row_bytes, *to = staged ? (void *)w->staging : at;
        rows = vocabulary - row < EMB_PACK_ROWS ? vocabulary - row : EMB_PACK_ROWS;
        for (uint32_t i = 0; i < rows; i++)
            EMB_TRY(emb_weights_read_word(w, to + i * row_bytes, row + i, NULL, w->staging_scratch,
                                          error));
        if (staged)
            w->backend->convert(w->backend, at, EMB_DTYPE_F32, w->staging, rows, words_of_row);
    }
    return EMB_OK;
}

static emb_status load_words(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    uint64_t row_bytes = emb_dtype_row_bytes(w->dtype, s->spec.hidden);
    unsigned char *words = w->words;
    if (!(w->words_pinned ? w->fills_pinned : w->words_resident)) return EMB_OK;
    if (w->stored) return load_stored_words(w, words, row_bytes, error);
    for (uint32_t row = 0; row < s->vocabulary; row += EMB_PACK_ROWS) {
        uint32_t rows = s->vocabulary - row < EMB_PACK_ROWS ? s->vocabulary - row : EMB_PACK_ROWS;
        EMB_TRY(emb_model_read_rows(w->files, EMB_TENSOR_WORDS, 0, row, rows, w->staging,
                                    w->staging_scratch, error));
        w->backend->convert(w->backend, words + row * row_bytes, w->dtype, w->staging, rows,
                            s->spec.hidden);
    }
    return EMB_OK;
}

emb_status emb_outside_load(emb_weights *w, emb_error *error) {
    const emb_shape *s = w->shape;
    EMB_TRY(load_words(w, error));
    EMB_TRY(emb_weights_load_positions(w, error));
    EMB_TRY(
        emb_weights_read_vector(w, EMB_TENSOR_EMBED_GAIN, 0, s->spec.hidden, w->embed_gain, error));
    EMB_TRY(emb_weights_read_vector(w, EMB_TENSOR_EMBED_SHIFT, 0, s->spec.hidden, w->embed_shift,
                                    error));
    if (s->relative_buckets) EMB_TRY(emb_weights_load_relative(w, error));
    w->embedding = (emb_embedding){w->dtype, w->words, w->positions, w->embed_gain, w->embed_shift};
    return EMB_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Puts each token's vector where the window has the token. A CPU's activations are f32. */
static void keep_tokens(const emb_pass *pass, const emb_tile *tile, const uint32_t *targets,
                        const float *x, uint32_t hidden) {
    for (uint32_t i = 0; i < tile->chunks; i++) {
        uint32_t start = tile->starts[i], tokens = tile->starts[i + 1] - start;
        uint64_t place = pass->table->starts[targets[i]];
        memcpy(pass->vectors + place * hidden, x + (uint64_t)start * hidden,
               (size_t)tokens * hidden * sizeof *x);
    }
}

void emb_outside_rows(const emb_encoder *encoder, emb_lane *lane, const emb_pass *pass,
                      const emb_tile *tile, const uint32_t *targets, void *x) {
    const emb_backend *backend = encoder->backend;
    const emb_shape *shape = encoder->shape;
    if (encoder->keeps_tokens) {
        keep_tokens(pass, tile, targets, x, shape->spec.hidden);
        return;
    }
    /* backends pool rows as wide as the layers, and no module that follows is computed yet */
    EMB_ASSERT(shape->output_width == shape->spec.hidden);
    backend->pool(backend, &lane->scratch, pass->vectors, targets, x, tile, &encoder->pool,
                  &encoder->blocks);
}
