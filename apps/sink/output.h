/* output.h - an output file that appears under its name only when it is complete.
 *
 * Written as a hidden file in the same directory, locked against a second job, then synced and
 * renamed. "-" and special files (/dev/null, pipes) are written directly.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_OUTPUT_H
#define EMB_SINK_OUTPUT_H

#include <limits.h>
#include <stdbool.h>

#include "embound.h"

typedef struct emb_output {
    int descriptor;        /* -1: not open */
    bool direct;           /* no file of our own: nothing to rename or remove */
    bool closed_by_reader; /* EPIPE: the reader went away, which is no news to the user */
    uint32_t slot;
    uint64_t lines; /* direct: line ends written */
    char path[PATH_MAX];
    char temporary[PATH_MAX];
} emb_output;

/* Fails: EMB_IO (cannot be created), EMB_TIMEOUT (another job is writing it). */
emb_status emb_output_open(emb_output *output, const char *path, emb_error *error);

/* Once this descriptor is readable, writes that wait for a reader give up. -1: none. */
void emb_output_set_stop(int descriptor);

/* Write all bytes, through EINTR and short writes. Fail: EMB_IO, EMB_CANCELLED. */
emb_status emb_output_write(emb_output *output, const void *data, size_t length, emb_error *error);
emb_status emb_output_write_at(emb_output *output, const void *data, size_t length, uint64_t offset,
                               emb_error *error);

/* Syncs the file and gives it its name. Fails: EMB_IO (the temporary file is removed). */
emb_status emb_output_commit(emb_output *output, emb_error *error);

/* Removes what was written. Does nothing if the output is not open. */
void emb_output_abort(emb_output *output);

/* Removes the temporary files of every open output. Async-signal-safe, for a second signal. */
void emb_output_abort_all(void);

/* Would both outputs go into one file, whether it is there yet or not? Special files do not count,
 * standard output does. */
bool emb_output_is_same(const char *first, const char *second);

/* Is path the same file as one of these? Gives its index in `which`. */
bool emb_output_is_input(const char *path, const char *const *inputs, uint32_t count,
                         uint32_t *which);

#endif
