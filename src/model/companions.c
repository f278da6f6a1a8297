/* companions.c - the files of a model beside its weights: what a copy of the model must hold.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "model/keys.h"

static emb_status visit_files(const char *root, const char *folder, const char *const *names,
                              emb_model_companion visit, void *user, emb_error *error) {
    char path[EMB_RELATIVE_PATH_MAX];
    for (; *names; names++) {
        EMB_TRY(emb_document_path(path, sizeof path, folder, *names, error));
        if (emb_document_exists(root, path)) EMB_TRY(visit(user, path, error));
    }
    return EMB_OK;
}

emb_status emb_model_companions(const emb_model_files *files, emb_model_companion visit, void *user,
                                emb_error *error) {
    static const char *const whole[] = {"modules.json",
                                        "config_sentence_transformers.json",
                                        "README.md",
                                        "LICENSE",
                                        "LICENSE.txt",
                                        "NOTICE",
                                        NULL};
    char root[EMB_MODEL_PATH_MAX];
    emb_modules modules;
    emb_key_findings findings = {.unknown = ""};
    emb_model_files_root(files, root);
    EMB_TRY(emb_modules_read(&modules, root, &findings, error));
    EMB_TRY(visit_files(root, "", whole, visit, user, error));
    for (uint32_t i = 0; i < modules.count; i++) {
        const char *folder = modules.list[i].folder;
        if (i && !*folder) continue; /* it has none of its own */
        EMB_TRY(visit_files(root, folder, modules.list[i].kind->files, visit, user, error));
    }
    return EMB_OK;
}
