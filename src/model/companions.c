/* companions.c - the files of a model beside its weights: what a copy of the model must hold.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "model/files.h"

/* A file, in the folder of one of the model's parts. */
typedef enum place { ROOT, TRANSFORMER, POOLING, FOLDERS } place;
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
    {TRANSFORMER, "config.json"},
    {TRANSFORMER, "sentence_bert_config.json"},
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
    emb_model_files_root(files, root);
    EMB_TRY(emb_modules_read(&modules, root, error));
    const char *const folders[FOLDERS] = {"", modules.transformer, modules.pooling};
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++) {
        const char *folder = folders[companions[i].folder];
        if (companions[i].folder == POOLING && !modules.listed) continue;
        EMB_TRY(emb_document_path(path, sizeof path, folder, companions[i].name, error));
        if (emb_document_exists(root, path)) EMB_TRY(visit(user, path, error));
    }
    return EMB_OK;
}
