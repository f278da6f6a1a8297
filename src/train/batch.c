/* batch.c - reads texts, orders them by length, and cuts them into tiles without padding.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/batch.h"

#include <string.h>

#include "base/error.h"
#include "base/sort.h"

void emb_train_batch_layout(emb_train_batch *b, const emb_model *model, uint32_t texts,
                            uint32_t length, uint32_t tile_tokens, emb_ledger *ledger) {
    memset(b, 0, sizeof *b);
    b->model = model;
    b->texts_max = texts;
    b->length_max = length;
    b->tile_tokens = tile_tokens;
    emb_text_layout(&b->tokenizer, &model->text, ledger);
    emb_ledger_item(ledger, "tokens of a batch");
    b->ids = emb_ledger_take(ledger, (uint64_t)texts * length, sizeof *b->ids);
    b->starts = emb_ledger_take(ledger, (uint64_t)texts + 1, sizeof *b->starts);
    b->order = emb_ledger_take(ledger, texts, sizeof *b->order);
    b->counts = emb_ledger_take(ledger, (uint64_t)length + 1, sizeof *b->counts);
    b->cuts = emb_ledger_take(ledger, (uint64_t)texts + 1, sizeof *b->cuts);
    b->tile_ids = emb_ledger_take(ledger, tile_tokens, sizeof *b->tile_ids);
    b->tile_starts = emb_ledger_take(ledger, (uint64_t)tile_tokens + 1, sizeof *b->tile_starts);
}

/* Reads bytes behind the ids that are there, until they are used up or there is no more room. */
static uint32_t feed(emb_train_batch *b, const char *bytes, size_t length, bool last, uint32_t *ids,
                     uint32_t count, uint32_t most, bool *cut) {
    size_t at = 0;
    for (bool done = false; !done && (last || at < length);) {
        size_t used = 0, made = 0;
        uint32_t spare[2]; /* one id more shows whether something is cut */
        uint32_t *to = count < most ? ids + count : spare;
        size_t room = count < most ? most - count : 1;
        emb_text_feed(&b->tokenizer, bytes + at, length - at, last, to, room, &used, &made, &done);
        at += used;
        if (to == spare && made) {
            *cut = true;
            break;
        }
        if (to != spare) count += (uint32_t)made;
    }
    return count;
}

void emb_train_batch_begin(emb_train_batch *b) {
    b->texts = b->tokens = b->truncated = 0;
    b->starts[0] = 0;
}

/* Ids as they are, cut if there are too many. Gives the count with what was before them. */
static emb_status copy_ids(uint32_t *count, const emb_train_batch *b, const emb_text *text,
                           uint32_t *ids, uint32_t most, bool *cut, emb_error *error) {
    const uint32_t *from = text->data;
    for (size_t i = 0; i < text->length && *count < most; i++) {
        if (from[i] >= b->model->shape.vocabulary)
            return emb_error_set(error, EMB_BAD_TEXT,
                                 "a text's id %u is not below the vocabulary's %u", from[i],
                                 b->model->shape.vocabulary);
        ids[(*count)++] = from[i];
    }
    *cut = *count - b->model->text.specials.before < text->length;
    return EMB_OK;
}

emb_status emb_train_batch_add(emb_train_batch *b, const emb_text *text, emb_error *error) {
    const emb_specials *specials = &b->model->text.specials;
    uint32_t *ids = b->ids + b->tokens, most = b->length_max - specials->after;
    bool cut = false;
    uint32_t count = specials->before;
    if ((!text->data && text->length) || (text->is_ids && text->prompt))
        return emb_error_set(error, EMB_BAD_TEXT,
                             "a text of the batch has no data, or ids with a prompt");
    emb_text_begin(&b->tokenizer);
    if (text->prompt)
        count = feed(b, text->prompt, strlen(text->prompt), false, ids, count, most, &cut);
    if (text->is_ids)
        EMB_TRY(copy_ids(&count, b, text, ids, most, &cut, error));
    else if (!cut)
        count = feed(b, text->data, text->length, true, ids, count, most, &cut);
    b->truncated += cut;
    b->tokens += emb_text_wrap(specials, ids, count - specials->before);
    b->starts[++b->texts] = b->tokens;
    return EMB_OK;
}

static uint32_t length_of(const emb_train_batch *b, uint32_t row) {
    return b->starts[row + 1] - b->starts[row];
}

void emb_train_batch_end(emb_train_batch *b) {
    uint32_t tokens = 0;
    emb_sort_by_length(b->order, b->counts, b->starts, b->texts, b->length_max);
    b->tiles = 0;
    for (uint32_t i = 0; i < b->texts; i++) {
        uint32_t length = length_of(b, b->order[i]);
        if (i == 0 || tokens + length > b->tile_tokens) {
            b->cuts[b->tiles++] = i;
            tokens = 0;
        }
        tokens += length;
    }
    b->cuts[b->tiles] = b->texts;
}

void emb_train_batch_tile(emb_train_batch *b, emb_tile *tile, const uint32_t **targets,
                          uint32_t index) {
    uint32_t first = b->cuts[index], chunks = b->cuts[index + 1] - first, tokens = 0;
    b->tile_starts[0] = 0;
    for (uint32_t c = 0; c < chunks; c++) {
        uint32_t row = b->order[first + c], length = length_of(b, row);
        memcpy(b->tile_ids + tokens, b->ids + b->starts[row], length * sizeof *b->ids);
        tokens += length;
        b->tile_starts[c + 1] = tokens;
    }
    *tile = (emb_tile){
        .tokens = tokens, .chunks = chunks, .ids = b->tile_ids, .starts = b->tile_starts};
    *targets = b->order + first;
}

uint32_t emb_train_batch_tiles(uint32_t texts, uint32_t length, uint32_t tile_tokens) {
    uint32_t per_tile = tile_tokens / length; /* texts that always fit */
    return (texts + per_tile - 1) / per_tile;
}
