/* tree.c - inspects folders, and removes them with their contents.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
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

bool emb_tree_empty(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return false;
    uint32_t entries = 0;
    while (readdir(folder)) entries++;
    closedir(folder);
    return entries <= 2; /* "." and ".." */
}
