/* vocab_txt.c - what goes with a vocab.txt: tokenizer_config.json, or BERT's defaults.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/spec.h"

#include <stdio.h>
#include <unistd.h>

#define DEFAULT_WORD_CHARS 100

/* "[CLS]" or {"content": "[CLS]", ...} or null */
static emb_status read_token(emb_text_source *source, char *out, size_t capacity, const char *key,
                             emb_error *error) {
    emb_json_event event;
    size_t length;
    bool end = false;
    char inner[64];
    EMB_TRY(emb_json_next(&source->json, &event, error));
    if (event == EMB_JSON_NULL) return EMB_OK;
    if (event == EMB_JSON_STRING)
        return emb_json_string(&source->json, out, capacity, &length, error);
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "\"%s\" must be a token", key);
    for (;;) {
        EMB_TRY(emb_text_source_key(source, inner, sizeof inner, &end, error));
        if (end) return EMB_OK;
        if (strcmp(inner, "content") == 0)
            EMB_TRY(emb_json_next_string(&source->json, out, capacity, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
}

typedef struct word_config {
    int lower, strip, chinese;
    char pad[EMB_TEXT_ADDED_BYTES_MAX], mask[EMB_TEXT_ADDED_BYTES_MAX];
} word_config;

static emb_status read_config(emb_text_source *source, word_config *out, emb_text_names *names,
                              emb_error *error) {
    char key[256];
    bool end;
    const struct {
        const char *key;
        char *out;
    } tokens[] = {{"unk_token", names->unknown},
                  {"cls_token", names->before},
                  {"sep_token", names->after},
                  {"pad_token", out->pad},
                  {"mask_token", out->mask}};
    const uint32_t count = sizeof tokens / sizeof tokens[0];
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        uint32_t which = 0;
        while (which < count && strcmp(key, tokens[which].key) != 0) which++;
        if (which < count)
            EMB_TRY(read_token(source, tokens[which].out, EMB_TEXT_ADDED_BYTES_MAX, key, error));
        else if (strcmp(key, "do_lower_case") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->lower, -1, key, error));
        else if (strcmp(key, "strip_accents") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->strip, -2, key, error));
        else if (strcmp(key, "tokenize_chinese_chars") == 0)
            EMB_TRY(emb_text_source_flag(source, &out->chinese, -1, key, error));
        else
            EMB_TRY(emb_json_skip(&source->json, error));
    }
}

emb_status emb_text_describe_lines(emb_text_spec *spec, emb_text_names *names,
                                   const char *directory, emb_error *error) {
    word_config config = {1, -2, 1, "[PAD]", "[MASK]"};
    char path[EMB_TEXT_PATH_MAX + 32];
    *names = (emb_text_names){"[UNK]", "[CLS]", "[SEP]"};
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    if (access(path, F_OK) == 0) {
        emb_text_source source;
        EMB_TRY(emb_text_source_open(&source, path, error));
        emb_status status = read_config(&source, &config, names, error);
        EMB_TRY(emb_text_source_close(&source, status, error));
    }
    spec->lowercase = (uint32_t)config.lower;
    spec->strip_accents = (uint32_t)(config.strip == -2 ? config.lower : config.strip);
    spec->chinese_chars = (uint32_t)config.chinese;
    spec->clean_text = 1;
    spec->word_chars_max = DEFAULT_WORD_CHARS;
    memcpy(spec->continuing_prefix, "##", sizeof "##");
    const char *literals[] = {config.pad, names->unknown, names->before, names->after, config.mask};
    for (uint32_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
        EMB_TRY(emb_text_spec_add(spec, literals[i], 0, 0, 0, 0, error));
    return EMB_OK;
}
