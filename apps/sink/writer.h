/* writer.h - buffered text output over one fixed buffer: plain text, JSON strings and numbers.
 *
 * Errors stick: write freely, then ask emb_writer_flush. Allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SINK_WRITER_H
#define EMB_SINK_WRITER_H

#include "sink/output.h"

typedef struct emb_writer {
    emb_output *output;
    char *buffer;
    size_t capacity, used; /* capacity: at least 512 */
    emb_status status;
    emb_error error;
} emb_writer;

void emb_writer_init(emb_writer *writer, emb_output *output, void *buffer, size_t capacity);
void emb_writer_put(emb_writer *writer, const void *data, size_t length);
void emb_writer_text(emb_writer *writer, const char *text);

/* printf form; the outcome of one call is cut at 511 bytes. */
void emb_writer_format(emb_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void emb_writer_u64(emb_writer *writer, uint64_t value);

/* Nine significant digits: enough to read the same float back. NaN and infinity become null. */
void emb_writer_float(emb_writer *writer, float value);

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void emb_writer_string(emb_writer *writer, const char *text, size_t length);

/* Writes out what is buffered and gives the first error there was. */
emb_status emb_writer_flush(emb_writer *writer, emb_error *error);

#endif
