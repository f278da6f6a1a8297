/* external.c - commands that are programs of their own (embound-serve, ...), and finding models.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

void emb_cli_run_external(const char *name, char **arguments) {
    char path[PATH_MAX], program[256];
    if (strchr(name, '/') ||
        snprintf(program, sizeof program, "embound-%s", name) >= (int)sizeof program) {
        return;
    }
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof program - 1);
    if (length > 0) {
        path[length] = '\0';
        char *slash = strrchr(path, '/');
        memcpy(slash ? slash + 1 : path, program, strlen(program) + 1);
        execv(path, arguments);
    }
    execvp(program, arguments);
}

static bool is_there(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

/* Where the standard hub cache is, as its own tools decide it. */
static bool cache_directory(char *out, size_t capacity) {
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *value = getenv(places[i].variable);
        if (value && *value) {
            return snprintf(out, capacity, "%s%s", value, places[i].below) < (int)capacity;
        }
    }
    return false;
}

/* The revision that refs/main names. */
static bool read_revision(const char *path, char *out, size_t capacity) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    ssize_t length = read(descriptor, out, capacity - 1);
    close(descriptor);
    if (length <= 0) return false;
    out[length] = '\0';
    out[strcspn(out, " \r\n\t/")] = '\0';
    return out[0] != '\0';
}

/* Builds CACHE/models--ORG--NAME/snapshots/REVISION. */
static bool find_snapshot(const char *cache, const char *organisation, const char *name, char *out,
                          size_t capacity) {
    char path[PATH_MAX], revision[128];
    const char *dashes = *organisation ? "--" : "";
    if (snprintf(path, sizeof path, "%.3000s/models--%.200s%s%.200s/refs/main", cache, organisation,
                 dashes, name) >= (int)sizeof path ||
        !read_revision(path, revision, sizeof revision)) {
        return false;
    }
    return snprintf(out, capacity, "%.3000s/models--%.200s%s%.200s/snapshots/%s", cache,
                    organisation, dashes, name, revision) < (int)capacity &&
           is_there(out);
}

const char *emb_cli_find_model(const char *name, char *out, size_t capacity) {
    char cache[PATH_MAX], organisation[201];
    if (is_there(name) || name[0] == '/' || name[0] == '.' ||
        !cache_directory(cache, sizeof cache)) {
        return name;
    }
    const char *slash = strchr(name, '/');
    if (slash) {
        if (strchr(slash + 1, '/') || slash - name > 200) return name;
        memcpy(organisation, name, (size_t)(slash - name));
        organisation[slash - name] = '\0';
        return find_snapshot(cache, organisation, slash + 1, out, capacity) ? out : name;
    }
    if (find_snapshot(cache, "sentence-transformers", name, out, capacity)) return out;
    return find_snapshot(cache, "", name, out, capacity) ? out : name;
}
