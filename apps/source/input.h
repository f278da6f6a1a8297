/* input.h - the input files of a job, read one after another: "-" is standard input.
 *
 * Feeds every source. Passes over a byte order mark of UTF-8 at the start of each file, and refuses
 * a file that holds no text (content.h), or whose lines end in CR alone. Allocates nothing.
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
    bool whole; /* not read by lines, so that their ends do not matter; may be set after open */
    /* Called when nothing can be read now, before it is waited for; false gives up. NULL: none. */
    bool (*idle)(void *user);
    void *idle_user;
    uint32_t next;       /* file that emb_input_advance opens; the one being read is next - 1 */
    int descriptor;      /* -1: none is open */
    int stop_descriptor; /* becomes readable when the job is to stop; -1: none */
    bool at_start;       /* nothing of the open file was given yet */
    bool stopped;        /* a read was given up because of stop_descriptor or idle */
    ptrdiff_t failed;    /* what the read that failed gave; 0: none did */
    emb_error refusal;   /* why the open file is refused; an empty message: it is not */
    bool feed_seen;      /* the open file has a line feed, so far */
    bool return_alone;   /* and a CR that stands before something else */
    bool return_last;    /* the bytes before ended in a CR */
    char beginning[25];  /* the first bytes of the open file, up to the end of a line */
    uint64_t file_bytes; /* read of the open file */
    uint64_t bytes_read;
    uint64_t bytes_total; /* of all files; 0 if one of them has no size (a pipe) */
} emb_input;

/* Checks that every file can be read and seems to hold text, before any work. Opens none of them
 * for good. Fails: EMB_NOT_FOUND (missing, unreadable, a directory), EMB_BAD_FILE (no text). */
emb_status emb_input_open(emb_input *input, const char *const *paths, uint32_t count,
                          int stop_descriptor, emb_error *error);

/* Closes the open file and opens the next; `more` is false when none is left.
 * Fails: EMB_NOT_FOUND. */
emb_status emb_input_advance(emb_input *input, bool *more, emb_error *error);

/* Like read(2) on the open file, through EINTR: bytes, 0 at its end, or -errno (-EINTR: stopped,
 * -EILSEQ: refused). In the form that emb_json_init takes: `user` is the emb_input. */
ptrdiff_t emb_input_read(void *user, void *buffer, size_t capacity);

/* The bytes of a regular file that are `ahead` bytes after those that were read; they stay unread.
 * Gives their count, 0 at its end, or -errno (-ESPIPE: no regular file, -EINTR: stopped). */
ptrdiff_t emb_input_peek(const emb_input *input, uint64_t ahead, void *buffer, size_t capacity);

/* Can something (or the end) be read within so many milliseconds? */
bool emb_input_readable(const emb_input *input, int timeout_ms);

/* Turns the read that failed into a status and a message that names the file:
 * EMB_CANCELLED, EMB_BAD_FILE (refused), EMB_NOT_FOUND. */
emb_status emb_input_fail(const emb_input *input, emb_error *error);

/* A file as the user named it ("standard input" for "-"). */
const char *emb_input_name(const emb_input *input, uint32_t index);

/* The file being read, as a message of one line shows it. */
const char *emb_input_shown(const emb_input *input);

void emb_input_close(emb_input *input);

#endif
