/* input.h - the input files of a job, read one after another: "-" is standard input.
 *
 * Feeds every source. Skips a byte order mark at the start of each file. Allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_INPUT_H
#define EMB_SOURCE_INPUT_H

#include <stdbool.h>
#include <sys/types.h>

#include "embound.h"

typedef struct emb_input {
    const char *const *paths; /* [count], the caller's */
    uint32_t count;
    uint32_t next;       /* file that emb_input_advance opens; the one being read is next - 1 */
    int descriptor;      /* -1: none is open */
    int stop_descriptor; /* becomes readable when the job is to stop; -1: none */
    bool at_start;       /* nothing of the open file was given yet */
    bool stopped;        /* a read was given up because of stop_descriptor */
    uint64_t bytes_read;
    uint64_t bytes_total; /* of all files; 0 if one of them has no size (a pipe) */
} emb_input;

/* Checks that every file can be read, before any work. Opens none of them for good.
 * Fails: EMB_NOT_FOUND (missing, unreadable, a directory). */
emb_status emb_input_open(emb_input *input, const char *const *paths, uint32_t count,
                          int stop_descriptor, emb_error *error);

/* Closes the open file and opens the next; `more` is false when none is left.
 * Fails: EMB_NOT_FOUND. */
emb_status emb_input_advance(emb_input *input, bool *more, emb_error *error);

/* Like read(2) on the open file, through EINTR: bytes, 0 at its end, or -errno (-EINTR: stopped).
 * In the form that emb_json_init takes: `user` is the emb_input. */
ptrdiff_t emb_input_read(void *user, void *buffer, size_t capacity);

/* Turns a failed read into a status and a message that names the file. */
emb_status emb_input_fail(const emb_input *input, ptrdiff_t result, emb_error *error);

/* The file being read, as the user named it ("standard input" for "-"). */
const char *emb_input_name(const emb_input *input, uint32_t index);

void emb_input_close(emb_input *input);

#endif
