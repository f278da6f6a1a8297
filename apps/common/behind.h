/* behind.h - write-behind: rows are written by a thread while the caller goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_BEHIND_H
#define EMB_COMMON_BEHIND_H

#include <pthread.h>

#include "sink/sink.h"

#define EMB_BEHIND_STACK_BYTES (128u << 10)

/* A thread that hands rows to a sink. Guarded by the mutex, but for `open` and `sink`. */
typedef struct emb_behind {
    bool open;
    emb_sink *sink;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    const emb_row *rows;
    uint32_t count; /* 0: nothing to write */
    bool stop;
    emb_status status; /* of the rows before; sticky */
    emb_error error;
} emb_behind;

/* Bytes of memory that open needs. */
uint64_t emb_behind_bytes(void);
emb_status emb_behind_open(emb_behind *behind, emb_sink *sink, void *memory, emb_error *error);

/* Hands rows over; they stay borrowed until settled. Fails as the rows before did. */
emb_status emb_behind_rows(emb_behind *behind, const emb_row *rows, uint32_t count,
                           emb_error *error);

/* Waits until no rows are borrowed. Fails: EMB_IO. */
emb_status emb_behind_settle(emb_behind *behind, emb_error *error);
void emb_behind_close(emb_behind *behind);

#endif
