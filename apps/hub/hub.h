/* hub.h - models by name: found in the standard cache of the Hugging Face hub, and pulled into it.
 *
 * The cache is shared with other programs: they find what is pulled here, and what they have pulled
 * is found here. For the command line and the Python package; links with the static core.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_HUB_H
#define EMB_HUB_HUB_H

#include <limits.h>
#include <stdbool.h>

#include "embound.h"

/* Gives in `out` (PATH_MAX bytes) where the model is: `model` itself if there is such a path or it
 * can be nothing but a path, else its snapshot in the cache. Reads no file but a ref.
 * model: "path", "org/name", "name" (of sentence-transformers), each with "@revision" or without.
 * Fails: EMB_NOT_FOUND (a name that is not in the cache; the message says how to pull it).
 * Threads: any. */
emb_status emb_hub_find(char *out, const char *model, emb_error *error);

typedef struct emb_hub_progress {
    const char *file;                 /* that comes now */
    uint64_t file_bytes, file_total;  /* of it: there, in all */
    uint64_t bytes, total;            /* of all files */
    uint32_t files_done, files_count; /* 0 files: the list is asked for */
} emb_hub_progress;

/* What emb_hub_pull is asked for; zero is a good default. */
typedef struct emb_hub_request {
    const char *revision; /* branch, tag or commit; NULL: what stands after @, else main */
    bool offline;         /* as HF_HUB_OFFLINE: only look whether it is there */
    /* Called several times a second with `user`; anything but 0 cancels. May be NULL. */
    int (*progress)(void *user, const emb_hub_progress *progress);
    void *user;
} emb_hub_request;

typedef struct emb_hub_pulled {
    char path[PATH_MAX]; /* the snapshot: what emb_model_open takes */
    char repo[200];      /* "org/name" */
    char commit[41];
    uint32_t files;
    uint64_t bytes, bytes_fetched; /* of all files; over the network */
} emb_hub_pulled;

/* Whether HF_HUB_DISABLE_PROGRESS_BARS asks for no moving lines. */
bool emb_hub_wants_silence(void);

/* Brings the files of a model that embound needs into the cache: configuration, tokenizer, modules
 * and safetensors. Every file is checked against the hub's SHA-256 or git SHA-1 before it gets its
 * name, the snapshot appears when all are there, and a file that was cut is resumed.
 * Environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the other names of the hub's own tools.
 * Needs: libcurl.so.4, opened here; takes memory; waits for other pulls of the same files.
 * Fails: EMB_INVALID_ARGUMENT (name), EMB_NOT_FOUND (no such model, revision, or no access),
 * EMB_UNSUPPORTED (no libcurl; no safetensors), EMB_BAD_FILE (checksum, malformed answer), EMB_IO
 * (cache cannot be written, disk full), EMB_TIMEOUT (network or hub: try again), EMB_CANCELLED.
 * Threads: any. */
emb_status emb_hub_pull(emb_hub_pulled *out, const char *name, const emb_hub_request *request,
                        emb_error *error);

#endif
