/* suffix.h - what the end of a file name says, in either case.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_APPS_SUFFIX_H
#define EMB_APPS_SUFFIX_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* False for a name that is nothing but the suffix. */
static inline bool emb_app_has_suffix(const char *path, const char *suffix) {
    size_t path_length = strlen(path), length = strlen(suffix);
    return path_length > length && strcasecmp(path + path_length - length, suffix) == 0;
}

#endif
