/* tensorboard.h - scalars as an event file of TensorBoard: records of a length, an Event in
 * protocol buffers, and checksums (TFRecord).
 *
 * Feeds whoever watches a training. Allocates nothing; every record is in the file at once.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_TENSORBOARD_H
#define EMB_SINK_TENSORBOARD_H

#include "embound.h"

enum { EMB_TENSORBOARD_TAG = 40 }; /* characters of a tag, at most */

typedef struct emb_tensorboard {
    int descriptor; /* -1: not open */
    uint64_t at;    /* bytes written */
    char path[1024];
} emb_tensorboard;

typedef struct emb_tensorboard_scalar {
    const char *tag;
    double value;
} emb_tensorboard_scalar;

/* Makes the directory unless it is there, and a new file in it. Fails: EMB_IO. */
emb_status emb_tensorboard_open(emb_tensorboard *out, const char *directory, emb_error *error);

/* Adds scalars of a step, eight at most. Fails: EMB_IO. */
emb_status emb_tensorboard_add(emb_tensorboard *out, uint64_t step,
                               const emb_tensorboard_scalar *scalars, uint32_t count,
                               emb_error *error);

void emb_tensorboard_close(emb_tensorboard *out);

#endif
