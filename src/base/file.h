/* file.h - files: whole ranges at an offset, and nothing mapped.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_FILE_H
#define EMB_BASE_FILE_H

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

/* Writes exactly `length` bytes at `offset`, through EINTR and short writes. Fails: EMB_IO. */
emb_status emb_file_write_at(int descriptor, const void *buffer, size_t length, uint64_t offset,
                             const char *path, emb_error *error);

/* Closes what was written, once it is on the disk. Fails: EMB_IO; closed all the same. */
emb_status emb_file_finish(int descriptor, const char *path, emb_error *error);

/* Reads exactly `length` bytes at `offset`, through EINTR and short reads. `path` is for messages.
 * Fails: EMB_IO; EMB_BAD_FILE if the file ends before (it was cut after it was opened). */
emb_status emb_file_read_at(int descriptor, void *buffer, size_t length, uint64_t offset,
                            const char *path, emb_error *error);

/* For emb_json_init: `user` is an emb_file_stream. */
typedef struct emb_file_stream {
    int descriptor;
    uint64_t offset, end; /* reads [offset, end) */
} emb_file_stream;
ptrdiff_t emb_file_stream_read(void *user, void *buffer, size_t capacity);

#endif
