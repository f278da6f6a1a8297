/* tokenizer_json.c - the part of tokenizer.json that families share: which family it is, added
 * tokens, the special tokens around a text, and the vocabulary if it is an object.
 *
 * Classes that set themselves up take only the vocabulary and the added tokens from it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "text/family.h"

#define PIECES_MAX   (EMB_SPECIALS_MAX + 1) /* one is the text */
#define SPECIALS_MAX 16

/* What TemplateProcessing says, until names can be matched to ids. */
typedef struct template_pieces {
    uint32_t count, specials;
    bool sequence[PIECES_MAX];
    char names[PIECES_MAX][EMB_TEXT_ADDED_BYTES_MAX];
    struct {
        char name[EMB_TEXT_ADDED_BYTES_MAX];
        uint32_t id;
    } special[SPECIALS_MAX];
} template_pieces;

static emb_status unsupported(emb_error *error, const char *key, const char *found,
                              const char *wanted) {
    return emb_error_set(error, EMB_UNSUPPORTED, "%s is \"%s\"; only \"%s\" is supported", key,
                         found, wanted);
}

/* For a class that sets itself up the tokens are ordered by id, and read only if
 * tokenizer_config.json does not list them. */
static emb_status read_added_tokens(emb_text_json *file, emb_text_reading *reading,
                                    emb_error *error) {
    bool present;
    EMB_TRY(
        emb_text_json_open_container(file, EMB_JSON_ARRAY_BEGIN, &present, "added_tokens", error));
    while (present) {
        emb_text_added token = {0};
        emb_json_event event;
        EMB_TRY(emb_json_next(&file->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) break;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "added_tokens must hold objects");
        EMB_TRY(emb_text_read_token_object(file, &token, false, error));
        if (!reading->builder)
            EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_FILE, 0, error));
        else if (!reading->has_decoder)
            EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_LISTED, token.id, error));
    }
    return EMB_OK;
}

/* ---- post-processor -------------------------------------------------------------------------- */

/* {"SpecialToken": {"id": "[CLS]", ...}} or {"Sequence": {"id": "A", ...}} */
static emb_status read_piece(emb_text_json *file, template_pieces *pieces, emb_error *error) {
    char key[64];
    bool end;
    if (pieces->count == PIECES_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "post_processor.single has too many parts");
    uint32_t at = pieces->count++;
    EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
    pieces->sequence[at] = !end && strcmp(key, "Sequence") == 0;
    while (!end) {
        EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL,
                                             "a part of post_processor.single", error));
        for (;;) {
            EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
            if (end) break;
            if (strcmp(key, "id") == 0)
                EMB_TRY(emb_json_next_string(&file->json, pieces->names[at],
                                             sizeof pieces->names[at], key, error));
            else
                EMB_TRY(emb_json_skip(&file->json, error));
        }
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
    }
    return EMB_OK;
}

static emb_status read_single(emb_text_json *file, template_pieces *pieces, emb_error *error) {
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_ARRAY_BEGIN, NULL, "post_processor.single",
                                         error));
    for (;;) {
        emb_json_event event;
        EMB_TRY(emb_json_next(&file->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "post_processor.single must hold objects");
        EMB_TRY(read_piece(file, pieces, error));
    }
}

/* "ids": [101] */
static emb_status read_one_id(emb_text_json *file, uint32_t *id, const char *name,
                              emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_ARRAY_BEGIN, NULL, "ids", error));
    EMB_TRY(emb_text_json_id(file, id, name, error));
    EMB_TRY(emb_json_next(&file->json, &event, error));
    if (event == EMB_JSON_ARRAY_END) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "post_processor.special_tokens: \"%s\" stands for several ids", name);
}

static emb_status read_specials(emb_text_json *file, template_pieces *pieces, emb_error *error) {
    char key[64];
    bool end;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL,
                                         "post_processor.special_tokens", error));
    for (;;) {
        if (pieces->specials == SPECIALS_MAX)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "post_processor.special_tokens has more than %u entries",
                                 SPECIALS_MAX - 1);
        uint32_t at = pieces->specials;
        char *name = pieces->special[at].name;
        EMB_TRY(emb_text_json_key(file, name, sizeof pieces->special[at].name, &end, error));
        if (end) return EMB_OK;
        EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL,
                                             "a part of post_processor.special_tokens", error));
        pieces->special[at].id = UINT32_MAX;
        for (;;) {
            EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
            if (end) break;
            if (strcmp(key, "ids") == 0)
                EMB_TRY(read_one_id(file, &pieces->special[at].id, name, error));
            else
                EMB_TRY(emb_json_skip(&file->json, error));
        }
        pieces->specials++;
    }
}

/* ["[SEP]", 102] */
static emb_status read_pair(emb_text_json *file, uint32_t *id, const char *key, emb_error *error) {
    char name[EMB_TEXT_ADDED_BYTES_MAX];
    emb_json_event event;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_ARRAY_BEGIN, NULL, key, error));
    EMB_TRY(emb_json_next_string(&file->json, name, sizeof name, key, error));
    EMB_TRY(emb_text_json_id(file, id, name, error));
    EMB_TRY(emb_json_next(&file->json, &event, error));
    if (event == EMB_JSON_ARRAY_END) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "post_processor.%s must be a token and its id", key);
}

static emb_status piece_id(const template_pieces *pieces, uint32_t at, uint32_t *id,
                           emb_error *error) {
    for (uint32_t i = 0; i < pieces->specials; i++) {
        if (strcmp(pieces->special[i].name, pieces->names[at]) != 0) continue;
        *id = pieces->special[i].id;
        if (*id != UINT32_MAX) return EMB_OK;
    }
    return emb_error_set(error, EMB_BAD_FILE,
                         "post_processor.special_tokens gives no id for \"%s\"", pieces->names[at]);
}

/* Tokens, the text, tokens. */
static emb_status take_template(emb_specials *out, const template_pieces *pieces,
                                emb_error *error) {
    uint32_t texts = 0;
    *out = (emb_specials){0};
    for (uint32_t at = 0; at < pieces->count; at++) {
        if (pieces->sequence[at]) {
            texts++;
            continue;
        }
        if (out->before + out->after == EMB_SPECIALS_MAX) break; /* no text in it */
        EMB_TRY(piece_id(pieces, at, &out->ids[out->before + out->after], error));
        ++*(texts ? &out->after : &out->before);
    }
    if (texts == 1) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "post_processor.single must hold the text once, among its tokens");
}

static emb_status read_post_processor(emb_text_json *file, emb_text_spec *spec, emb_error *error) {
    template_pieces pieces = {0};
    emb_specials pair = {1, 1, {EMB_TEXT_ID_NONE, EMB_TEXT_ID_NONE}};
    char key[64], type[64] = "null";
    bool present, end = false;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, &present, "post_processor",
                                         error));
    while (present) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&file->json, type, sizeof type, key, error));
        else if (strcmp(key, "single") == 0)
            EMB_TRY(read_single(file, &pieces, error));
        else if (strcmp(key, "special_tokens") == 0)
            EMB_TRY(read_specials(file, &pieces, error));
        else if (strcmp(key, "cls") == 0)
            EMB_TRY(read_pair(file, &pair.ids[0], key, error));
        else if (strcmp(key, "sep") == 0)
            EMB_TRY(read_pair(file, &pair.ids[1], key, error));
        else
            EMB_TRY(emb_json_skip(&file->json, error));
    }
    spec->specials = pair;
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        if (pair.ids[0] != EMB_TEXT_ID_NONE && pair.ids[1] != EMB_TEXT_ID_NONE) return EMB_OK;
        return emb_error_set(error, EMB_BAD_FILE, "post_processor must have \"cls\" and \"sep\"");
    }
    if (strcmp(type, "TemplateProcessing") != 0)
        return unsupported(error, "post_processor.type", type,
                           "TemplateProcessing, BertProcessing or RobertaProcessing");
    return take_template(&spec->specials, &pieces, error);
}

/* ---- the whole file -------------------------------------------------------------------------- */

static emb_status read_part(emb_text_json *file, emb_text_reading *reading, const char *key,
                            emb_error *error) {
    const emb_text_family *family = reading->spec->family;
    bool whole = !reading->builder;
    if (strcmp(key, "added_tokens") == 0) return read_added_tokens(file, reading, error);
    if (whole && strcmp(key, "post_processor") == 0)
        return read_post_processor(file, reading->spec, error);
    if (strcmp(key, "model") == 0 ||
        (whole && (strcmp(key, "normalizer") == 0 || strcmp(key, "pre_tokenizer") == 0)))
        return family->read_part(reading, file, key, error);
    return emb_json_skip(&file->json, error);
}

static emb_status read_file(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    bool seen[4] = {false, false, false, false}, end;
    static const char *const needed[4] = {"model", "normalizer", "pre_tokenizer", "post_processor"};
    char key[64];
    emb_json_event event;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error));
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        for (uint32_t i = 0; i < 4; i++) seen[i] |= strcmp(key, needed[i]) == 0;
        EMB_TRY(read_part(file, reading, key, error));
        /* nothing after it is counted, and the vocabulary, which takes longest, may follow */
        if (reading->counts && strcmp(key, "added_tokens") == 0) return EMB_OK;
    }
    for (uint32_t i = 0; i < (reading->builder ? 1 : 4); i++)
        if (!seen[i])
            return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", needed[i]);
    return emb_json_next(&file->json, &event, error); /* nothing may follow */
}

emb_status emb_text_read_json(emb_text_reading *reading, emb_error *error) {
    emb_text_json file;
    EMB_TRY(emb_text_json_open(&file, reading->spec->path, error));
    return emb_text_json_close(&file, read_file(&file, reading, error), error);
}

/* ---- the family ------------------------------------------------------------------------------ */

/* Before any other part: the family reads the parts that come before the model. */
static emb_status read_family(emb_text_json *file, const emb_text_family **out, emb_error *error) {
    char key[64], type[64] = "", known[256] = "";
    bool end;
    EMB_TRY(emb_text_json_seek(file, "the file", "model", error));
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, "model", error));
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0) {
            EMB_TRY(emb_json_next_string(&file->json, type, sizeof type, key, error));
            break;
        }
        EMB_TRY(emb_json_skip(&file->json, error));
    }
    for (uint32_t i = 0; emb_text_families[i]; i++) {
        *out = emb_text_families[i];
        if (strcmp((*out)->model, type) == 0) return EMB_OK;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s\"%s\"", used ? " and " : "", (*out)->model);
    }
    return emb_error_set(error, EMB_UNSUPPORTED, "model.type is \"%s\"; only %s is supported", type,
                         known);
}

emb_status emb_text_find_family(emb_text_reading *reading, emb_error *error) {
    emb_text_json file;
    EMB_TRY(emb_text_json_open(&file, reading->spec->path, error));
    emb_status status = read_family(&file, &reading->spec->family, error);
    return emb_text_json_close(&file, status, error);
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

static emb_status read_entries(emb_text_json *file, emb_text_entry take, void *user,
                               emb_error *error) {
    emb_json *json = &file->json;
    char entry[EMB_TEXT_ENTRY_BYTES_MAX];
    EMB_TRY(emb_text_json_seek(file, "the file", "model", error));
    EMB_TRY(emb_text_json_seek(file, "model", "vocab", error));
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, "model.vocab", error));
    for (;;) {
        emb_json_event event;
        size_t length;
        uint32_t id = 0;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        EMB_TRY(emb_json_string(json, entry, sizeof entry, &length, error));
        EMB_TRY(emb_text_json_id(file, &id, entry, error));
        EMB_TRY(take(user, (const uint8_t *)entry, (uint32_t)length, id, error));
    }
}

emb_status emb_text_json_entries(const char *path, emb_text_entry take, void *user,
                                 emb_error *error) {
    emb_text_json file;
    EMB_TRY(emb_text_json_open(&file, path, error));
    return emb_text_json_close(&file, read_entries(&file, take, user, error), error);
}
