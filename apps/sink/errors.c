/* errors.c - OUT.errors.jsonl: one line for each row that failed, and why.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/errors.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"

void emb_error_log_init(emb_error_log *log, const char *output_path) {
    log->path[0] = '\0';
    log->count = 0;
    log->output.descriptor = -1;
    if (!output_path) return;
    int length = snprintf(log->path, sizeof log->path, "%s.errors.jsonl", output_path);
    if (length >= (int)sizeof log->path) log->path[0] = '\0';
}

emb_status emb_error_log_add(emb_error_log *log, uint64_t index, const char *input, uint64_t line,
                             emb_status status, const char *message, emb_error *error) {
    log->count++;
    if (!log->path[0]) return EMB_OK;
    if (log->output.descriptor < 0) {
        EMB_APP_TRY(emb_output_open(&log->output, log->path, error));
        emb_writer_init(&log->writer, &log->output, log->buffer, sizeof log->buffer);
    }
    emb_writer *writer = &log->writer;
    const char *name = emb_status_name(status);
    emb_writer_text(writer, "{\"index\":");
    emb_writer_u64(writer, index);
    emb_writer_text(writer, ",\"input\":");
    emb_writer_string(writer, input, strlen(input));
    emb_writer_text(writer, ",\"line\":");
    emb_writer_u64(writer, line);
    emb_writer_text(writer, ",\"status\":");
    emb_writer_string(writer, name, strlen(name));
    emb_writer_text(writer, ",\"message\":");
    emb_writer_string(writer, message, strlen(message));
    emb_writer_text(writer, "}\n");
    if (writer->status != EMB_OK && error) *error = writer->error;
    return writer->status;
}

emb_status emb_error_log_finish(emb_error_log *log, emb_error *error) {
    if (!log->path[0]) return EMB_OK;
    if (log->output.descriptor >= 0) {
        emb_status status = emb_writer_flush(&log->writer, error);
        if (status == EMB_OK) return emb_output_commit(&log->output, error);
        emb_output_abort(&log->output);
        return status;
    }
    if (unlink(log->path) != 0 && errno != ENOENT) {
        return emb_app_fail(error, EMB_IO, "%.*s: of an earlier run, cannot be removed: %s",
                            EMB_APP_CUT(log->path, 200), strerror(errno));
    }
    return EMB_OK;
}

void emb_error_log_abort(emb_error_log *log) {
    emb_output_abort(&log->output);
}
