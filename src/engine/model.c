/* model.c - opens a model (files, shape, tokenizer description), or only its tokenizer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "plan/plan.h"

/* Every id that the tokenizer can give must have a row in the embedding table. */
static emb_status check_vocabulary(const emb_model *model, emb_error *error) {
    if (model->text.ids_end <= model->shape.vocabulary) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE,
                         "%s: id %u has no row: the model's embedding table has %u; tokenizer and "
                         "model do not belong together",
                         model->text.path, model->text.ids_end - 1, model->shape.vocabulary);
}

/* Besides its special tokens a chunk must have room for at least one token of the text. */
static emb_status check_specials(const emb_model *model, emb_error *error) {
    uint32_t count = model->text.specials.before + model->text.specials.after;
    if (count < model->shape.default_tokens) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE,
                         "%s: special tokens around a text: %u, of %u in all; no room for a text",
                         model->text.path, count, model->shape.default_tokens);
}

/* Allocates room for the added tokens, and reads the tokenizer's files. */
static emb_status describe_text(emb_model *model, emb_error *error) {
    const char *directory = emb_model_files_directory(model->files);
    emb_text_hints hints = {
        .tokenizer_class = emb_model_files_tokenizer_class(model->files),
        .default_class = emb_model_default_tokenizer(&model->shape),
        .lowercase = emb_model_files_lowercase(model->files),
        .rows = model->shape.vocabulary,
    };
    uint32_t count;
    EMB_TRY(emb_text_count_added(&count, directory, &hints, error));
    model->added = calloc((size_t)count + 1, sizeof *model->added);
    if (!model->added)
        return emb_error_set(error, EMB_NO_MEMORY, "no memory for %u added tokens", count);
    model->info.description_bytes = ((uint64_t)count + 1) * sizeof *model->added;
    return emb_text_describe(&model->text, model->added, count, directory, &hints, error);
}

emb_status emb_model_open(emb_model **out, const char *path, emb_error *error) {
    if (!out || !path || !*path)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "model and path must not be NULL, the path not empty");
    *out = NULL;
    emb_model *model = calloc(1, sizeof *model);
    if (!model) return emb_error_set(error, EMB_NO_MEMORY, "no memory to describe %s", path);
    emb_status status = emb_model_files_open(&model->files, &model->shape, path, error);
    if (status == EMB_OK) status = describe_text(model, error);
    if (status == EMB_OK) status = check_vocabulary(model, error);
    if (status == EMB_OK) status = check_specials(model, error);
    if (status != EMB_OK) {
        emb_model_close(model);
        return status;
    }
    uint64_t added_bytes = model->info.description_bytes;
    emb_model_files_describe(&model->info, model->files, &model->shape);
    model->info.special_tokens = model->text.specials.before + model->text.specials.after;
    model->info.description_bytes += sizeof *model + added_bytes;
    *out = model;
    return EMB_OK;
}

void emb_model_close(emb_model *model) {
    if (!model) return;
    emb_model_files_close(model->files);
    free(model->added);
    free(model);
}

void emb_model_describe(emb_model_info *out, const emb_model *model) {
    if (!out) return;
    memset(out, 0, sizeof *out);
    if (model) *out = model->info;
}

const char *emb_model_prompt(const emb_model *model, const char *name) {
    return model ? emb_model_files_prompt(model->files, name) : NULL;
}

/* ---- the tokenizer by itself ----------------------------------------------------------------- */

struct emb_tokenizer_handle {
    emb_tokenizer tokenizer;
    uint64_t bytes; /* of the arena that this struct is in */
};

static emb_tokenizer_handle *handle_layout(emb_tokenizer *tokenizer, const emb_model *model,
                                           emb_ledger *ledger) {
    emb_tokenizer_handle *handle = emb_ledger_take(ledger, 1, sizeof *handle);
    emb_text_layout(tokenizer, &model->text, ledger);
    return handle;
}

emb_status emb_tokenizer_open(emb_tokenizer_handle **out, const emb_model *model,
                              emb_error *error) {
    if (!out || !model)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "tokenizer and model must not be NULL");
    *out = NULL;
    emb_ledger ledger;
    emb_tokenizer tokenizer;
    emb_ledger_init(&ledger, NULL, 0);
    handle_layout(&tokenizer, model, &ledger);
    uint64_t bytes = ledger.bytes;
    void *arena = ledger.overflow ? NULL : emb_arena_open(bytes);
    if (!arena)
        return emb_error_set(error, EMB_NO_MEMORY, "no memory for the tokenizer's %llu bytes",
                             (unsigned long long)bytes);
    emb_ledger_init(&ledger, arena, bytes);
    emb_tokenizer_handle *handle = handle_layout(&tokenizer, model, &ledger);
    *handle = (emb_tokenizer_handle){tokenizer, bytes};
    emb_status status = emb_text_load(&handle->tokenizer, &model->text, error);
    if (status != EMB_OK) {
        emb_tokenizer_close(handle);
        return status;
    }
    emb_text_begin(&handle->tokenizer);
    *out = handle;
    return EMB_OK;
}

void emb_tokenizer_close(emb_tokenizer_handle *tokenizer) {
    if (tokenizer) emb_arena_close(tokenizer, tokenizer->bytes);
}

emb_status emb_tokenize(emb_tokenizer_handle *tokenizer, const char *bytes, size_t length,
                        uint32_t flags, uint32_t *ids, size_t capacity, size_t *used, size_t *count,
                        uint32_t *done, emb_error *error) {
    if (!tokenizer || (!bytes && length) || !ids || !used || !count || !done)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "tokenize: no parameter but error may be NULL");
    if (capacity == 0)
        return emb_error_set(error, EMB_INVALID_ARGUMENT, "tokenize: no room for ids");
    if (flags & EMB_PIECE_FIRST) emb_text_begin(&tokenizer->tokenizer);
    bool finished = false;
    emb_text_feed(&tokenizer->tokenizer, bytes ? bytes : "", length, flags & EMB_PIECE_LAST, ids,
                  capacity, used, count, &finished);
    *done = finished;
    return EMB_OK;
}

void emb_model_specials(emb_specials *out, const emb_model *model) {
    if (!out) return;
    memset(out, 0, sizeof *out);
    if (model) *out = model->text.specials;
}
