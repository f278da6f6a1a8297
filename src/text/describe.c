/* describe.c - from a tokenizer's files to its spec: finds and reads them, and gives every token
 * its id.
 *
 * Order of reading: the class that applies, the family, tokenizer_config.json and the files beside
 * it, tokenizer.json, the vocabulary.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text/family.h"

const emb_text_family *const emb_text_families[] = {EMB_TEXT_FAMILIES, NULL};

/* ---- the vocabulary -------------------------------------------------------------------------- */

static uint32_t specials_of(const emb_text_spec *spec) {
    return spec->specials.before + spec->specials.after;
}

void emb_text_reading_entry(emb_text_reading *reading, const uint8_t *bytes, uint32_t length,
                            uint32_t id) {
    emb_text_spec *spec = reading->spec;
    spec->vocabulary++;
    /* an empty entry, as from a blank line at the end of vocab.txt, occurs in no text */
    if (length && id >= spec->ids_end) spec->ids_end = id + 1;
    for (uint32_t i = 0; reading->builder && i < specials_of(spec); i++) {
        const emb_text_added *token = &reading->named[reading->builder->around[i]];
        if (token->length && token->length == length && memcmp(token->bytes, bytes, length) == 0)
            spec->specials.ids[i] = id;
    }
    emb_text_added_match(spec, bytes, length, id);
}

emb_status emb_text_reading_require(const emb_text_reading *reading, uint32_t id, const char *what,
                                    const char *name, emb_error *error) {
    if (id != EMB_TEXT_ID_NONE) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "%s: %s \"%s\" is not in the vocabulary",
                         reading->spec->path, what, name);
}

static emb_status resolve(emb_text_reading *reading, emb_error *error) {
    emb_text_spec *spec = reading->spec;
    emb_text_added_unite(spec);
    EMB_TRY(spec->family->read_vocabulary(reading, error));
    for (uint32_t i = 0; reading->builder && i < specials_of(spec); i++)
        EMB_TRY(emb_text_reading_require(reading, spec->specials.ids[i],
                                         i < spec->specials.before ? "the first token"
                                                                   : "the last token",
                                         reading->named[reading->builder->around[i]].bytes, error));
    emb_text_added_number(spec, reading->hints->rows);
    for (uint32_t i = 0; i < specials_of(spec); i++)
        if (spec->specials.ids[i] >= spec->ids_end)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "%s: post_processor names ids beyond the vocabulary's %u",
                                 spec->path, spec->ids_end);
    return EMB_OK;
}

/* ---- the files ------------------------------------------------------------------------------- */

static bool try_path(emb_text_spec *spec, const char *directory, const char *name) {
    int length = snprintf(spec->path, sizeof spec->path, "%s/%s", directory, name);
    return length >= 0 && (size_t)length < sizeof spec->path && access(spec->path, F_OK) == 0;
}

/* Finds tokenizer.json, or the vocabulary used in its place. */
static emb_status find_file(emb_text_spec *spec, const char *directory, emb_error *error) {
    spec->is_json = try_path(spec, directory, "tokenizer.json");
    if (spec->is_json) return EMB_OK;
    if (!spec->family)
        return emb_error_set(error, EMB_NOT_FOUND,
                             "%s: tokenizer.json is not there, which a PreTrainedTokenizerFast is "
                             "read from",
                             directory);
    if (try_path(spec, directory, spec->family->vocabulary)) return EMB_OK;
    return emb_error_set(error, EMB_NOT_FOUND, "%s: neither tokenizer.json nor %s is there",
                         directory, spec->family->vocabulary);
}

/* The defaults of a class that sets itself up, before any file is read. */
static void set_defaults(emb_text_reading *reading) {
    const emb_text_class *builder = reading->builder;
    emb_text_spec *spec = reading->spec;
    spec->family->defaults(reading);
    if (!builder) return;
    spec->specials = (emb_specials){.before = builder->before, .after = builder->after};
    for (uint32_t i = 0; i < specials_of(spec); i++) spec->specials.ids[i] = EMB_TEXT_ID_NONE;
    for (uint32_t i = 0; i < EMB_TEXT_NAMED; i++)
        emb_text_set_bytes(&reading->named[i], builder->named[i]);
}

/* Reads everything but the vocabulary. */
static emb_status read_files(emb_text_reading *reading, const char *directory, emb_error *error) {
    emb_text_spec *spec = reading->spec;
    if (strlen(directory) + sizeof "/special_tokens_map.json" > sizeof spec->path)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%.100s...: the path is longer than %d bytes", directory,
                             EMB_TEXT_PATH_MAX - 1);
    EMB_TRY(emb_text_find_class(reading, directory, error));
    EMB_TRY(find_file(spec, directory, error));
    if (!spec->family) EMB_TRY(emb_text_find_family(reading, error));
    set_defaults(reading);
    EMB_TRY(emb_text_read_config(reading, directory, error));
    if (spec->is_json) EMB_TRY(emb_text_read_json(reading, error));
    for (uint32_t i = 0; i < EMB_TEXT_NAMED; i++)
        EMB_TRY(emb_text_added_put(reading, &reading->named[i], EMB_TEXT_RANK_NAMED, i, error));
    return EMB_OK;
}

emb_status emb_text_count_added(uint32_t *count, const char *directory, const emb_text_hints *hints,
                                emb_error *error) {
    emb_text_spec spec = {0};
    emb_text_reading reading = {.spec = &spec, .hints = hints, .counts = true};
    emb_status status = read_files(&reading, directory, error);
    *count = reading.seen;
    return status;
}

emb_status emb_text_describe(emb_text_spec *out, emb_text_added *added, uint32_t capacity,
                             const char *directory, const emb_text_hints *hints, emb_error *error) {
    emb_text_reading reading = {.spec = out, .hints = hints, .capacity = capacity};
    memset(out, 0, sizeof *out);
    out->added = added;
    EMB_TRY(read_files(&reading, directory, error));
    if (reading.seen != capacity)
        return emb_error_set(error, EMB_BAD_FILE, "%s: it changed while it was being read",
                             out->path);
    return resolve(&reading, error);
}
