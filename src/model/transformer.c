/* transformer.c - the other files in the encoder's folder: how long a text may be, and what must
 * not be there.
 *
 * src/text reads the tokenizer's own keys; here their files are checked for what would give other
 * tokens.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

const char *const emb_transformer_files[] = {
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    NULL,
};

/* Where the encoder's files are. */
typedef struct place {
    const char *root, *folder;
    emb_key_findings *findings;
} place;

/* Reads an optional file of the folder. */
static emb_status read_file(const place *at, const emb_key_list *list, const char *name,
                            emb_field *fields, size_t count, bool *there, emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX];
    EMB_TRY(emb_document_path(path, sizeof path, at->folder, name, error));
    *there = emb_document_exists(at->root, path);
    if (!*there) return EMB_OK;
    return emb_keys_check(list, at->root, path, fields, count, at->findings, error);
}

/* Refuses files that would change what is computed. */
static emb_status refuse_files(const place *at, emb_error *error) {
    static const struct {
        const char *name, *why;
    } files[] = {
        {"adapter_config.json", "an adapter over another model, which is not supported: merge it "
                                "(merge_and_unload) and save the model"},
        {"chat_template.jinja", "a template for chats, which is not supported"},
    };
    char path[EMB_RELATIVE_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        EMB_TRY(emb_document_path(path, sizeof path, at->folder, files[i].name, error));
        if (emb_document_exists(at->root, path))
            return emb_error_set(error, EMB_UNSUPPORTED, "%s: %s", path, files[i].why);
    }
    return EMB_OK;
}

/* A number of tokens that a file states, and where. */
typedef struct stated_length {
    double tokens;
    const char *file, *key; /* file NULL: not stated */
} stated_length;

static void state(stated_length *out, const emb_field *field, const char *file) {
    if (field->given) *out = (stated_length){*(const double *)field->out, file, field->key};
}

enum { LENGTH, TOKENIZER_OLD, TOKENIZER, TEXT, COMMON, LOWER, MODULE_KEYS };

/* Reads the Transformer's arguments from the first of its files that has any. What overrides them
 * is read later. */
static emb_status read_module(const place *at, stated_length *out, bool *lowercase,
                              emb_error *error) {
    for (size_t f = 0; f < EMB_ARGUMENT_FILES; f++) {
        double lengths[LOWER] = {0};
        bool there, any;
        emb_field fields[] = {
            [LENGTH] = EMB_FIELD("max_seq_length", REAL, &lengths[LENGTH]),
            [TOKENIZER_OLD] =
                EMB_FIELD("tokenizer_args.model_max_length", REAL, &lengths[TOKENIZER_OLD]),
            [TOKENIZER] = EMB_FIELD("processor_kwargs.model_max_length", REAL, &lengths[TOKENIZER]),
            [TEXT] = EMB_FIELD("processing_kwargs.text.max_length", REAL, &lengths[TEXT]),
            [COMMON] = EMB_FIELD("processing_kwargs.common.max_length", REAL, &lengths[COMMON]),
            [LOWER] = EMB_FIELD("do_lower_case", FLAG, lowercase),
        };
        EMB_TRY(read_file(at, &emb_keys_transformer, emb_transformer_files[f], fields, MODULE_KEYS,
                          &there, error));
        if (!there) continue;
        for (size_t i = 0; i < LOWER; i++) state(out, &fields[i], emb_transformer_files[f]);
        for (size_t i = any = 0; i < MODULE_KEYS; i++) any |= fields[i].seen;
        if (any) return EMB_OK;
    }
    return EMB_OK;
}

static emb_status read_tokenizer(const place *at, stated_length *out, emb_error *error) {
    static const char file[] = "tokenizer_config.json";
    double length = 0, old = 0; /* often 1e30 for "no limit" */
    char inputs[EMB_TEXT_FIELD_MAX] = "";
    bool there;
    emb_field fields[] = {EMB_FIELD("max_len", REAL, &old),
                          EMB_FIELD("model_max_length", REAL, &length),
                          EMB_FIELD("model_input_names", TEXTS, inputs)};
    EMB_TRY(read_file(at, &emb_keys_tokenizer_config, file, fields, 3, &there, error));
    if (fields[2].given && !strstr(inputs, "attention_mask"))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s: \"model_input_names\" lacks attention_mask, without which the "
                             "reference's vectors depend on the texts beside",
                             file);
    if (!fields[1].seen) state(out, &fields[0], file);
    state(out, &fields[1], file);
    EMB_TRY(
        read_file(at, &emb_keys_special_tokens, "special_tokens_map.json", NULL, 0, &there, error));
    return read_file(at, &emb_keys_tokenizer, "tokenizer.json", NULL, 0, &there, error);
}

emb_status emb_transformer_read(emb_shape *shape, emb_settings *settings,
                                const emb_modules *modules, const char *root,
                                emb_key_findings *findings, emb_error *error) {
    place at = {root, modules->list[0].folder, findings};
    stated_length length = {shape->window_tokens, NULL, NULL};
    EMB_TRY(refuse_files(&at, error));
    EMB_TRY(read_tokenizer(&at, &length, error));
    if (modules->listed) EMB_TRY(read_module(&at, &length, &settings->lowercase, error));
    if (length.tokens < 1) /* engine/model.c checks it against the special tokens */
        return emb_error_set(error, EMB_BAD_FILE, "%s: \"%s\" is %.0f: no room for a text",
                             length.file, length.key, length.tokens);
    shape->default_tokens =
        length.tokens < shape->window_tokens ? (uint32_t)length.tokens : shape->window_tokens;
    return EMB_OK;
}
