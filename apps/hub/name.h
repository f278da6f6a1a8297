/* name.h - names of models on the hub: "org/name@revision".
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_NAME_H
#define EMB_HUB_NAME_H

#include <stdbool.h>

#include "embound.h"

typedef struct emb_hub_name {
    char repo[200];     /* "org/name", or "name" */
    char revision[128]; /* branch, tag or commit; "main" if none was stated */
} emb_hub_name;

/* revision: NULL, or instead of what stands after @. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_hub_name_parse(emb_hub_name *out, const char *text, const char *revision,
                              emb_error *error);

/* Whether it is the whole hash of a commit. */
bool emb_hub_is_commit(const char *revision);

/* Whether embound needs this file of a repository. Refuses every path that leads elsewhere. */
bool emb_hub_wants_file(const char *path);

#endif
