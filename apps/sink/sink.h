/* sink.h - the seam through which vectors go out: a sink receives rows in input order.
 *
 * Fed by collect. A row whose status is not EMB_OK is a failed row: NaN in an array, null in JSON.
 * A sink writes through one block of memory that it is given, and allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_SINK_H
#define EMB_SINK_SINK_H

#include "sink/registry.h"
#include "sink/writer.h"

typedef struct emb_sink emb_sink;

/* What a format is. */
typedef struct emb_sink_ops {
    const char *const *suffixes; /* of its files, NULL at the end */
    const char *needs_file;      /* why it cannot go to a pipe; NULL: it can */
    bool behind;                 /* nobody reads along: rows may be written when there is time */
    /* Bytes of its own memory, sink->own. NULL: none. */
    size_t (*bytes)(uint32_t dim);
    /* Begins the output, which is open. Fails: EMB_IO. NULL: there is nothing to do. */
    emb_status (*open)(emb_sink *sink, emb_error *error);
    /* Fails: EMB_IO. The rows are borrowed for the call. */
    emb_status (*rows)(emb_sink *sink, const emb_row *rows, uint32_t count, emb_error *error);
    /* Writes what is left, before the output gets its name. Fails: EMB_IO. */
    emb_status (*finish)(emb_sink *sink, emb_error *error);
} emb_sink_ops;

#define EMB_SINK_DECLARE(name, NAME) extern const emb_sink_ops emb_sink_##name##_ops;
EMB_SINKS(EMB_SINK_DECLARE, EMB_SINK_DECLARE)

struct emb_sink {
    const emb_sink_ops *ops;
    void *own; /* [bytes(dim)], aligned to 64 */
    emb_output output;
    emb_writer writer; /* to the output */
    uint32_t dim;
    uint64_t rows_written;
};

/* Bytes of memory that emb_sink_open wants, whatever the format: the plan may not know it. */
size_t emb_sink_bytes(uint32_t dim);

/* Chooses the format of a path. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_sink_choose_format(emb_sink_format *format, const char *path, emb_error *error);

/* Whether rows may be written when there is time (AUTO: it may turn out so). */
bool emb_sink_may_write_behind(emb_sink_format format);

/* Needs: memory of emb_sink_bytes(dim), aligned to 64.
 * Fails: EMB_IO (cannot be created), EMB_TIMEOUT (another job is writing it). */
emb_status emb_sink_open(emb_sink *sink, emb_sink_format format, const char *path, uint32_t dim,
                         void *memory, emb_error *error);

/* Writes rows, borrowed for the call. Fails: EMB_IO. */
emb_status emb_sink_rows(emb_sink *sink, const emb_row *rows, uint32_t count, emb_error *error);

/* Completes the output and renames it into place. Fails: EMB_IO, and then nothing is left. */
emb_status emb_sink_finish(emb_sink *sink, emb_error *error);

/* Discards the output. */
void emb_sink_abort(emb_sink *sink);

#endif
