/* status.h - the file in which a running engine says what it does, and the reading of all of them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_STATUS_H
#define EMB_COMMON_STATUS_H

#include "embound.h"

#define EMB_STATUS_BYTES 4096
#define EMB_STATUS_MARKS 8

typedef struct emb_status_mark {
    uint64_t tokens;
    double seconds;
} emb_status_mark;

/* Whose engine it is. */
typedef struct emb_status_of {
    const emb_engine *engine;
    const emb_plan *plan;
    const char *model; /* its name */
} emb_status_of;

typedef struct emb_status_file {
    emb_status_of of;
    char *buffer;     /* [EMB_STATUS_BYTES] */
    int folder;       /* descriptor; -1: no file is kept */
    uint64_t started; /* of this process, in the system's ticks */
    double written;
    uint32_t writes;
    emb_status_mark marks[EMB_STATUS_MARKS]; /* the latest writes */
    char name[24], temporary[24];
} emb_status_file;

/* Makes the folder if need be and writes the file. Needs: buffer, an open engine. Fails: EMB_IO. */
emb_status emb_status_file_open(emb_status_file *file, const emb_status_of *of, emb_error *error);

/* Replaces the file if it is a second old. Where that fails, says so and gives up the file. */
void emb_status_file_write(emb_status_file *file);

/* Removes the file. Does nothing if there is none. */
void emb_status_file_close(emb_status_file *file);

/* Removes the file that is open, if any. Async-signal-safe, for a second signal. */
void emb_status_file_abort(void);

/* What such a file says. */
typedef struct emb_engine_status {
    uint64_t pid, started;
    char model[128], device[16], dtype[16];
    uint64_t host_bytes_planned, host_bytes_now, host_bytes_peak;
    uint64_t device_bytes_planned; /* per GPU; 0: none is used */
    uint64_t texts, tokens;
    double seconds, tokens_per_second; /* the latter over the last seconds */
    double age_seconds;                /* of the file */
} emb_engine_status;

/* Reads the files of this user's engines, by process number; removes those of dead processes. */
uint32_t emb_status_read_all(emb_engine_status *out, uint32_t capacity);

#endif
