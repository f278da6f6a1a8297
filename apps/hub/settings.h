/* settings.h - what the environment says of the hub, by the names its own tools use.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_SETTINGS_H
#define EMB_HUB_SETTINGS_H

#include <limits.h>
#include <stdbool.h>

#include "embound.h"

typedef struct emb_hub_settings {
    char cache[PATH_MAX];
    char endpoint[512];      /* without a slash at its end */
    char token[512];         /* empty: none */
    const char *authorities; /* file with certificates, of the environment; NULL: the system's */
    bool offline, copies;    /* copies: no symbolic links in the cache */
    uint32_t ask_seconds, data_seconds;
} emb_hub_settings;

/* Only the cache's path: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub,
 * XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub. false: there is none, or it does not
 * fit (PATH_MAX bytes). */
bool emb_hub_cache_path(char *out);

/* Everything. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_hub_settings_read(emb_hub_settings *out, emb_error *error);

/* Whether the environment has this name set to 1, on, yes or true. */
bool emb_hub_is_set(const char *variable);

#endif
