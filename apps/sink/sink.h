/* sink.h - the seam through which vectors go out: a sink receives rows in input order.
 *
 * Fed by collect. A row whose status is not EMB_OK is a failed row: NaN in an array, null in JSON.
 * A sink writes through one block of memory that it is given, and allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_SINK_H
#define EMB_SINK_SINK_H

#include "sink/writer.h"

typedef enum emb_sink_format {
    EMB_SINK_AUTO = 0, /* by the suffix of the output */
    EMB_SINK_NPY,      /* NumPy array, f32, [texts, dim] */
    EMB_SINK_JSONL     /* {"index":0,"embedding":[...],"tokens":9} a line */
} emb_sink_format;

typedef struct emb_sink emb_sink;

struct emb_sink {
    /* Fails: EMB_IO. The rows are borrowed for the call. */
    emb_status (*rows)(emb_sink *sink, const emb_row *rows, uint32_t count, emb_error *error);
    /* Completes the output and gives it its name. Fails: EMB_IO. */
    emb_status (*finish)(emb_sink *sink, emb_error *error);
    /* Leaves nothing behind. */
    void (*abort)(emb_sink *sink);

    emb_output output;
    emb_writer writer;
    uint32_t dim;
    uint64_t rows_written;
    float *not_a_number; /* npy: [dim], the row of a text that failed */
};

/* Bytes of memory that emb_sink_open wants. */
size_t emb_sink_bytes(uint32_t dim);

/* Chooses the format of a path. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_sink_choose_format(emb_sink_format *format, const char *path, emb_error *error);

/* Needs: memory of emb_sink_bytes(dim), aligned to 64.
 * Fails: EMB_IO (cannot be created), EMB_TIMEOUT (another job is writing it). */
emb_status emb_sink_open(emb_sink *sink, emb_sink_format format, const char *path, uint32_t dim,
                         void *memory, emb_error *error);

/* ---- for the sinks themselves ---------------------------------------------------------------- */

emb_status emb_sink_open_npy(emb_sink *sink, emb_error *error);
emb_status emb_sink_open_jsonl(emb_sink *sink, emb_error *error);

/* ---- the rows that failed: OUT.errors.jsonl -------------------------------------------------- */

typedef struct emb_error_log {
    char path[PATH_MAX]; /* empty: nothing is written */
    emb_output output;
    emb_writer writer;
    uint64_t count;
    char buffer[4096];
} emb_error_log;

/* Makes no file yet: it appears with the first error. path NULL: lines are only counted. */
void emb_error_log_init(emb_error_log *log, const char *output_path);

/* One line: {"index":..,"input":..,"line":..,"status":..,"message":..}. Fails: EMB_IO. */
emb_status emb_error_log_add(emb_error_log *log, uint64_t index, const char *input, uint64_t line,
                             emb_status status, const char *message, emb_error *error);

/* Completes the file; without errors, removes the one that an earlier run has left. */
emb_status emb_error_log_finish(emb_error_log *log, emb_error *error);
void emb_error_log_abort(emb_error_log *log);

#endif
