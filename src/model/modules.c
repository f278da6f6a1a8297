/* modules.c - the files of sentence-transformers: which modules follow the encoder, what they do,
 * how long a text may be, and prompts. Whatever would change the vectors and is not done is
 * refused.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/files.h"

#define PROMPT_BYTES_MAX (64u << 10)
#define TOKENS_MIN       3 /* two special tokens, and one of the text */

/* ---- modules.json ---------------------------------------------------------------------------- */

/* A folder inside the model: no way out of it. */
static bool is_inside(const char *folder) {
    return *folder != '/' && strcmp(folder, "..") != 0 && strncmp(folder, "../", 3) != 0 &&
           !strstr(folder, "/../") &&
           (strlen(folder) < 3 || strcmp(folder + strlen(folder) - 3, "/..") != 0);
}

/* The class of a module, such as "Pooling"; "" if it is not one of the library's own. */
static const char *class_of(const char *type) {
    const char *dot = strrchr(type, '.');
    return dot && strncmp(type, "sentence_transformers.", 22) == 0 ? dot + 1 : "";
}

static emb_status add_module(emb_modules *modules, uint32_t index, const char *type,
                             const char *path, emb_error *error) {
    static const char *const order[] = {"Transformer", "Pooling", "Normalize"};
    if (!is_inside(path))
        return emb_error_set(error, EMB_BAD_FILE, "module %u: \"path\" \"%s\" leaves the model",
                             index, path);
    if (index > 2 || strcmp(class_of(type), order[index]) != 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "module %u (\"path\" \"%s\") has \"type\" \"%s\", which is not "
                             "supported: only Transformer, Pooling and Normalize, in this order",
                             index, path, type);
    if (index == 0) memcpy(modules->transformer, path, strlen(path) + 1);
    if (index == 1) memcpy(modules->pooling, path, strlen(path) + 1);
    modules->normalizes = index == 2;
    return EMB_OK;
}

static emb_status parse_modules(emb_json *json, void *user, emb_error *error) {
    emb_json_event event;
    uint32_t index = 0;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "a list of modules ([...]) was expected");
    for (;; index++) {
        char type[EMB_TEXT_FIELD_MAX] = "", path[EMB_TEXT_FIELD_MAX] = "";
        emb_field fields[] = {EMB_FIELD("type", TEXT, type), EMB_FIELD("path", TEXT, path)};
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) break;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "module %u is not an object ({...})", index);
        EMB_TRY(emb_document_fields(json, true, fields, 2, error));
        if (!fields[0].given || !fields[1].given)
            return emb_error_set(error, EMB_BAD_FILE, "module %u: the key \"%s\" is missing", index,
                                 fields[0].given ? "path" : "type");
        EMB_TRY(add_module(user, index, type, path, error));
    }
    if (index < 2)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%u modules; a Transformer and a Pooling are needed at least", index);
    return EMB_OK;
}

emb_status emb_modules_read(emb_modules *modules, const char *root, emb_error *error) {
    memset(modules, 0, sizeof *modules);
    modules->listed = emb_document_exists(root, "modules.json");
    if (!modules->listed) return EMB_OK;
    return emb_document_read(root, "modules.json", parse_modules, modules, error);
}

/* ---- pooling --------------------------------------------------------------------------------- */

enum pooling_key {
    KEY_CLS,
    KEY_MEAN,
    KEY_MAX,
    KEY_SQRT,
    KEY_WEIGHTED,
    KEY_LAST,
    POOLING_FLAGS,
    KEY_MODE = POOLING_FLAGS,
    KEY_WIDTH,
    KEY_WIDTH_NEW,
    KEY_INCLUDE_PROMPT,
    POOLING_KEYS
};

static emb_status parse_pooling(emb_json *json, void *user, emb_error *error) {
    return emb_document_fields(json, false, user, POOLING_KEYS, error);
}

/* Newer files name one mode, older ones switch on each. */
static emb_status named_mode(emb_pooling *pooling, const char *mode, emb_error *error) {
    *pooling = strcmp(mode, "mean") == 0  ? EMB_POOLING_MEAN
               : strcmp(mode, "cls") == 0 ? EMB_POOLING_CLS
                                          : EMB_POOLING_MAX;
    if (*pooling == EMB_POOLING_MAX && strcmp(mode, "max") != 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "\"pooling_mode\" is \"%s\", which is not supported: only mean, cls "
                             "and max are",
                             mode);
    return EMB_OK;
}

static emb_status switched_modes(emb_pooling *pooling, const emb_field *fields, emb_error *error) {
    static const emb_pooling poolings[] = {EMB_POOLING_CLS, EMB_POOLING_MEAN, EMB_POOLING_MAX};
    int on = -1;
    for (int i = 0; i < POOLING_FLAGS; i++) {
        if (!*(const bool *)fields[i].out) continue;
        if (i > KEY_MAX)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "\"%s\" is not supported: only mean, cls and max pooling are",
                                 fields[i].key);
        if (on >= 0)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "\"%s\" and \"%s\" together are not supported: only one pooling",
                                 fields[on].key, fields[i].key);
        on = i;
    }
    if (on < 0) return emb_error_set(error, EMB_BAD_FILE, "no pooling mode is true");
    *pooling = poolings[on];
    return EMB_OK;
}

static emb_status check_pooling(emb_shape *shape, const emb_field *fields, emb_error *error) {
    if (!*(const bool *)fields[KEY_INCLUDE_PROMPT].out)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "\"include_prompt\" is false, which is not supported");
    for (int i = KEY_WIDTH; i <= KEY_WIDTH_NEW; i++) {
        uint64_t width = *(const uint64_t *)fields[i].out;
        if (fields[i].given && width != shape->hidden)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "\"%s\" is %" PRIu64 ", but \"hidden_size\" in config.json is %u",
                                 fields[i].key, width, shape->hidden);
    }
    if (fields[KEY_MODE].given) return named_mode(&shape->pooling, fields[KEY_MODE].out, error);
    return switched_modes(&shape->pooling, fields, error);
}

static emb_status read_pooling(emb_shape *shape, const char *root, const char *folder,
                               emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX], mode[EMB_TEXT_FIELD_MAX] = "";
    bool on[POOLING_FLAGS] = {[KEY_MEAN] = true}, include_prompt = true; /* where not stated */
    uint64_t width = 0, width_new = 0;
    emb_field fields[POOLING_KEYS] = {
        [KEY_CLS] = EMB_FIELD("pooling_mode_cls_token", FLAG, &on[KEY_CLS]),
        [KEY_MEAN] = EMB_FIELD("pooling_mode_mean_tokens", FLAG, &on[KEY_MEAN]),
        [KEY_MAX] = EMB_FIELD("pooling_mode_max_tokens", FLAG, &on[KEY_MAX]),
        [KEY_SQRT] = EMB_FIELD("pooling_mode_mean_sqrt_len_tokens", FLAG, &on[KEY_SQRT]),
        [KEY_WEIGHTED] = EMB_FIELD("pooling_mode_weightedmean_tokens", FLAG, &on[KEY_WEIGHTED]),
        [KEY_LAST] = EMB_FIELD("pooling_mode_lasttoken", FLAG, &on[KEY_LAST]),
        [KEY_MODE] = EMB_FIELD("pooling_mode", TEXT, mode),
        [KEY_WIDTH] = EMB_FIELD("word_embedding_dimension", COUNT, &width),
        [KEY_WIDTH_NEW] = EMB_FIELD("embedding_dimension", COUNT, &width_new),
        [KEY_INCLUDE_PROMPT] = EMB_FIELD("include_prompt", FLAG, &include_prompt),
    };
    EMB_TRY(emb_document_path(path, sizeof path, folder, "config.json", error));
    EMB_TRY(emb_document_read(root, path, parse_pooling, fields, error));
    emb_status status = check_pooling(shape, fields, error);
    return status == EMB_OK ? EMB_OK : emb_document_blame(path, status, error);
}

/* ---- length ---------------------------------------------------------------------------------- */

static emb_status parse_two(emb_json *json, void *user, emb_error *error) {
    return emb_document_fields(json, false, user, 2, error);
}

/* Reads two optional keys of an optional file. */
static emb_status read_two(const char *root, const char *folder, const char *name,
                           emb_field fields[2], emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX];
    EMB_TRY(emb_document_path(path, sizeof path, folder, name, error));
    if (!emb_document_exists(root, path)) return EMB_OK;
    return emb_document_read(root, path, parse_two, fields, error);
}

/* max_seq_length if stated, else what the tokenizer states, and never more than the window. */
static emb_status read_length(emb_shape *shape, const char *root, const char *folder,
                              emb_error *error) {
    uint64_t stated = 0;
    double tokenizer = 0; /* often 1e30 for "no limit" */
    bool lower_text = false, lower_tokens = false;
    emb_field module[] = {EMB_FIELD("max_seq_length", COUNT, &stated),
                          EMB_FIELD("do_lower_case", FLAG, &lower_text)};
    emb_field tokens[] = {EMB_FIELD("model_max_length", REAL, &tokenizer),
                          EMB_FIELD("do_lower_case", FLAG, &lower_tokens)};
    EMB_TRY(read_two(root, folder, "sentence_bert_config.json", module, error));
    EMB_TRY(read_two(root, folder, "tokenizer_config.json", tokens, error));
    if (lower_text && !lower_tokens)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "sentence_bert_config.json: \"do_lower_case\" is true, which is not "
                             "supported before a tokenizer that keeps case");
    double tokens_max = module[0].given ? (double)stated : shape->window_tokens;
    if (!module[0].given && tokens[0].given) tokens_max = tokenizer;
    if (tokens_max < TOKENS_MIN)
        return emb_error_set(error, EMB_BAD_FILE, "%s: \"%s\" is %.0f: no room for a text",
                             module[0].given ? "sentence_bert_config.json"
                                             : "tokenizer_config.json",
                             module[0].given ? "max_seq_length" : "model_max_length", tokens_max);
    shape->default_tokens =
        tokens_max < shape->window_tokens ? (uint32_t)tokens_max : shape->window_tokens;
    return EMB_OK;
}

emb_status emb_modules_apply(emb_shape *shape, const emb_modules *modules, const char *root,
                             emb_error *error) {
    /* A bare encoder: what sentence-transformers does with one. */
    shape->pooling = EMB_POOLING_MEAN;
    shape->normalizes = modules->normalizes;
    if (modules->listed) EMB_TRY(read_pooling(shape, root, modules->pooling, error));
    return read_length(shape, root, modules->transformer, error);
}

/* ---- prompts --------------------------------------------------------------------------------- */

typedef struct prompt_reading {
    emb_prompts *prompts;
    size_t used; /* bytes */
    bool has_prompts, has_fallback;
    char fallback[EMB_TEXT_FIELD_MAX];
} prompt_reading;

/* Appends the string whose first event was just read, and a NUL. */
static emb_status append_string(emb_json *json, prompt_reading *r, emb_error *error) {
    emb_prompts *prompts = r->prompts;
    for (;;) {
        size_t length = json->text_length + json->text_last, text = json->text_length;
        if (memchr(json->text, 0, text))
            return emb_error_set(error, EMB_BAD_FILE, "\"prompts\" holds a NUL character");
        if (length > PROMPT_BYTES_MAX - r->used)
            return emb_error_set(error, EMB_UNSUPPORTED, "\"prompts\" are longer than 64 KiB");
        if (prompts->texts) {
            if (length > prompts->bytes - r->used)
                return emb_error_set(error, EMB_BAD_FILE, "it changed while it was read");
            memcpy(prompts->texts + r->used, json->text, text);
            if (json->text_last) prompts->texts[r->used + text] = 0;
        }
        r->used += length;
        if (json->text_last) return EMB_OK;
        emb_json_event event;
        EMB_TRY(emb_json_next(json, &event, error));
    }
}

static const char *prompt_after(const char *name) {
    return name + strlen(name) + 1;
}

/* Index of a prompt among those already read, or -1. */
static int32_t find_prompt(const emb_prompts *prompts, const char *name) {
    const char *at = prompts->texts;
    for (uint32_t i = 0; i < prompts->count; i++) {
        if (strcmp(at, name) == 0) return (int32_t)i;
        at = prompt_after(prompt_after(at));
    }
    return -1;
}

static emb_status read_prompt_list(emb_json *json, prompt_reading *r, emb_error *error) {
    emb_prompts *prompts = r->prompts;
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event == EMB_JSON_NULL) return EMB_OK;
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "\"prompts\" must be an object ({...})");
    for (;;) {
        size_t name_at = r->used;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        if (prompts->count == EMB_MODEL_PROMPTS_MAX)
            return emb_error_set(error, EMB_UNSUPPORTED, "more than %d \"prompts\"",
                                 EMB_MODEL_PROMPTS_MAX);
        EMB_TRY(append_string(json, r, error));
        if (prompts->texts && find_prompt(prompts, prompts->texts + name_at) >= 0)
            return emb_error_set(error, EMB_BAD_FILE, "a name in \"prompts\" appears twice");
        EMB_TRY(emb_json_next(json, &event, error));
        if (event != EMB_JSON_STRING)
            return emb_error_set(error, EMB_BAD_FILE, "each of \"prompts\" must be a string");
        EMB_TRY(append_string(json, r, error));
        prompts->count++;
    }
}

static emb_status read_fallback(emb_json *json, prompt_reading *r, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event == EMB_JSON_NULL) return EMB_OK;
    return emb_json_value_string(json, event, r->fallback, sizeof r->fallback,
                                 "default_prompt_name", error);
}

/* Fails if a key comes again. */
static emb_status once(bool *seen, const char *key, emb_error *error) {
    if (*seen) return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" appears twice", key);
    *seen = true;
    return EMB_OK;
}

static emb_status check_model_type(const char *type, emb_error *error) {
    if (strcmp(type, "SentenceTransformer") == 0) return EMB_OK;
    if (!emb_document_printable(type)) type = "?";
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "\"model_type\" is \"%s\", which is not supported: only "
                         "SentenceTransformer is",
                         type);
}

static emb_status parse_prompts(emb_json *json, void *user, emb_error *error) {
    prompt_reading *r = user;
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "an object ({...}) was expected");
    for (;;) {
        char key[32], type[EMB_TEXT_FIELD_MAX];
        bool done;
        EMB_TRY(emb_document_key(json, key, sizeof key, &done, error));
        if (done) return EMB_OK;
        if (strcmp(key, "prompts") == 0) {
            EMB_TRY(once(&r->has_prompts, key, error));
            EMB_TRY(read_prompt_list(json, r, error));
        } else if (strcmp(key, "default_prompt_name") == 0) {
            EMB_TRY(once(&r->has_fallback, key, error));
            EMB_TRY(read_fallback(json, r, error));
        } else if (strcmp(key, "model_type") == 0) {
            EMB_TRY(emb_json_next_string(json, type, sizeof type, key, error));
            EMB_TRY(check_model_type(type, error));
        } else {
            EMB_TRY(emb_json_skip(json, error));
        }
    }
}

emb_status emb_prompts_read(emb_prompts *prompts, const char *root, emb_error *error) {
    static const char file[] = "config_sentence_transformers.json";
    prompt_reading r = {.prompts = prompts};
    prompts->count = 0;
    prompts->fallback = -1;
    if (emb_document_exists(root, file))
        EMB_TRY(emb_document_read(root, file, parse_prompts, &r, error));
    if (!prompts->texts) prompts->bytes = r.used;
    if (!prompts->texts || !*r.fallback) return EMB_OK;
    prompts->fallback = find_prompt(prompts, r.fallback);
    if (prompts->fallback < 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "%s: \"default_prompt_name\" \"%s\" is not among its \"prompts\"",
                             file, emb_document_printable(r.fallback) ? r.fallback : "?");
    return EMB_OK;
}
