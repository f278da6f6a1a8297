/* describe.c - what tokenizer.json says, checked: everything but BERT's WordPiece is refused.
 *
 * BertTokenizer and MPNetTokenizer, who build their own normalizer and so on, only find the
 * vocabulary and the added tokens here; spec.c counts the vocabulary.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/spec.h"

#define PIECES_MAX   (EMB_SPECIALS_MAX + 1) /* the text is one */
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

typedef struct normalizer_keys {
    char type[64];
    int clean, chinese, strip, lower;
} normalizer_keys;

/* Reads an object whose beginning was read. Of a Sequence of one that one counts; *inner: it is
 * inside such a one. */
static emb_status read_normalizer_keys(emb_text_source *source, normalizer_keys *out, bool *inner,
                                       emb_error *error) {
    char key[64];
    bool end;
    *inner = false;
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, out->type, sizeof out->type, key, error));
        else if (strcmp(key, "clean_text") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->clean, -1, key, error));
        else if (strcmp(key, "handle_chinese_chars") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->chinese, -1, key, error));
        else if (strcmp(key, "strip_accents") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->strip, -2, key, error));
        else if (strcmp(key, "lowercase") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->lower, -1, key, error));
        else if (strcmp(key, "normalizers") == 0 && strcmp(out->type, "Sequence") == 0) {
            *inner = true;
            return EMB_OK;
        } else {
            EMB_TRY(emb_json_skip(&source->json, error));
        }
    }
}

/* The list of a Sequence comes next: one normalizer, and nothing behind it. */
static emb_status read_sequence_of_one(emb_text_source *source, normalizer_keys *out,
                                       emb_error *error) {
    emb_json_event first, after, end;
    bool inner;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, NULL,
                                           "normalizer.normalizers", error));
    EMB_TRY(emb_json_next(&source->json, &first, error));
    if (first == EMB_JSON_OBJECT_BEGIN) {
        EMB_TRY(read_normalizer_keys(source, out, &inner, error));
        EMB_TRY(emb_json_next(&source->json, &after, error));
        if (after == EMB_JSON_ARRAY_END && !inner) {
            EMB_TRY(emb_json_next(&source->json, &end, error));
            if (end == EMB_JSON_OBJECT_END) return EMB_OK;
        }
    }
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "normalizer: a Sequence of other than one BertNormalizer is not "
                         "supported");
}

static emb_status read_normalizer(emb_text_source *source, emb_text_spec *spec, emb_error *error) {
    normalizer_keys keys = {"", 1, 1, -2, 1};
    bool present, inner;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, &present, "normalizer",
                                           error));
    if (!present) {
        spec->clean_text = spec->chinese_chars = spec->lowercase = spec->strip_accents = 0;
        return EMB_OK;
    }
    EMB_TRY(read_normalizer_keys(source, &keys, &inner, error));
    if (inner) EMB_TRY(read_sequence_of_one(source, &keys, error));
    if (strcmp(keys.type, "BertNormalizer") != 0)
        return unsupported(error, "normalizer.type", keys.type, "BertNormalizer");
    spec->clean_text = (uint32_t)keys.clean;
    spec->chinese_chars = (uint32_t)keys.chinese;
    spec->lowercase = (uint32_t)keys.lower;
    spec->strip_accents = (uint32_t)(keys.strip == -2 ? keys.lower : keys.strip);
    return EMB_OK;
}

static emb_status read_pre_tokenizer(emb_text_source *source, emb_error *error) {
    char key[64], type[64] = "null";
    bool present, end = false;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, &present, "pre_tokenizer",
                                           error));
    while (present) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, type, sizeof type, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    if (strcmp(type, "BertPreTokenizer") != 0)
        return unsupported(error, "pre_tokenizer.type", type, "BertPreTokenizer");
    return EMB_OK;
}

static emb_status read_model(emb_text_source *source, emb_text_reading *reading, emb_error *error) {
    emb_text_spec *spec = reading->spec;
    char key[64], type[64] = "", unknown[EMB_TEXT_ADDED_BYTES_MAX] = "";
    char prefix[sizeof spec->continuing_prefix] = "##";
    uint64_t chars = 100;
    bool end;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "model", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, type, sizeof type, key, error));
        else if (strcmp(key, "unk_token") == 0)
            EMB_TRY(emb_json_next_string(&source->json, unknown, sizeof unknown, key, error));
        else if (strcmp(key, "continuing_subword_prefix") == 0)
            EMB_TRY(emb_json_next_string(&source->json, prefix, sizeof prefix, key, error));
        else if (strcmp(key, "max_input_chars_per_word") == 0)
            EMB_TRY(emb_json_next_u64(&source->json, &chars, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    if (strcmp(type, "WordPiece") != 0) return unsupported(error, "model.type", type, "WordPiece");
    if (reading->kind != EMB_TEXT_KIND_FILE) return EMB_OK;
    if (chars < 1 || chars > EMB_TEXT_WORD_CHARS_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "model.max_input_chars_per_word must be 1 to %u",
                             EMB_TEXT_WORD_CHARS_MAX);
    spec->word_chars_max = (uint32_t)chars;
    memcpy(spec->continuing_prefix, prefix, sizeof prefix);
    memcpy(reading->unknown, unknown, sizeof unknown);
    return EMB_OK;
}

/* Of a class that builds itself the tokens count by their ids, and only where
 * tokenizer_config.json does not list them. */
static emb_status read_added_tokens(emb_text_source *source, emb_text_reading *reading,
                                    emb_error *error) {
    bool present, file = reading->kind == EMB_TEXT_KIND_FILE;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, &present, "added_tokens",
                                           error));
    while (present) {
        emb_text_added token = {0};
        emb_json_event event;
        EMB_TRY(emb_json_next(&source->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) break;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "added_tokens must hold objects");
        EMB_TRY(emb_text_read_token_object(source, &token, false, error));
        if (file)
            EMB_TRY(emb_text_reading_add(reading, &token, EMB_TEXT_RANK_FILE, 0, error));
        else if (!reading->has_decoder)
            EMB_TRY(emb_text_reading_add(reading, &token, EMB_TEXT_RANK_LISTED, token.id, error));
    }
    return EMB_OK;
}

/* ---- post-processor -------------------------------------------------------------------------- */

/* {"SpecialToken": {"id": "[CLS]", ...}} or {"Sequence": {"id": "A", ...}} */
static emb_status read_piece(emb_text_source *source, template_pieces *pieces, emb_error *error) {
    char key[64];
    bool end;
    if (pieces->count == PIECES_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "post_processor.single has too many parts");
    uint32_t at = pieces->count++;
    EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
    pieces->sequence[at] = !end && strcmp(key, "Sequence") == 0;
    while (!end) {
        EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL,
                                               "a part of post_processor.single", error));
        for (;;) {
            EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
            if (end) break;
            if (strcmp(key, "id") == 0)
                EMB_TRY(emb_json_next_string(&source->json, pieces->names[at],
                                             sizeof pieces->names[at], key, error));
            else
                EMB_TRY(emb_json_skip(&source->json, error));
        }
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
    }
    return EMB_OK;
}

static emb_status read_single(emb_text_source *source, template_pieces *pieces, emb_error *error) {
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, NULL,
                                           "post_processor.single", error));
    for (;;) {
        emb_json_event event;
        EMB_TRY(emb_json_next(&source->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "post_processor.single must hold objects");
        EMB_TRY(read_piece(source, pieces, error));
    }
}

/* "ids": [101] */
static emb_status read_one_id(emb_text_source *source, uint32_t *id, const char *name,
                              emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, NULL, "ids", error));
    EMB_TRY(emb_text_source_id(source, id, name, error));
    EMB_TRY(emb_json_next(&source->json, &event, error));
    if (event == EMB_JSON_ARRAY_END) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "post_processor.special_tokens: \"%s\" stands for several ids", name);
}

static emb_status read_specials(emb_text_source *source, template_pieces *pieces,
                                emb_error *error) {
    char key[64];
    bool end;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL,
                                           "post_processor.special_tokens", error));
    for (;;) {
        if (pieces->specials == SPECIALS_MAX)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "post_processor.special_tokens has more than %u entries",
                                 SPECIALS_MAX - 1);
        uint32_t at = pieces->specials;
        char *name = pieces->special[at].name;
        EMB_TRY(emb_text_source_key(source, name, sizeof pieces->special[at].name, &end, error));
        if (end) return EMB_OK;
        EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL,
                                               "a part of post_processor.special_tokens", error));
        pieces->special[at].id = UINT32_MAX;
        for (;;) {
            EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
            if (end) break;
            if (strcmp(key, "ids") == 0)
                EMB_TRY(read_one_id(source, &pieces->special[at].id, name, error));
            else
                EMB_TRY(emb_json_skip(&source->json, error));
        }
        pieces->specials++;
    }
}

/* ["[SEP]", 102] */
static emb_status read_pair(emb_text_source *source, uint32_t *id, const char *key,
                            emb_error *error) {
    char name[EMB_TEXT_ADDED_BYTES_MAX];
    emb_json_event event;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, NULL, key, error));
    EMB_TRY(emb_json_next_string(&source->json, name, sizeof name, key, error));
    EMB_TRY(emb_text_source_id(source, id, name, error));
    EMB_TRY(emb_json_next(&source->json, &event, error));
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
        if (out->before + out->after == EMB_SPECIALS_MAX) break; /* without a text */
        EMB_TRY(piece_id(pieces, at, &out->ids[out->before + out->after], error));
        ++*(texts ? &out->after : &out->before);
    }
    if (texts == 1) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "post_processor.single must hold the text once, among its tokens");
}

static emb_status read_post_processor(emb_text_source *source, emb_text_spec *spec,
                                      emb_error *error) {
    template_pieces pieces = {0};
    emb_specials pair = {1, 1, {EMB_TEXT_ID_NONE, EMB_TEXT_ID_NONE}};
    char key[64], type[64] = "null";
    bool present, end = false;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, &present,
                                           "post_processor", error));
    while (present) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, type, sizeof type, key, error));
        else if (strcmp(key, "single") == 0)
            EMB_TRY(read_single(source, &pieces, error));
        else if (strcmp(key, "special_tokens") == 0)
            EMB_TRY(read_specials(source, &pieces, error));
        else if (strcmp(key, "cls") == 0)
            EMB_TRY(read_pair(source, &pair.ids[0], key, error));
        else if (strcmp(key, "sep") == 0)
            EMB_TRY(read_pair(source, &pair.ids[1], key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
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

static emb_status read_part(emb_text_source *source, emb_text_reading *reading, const char *key,
                            emb_error *error) {
    bool file = reading->kind == EMB_TEXT_KIND_FILE;
    if (strcmp(key, "model") == 0) return read_model(source, reading, error);
    if (strcmp(key, "added_tokens") == 0) return read_added_tokens(source, reading, error);
    if (file && strcmp(key, "normalizer") == 0)
        return read_normalizer(source, reading->spec, error);
    if (file && strcmp(key, "pre_tokenizer") == 0) return read_pre_tokenizer(source, error);
    if (file && strcmp(key, "post_processor") == 0)
        return read_post_processor(source, reading->spec, error);
    return emb_json_skip(&source->json, error);
}

static emb_status read_file(emb_text_source *source, emb_text_reading *reading, emb_error *error) {
    bool seen[4] = {false, false, false, false}, end;
    static const char *const needed[4] = {"model", "normalizer", "pre_tokenizer", "post_processor"};
    char key[64];
    emb_json_event event;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        for (uint32_t i = 0; i < 4; i++) seen[i] |= strcmp(key, needed[i]) == 0;
        EMB_TRY(read_part(source, reading, key, error));
        /* what follows is not counted; the vocabulary among it takes longest */
        if (reading->counts && strcmp(key, "added_tokens") == 0) return EMB_OK;
    }
    for (uint32_t i = 0; i < (reading->kind == EMB_TEXT_KIND_FILE ? 4 : 1); i++)
        if (!seen[i])
            return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", needed[i]);
    return emb_json_next(&source->json, &event, error); /* nothing may follow */
}

emb_status emb_text_describe_json(emb_text_reading *reading, emb_error *error) {
    emb_text_source source;
    EMB_TRY(emb_text_source_open(&source, reading->spec->path, error));
    return emb_text_source_close(&source, read_file(&source, reading, error), error);
}
