/* calibrate.c - runs texts through a model layer by layer, to observe each matrix's inputs.
 *
 * Activations of all texts are kept between layers, and one layer's weights at a time; each layer's
 * input comes from the quantized layers before it, so that later ones compensate for earlier ones.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "quantizer/quantizer.h"

#define TOGETHER    8 /* rows of inputs added to the moments at once */
#define TILE_TOKENS 256

static uint32_t input_cols(const emb_shape *shape, uint32_t input) {
    return input == EMB_INPUT_FFN_OUT ? shape->spec.intermediate : shape->spec.hidden;
}

static uint32_t tile_tokens(const emb_shape *shape) {
    return shape->default_tokens > TILE_TOKENS ? shape->default_tokens : TILE_TOKENS;
}

static void weights_layout(emb_calibration *c, const emb_books *books) {
    const emb_shape *s = &c->model->shape;
    emb_weights_config config = {
        .files = c->model->files,
        .shape = s,
        .backend = c->backend,
        .dtype = EMB_DTYPE_F32,
        .slots = 1,
        .lanes = 1,
        .chunk_tokens_min = emb_text_chunk_min(&c->model->text.specials),
        .chunk_tokens_max = s->default_tokens,
        .words_resident = false,
    };
    emb_weights_layout(&c->weights, &c->blocks, &config, books);
    c->backend->lane_layout(c->backend, &c->scratch, &c->blocks, c->tile_tokens, books->host);
}

void emb_calibration_layout(emb_calibration *c, const emb_model *model, const emb_backend *backend,
                            uint32_t tokens_max, const emb_books *books) {
    emb_ledger *ledger = books->host;
    const emb_shape *s = &model->shape;
    memset(c, 0, sizeof *c);
    c->model = model;
    c->backend = backend;
    c->tokens_max = tokens_max;
    c->chunks_max = tokens_max / emb_text_chunk_min(&model->text.specials);
    c->tile_tokens = tile_tokens(s);
    weights_layout(c, books);
    emb_text_layout(&c->tokenizer, &model->text, ledger);
    c->ids = emb_ledger_take(ledger, tokens_max, sizeof *c->ids);
    c->starts = emb_ledger_take(ledger, (uint64_t)c->chunks_max + 1, sizeof *c->starts);
    c->tile_starts = emb_ledger_take(ledger, (uint64_t)c->tile_tokens + 1, sizeof *c->tile_starts);
    c->tile_ids = emb_ledger_take(ledger, c->tile_tokens, sizeof *c->tile_ids);
    c->words = emb_ledger_take(ledger, (uint64_t)c->tile_tokens * s->spec.hidden, sizeof *c->words);
    c->row = emb_ledger_take(ledger, s->spec.hidden, sizeof *c->row);
    c->codes = emb_ledger_take(ledger, s->spec.hidden, sizeof *c->codes);
    c->scratch_bytes = emb_ledger_take(ledger, emb_model_scratch_bytes(s->spec.hidden), 1);
    c->x = emb_ledger_take(ledger, (uint64_t)tokens_max * s->spec.hidden, sizeof *c->x);
    c->y = emb_ledger_take(ledger, (uint64_t)tokens_max * s->spec.hidden, sizeof *c->y);
    for (uint32_t i = 0; i < EMB_INPUTS; i++) {
        uint64_t cols = input_cols(s, i);
        c->moments[i] = emb_ledger_take(ledger, cols * cols, sizeof(float));
        c->peaks[i] = emb_ledger_take(ledger, cols, sizeof(float));
    }
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Adds a text, truncated to its first chunk. */
static void add_text(emb_calibration *c, const emb_text *text) {
    const emb_specials *specials = &c->model->text.specials;
    uint32_t room = c->tokens_max - c->tokens;
    if (room < c->model->info.special_tokens || c->chunks == c->chunks_max) return;
    uint32_t most = c->model->shape.default_tokens < room ? c->model->shape.default_tokens : room;
    uint32_t *ids = c->ids + c->tokens, count = specials->before;
    const char *const parts[] = {text->prompt ? text->prompt : "", text->data};
    const size_t lengths[] = {strlen(parts[0]), text->length};
    emb_text_begin(&c->tokenizer);
    for (size_t i = 0; i < 2; i++) {
        size_t at = 0;
        for (bool done = false; !done && count + specials->after < most;) {
            size_t used = 0, made = 0;
            emb_text_feed(&c->tokenizer, parts[i] + at, lengths[i] - at, i == 1, ids + count,
                          most - specials->after - count, &used, &made, &done);
            at += used;
            count += (uint32_t)made;
            if (i == 0 && at == lengths[0]) break;
        }
    }
    uint32_t tokens = emb_text_wrap(specials, ids, count - specials->before);
    if (tokens == 0) return; /* nothing to observe */
    c->tokens += tokens;
    c->starts[++c->chunks] = c->tokens;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Fills a tile with the chunks from `chunk` on that fit; gives the first that does not. */
static uint32_t next_tile(emb_calibration *c, emb_tile *tile, uint32_t chunk) {
    uint32_t first = c->starts[chunk], count = 0;
    while (chunk + count < c->chunks && count < c->tile_tokens &&
           c->starts[chunk + count + 1] - first <= c->tile_tokens) {
        count++;
        c->tile_starts[count] = c->starts[chunk + count] - first;
    }
    c->tile_starts[0] = 0;
    *tile = (emb_tile){.tokens = c->tile_starts[count],
                       .chunks = count,
                       .ids = c->tile_ids,
                       .starts = c->tile_starts};
    return chunk + count;
}

/* Reads the word's row as the quantized model will have it. */
static emb_status read_word(emb_calibration *c, float *out, uint32_t id, emb_error *error) {
    float scale;
    emb_quantized_rows row = {
        8, 1, c->model->shape.spec.hidden, c->model->shape.spec.hidden, c->codes, &scale, NULL};
    EMB_TRY(emb_model_read_rows(c->model->files, EMB_TENSOR_WORDS, 0, id, 1, c->row,
                                c->scratch_bytes, error));
    emb_quantize_rows(&row, c->row, NULL);
    emb_quantize_restore(out, &row);
    return EMB_OK;
}

static emb_status embed(emb_calibration *c, emb_error *error) {
    size_t hidden = c->model->shape.spec.hidden;
    emb_embedding embedding = c->weights.embedding;
    embedding.words = c->words;
    for (uint32_t chunk = 0, next; chunk < c->chunks; chunk = next) {
        emb_tile tile;
        uint32_t first = c->starts[chunk];
        next = next_tile(c, &tile, chunk);
        for (uint32_t i = 0; i < tile.tokens; i++) {
            EMB_TRY(read_word(c, c->words + i * hidden, c->ids[first + i], error));
            c->tile_ids[i] = i;
        }
        c->backend->embed(c->backend, &c->scratch, c->x + first * hidden, &tile, &embedding,
                          &c->blocks);
    }
    return EMB_OK;
}

void emb_calibration_init(emb_calibration *c) {
    emb_weights_init(&c->weights);
}

emb_status emb_calibration_begin(emb_calibration *c, const emb_text *texts, uint32_t count,
                                 emb_error *error) {
    EMB_TRY(emb_text_load(&c->tokenizer, &c->model->text, error));
    c->starts[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (texts[i].is_ids || (!texts[i].data && texts[i].length))
            return emb_error_set(error, EMB_INVALID_ARGUMENT,
                                 "calibration text %u is not text in memory", i);
        add_text(c, &texts[i]);
    }
    if (c->tokens == c->chunks * c->model->info.special_tokens)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "the texts to calibrate with are empty");
    EMB_TRY(emb_weights_load(&c->weights, error));
    return embed(c, error);
}

void emb_calibration_end(emb_calibration *c) {
    emb_weights_close(&c->weights);
}

/* ---- a layer --------------------------------------------------------------------------------- */

emb_linear *emb_calibration_linear(emb_calibration *c, uint32_t input) {
    emb_layer *layer = c->weights.layers;
    emb_linear *const linears[EMB_INPUTS] = {&layer->qkv, &layer->attention_out, &layer->ffn_in,
                                             &layer->ffn_out};
    return linears[input];
}

static void add_row(float *moments, const float *x, size_t cols) {
    for (size_t i = 0; i < cols; i++)
        for (size_t j = i; j < cols; j++) moments[i * cols + j] += x[i] * x[j];
}

/* moments += X^T X for TOGETHER rows: each moment is loaded once for all of them. */
static void add_rows(float *moments, const float *x, size_t stride, size_t cols) {
    for (size_t i = 0; i < cols; i++) {
        float *to = moments + i * cols, v[TOGETHER];
        for (size_t t = 0; t < TOGETHER; t++) v[t] = x[t * stride + i];
        for (size_t j = i; j < cols; j++) {
            const float *at = x + j;
            float low =
                v[0] * at[0] + v[1] * at[stride] + v[2] * at[2 * stride] + v[3] * at[3 * stride];
            float high = v[4] * at[4 * stride] + v[5] * at[5 * stride] + v[6] * at[6 * stride] +
                         v[7] * at[7 * stride];
            to[j] += low + high;
        }
    }
}

static void see(void *user, const emb_linear *linear, const float *in, size_t stride,
                uint32_t rows) {
    emb_calibration *c = user;
    for (uint32_t input = 0; input < EMB_INPUTS; input++) {
        if (emb_calibration_linear(c, input) != linear) continue;
        size_t cols = linear->cols;
        uint32_t t = 0;
        for (; t + TOGETHER <= rows; t += TOGETHER)
            add_rows(c->moments[input], in + t * stride, stride, cols);
        for (; t < rows; t++) add_row(c->moments[input], in + t * stride, cols);
        for (t = 0; t < rows; t++)
            for (size_t i = 0; i < cols; i++) {
                float most = fabsf(in[t * stride + i]);
                if (most > c->peaks[input][i]) c->peaks[input][i] = most;
            }
    }
}

/* Runs one tile through the layer into out. */
static void run_tile(emb_calibration *c, float *out, const float *in, const emb_tile *tile) {
    const emb_layer_step step = {c->backend, &c->blocks, &c->scratch, NULL};
    emb_walk_layer(&step, out, in, tile, c->weights.layers);
}

emb_status emb_calibration_observe(emb_calibration *c, uint32_t n, emb_error *error) {
    const emb_shape *s = &c->model->shape;
    const emb_observer observer = {see, c};
    EMB_TRY(emb_weights_load_layer(&c->weights, c->weights.layers, n, error));
    for (uint32_t i = 0; i < EMB_INPUTS; i++) {
        size_t cols = input_cols(s, i);
        memset(c->moments[i], 0, cols * cols * sizeof(float));
        memset(c->peaks[i], 0, cols * sizeof(float));
    }
    c->scratch.observer = &observer;
    for (uint32_t chunk = 0, next; chunk < c->chunks; chunk = next) {
        emb_tile tile;
        size_t first = (size_t)c->starts[chunk] * s->spec.hidden;
        next = next_tile(c, &tile, chunk);
        run_tile(c, c->y + first, c->x + first, &tile);
    }
    c->scratch.observer = NULL;
    return EMB_OK;
}

double emb_calibration_advance(emb_calibration *c) {
    double off = 0, all = 0;
    size_t hidden = c->model->shape.spec.hidden;
    for (uint32_t chunk = 0, next; chunk < c->chunks; chunk = next) {
        emb_tile tile;
        size_t first = (size_t)c->starts[chunk] * hidden;
        next = next_tile(c, &tile, chunk);
        run_tile(c, c->x + first, c->x + first, &tile);
        for (size_t i = first; i < first + tile.tokens * hidden; i++) {
            double y = c->y[i], moved = c->x[i] - y;
            off += moved * moved;
            all += y * y;
        }
    }
    return all == 0 ? 0 : sqrt(off / all); /* NaN stays NaN */
}
