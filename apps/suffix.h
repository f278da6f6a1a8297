/* suffix.h - file name suffixes, and shortening paths for messages.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_APPS_SUFFIX_H
#define EMB_APPS_SUFFIX_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Ignores case. False for a name that consists only of the suffix. */
static inline bool emb_app_has_suffix(const char *path, const char *suffix) {
    size_t path_length = strlen(path), length = strlen(suffix);
    return path_length > length && strcasecmp(path + path_length - length, suffix) == 0;
}

/* The path, or as much of its end as fits a message of one line. */
static inline const char *emb_app_path_tail(const char *path) {
    const size_t most = 64;
    size_t length = strlen(path);
    if (length <= most) return path;
    const char *tail = path + length - most, *slash = strchr(tail, '/');
    return slash && slash[1] ? slash + 1 : tail;
}

#endif
