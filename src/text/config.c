/* config.c - the files next to a vocabulary: which class reads it, case and accents, special and
 * added tokens.
 *
 * Follows transformers 5: special_tokens_map.json and added_tokens.json are read only if
 * tokenizer_config.json has no added_tokens_decoder.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/family.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEY_MAX   256
#define CLASS_MAX 64

/* Keys of the named tokens. */
static const char *const names[EMB_TEXT_NAMED] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

/* ---- tokens ---------------------------------------------------------------------------------- */

void emb_text_set_bytes(emb_text_added *token, const char *text) {
    token->length = (uint32_t)strnlen(text, sizeof token->bytes - 1);
    memcpy(token->bytes, text, token->length);
    token->bytes[token->length] = 0;
}

emb_status emb_text_read_token_object(emb_text_json *file, emb_text_added *out, bool special,
                                      emb_error *error) {
    static const char *const flags[] = {"lstrip", "rstrip", "single_word", "normalized", "special"};
    int values[] = {0, 0, 0, -1, special};
    char key[64], content[EMB_TEXT_ADDED_BYTES_MAX] = "";
    bool end;
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        uint32_t which = 0;
        while (which < 5 && strcmp(key, flags[which]) != 0) which++;
        if (which < 5)
            EMB_TRY(emb_text_json_flag(file, &values[which], -1, key, error));
        else if (strcmp(key, "content") == 0)
            EMB_TRY(emb_json_next_string(&file->json, content, sizeof content, key, error));
        else if (strcmp(key, "id") == 0)
            EMB_TRY(emb_text_json_id(file, &out->id, key, error));
        else
            EMB_TRY(emb_json_skip(&file->json, error));
    }
    emb_text_set_bytes(out, content);
    out->left_strip = (uint8_t)values[0];
    out->right_strip = (uint8_t)values[1];
    out->single_word = (uint8_t)values[2];
    out->normalized = (uint8_t)(values[3] == -1 ? !(special || values[4]) : values[3]);
    return EMB_OK;
}

emb_status emb_text_read_token(emb_text_json *file, emb_text_added *out, bool *flags, bool special,
                               emb_error *error) {
    emb_json *json = &file->json;
    emb_json_event event;
    char content[EMB_TEXT_ADDED_BYTES_MAX];
    memset(out, 0, sizeof *out);
    EMB_TRY(emb_json_next(json, &event, error));
    *flags = event == EMB_JSON_OBJECT_BEGIN;
    if (*flags) return emb_text_read_token_object(file, out, special, error);
    if (event == EMB_JSON_ARRAY_BEGIN) return emb_json_skip(json, error);
    if (event != EMB_JSON_STRING) return EMB_OK;
    EMB_TRY(emb_json_value_string(json, event, content, sizeof content, "content", error));
    emb_text_set_bytes(out, content);
    return EMB_OK;
}

/* ["<a>", {"content": "<b>", ...}], or {"name": "<a>"}, or null */
static emb_status read_extra(emb_text_json *file, emb_text_reading *reading, bool *given,
                             emb_error *error) {
    emb_json_event event;
    emb_text_added token;
    bool flags, end = false;
    char key[KEY_MAX];
    EMB_TRY(emb_json_next(&file->json, &event, error));
    *given = false;
    if (event == EMB_JSON_NULL) return EMB_OK;
    if (event == EMB_JSON_OBJECT_BEGIN) {
        for (;; *given = true) {
            EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
            if (end) return EMB_OK;
            EMB_TRY(emb_text_read_token(file, &token, &flags, true, error));
            EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_SPECIFIC, 0, error));
        }
    }
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "additional special tokens must be a list");
    for (;; *given = true) {
        EMB_TRY(emb_json_next(&file->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event == EMB_JSON_OBJECT_BEGIN) {
            EMB_TRY(emb_text_read_token_object(file, &token, true, error));
        } else {
            char content[EMB_TEXT_ADDED_BYTES_MAX];
            EMB_TRY(emb_json_value_string(&file->json, event, content, sizeof content,
                                          "additional_special_tokens", error));
            memset(&token, 0, sizeof token);
            emb_text_set_bytes(&token, content);
        }
        EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_EXTRA, 0, error));
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool ends_in_token(const char *key) {
    size_t length = strlen(key), tail = sizeof "_token" - 1;
    return length > tail && strcmp(key + length - tail, "_token") == 0;
}

/* Takes a key that names special tokens; *taken: it was one. */
static emb_status take_special(emb_text_json *file, emb_text_reading *reading, const char *key,
                               bool *taken, emb_error *error) {
    emb_text_added token;
    bool flags, given;
    uint32_t which = 0;
    *taken = true;
    while (which < EMB_TEXT_NAMED && strcmp(key, names[which]) != 0) which++;
    if (which < EMB_TEXT_NAMED) {
        EMB_TRY(emb_text_read_token(file, &token, &flags, true, error));
        bool needed = reading->builder && reading->builder->needed >> which & 1;
        if (!token.length && needed)
            return emb_error_set(error, EMB_BAD_FILE, "\"%s\" must be a token", key);
        reading->named[which] = token;
        return EMB_OK;
    }
    if (strcmp(key, "extra_special_tokens") == 0 || strcmp(key, "additional_special_tokens") == 0) {
        if (reading->has_extra && *key == 'a') return emb_json_skip(&file->json, error);
        EMB_TRY(read_extra(file, reading, &given, error));
        reading->has_extra |= given;
        return EMB_OK;
    }
    if (!ends_in_token(key)) {
        *taken = false;
        return EMB_OK;
    }
    EMB_TRY(emb_text_read_token(file, &token, &flags, true, error));
    return emb_text_added_put(reading, &token, EMB_TEXT_RANK_SPECIFIC, 0, error);
}

/* {"30522": {"content": "<a>", ...}} */
static emb_status read_decoder(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    char key[KEY_MAX];
    bool flags, end;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL,
                                         "\"added_tokens_decoder\"", error));
    reading->has_decoder = true;
    for (;;) {
        emb_text_added token;
        uint32_t id = 0;
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        for (const char *at = key; *at; at++) {
            if (*at < '0' || *at > '9' || id >= INT32_MAX / 10)
                return emb_error_set(error, EMB_BAD_FILE,
                                     "\"added_tokens_decoder\": \"%.64s\" is not an id", key);
            id = id * 10 + (uint32_t)(*at - '0');
        }
        EMB_TRY(emb_text_read_token(file, &token, &flags, false, error));
        if (!flags)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "\"added_tokens_decoder\": \"%.64s\" must be an object", key);
        EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_LISTED, id, error));
    }
}

typedef emb_status (*read_keys)(emb_text_json *file, emb_text_reading *reading, emb_error *error);

static emb_status parse_config(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    char key[KEY_MAX];
    bool end, taken;
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        if (strcmp(key, "added_tokens_decoder") == 0) {
            EMB_TRY(read_decoder(file, reading, error));
            continue;
        }
        EMB_TRY(reading->spec->family->read_setting(reading, file, key, &taken, error));
        if (!taken) EMB_TRY(take_special(file, reading, key, &taken, error));
        if (!taken) EMB_TRY(emb_json_skip(&file->json, error));
    }
}

static emb_status parse_map(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    char key[KEY_MAX];
    bool end, taken;
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        EMB_TRY(take_special(file, reading, key, &taken, error));
        if (!taken) EMB_TRY(emb_json_skip(&file->json, error));
    }
}

/* {"<a>": 30522}. Named ones are special, and so are not normalised. */
static emb_status parse_added(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    bool end;
    for (;;) {
        char key[EMB_TEXT_ADDED_BYTES_MAX];
        emb_text_added token = {.normalized = 1};
        uint32_t id;
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        EMB_TRY(emb_text_json_id(file, &id, key, error));
        emb_text_set_bytes(&token, key);
        for (uint32_t i = 0; i < EMB_TEXT_NAMED; i++)
            if (strcmp(reading->named[i].bytes, key) == 0) token.normalized = 0;
        EMB_TRY(emb_text_added_put(reading, &token, EMB_TEXT_RANK_LISTED, id, error));
    }
}

/* Reads an object of an optional file. */
static emb_status read_optional(emb_text_reading *reading, const char *directory, const char *name,
                                read_keys read, emb_error *error) {
    char path[EMB_TEXT_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (access(path, F_OK) != 0) return EMB_OK;
    emb_text_json file;
    emb_json_event event;
    EMB_TRY(emb_text_json_open(&file, path, error));
    emb_status status =
        emb_text_json_open_container(&file, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error);
    if (status == EMB_OK) status = read(&file, reading, error);
    if (status == EMB_OK)
        status = emb_json_next(&file.json, &event, error); /* nothing may follow */
    return emb_text_json_close(&file, status, error);
}

/* ---- the class ------------------------------------------------------------------------------- */

static emb_status parse_class(emb_text_json *file, char *out, emb_error *error) {
    char key[KEY_MAX];
    bool end;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, "the file", error));
    for (;;) {
        emb_json_event event;
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        if (strcmp(key, "tokenizer_class") != 0) {
            EMB_TRY(emb_json_skip(&file->json, error));
            continue;
        }
        EMB_TRY(emb_json_next(&file->json, &event, error));
        if (event != EMB_JSON_NULL)
            EMB_TRY(emb_json_value_string(&file->json, event, out, CLASS_MAX, key, error));
    }
}

/* Whether `name` is this class, with or without Fast appended. */
static bool is_class(const char *name, const char *class) {
    size_t length = strlen(class);
    if (strncmp(name, class, length) != 0) return false;
    return !name[length] || strcmp(name + length, "Fast") == 0;
}

static emb_status choose_class(emb_text_reading *reading, const char *name, const char *directory,
                               const char *stated_in, emb_error *error) {
    char known[512] = "";
    if (strcmp(name, "PreTrainedTokenizerFast") == 0 || strcmp(name, "TokenizersBackend") == 0)
        return EMB_OK;
    for (uint32_t i = 0; emb_text_families[i]; i++) {
        const emb_text_class *class = emb_text_families[i]->classes;
        for (; class->name; class ++) {
            reading->builder = class;
            reading->spec->family = emb_text_families[i];
            if (is_class(name, class->name)) return EMB_OK;
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", class->name);
        }
    }
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "%s/%s: \"tokenizer_class\" is \"%s\", which is not supported: only "
                         "%s and PreTrainedTokenizerFast are",
                         directory, stated_in, name, known);
}

emb_status emb_text_find_class(emb_text_reading *reading, const char *directory, emb_error *error) {
    const emb_text_hints *hints = reading->hints;
    char path[EMB_TEXT_PATH_MAX + 32], name[CLASS_MAX] = "";
    const char *stated_in = "tokenizer_config.json";
    snprintf(path, sizeof path, "%s/%s", directory, stated_in);
    if (access(path, F_OK) == 0) {
        emb_text_json file;
        EMB_TRY(emb_text_json_open(&file, path, error));
        emb_status status = parse_class(&file, name, error);
        EMB_TRY(emb_text_json_close(&file, status, error));
    }
    if (!*name) {
        bool stated = hints->tokenizer_class && *hints->tokenizer_class;
        snprintf(name, sizeof name, "%s", stated ? hints->tokenizer_class : hints->default_class);
        stated_in = "config.json";
    }
    return choose_class(reading, name, directory, stated_in, error);
}

/* ---- all together ---------------------------------------------------------------------------- */

emb_status emb_text_read_config(emb_text_reading *reading, const char *directory,
                                emb_error *error) {
    EMB_TRY(read_optional(reading, directory, "tokenizer_config.json", parse_config, error));
    if (reading->has_decoder) return EMB_OK;
    EMB_TRY(read_optional(reading, directory, "special_tokens_map.json", parse_map, error));
    return read_optional(reading, directory, "added_tokens.json", parse_added, error);
}
