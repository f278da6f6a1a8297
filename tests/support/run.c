/* run.c - see run.h.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support/run.h"

#include <string.h>

#define PIECES      8
#define ROWS        16
#define PATIENCE_MS 60000

emb_status run_open(run *out, const char *path, const emb_limits *limits,
                    const emb_machine *machine, emb_error *error) {
    memset(out, 0, sizeof *out);
    emb_status status = EMB_OK;
    if (machine) {
        out->machine = *machine;
    } else {
        status = emb_machine_probe(&out->machine, NULL, error);
    }
    if (status == EMB_OK) status = emb_model_open(&out->model, path, error);
    if (status == EMB_OK) {
        status = emb_plan_make(&out->plan, out->model, limits, &out->machine, error);
    }
    if (status == EMB_OK) status = emb_engine_open(&out->engine, out->model, &out->plan, error);
    if (status != EMB_OK) run_close(out);
    return status;
}

void run_close(run *open) {
    if (open->engine) emb_engine_close(open->engine);
    if (open->model) emb_model_close(open->model);
    open->engine = NULL;
    open->model = NULL;
}

typedef struct place {
    uint32_t text;
    size_t offset;
} place;

static emb_piece piece_at(const run_text *texts, const place *at, size_t piece_bytes) {
    const run_text *text = &texts[at->text];
    size_t rest = text->length - at->offset;
    size_t length = piece_bytes && rest > piece_bytes ? piece_bytes : rest;
    emb_piece piece = {.data = text->data + at->offset, .length = length, .user = 1000 + at->text};
    if (at->offset == 0) piece.flags |= EMB_PIECE_FIRST;
    if (length == rest) piece.flags |= EMB_PIECE_LAST;
    return piece;
}

static void advance(place *at, const emb_piece *piece) {
    at->offset += piece->length;
    if (piece->flags & EMB_PIECE_LAST) *at = (place){.text = at->text + 1};
}

static emb_status submit_some(run *open, const run_text *texts, uint32_t count, size_t piece_bytes,
                              place *at, uint32_t *taken, emb_error *error) {
    emb_piece pieces[PIECES];
    place ahead = *at;
    uint32_t ready = 0;
    while (ready < PIECES && ahead.text < count) {
        pieces[ready] = piece_at(texts, &ahead, piece_bytes);
        advance(&ahead, &pieces[ready++]);
    }
    emb_status status = emb_engine_submit(open->engine, pieces, ready, taken, error);
    for (uint32_t i = 0; status == EMB_OK && i < *taken; i++) advance(at, &pieces[i]);
    return status;
}

static void keep(const run *open, const emb_row *row, run_row *rows, float *values) {
    float *target = values + row->text * open->plan.dim;
    memcpy(target, row->values, sizeof *target * open->plan.dim);
    rows[row->text] =
        (run_row){row->status, row->chunks, row->tokens, row->tokens_dropped, row->user, target};
}

emb_status run_texts(run *open, const run_text *texts, uint32_t count, size_t piece_bytes,
                     run_row *rows, float *values, emb_error *error) {
    place at = {0};
    uint64_t first = UINT64_MAX;
    uint32_t collected = 0;
    while (collected < count) {
        uint32_t taken = 0, ready = 0;
        emb_status status = EMB_OK;
        if (at.text < count) {
            status = submit_some(open, texts, count, piece_bytes, &at, &taken, error);
        } else {
            status = emb_engine_flush(open->engine);
        }
        if (status != EMB_OK) return status;
        emb_row got[ROWS];
        bool wait = taken == 0;
        status = emb_engine_collect(open->engine, got, ROWS, &ready, wait ? PATIENCE_MS : 0, error);
        if (status == EMB_TIMEOUT && !wait) continue;
        if (status != EMB_OK) return status;
        for (uint32_t i = 0; i < ready; i++) {
            if (first == UINT64_MAX) first = got[i].text;
            got[i].text -= first; /* texts of earlier calls were counted too */
            keep(open, &got[i], rows, values);
        }
        collected += ready;
    }
    return EMB_OK;
}
