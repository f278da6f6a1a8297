/* paths.c - refuses outputs that would overwrite an input, the model or one another, before any
 * work.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/paths.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fail.h"
#include "hub/hub.h"
#include "sink/output.h"

/* The folder of a path; false if it does not fit. */
static bool folder_of(const char *path, char *out, size_t capacity) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length + 2 > capacity) return false;
    snprintf(out, capacity, "%.*s.", (int)length, path);
    return true;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

emb_status emb_cli_check_model(const char *output, const char *model, emb_error *error) {
    char folder[PATH_MAX], found[PATH_MAX], above[PATH_MAX + 4];
    struct stat file, about, beside, over;
    if (!output || !model || stat(output, &file) != 0 || !S_ISREG(file.st_mode)) return EMB_OK;
    if (emb_hub_find(found, model, NULL) == EMB_OK) model = found;
    if (stat(model, &about) != 0) return EMB_OK;
    if (!S_ISDIR(about.st_mode) &&
        (!folder_of(model, folder, sizeof folder) || stat(folder, &about) != 0))
        return EMB_OK;
    if (!folder_of(output, folder, sizeof folder) || stat(folder, &beside) != 0) return EMB_OK;
    snprintf(above, sizeof above, "%s/..", folder); /* 1_Pooling/config.json */
    bool inside =
        same_file(&beside, &about) || (stat(above, &over) == 0 && same_file(&over, &about));
    if (!inside) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%.*s is a file of the model: it would be overwritten; choose another "
                        "name",
                        EMB_APP_CUT(output, 80));
}

emb_status emb_cli_check_output(const char *output, const char *const *inputs, uint32_t count,
                                emb_error *error) {
    uint32_t which;
    if (!output || !emb_output_is_input(output, inputs, count, &which)) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%.*s is the input %.*s: it would be overwritten; choose another name",
                        EMB_APP_CUT(output, 80), EMB_APP_CUT(inputs[which], 80));
}

emb_status emb_cli_check_stats(const char *stats, const char *output, const char *what,
                               emb_error *error) {
    if (!stats || !emb_output_is_same(stats, output)) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "--stats %.*s is also where the %s go (%.*s); choose another name",
                        EMB_APP_CUT(stats, 80), what, EMB_APP_CUT(output, 80));
}

/* Where a path leads, though its last part need not be there; without slashes at its end. */
static bool resolve(const char *path, char out[PATH_MAX]) {
    char whole[PATH_MAX], folder[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (length >= sizeof whole) return false;
    snprintf(whole, sizeof whole, "%.*s", (int)length, path);
    if (realpath(whole, out)) return true;
    const char *slash = strrchr(whole, '/'), *name = slash ? slash + 1 : whole;
    if (!folder_of(whole, folder, sizeof folder) || !realpath(folder, out)) return false;
    size_t used = strlen(out);
    int added = snprintf(out + used, PATH_MAX - used, "/%s", name);
    return added > 0 && (size_t)added < PATH_MAX - used;
}

emb_status emb_cli_check_inside(const char *option, const char *output, const char *directory,
                                emb_error *error) {
    char path[PATH_MAX], above[PATH_MAX];
    if (!output || !resolve(output, path)) return EMB_OK; /* what is nowhere fails by itself */
    if (!resolve(directory, above)) return EMB_OK;
    size_t length = strlen(above);
    bool inside = strncmp(path, above, length) == 0 && (!path[length] || path[length] == '/');
    if (!inside) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s %.*s is -o %.*s or in it, where the model alone may be; choose another "
                        "name",
                        option, EMB_APP_CUT(output, 80), EMB_APP_CUT(directory, 80));
}
