/* tree.c - inspects folders, removes them with their contents, and clears what was left of others.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "package/directory.h"

/* Removes the files in a folder. Gives whether it has a subfolder, and then appends that to
 * `path`. */
static bool clear_folder(char *path, size_t capacity) {
    DIR *folder = opendir(path);
    if (!folder) return false;
    size_t length = strlen(path);
    bool inside = false;
    for (struct dirent *entry; !inside && (entry = readdir(folder)) != NULL;) {
        struct stat about;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int used = snprintf(path + length, capacity - length, "/%s", entry->d_name);
        bool whole = used > 0 && (size_t)used < capacity - length;
        inside = whole && lstat(path, &about) == 0 && S_ISDIR(about.st_mode);
        if (!inside) {
            if (whole) unlink(path);
            path[length] = 0;
        }
    }
    closedir(folder);
    return inside;
}

void emb_tree_remove(const char *path) {
    char at[EMB_DIRECTORY_PATH];
    size_t root = strlen(path);
    if (root == 0 || root >= sizeof at) return;
    memcpy(at, path, root + 1);
    for (;;) {
        if (clear_folder(at, sizeof at)) continue;
        if (rmdir(at) != 0 || strlen(at) == root) return;
        *strrchr(at, '/') = 0;
    }
}

emb_status emb_tree_empty(const char *path, bool *empty, emb_error *error) {
    uint32_t entries = 0;
    DIR *folder = opendir(path);
    if (!folder)
        return emb_error_set(error, errno == ENOMEM ? EMB_NO_MEMORY : EMB_IO,
                             "%s: is there already and cannot be read: %s", path, strerror(errno));
    while (readdir(folder)) entries++;
    closedir(folder);
    *empty = entries <= 2; /* "." and ".." */
    return EMB_OK;
}

/* Whether a name is `base`, ".tmp-" and the number of a process that is no more. */
static bool is_left(const char *name, const char *base) {
    size_t length = strlen(base);
    if (strncmp(name, base, length) != 0 || strncmp(name + length, ".tmp-", 5) != 0) return false;
    char *end;
    errno = 0;
    long process = strtol(name + length + 5, &end, 10);
    if (errno || *end || process < 1 || process > INT_MAX) return false;
    return kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

void emb_tree_clear(const char *path) {
    char found[EMB_DIRECTORY_PATH];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    int folder_length = slash ? (int)(slash - path) + 1 : 0;
    snprintf(found, sizeof found, "%.*s", folder_length, path);
    DIR *folder = *base ? opendir(slash ? found : ".") : NULL;
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct stat about;
        if (!is_left(entry->d_name, base)) continue;
        int used = snprintf(found, sizeof found, "%.*s%s", folder_length, path, entry->d_name);
        if (used <= 0 || (size_t)used >= sizeof found || lstat(found, &about) != 0) continue;
        if (S_ISDIR(about.st_mode))
            emb_tree_remove(found);
        else
            unlink(found);
    }
    closedir(folder);
}
