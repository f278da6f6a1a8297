/* file.h - files: complete ranges at an offset, nothing memory-mapped.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_FILE_H
#define EMB_BASE_FILE_H

#include <stdbool.h>

#include "embound.h"

/* Opens a regular file for reading (close-on-exec). Refuses directories, devices and FIFOs.
 * Gives its descriptor and size. Fails: EMB_NOT_FOUND, EMB_IO, EMB_BAD_FILE (not a file). */
emb_status emb_file_open(int *descriptor, uint64_t *bytes, const char *path, emb_error *error);
void emb_file_close(int descriptor);

/* Opens a file of a model, as emb_file_open does; a git-lfs pointer instead of the file is
 * EMB_BAD_FILE, with the remedy. */
emb_status emb_file_open_model(int *descriptor, uint64_t *bytes, const char *path,
                               emb_error *error);

/* Creates a new file for writing. Fails: EMB_IO. */
emb_status emb_file_create(int *descriptor, const char *path, emb_error *error);

/* Writes `length` bytes at `offset`, despite EINTR and short writes. Gives 0 or an errno, and in
 * *written (unless NULL) how many were written. */
int emb_file_write(int descriptor, const void *bytes, size_t length, uint64_t offset,
                   size_t *written);

/* The same, with a message. Fails: EMB_IO. */
emb_status emb_file_write_at(int descriptor, const void *buffer, size_t length, uint64_t offset,
                             const char *path, emb_error *error);

/* Syncs and closes a written file. Fails: EMB_IO; it is closed in any case. */
emb_status emb_file_finish(int descriptor, const char *path, emb_error *error);

/* Reads exactly `length` bytes at `offset`, despite EINTR and short reads. `path` is for messages.
 * Fails: EMB_IO; EMB_BAD_FILE if the file ends before (it was truncated after it was opened). */
emb_status emb_file_read_at(int descriptor, void *buffer, size_t length, uint64_t offset,
                            const char *path, emb_error *error);

/* Creates the folder `path` and its parents unless they exist, with these permissions less the
 * umask. Gives 0; or an errno, with `path` cut after the folder that cannot be created. */
int emb_file_make_folders(char *path, unsigned permissions);

/* Syncs a file written under a temporary name, renames it atomically, and syncs the folder. Both
 * paths are of one folder, and relative to `folder` (AT_FDCWD: the current one). Gives 0 or an
 * errno; the descriptor stays open. */
int emb_file_publish(int folder, int descriptor, const char *temporary, const char *path);

/* The same, including the writing: afterwards `path` holds these bytes, or still what it held
 * before. `lasts`: even after a power failure; else nothing is synced. Gives 0 or an errno; no
 * temporary file is left. */
int emb_file_replace(int folder, const char *temporary, const char *path, unsigned permissions,
                     const void *bytes, size_t length, bool lasts);

/* For emb_json_init: `user` is an emb_file_stream. */
typedef struct emb_file_stream {
    int descriptor;
    uint64_t offset, end; /* reads [offset, end) */
} emb_file_stream;
ptrdiff_t emb_file_stream_read(void *user, void *buffer, size_t capacity);

#endif
