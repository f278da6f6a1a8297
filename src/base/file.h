/* file.h - files: whole ranges at an offset, and nothing mapped.
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

/* Opens a file of a model, as emb_file_open does; one that git-lfs has left a pointer in place of
 * is EMB_BAD_FILE, with the remedy. */
emb_status emb_file_open_model(int *descriptor, uint64_t *bytes, const char *path,
                               emb_error *error);

/* Makes a file that is not there yet, for writing. Fails: EMB_IO. */
emb_status emb_file_create(int *descriptor, const char *path, emb_error *error);

/* Writes `length` bytes at `offset`, through EINTR and short writes. Gives 0 or an errno, and in
 * *written (unless NULL) how many were. */
int emb_file_write(int descriptor, const void *bytes, size_t length, uint64_t offset,
                   size_t *written);

/* The same, with a message. Fails: EMB_IO. */
emb_status emb_file_write_at(int descriptor, const void *buffer, size_t length, uint64_t offset,
                             const char *path, emb_error *error);

/* Closes what was written, once it is on the disk. Fails: EMB_IO; closed all the same. */
emb_status emb_file_finish(int descriptor, const char *path, emb_error *error);

/* Reads exactly `length` bytes at `offset`, through EINTR and short reads. `path` is for messages.
 * Fails: EMB_IO; EMB_BAD_FILE if the file ends before (it was cut after it was opened). */
emb_status emb_file_read_at(int descriptor, void *buffer, size_t length, uint64_t offset,
                            const char *path, emb_error *error);

/* Makes the folder `path` and those above it, where they are not there, with these permissions less
 * the umask. Gives 0; or an errno, and `path` is then cut behind the folder that cannot be made. */
int emb_file_make_folders(char *path, unsigned permissions);

/* Gives a file that was written beside its place its name, in one step, once its bytes are on the
 * disk; and waits until the name is there too. Both paths are of one folder, and relative to
 * `folder` (AT_FDCWD: the current one). Gives 0 or an errno; the descriptor stays open. */
int emb_file_publish(int folder, int descriptor, const char *temporary, const char *path);

/* The same with the writing: `path` holds these bytes afterwards, or what it held before. `lasts`:
 * also if the power fails; else it costs no wait. Gives 0 or an errno; nothing is left behind. */
int emb_file_replace(int folder, const char *temporary, const char *path, unsigned permissions,
                     const void *bytes, size_t length, bool lasts);

/* For emb_json_init: `user` is an emb_file_stream. */
typedef struct emb_file_stream {
    int descriptor;
    uint64_t offset, end; /* reads [offset, end) */
} emb_file_stream;
ptrdiff_t emb_file_stream_read(void *user, void *buffer, size_t capacity);

#endif
