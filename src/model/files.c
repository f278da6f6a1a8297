/* files.c - opens a model: finds its files, has each read and checked, keeps the descriptors.
 *
 * Fed by a path, feeds the engine. One allocation stays; it holds no weights.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "model/family/family.h"
#include "model/keys.h"

#define SUFFIX ".safetensors"

typedef struct location {
    char root[EMB_MODEL_PATH_MAX];
    char weights[EMB_SHARD_NAME_MAX]; /* "": as found in the directory */
    char name[EMB_SHARD_NAME_MAX];    /* last part of the path */
} location;

typedef struct shard_list {
    uint32_t count;
    char names[EMB_SHARDS_MAX][EMB_SHARD_NAME_MAX];
} shard_list;

/* What the files other than the weights say. */
typedef struct configuration {
    location at;
    char directory[EMB_MODEL_PATH_MAX]; /* of config.json */
    emb_modules modules;
    emb_settings settings;
    emb_prompts prompts; /* measured */
    emb_key_findings findings;
} configuration;

/* ---- where the files are --------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *suffix) {
    size_t length = strlen(text), tail = strlen(suffix);
    return length > tail && strcmp(text + length - tail, suffix) == 0;
}

/* Splits the path into a directory and, if it is a weight file, its name. */
static emb_status locate(location *at, const char *path, emb_error *error) {
    struct stat about;
    memset(at, 0, sizeof *at);
    if (!*path) return emb_error_set(error, EMB_INVALID_ARGUMENT, "the model's path is empty");
    EMB_TRY(emb_document_path(at->root, sizeof at->root, "", path, error));
    for (size_t length = strlen(at->root); length > 1 && at->root[length - 1] == '/';)
        at->root[--length] = 0;
    if (stat(path, &about) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return emb_error_set(error, EMB_IO, "%s: %s", path, strerror(errno));
        return emb_error_set(error, EMB_NOT_FOUND,
                             "%s: no such model: give a directory that holds config.json and "
                             "model.safetensors (`make models` leaves some in build/models)",
                             path);
    }
    char *slash = strrchr(at->root, '/');
    const char *last = slash && slash[1] ? slash + 1 : at->root;
    EMB_TRY(emb_document_path(at->name, sizeof at->name, "", last, error));
    if (S_ISDIR(about.st_mode)) return EMB_OK;
    if (!ends_with(last, SUFFIX))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s: neither a directory nor a %s file; other formats are not read",
                             path, SUFFIX);
    memcpy(at->weights, at->name, sizeof at->weights);
    if (!slash)
        memcpy(at->root, ".", 2);
    else
        slash[slash == at->root] = 0;
    return EMB_OK;
}

/* ---- shards ---------------------------------------------------------------------------------- */

static emb_status add_shard(shard_list *list, const char *name, emb_error *error) {
    for (uint32_t i = list->count; i-- > 0;)
        if (strcmp(list->names[i], name) == 0) return EMB_OK;
    if (strchr(name, '/') || *name == '.' || !ends_with(name, SUFFIX) ||
        !emb_document_printable(name))
        return emb_error_set(error, EMB_BAD_FILE,
                             "the shard \"%s\" is not the plain name of a %s file",
                             emb_document_printable(name) ? name : "?", SUFFIX);
    if (list->count == EMB_SHARDS_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "more than %d shards", EMB_SHARDS_MAX);
    memcpy(list->names[list->count++], name, strlen(name) + 1);
    return EMB_OK;
}

/* Which shard holds which tensor does not matter: every shard is searched. */
static emb_status parse_map(emb_json *json, emb_json_event event, void *user, emb_error *error) {
    char tensor[EMB_TENSOR_NAME_MAX], name[EMB_SHARD_NAME_MAX];
    bool done;
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "\"weight_map\" must be an object ({...})");
    for (;;) {
        EMB_TRY(emb_document_key(json, tensor, sizeof tensor, &done, error));
        if (done) return EMB_OK;
        while (!json->text_last) EMB_TRY(emb_json_next(json, &event, error));
        EMB_TRY(emb_json_next_string(json, name, sizeof name, "weight_map", error));
        EMB_TRY(add_shard(user, name, error));
    }
}

static emb_status read_index(shard_list *list, const char *directory, const char *path,
                             emb_key_findings *findings, emb_error *error) {
    emb_field map = EMB_FIELD("weight_map", PARSED, list);
    map.parse = parse_map;
    EMB_TRY(emb_keys_check(&emb_keys_index, directory, path, &map, 1, findings, error));
    if (list->count == 0)
        return emb_error_set(error, EMB_BAD_FILE, "%s: \"weight_map\" names no shard", path);
    return EMB_OK;
}

static emb_status list_shards(shard_list *list, const char *directory, const char *weights,
                              emb_key_findings *findings, emb_error *error) {
    static const char single[] = "model" SUFFIX, index[] = "model" SUFFIX ".index.json";
    list->count = 0;
    if (*weights) return add_shard(list, weights, error);
    if (emb_document_exists(directory, single)) return add_shard(list, single, error);
    if (emb_document_exists(directory, index))
        return read_index(list, directory, index, findings, error);
    if (emb_document_exists(directory, "pytorch_model.bin"))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%s: pytorch_model.bin is a pickle, which is not read: save the model "
                             "as %s (save_pretrained(..., safe_serialization=True))",
                             directory, single);
    return emb_error_set(error, EMB_NOT_FOUND, "%s: holds neither %s nor %s", directory, single,
                         index);
}

static emb_status open_shard(emb_model_files *files, uint32_t index, const emb_shape *shape,
                             emb_error *error) {
    char path[EMB_MODEL_PATH_MAX + EMB_SHARD_NAME_MAX];
    const char *name = files->shards[index];
    emb_binding binding = {files, shape, (uint8_t)index};
    uint64_t bytes;
    EMB_TRY(emb_document_path(path, sizeof path, files->directory, name, error));
    EMB_TRY(emb_file_open_model(&files->descriptors[index], &bytes, path, error));
    files->file_bytes += bytes;
    return emb_safetensors_scan(files->descriptors[index], bytes, name, emb_tensors_bind, &binding,
                                error);
}

/* ---- the model ------------------------------------------------------------------------------- */

/* Makes the one allocation, and lays out in it what follows the struct. */
static emb_model_files *make_files(const emb_shape *shape, const shard_list *shards,
                                   size_t prompt_bytes) {
    size_t tensors = emb_tensors_count(shape);
    size_t tensor_bytes = tensors * sizeof(emb_tensor);
    size_t descriptor_bytes = shards->count * sizeof(int);
    size_t shard_bytes = (size_t)shards->count * EMB_SHARD_NAME_MAX;
    size_t bytes =
        sizeof(emb_model_files) + tensor_bytes + descriptor_bytes + shard_bytes + prompt_bytes;
    emb_model_files *files = calloc(1, bytes);
    if (!files) return NULL;
    unsigned char *at = (unsigned char *)(files + 1);
    files->bytes = bytes;
    files->tensors = (emb_tensor *)(void *)at;
    files->descriptors = (int *)(void *)(at += tensor_bytes);
    files->shards = (char(*)[EMB_SHARD_NAME_MAX])(at += descriptor_bytes);
    files->prompts.texts = (char *)(at += shard_bytes);
    files->prompts.bytes = prompt_bytes;
    files->prompts.fallback = -1;
    files->tensors_count = (uint32_t)tensors;
    files->shards_count = shards->count;
    files->family = shape->family;
    memcpy(files->shards, shards->names, shard_bytes);
    for (uint32_t i = 0; i < shards->count; i++) files->descriptors[i] = -1;
    return files;
}

static emb_status fill_files(emb_model_files *files, const emb_shape *shape, const configuration *c,
                             emb_error *error) {
    emb_key_findings again = {.unknown = ""};
    memcpy(files->name, c->at.name, sizeof files->name);
    memcpy(files->directory, c->directory, sizeof files->directory);
    memcpy(files->unknown_keys, c->findings.unknown, sizeof files->unknown_keys);
    files->settings = c->settings;
    files->root_length = (uint32_t)strlen(c->at.root);
    if (c->modules.listed)
        EMB_TRY(emb_prompts_read(&files->prompts, NULL, c->at.root, &again, error));
    for (uint32_t i = 0; i < files->shards_count; i++) EMB_TRY(open_shard(files, i, shape, error));
    return emb_tensors_complete(files, shape, error);
}

/* Reads the configuration: everything but the weights. sentence-transformers' own files are read
 * only if there is a modules.json. */
static emb_status read_configuration(emb_shape *shape, configuration *c, emb_error *error) {
    const char *root = c->at.root, *folder = c->modules.list[0].folder;
    char config[EMB_RELATIVE_PATH_MAX];
    EMB_TRY(emb_modules_read(&c->modules, root, &c->findings, error));
    EMB_TRY(emb_document_path(c->directory, sizeof c->directory, root, folder, error));
    EMB_TRY(emb_document_path(config, sizeof config, folder, "config.json", error));
    if (!emb_document_exists(root, config))
        return emb_error_set(error, EMB_NOT_FOUND, "%s: holds no config.json: not a model",
                             c->directory);
    EMB_TRY(emb_config_read(shape, &c->settings, root, config, &c->findings, error));
    EMB_TRY(emb_modules_apply(shape, &c->modules, root, &c->findings, error));
    EMB_TRY(emb_transformer_read(shape, &c->settings, &c->modules, root, &c->findings, error));
    if (!c->modules.listed) return EMB_OK;
    return emb_prompts_read(&c->prompts, shape, root, &c->findings, error);
}

emb_status emb_model_files_open(emb_model_files **out, emb_shape *shape, const char *path,
                                emb_error *error) {
    configuration c = {.at = {.root = ""}};
    shard_list shards;
    *out = NULL;
    memset(shape, 0, sizeof *shape);
    EMB_TRY(locate(&c.at, path, error));
    EMB_TRY(read_configuration(shape, &c, error));
    EMB_TRY(list_shards(&shards, c.directory, c.at.weights, &c.findings, error));
    emb_model_files *files = make_files(shape, &shards, c.prompts.bytes);
    if (!files) return emb_error_set(error, EMB_NO_MEMORY, "no memory for a model's description");
    emb_status status = fill_files(files, shape, &c, error);
    if (status != EMB_OK) {
        emb_model_files_close(files);
        return status;
    }
    *out = files;
    return EMB_OK;
}

void emb_model_files_close(emb_model_files *files) {
    if (!files) return;
    for (uint32_t i = files->shards_count; i-- > 0;) emb_file_close(files->descriptors[i]);
    free(files);
}

void emb_model_files_describe(emb_model_info *out, const emb_model_files *files,
                              const emb_shape *shape) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    snprintf(out->architecture, sizeof out->architecture, "%s", shape->family->name);
    snprintf(out->name, sizeof out->name, "%s", files->name);
    out->layers = shape->layers;
    out->hidden = shape->spec.hidden;
    out->heads = shape->spec.heads;
    out->intermediate = shape->spec.intermediate;
    out->vocabulary = shape->vocabulary;
    out->positions = shape->positions;
    out->window_tokens = shape->window_tokens;
    out->default_tokens = shape->default_tokens;
    out->dim = shape->output_width;
    out->pooling = shape->pooling;
    out->normalizes = shape->normalizes;
    out->stored_dtype = emb_model_stored_dtype(files);
    out->stored_group = emb_model_stored_group(files, EMB_TENSOR_QUERY, 0);
    out->smooths = emb_model_smooths(files);
    for (uint32_t i = 0; i < files->tensors_count; i++)
        out->parameters += (uint64_t)files->tensors[i].rows * files->tensors[i].cols;
    out->file_bytes = files->file_bytes;
    out->description_bytes = files->bytes;
    out->truncate_dim = shape->truncate_dim;
    memcpy(out->unknown_keys, files->unknown_keys, sizeof out->unknown_keys);
}

const char *emb_model_default_tokenizer(const emb_shape *shape) {
    return shape->family->tokenizer;
}

const char *emb_model_files_prompt(const emb_model_files *files, const char *name) {
    return emb_prompts_find(&files->prompts, name);
}

const char *emb_model_files_tokenizer_class(const emb_model_files *files) {
    return files->settings.tokenizer_class;
}

bool emb_model_files_lowercase(const emb_model_files *files) {
    return files->settings.lowercase;
}

const char *emb_model_files_directory(const emb_model_files *files) {
    return files->directory;
}

void emb_model_files_root(const emb_model_files *files, char *out) {
    snprintf(out, EMB_MODEL_PATH_MAX, "%.*s", (int)files->root_length, files->directory);
}

const char *emb_model_files_transformer(const emb_model_files *files) {
    const char *rest = files->directory + files->root_length;
    return *rest == '/' ? rest + 1 : rest;
}
