/* modules.c - which modules follow the encoder, and what they do. Whatever would change the vectors
 * and is not done is refused.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

/* ---- pooling --------------------------------------------------------------------------------- */

static const emb_key pooling_keys[] = {
    {"pooling_mode", EMB_KEY_READ, NULL,
     "mean, cls or max, or a list of one of them; counts before the others"},
    {"pooling_mode_cls_token", EMB_KEY_READ, NULL, "true: cls"},
    {"pooling_mode_mean_tokens", EMB_KEY_READ, NULL,
     "true: mean, which is also taken where none is true"},
    {"pooling_mode_max_tokens", EMB_KEY_READ, NULL, "true: max"},
    {"pooling_mode_mean_sqrt_len_tokens", EMB_KEY_READ, NULL, "refused if true"},
    {"pooling_mode_weightedmean_tokens", EMB_KEY_READ, NULL, "refused if true"},
    {"pooling_mode_lasttoken", EMB_KEY_READ, NULL, "refused if true"},
    {"word_embedding_dimension", EMB_KEY_READ, NULL, "must be hidden_size of config.json"},
    {"embedding_dimension", EMB_KEY_READ, NULL, "must be hidden_size of config.json"},
    {"include_prompt", EMB_KEY_LIMITED, "true", "a prompt's tokens are pooled with the text's"},
};
static const emb_key_list pooling_list = {"1_Pooling/config.json",
                                          "arguments of the Pooling module", true, pooling_keys,
                                          sizeof pooling_keys / sizeof *pooling_keys};

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
    POOLING_KEYS
};

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

/* Where none is on, as where none is stated, it is the mean. */
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
    *pooling = on < 0 ? EMB_POOLING_MEAN : poolings[on];
    return EMB_OK;
}

static emb_status check_pooling(emb_shape *shape, const emb_field *fields, emb_error *error) {
    for (int i = KEY_WIDTH; i <= KEY_WIDTH_NEW; i++) {
        uint64_t width = *(const uint64_t *)fields[i].out;
        if (fields[i].given && width != shape->spec.hidden)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "\"%s\" is %" PRIu64 ", but \"hidden_size\" in config.json is %u",
                                 fields[i].key, width, shape->spec.hidden);
    }
    if (fields[KEY_MODE].given) return named_mode(&shape->pooling, fields[KEY_MODE].out, error);
    return switched_modes(&shape->pooling, fields, error);
}

static emb_status read_pooling(emb_shape *shape, const char *root, const char *folder,
                               emb_key_findings *findings, emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX], mode[EMB_TEXT_FIELD_MAX] = "";
    bool on[POOLING_FLAGS] = {false};
    uint64_t width = 0, width_new = 0;
    emb_field fields[POOLING_KEYS] = {
        [KEY_CLS] = EMB_FIELD("pooling_mode_cls_token", FLAG, &on[KEY_CLS]),
        [KEY_MEAN] = EMB_FIELD("pooling_mode_mean_tokens", FLAG, &on[KEY_MEAN]),
        [KEY_MAX] = EMB_FIELD("pooling_mode_max_tokens", FLAG, &on[KEY_MAX]),
        [KEY_SQRT] = EMB_FIELD("pooling_mode_mean_sqrt_len_tokens", FLAG, &on[KEY_SQRT]),
        [KEY_WEIGHTED] = EMB_FIELD("pooling_mode_weightedmean_tokens", FLAG, &on[KEY_WEIGHTED]),
        [KEY_LAST] = EMB_FIELD("pooling_mode_lasttoken", FLAG, &on[KEY_LAST]),
        [KEY_MODE] = EMB_FIELD("pooling_mode", TEXTS, mode),
        [KEY_WIDTH] = EMB_FIELD("word_embedding_dimension", COUNT, &width),
        [KEY_WIDTH_NEW] = EMB_FIELD("embedding_dimension", COUNT, &width_new),
    };
    EMB_TRY(emb_document_path(path, sizeof path, folder, "config.json", error));
    EMB_TRY(emb_keys_check(&pooling_list, root, path, fields, POOLING_KEYS, findings, error));
    emb_status status = check_pooling(shape, fields, error);
    return status == EMB_OK ? EMB_OK : emb_document_blame(path, status, error);
}

/* ---- what follows the encoder ---------------------------------------------------------------- */

static const emb_key normalize_keys[] = {
    {"module_input_name", EMB_KEY_LIMITED, "\"sentence_embedding\"", "what is normalised"},
    {"module_output_name", EMB_KEY_LIMITED, "\"sentence_embedding\" | null", "where it goes"},
};
static const emb_key_list normalize_list = {
    "2_Normalize/config.json", "arguments of the Normalize module, where the file is there", false,
    normalize_keys, sizeof normalize_keys / sizeof *normalize_keys};

static emb_status read_normalize(emb_shape *shape, const char *root, const char *folder,
                                 emb_key_findings *findings, emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX];
    shape->normalizes = true;
    EMB_TRY(emb_document_path(path, sizeof path, folder, "config.json", error));
    if (!*folder || !emb_document_exists(root, path)) return EMB_OK;
    return emb_keys_check(&normalize_list, root, path, NULL, 0, findings, error);
}

static const char *const config_alone[] = {"config.json", NULL};

/* In their order. The first two are needed. */
const emb_module_kind emb_module_kinds[] = {
    {"Transformer", emb_transformer_files, NULL, NULL},
    {"Pooling", config_alone, &pooling_list, read_pooling},
    {"Normalize", config_alone, &normalize_list, read_normalize},
    {NULL, NULL, NULL, NULL},
};
#define KINDS (sizeof emb_module_kinds / sizeof emb_module_kinds[0] - 1)
_Static_assert(KINDS <= EMB_MODULES_MAX, "a list holds one of each kind");

emb_status emb_modules_apply(emb_shape *shape, const emb_modules *modules, const char *root,
                             emb_key_findings *findings, emb_error *error) {
    /* A bare encoder: what sentence-transformers does with one. */
    shape->pooling = EMB_POOLING_MEAN;
    shape->output_width = shape->spec.hidden;
    for (uint32_t i = 1; i < modules->count; i++)
        EMB_TRY(
            modules->list[i].kind->apply(shape, root, modules->list[i].folder, findings, error));
    return EMB_OK;
}

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

/* A list being read. */
typedef struct reading {
    emb_modules *modules;
    emb_key_findings *findings;
    char names[EMB_MODULES_MAX][EMB_TEXT_FIELD_MAX];
} reading;

static emb_status add_module(reading *r, uint32_t index, const char *type, const char *path,
                             emb_error *error) {
    if (!is_inside(path))
        return emb_error_set(error, EMB_BAD_FILE, "module %u: \"path\" \"%s\" leaves the model",
                             index, path);
    if (index >= KINDS || strcmp(class_of(type), emb_module_kinds[index].type) != 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "module %u (\"path\" \"%s\") has \"type\" \"%s\", which is not "
                             "supported: only Transformer, Pooling and Normalize, in this order",
                             index, path, type);
    for (uint32_t i = 0; i < index; i++)
        if (*r->names[i] && strcmp(r->names[i], r->names[index]) == 0)
            return emb_error_set(error, EMB_UNSUPPORTED,
                                 "modules %u and %u have the same \"name\", so that the reference "
                                 "loses one: number them",
                                 i, index);
    r->modules->list[index].kind = &emb_module_kinds[index];
    memcpy(r->modules->list[index].folder, path, strlen(path) + 1);
    r->modules->count = index + 1;
    return EMB_OK;
}

static emb_status parse_modules(emb_json *json, void *user, emb_error *error) {
    reading *r = user;
    emb_json_event event;
    uint32_t index = 0;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "a list of modules ([...]) was expected");
    for (;; index++) {
        char type[EMB_TEXT_FIELD_MAX] = "", path[EMB_TEXT_FIELD_MAX] = "";
        char name[EMB_TEXT_FIELD_MAX] = "";
        emb_field fields[] = {EMB_FIELD("type", TEXT, type), EMB_FIELD("path", TEXT, path),
                              EMB_FIELD("name", TEXT, name)};
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) break;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_error_set(error, EMB_BAD_FILE, "module %u is not an object ({...})", index);
        EMB_TRY(emb_keys_object(json, true, &emb_keys_modules, fields, 3, r->findings, error));
        if (!fields[0].given || !fields[1].given)
            return emb_error_set(error, EMB_BAD_FILE, "module %u: the key \"%s\" is missing", index,
                                 fields[0].given ? "path" : "type");
        if (index < EMB_MODULES_MAX) memcpy(r->names[index], name, sizeof name);
        EMB_TRY(add_module(r, index, type, path, error));
    }
    if (index < 2)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%u modules; a Transformer and a Pooling are needed at least", index);
    return EMB_OK;
}

emb_status emb_modules_read(emb_modules *modules, const char *root, emb_key_findings *findings,
                            emb_error *error) {
    reading r = {.modules = modules, .findings = findings};
    memset(modules, 0, sizeof *modules);
    modules->listed = emb_document_exists(root, "modules.json");
    modules->list[0].kind = emb_module_kinds;
    modules->count = 1;
    if (!modules->listed) return EMB_OK;
    return emb_document_read(root, "modules.json", parse_modules, &r, error);
}
