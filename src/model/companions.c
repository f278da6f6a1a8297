/* companions.c - the files of a model beside its weights: what a copy of the model must hold.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

/* A file, in the folder of one of the model's parts. */
typedef enum place { ROOT, TRANSFORMER, POOLING, NORMALIZE, FOLDERS } place;
static const struct {
    place folder;
    const char *name;
} companions[] = {
    {ROOT, "modules.json"},
    {ROOT, "config_sentence_transformers.json"},
    {ROOT, "README.md"},
    {ROOT, "LICENSE"},
    {ROOT, "LICENSE.txt"},
    {ROOT, "NOTICE"},
    {POOLING, "config.json"},
    {NORMALIZE, "config.json"},
    {TRANSFORMER, "config.json"},
    {TRANSFORMER, "tokenizer.json"},
    {TRANSFORMER, "tokenizer_config.json"},
    {TRANSFORMER, "special_tokens_map.json"},
    {TRANSFORMER, "added_tokens.json"},
    {TRANSFORMER, "vocab.txt"},
};

emb_status emb_model_companions(const emb_model_files *files, emb_model_companion visit, void *user,
                                emb_error *error) {
    char root[EMB_MODEL_PATH_MAX], path[EMB_RELATIVE_PATH_MAX];
    emb_modules modules;
    emb_key_findings findings = {.unknown = ""};
    emb_model_files_root(files, root);
    EMB_TRY(emb_modules_read(&modules, root, &findings, error));
    const char *const folders[FOLDERS] = {"", modules.transformer, modules.pooling,
                                          modules.normalize};
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++) {
        const char *folder = folders[companions[i].folder];
        if (companions[i].folder > TRANSFORMER && !*folder) continue; /* no such module */
        EMB_TRY(emb_document_path(path, sizeof path, folder, companions[i].name, error));
        if (emb_document_exists(root, path)) EMB_TRY(visit(user, path, error));
    }
    for (size_t i = 0; i < EMB_TRANSFORMER_FILES; i++) {
        EMB_TRY(emb_document_path(path, sizeof path, modules.transformer, emb_transformer_files[i],
                                  error));
        if (emb_document_exists(root, path)) EMB_TRY(visit(user, path, error));
    }
    return EMB_OK;
}
