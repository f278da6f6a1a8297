/* errors.h - the rows that failed, in OUT.errors.jsonl.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_ERRORS_H
#define EMB_SINK_ERRORS_H

#include "sink/writer.h"

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
