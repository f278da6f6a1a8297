/* describe.c - what tokenizer.json says, checked: everything but BERT's WordPiece is refused.
 *
 * vocab.txt is read in vocab_txt.c; spec.c counts the vocabulary of either.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/spec.h"

#define TEMPLATE_PIECES 4
#define SPECIALS_MAX    16

/* What TemplateProcessing says, until names can be matched to ids. */
typedef struct template_pieces {
    uint32_t count, specials;
    bool sequence[TEMPLATE_PIECES];
    char names[TEMPLATE_PIECES][EMB_TEXT_ADDED_BYTES_MAX];
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

static emb_status read_normalizer(emb_text_source *source, emb_text_spec *spec, emb_error *error) {
    char key[64], type[64] = "";
    int clean = 1, chinese = 1, strip = -2, lower = 1;
    bool present, end;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, &present, "normalizer",
                                           error));
    if (!present) return EMB_OK; /* the spec says no to everything */
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, type, sizeof type, key, error));
        else if (strcmp(key, "clean_text") == 0)
            EMB_TRY(emb_text_source_flag(source, &clean, -1, key, error));
        else if (strcmp(key, "handle_chinese_chars") == 0)
            EMB_TRY(emb_text_source_flag(source, &chinese, -1, key, error));
        else if (strcmp(key, "strip_accents") == 0)
            EMB_TRY(emb_text_source_flag(source, &strip, -2, key, error));
        else if (strcmp(key, "lowercase") == 0)
            EMB_TRY(emb_text_source_flag(source, &lower, -1, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    if (strcmp(type, "BertNormalizer") != 0)
        return unsupported(error, "normalizer.type", type, "BertNormalizer");
    spec->clean_text = (uint32_t)clean;
    spec->chinese_chars = (uint32_t)chinese;
    spec->lowercase = (uint32_t)lower;
    spec->strip_accents = (uint32_t)(strip == -2 ? lower : strip);
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

static emb_status read_model(emb_text_source *source, emb_text_spec *spec, emb_text_names *names,
                             emb_error *error) {
    char key[64], type[64] = "";
    uint64_t chars = 100;
    bool end;
    memcpy(spec->continuing_prefix, "##", sizeof "##");
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "model", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&source->json, type, sizeof type, key, error));
        else if (strcmp(key, "unk_token") == 0)
            EMB_TRY(emb_json_next_string(&source->json, names->unknown, sizeof names->unknown, key,
                                         error));
        else if (strcmp(key, "continuing_subword_prefix") == 0)
            EMB_TRY(emb_json_next_string(&source->json, spec->continuing_prefix,
                                         sizeof spec->continuing_prefix, key, error));
        else if (strcmp(key, "max_input_chars_per_word") == 0)
            EMB_TRY(emb_json_next_u64(&source->json, &chars, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    if (strcmp(type, "WordPiece") != 0) return unsupported(error, "model.type", type, "WordPiece");
    if (chars < 1 || chars > EMB_TEXT_WORD_CHARS_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "model.max_input_chars_per_word must be 1 to %u",
                             EMB_TEXT_WORD_CHARS_MAX);
    spec->word_chars_max = (uint32_t)chars;
    return EMB_OK;
}

static emb_status read_added_token(emb_text_source *source, emb_text_spec *spec, emb_error *error) {
    char key[64], content[EMB_TEXT_ADDED_BYTES_MAX] = "";
    int flags[4] = {0, 0, 0, 1};
    static const char *const names[4] = {"lstrip", "rstrip", "single_word", "normalized"};
    bool end;
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        uint32_t which = 0;
        while (which < 4 && strcmp(key, names[which]) != 0) which++;
        if (which < 4)
            EMB_TRY(emb_text_source_flag(source, &flags[which], -1, key, error));
        else if (strcmp(key, "content") == 0)
            EMB_TRY(emb_json_next_string(&source->json, content, sizeof content, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    return emb_text_spec_add(spec, content, flags[0], flags[1], flags[2], flags[3], error);
}

static emb_status read_added_tokens(emb_text_source *source, emb_text_spec *spec,
                                    emb_error *error) {
    bool present;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_ARRAY_BEGIN, &present, "added_tokens",
                                           error));
    while (present) {
        emb_json_event event;
        EMB_TRY(emb_json_next(&source->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) break;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "added_tokens must hold objects");
        EMB_TRY(read_added_token(source, spec, error));
    }
    return EMB_OK;
}

/* ---- post-processor -------------------------------------------------------------------------- */

/* {"SpecialToken": {"id": "[CLS]", ...}} or {"Sequence": {"id": "A", ...}} */
static emb_status read_piece(emb_text_source *source, template_pieces *pieces, emb_error *error) {
    char key[64];
    bool end;
    if (pieces->count == TEMPLATE_PIECES)
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

static emb_status read_post_processor(emb_text_source *source, emb_text_spec *spec,
                                      emb_error *error) {
    template_pieces pieces = {0};
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
            EMB_TRY(read_pair(source, &spec->before_id, key, error));
        else if (strcmp(key, "sep") == 0)
            EMB_TRY(read_pair(source, &spec->after_id, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        return EMB_OK;
    if (strcmp(type, "TemplateProcessing") != 0)
        return unsupported(error, "post_processor.type", type,
                           "TemplateProcessing, BertProcessing or RobertaProcessing");
    if (pieces.count != 3 || pieces.sequence[0] || !pieces.sequence[1] || pieces.sequence[2])
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "post_processor.single must be a token, the text, a token");
    EMB_TRY(piece_id(&pieces, 0, &spec->before_id, error));
    return piece_id(&pieces, 2, &spec->after_id, error);
}

/* ---- the whole file -------------------------------------------------------------------------- */

static emb_status read_file(emb_text_source *source, emb_text_spec *spec, emb_text_names *names,
                            emb_error *error) {
    bool seen[4] = {false, false, false, false}, end;
    static const char *const needed[4] = {"model", "normalizer", "pre_tokenizer", "post_processor"};
    char key[64];
    emb_json_event event;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) break;
        for (uint32_t i = 0; i < 4; i++) seen[i] |= strcmp(key, needed[i]) == 0;
        if (strcmp(key, "model") == 0)
            EMB_TRY(read_model(source, spec, names, error));
        else if (strcmp(key, "normalizer") == 0)
            EMB_TRY(read_normalizer(source, spec, error));
        else if (strcmp(key, "pre_tokenizer") == 0)
            EMB_TRY(read_pre_tokenizer(source, error));
        else if (strcmp(key, "post_processor") == 0)
            EMB_TRY(read_post_processor(source, spec, error));
        else if (strcmp(key, "added_tokens") == 0)
            EMB_TRY(read_added_tokens(source, spec, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
    for (uint32_t i = 0; i < 4; i++)
        if (!seen[i])
            return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", needed[i]);
    return emb_json_next(&source->json, &event, error); /* nothing may follow */
}

emb_status emb_text_describe_json(emb_text_spec *spec, emb_text_names *names, emb_error *error) {
    emb_text_source source;
    EMB_TRY(emb_text_source_open(&source, spec->path, error));
    return emb_text_source_close(&source, read_file(&source, spec, names, error), error);
}
