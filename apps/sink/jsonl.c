/* jsonl.c - sink of JSON Lines: one object a text, in input order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "sink/sink.h"

static void write_row(emb_sink *sink, const emb_row *row) {
    emb_writer *writer = &sink->writer;
    emb_writer_text(writer, "{\"index\":");
    emb_writer_u64(writer, sink->rows_written);
    emb_writer_text(writer, ",\"embedding\":");
    if (row->status != EMB_OK) {
        const char *name = emb_status_name(row->status);
        emb_writer_text(writer, "null,\"error\":");
        emb_writer_string(writer, name, strlen(name));
    } else {
        for (uint32_t i = 0; i < sink->dim; i++) {
            emb_writer_put(writer, i ? "," : "[", 1);
            emb_writer_float(writer, row->values[i]);
        }
        emb_writer_put(writer, "]", 1);
    }
    emb_writer_text(writer, ",\"tokens\":");
    emb_writer_u64(writer, row->tokens);
    emb_writer_text(writer, "}\n");
}

static emb_status jsonl_rows(emb_sink *sink, const emb_row *rows, uint32_t count,
                             emb_error *error) {
    for (uint32_t i = 0; i < count; i++) {
        write_row(sink, &rows[i]);
        sink->rows_written++;
    }
    /* who reads along from a pipe wants rows as they are ready; a file is written in blocks */
    if (sink->output.direct) return emb_writer_flush(&sink->writer, error);
    if (sink->writer.status != EMB_OK && error) *error = sink->writer.error;
    return sink->writer.status;
}

static emb_status jsonl_finish(emb_sink *sink, emb_error *error) {
    return emb_writer_flush(&sink->writer, error);
}

const emb_sink_ops emb_sink_jsonl_ops = {
    .suffixes = (const char *const[]){".jsonl", ".ndjson", NULL},
    .rows = jsonl_rows,
    .finish = jsonl_finish,
};
