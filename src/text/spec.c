/* spec.c - finds a model's tokenizer file, and matches the tokens it names to ids.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/spec.h"

#include <stdio.h>
#include <unistd.h>

#define ID_NONE           UINT32_MAX
#define RECORDS_BYTES_MAX (1u << 24) /* what a slot of the index can point into */

static bool is_white(const char *bytes) {
    return emb_text_flags(emb_text_utf8_decode((const uint8_t *)bytes)) & EMB_TEXT_WHITE;
}

emb_status emb_text_spec_add(emb_text_spec *spec, const char *content, int left_strip,
                             int right_strip, int single_word, int normalized, emb_error *error) {
    size_t length = strlen(content), tail = length;
    if (length == 0) return EMB_OK;
    if (length >= EMB_TEXT_ADDED_BYTES_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the added token \"%s\" is longer than %d bytes", content,
                             EMB_TEXT_ADDED_BYTES_MAX - 1);
    do tail--;
    while (tail > 0 && (content[tail] & 0xC0) == 0x80);
    if (normalized && (is_white(content) || is_white(content + tail)))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the added token \"%s\" has white space at an end: remove it, or set "
                             "\"normalized\": false",
                             content);
    uint32_t at = 0;
    while (at < spec->added_count && strcmp(spec->added[at].bytes, content) != 0) at++;
    if (at == EMB_TEXT_ADDED_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "there are more than %d added tokens",
                             EMB_TEXT_ADDED_MAX);
    if (at == spec->added_count) spec->added_count++;
    memcpy(spec->added[at].bytes, content, length + 1);
    spec->added[at].length = (uint32_t)length;
    spec->added[at].id = ID_NONE;
    spec->added[at].left_strip = (uint8_t)left_strip;
    spec->added[at].right_strip = (uint8_t)right_strip;
    spec->added[at].single_word = (uint8_t)single_word;
    spec->added[at].normalized = (uint8_t)normalized;
    return EMB_OK;
}

/* ---- the vocabulary, counted and searched for the tokens named ------------------------------- */

typedef struct count_context {
    emb_text_spec *spec;
    const emb_text_names *names;
} count_context;

static void match_name(uint32_t *id_out, const char *name, const uint8_t *bytes, uint32_t length,
                       uint32_t id) {
    if (name[0] && strlen(name) == length && memcmp(name, bytes, length) == 0) *id_out = id;
}

static emb_status count_entry(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                              emb_error *error) {
    count_context *context = user;
    emb_text_spec *spec = context->spec;
    spec->vocabulary++;
    spec->vocabulary_bytes += length;
    if (id >= spec->ids_end) spec->ids_end = id + 1;
    if (emb_text_vocabulary_records_bytes(spec->vocabulary, spec->vocabulary_bytes) >
        RECORDS_BYTES_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "the vocabulary is larger than %u MiB",
                             RECORDS_BYTES_MAX >> 20);
    match_name(&spec->unknown_id, context->names->unknown, bytes, length, id);
    match_name(&spec->before_id, context->names->before, bytes, length, id);
    match_name(&spec->after_id, context->names->after, bytes, length, id);
    for (uint32_t i = 0; i < spec->added_count; i++)
        match_name(&spec->added[i].id, spec->added[i].bytes, bytes, length, id);
    return EMB_OK;
}

static emb_status require(uint32_t id, const char *what, const char *name, const char *path,
                          emb_error *error) {
    if (id != ID_NONE) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "%s: %s \"%s\" is not in the vocabulary", path, what,
                         name);
}

static emb_status resolve(emb_text_spec *spec, const emb_text_names *names, emb_error *error) {
    count_context context = {spec, names};
    EMB_TRY(emb_text_source_entries(spec->path, spec->is_json, count_entry, &context, error));
    EMB_TRY(require(spec->unknown_id, "the unknown token", names->unknown, spec->path, error));
    EMB_TRY(require(spec->before_id, "the first token", names->before, spec->path, error));
    EMB_TRY(require(spec->after_id, "the last token", names->after, spec->path, error));
    uint32_t kept = 0, next_id = spec->vocabulary;
    for (uint32_t i = 0; i < spec->added_count; i++) {
        if (spec->added[i].id == ID_NONE) {
            if (!spec->is_json) continue; /* a default that this vocabulary does not have */
            /* the reference numbers what is not in the vocabulary itself, whatever the file says */
            spec->added[i].id = next_id++;
        }
        if (spec->added[i].id >= spec->ids_end) spec->ids_end = spec->added[i].id + 1;
        spec->added[kept++] = spec->added[i];
    }
    spec->added_count = kept;
    if (spec->before_id >= spec->ids_end || spec->after_id >= spec->ids_end)
        return emb_error_set(error, EMB_BAD_FILE,
                             "%s: post_processor names ids beyond the vocabulary's %u", spec->path,
                             spec->ids_end);
    return EMB_OK;
}

static bool try_path(emb_text_spec *out, const char *directory, const char *name,
                     emb_status *status, emb_error *error) {
    int length = snprintf(out->path, sizeof out->path, "%s/%s", directory, name);
    *status = EMB_OK;
    if (length < 0 || (size_t)length >= sizeof out->path) {
        *status = emb_error_set(error, EMB_INVALID_ARGUMENT,
                                "%.100s...: the path is longer than %d bytes", directory,
                                EMB_TEXT_PATH_MAX - 1);
        return true;
    }
    return access(out->path, F_OK) == 0;
}

emb_status emb_text_describe(emb_text_spec *out, const char *directory, emb_error *error) {
    emb_text_names names = {0};
    emb_status status;
    memset(out, 0, sizeof *out);
    out->unknown_id = out->before_id = out->after_id = ID_NONE;
    if (try_path(out, directory, "tokenizer.json", &status, error)) {
        EMB_TRY(status);
        out->is_json = 1;
        EMB_TRY(emb_text_describe_json(out, &names, error));
    } else if (try_path(out, directory, "vocab.txt", &status, error)) {
        EMB_TRY(status);
        EMB_TRY(emb_text_describe_lines(out, &names, directory, error));
    } else {
        return emb_error_set(error, EMB_NOT_FOUND,
                             "%s: neither tokenizer.json nor vocab.txt is there", directory);
    }
    return resolve(out, &names, error);
}
