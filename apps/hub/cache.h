/* cache.h - the hub cache on disk: blobs by checksum, snapshots of links to them, refs, locks.
 *
 * models--org--name/{blobs/ETAG, snapshots/COMMIT/FILE -> blobs, refs/REVISION}, .locks/
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_CACHE_H
#define EMB_HUB_CACHE_H

#include "hub/hub.h"
#include "hub/name.h"

/* Joins in printf form (PATH_MAX bytes). Fails: EMB_INVALID_ARGUMENT (too long). */
emb_status emb_hub_path(char *out, emb_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The folder of a model in the cache: CACHE/models--org--name, or with another `above` such as
 * "/.locks". Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_hub_folder(char *out, const char *cache, const char *above, const char *repo,
                          emb_error *error);

/* The snapshot of name->revision below that folder, if it is there. commit: 41 bytes. */
bool emb_hub_snapshot(char *out, char *commit, const char *folder, const emb_hub_name *name);

/* Makes every folder on a path. Fails: EMB_IO. */
emb_status emb_hub_make_folders(const char *path, emb_error *error);

/* Writes a small file atomically, unless it holds these bytes. The temporary file of a killed
 * process is overwritten, so two processes that write it at the same time need a lock. Fails:
 * EMB_IO. */
emb_status emb_hub_write_file(const char *path, const char *text, emb_error *error);

/* Gives the blob a name in a snapshot, at once: a relative symbolic link, or with copies (or where
 * links are refused) the file itself. Needs a lock as above. Fails: EMB_IO. */
emb_status emb_hub_link(const char *name, const char *blob, bool copies, emb_error *error);

/* Bytes of a regular file, links followed; UINT64_MAX: there is none. */
uint64_t emb_hub_file_bytes(const char *path);

/* Bytes that can still be written below a folder; UINT64_MAX: it does not say. */
uint64_t emb_hub_free_bytes(const char *folder);

/* Takes the lock that the hub's own tools also take (flock); waits for it. Gives a descriptor that
 * emb_hub_unlock closes. tick: called meanwhile, anything but 0 cancels.
 * Fails: EMB_IO, EMB_CANCELLED. */
emb_status emb_hub_lock(int *descriptor, const char *path, int (*tick)(void *user), void *user,
                        emb_error *error);
void emb_hub_unlock(int descriptor);

/* What errno means for the cache, and what helps. Gives EMB_IO. */
emb_status emb_hub_io_error(const char *what, const char *path, emb_error *error);

#endif
