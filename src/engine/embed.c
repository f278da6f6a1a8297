/* embed.c - texts in, a matrix out: submit and collect for callers that have all texts in memory.
 *
 * Texts are submitted in slabs, so that the readers have many to share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "engine/engine.h"

#define ROWS 64 /* collected at once */

/* One call of embed. */
typedef struct job {
    emb_engine *engine;
    const emb_text *texts;
    float *rows;
    uint32_t count;
    uint32_t next;         /* first text not yet in the slab */
    uint32_t pieces, sent; /* of the slab */
    uint32_t got;          /* rows */
    uint64_t first_text;   /* number of the first */
    emb_status worst;      /* of the first row that failed */
} job;

/* Collects what is ready and copies it into place; keeps the first failure. */
static emb_status copy_rows(job *j, emb_error *error) {
    emb_row ready[ROWS];
    uint32_t count, dim = j->engine->plan.dim;
    EMB_TRY(emb_engine_collect(j->engine, ready, ROWS, &count, -1, error));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t text = ready[i].text - j->first_text;
        EMB_ASSERT(text < j->next);
        memcpy(j->rows + text * dim, ready[i].values, dim * sizeof *j->rows);
        if (ready[i].status != EMB_OK && j->worst == EMB_OK)
            j->worst = emb_error_set(error, ready[i].status, "text %llu failed: %s",
                                     (unsigned long long)text, emb_status_name(ready[i].status));
    }
    j->got += count;
    return EMB_OK;
}

static uint32_t pieces_of(emb_piece pieces[2], const emb_text *text) {
    uint32_t kind = text->is_ids ? EMB_PIECE_IDS : 0, count = 0;
    if (text->prompt)
        pieces[count++] =
            (emb_piece){text->prompt, strlen(text->prompt), EMB_PIECE_FIRST, text->user};
    uint32_t first = count == 0 ? EMB_PIECE_FIRST : 0;
    pieces[count++] =
        (emb_piece){text->data, text->length, kind | first | EMB_PIECE_LAST, text->user};
    return count;
}

static void fill_slab(job *j) {
    uint32_t most = emb_engine_slab_pieces(&j->engine->plan);
    j->pieces = j->sent = 0;
    while (j->next < j->count && j->pieces + 2 <= most)
        j->pieces += pieces_of(j->engine->memory.slab + j->pieces, &j->texts[j->next++]);
}

/* Submits a slab to its end, collecting where it has to. */
static emb_status send_slab(job *j, emb_error *error) {
    while (j->sent < j->pieces) {
        uint32_t taken;
        EMB_TRY(emb_engine_submit(j->engine, j->engine->memory.slab + j->sent, j->pieces - j->sent,
                                  &taken, error));
        j->sent += taken;
        if (j->sent < j->pieces) EMB_TRY(copy_rows(j, error));
    }
    return EMB_OK;
}

static emb_status check(const float *rows, emb_engine *engine, const emb_text *texts,
                        uint32_t count, emb_error *error) {
    if (!engine || (count && (!rows || !texts)))
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "embed: rows, engine and texts must not be NULL");
    if (engine->intake.text_open ||
        emb_counter_read(&engine->counts.texts) != engine->delivery.text)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "embed: collect the rows of earlier texts first");
    if (engine->plan.output != EMB_OUTPUT_TEXT)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "embed: this engine gives vectors of tokens: submit and collect");
    for (uint32_t i = 0; i < count; i++)
        if ((!texts[i].data && texts[i].length) || (texts[i].is_ids && texts[i].prompt))
            return emb_error_set(error, EMB_INVALID_ARGUMENT,
                                 "embed: text %u has no data, or a prompt before ids", i);
    return EMB_OK;
}

emb_status emb_engine_embed(float *rows, emb_engine *engine, const emb_text *texts, uint32_t count,
                            emb_error *error) {
    EMB_TRY(check(rows, engine, texts, count, error));
    job j = {.engine = engine,
             .texts = texts,
             .rows = rows,
             .count = count,
             .first_text = engine->delivery.text};
    while (j.next < count) {
        fill_slab(&j);
        EMB_TRY(send_slab(&j, error));
    }
    while (j.got < count) {
        emb_engine_flush(engine);
        EMB_TRY(copy_rows(&j, error));
    }
    return j.worst;
}
