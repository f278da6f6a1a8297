/* writer.c - the buffered writer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/writer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json_text.h"

void emb_writer_init(emb_writer *writer, emb_output *output, void *buffer, size_t capacity) {
    memset(writer, 0, sizeof *writer);
    writer->output = output;
    writer->buffer = buffer;
    writer->capacity = capacity;
}

emb_status emb_writer_flush(emb_writer *writer, emb_error *error) {
    if (writer->status == EMB_OK && writer->used) {
        writer->status =
            emb_output_write(writer->output, writer->buffer, writer->used, &writer->error);
    }
    writer->used = 0;
    if (writer->status != EMB_OK && error) *error = writer->error;
    return writer->status;
}

void emb_writer_put(emb_writer *writer, const void *data, size_t length) {
    for (const char *bytes = data; length;) {
        if (writer->used == writer->capacity) emb_writer_flush(writer, NULL);
        size_t room = writer->capacity - writer->used;
        size_t taken = length < room ? length : room;
        memcpy(writer->buffer + writer->used, bytes, taken);
        writer->used += taken;
        bytes += taken;
        length -= taken;
    }
}

void emb_writer_text(emb_writer *writer, const char *text) {
    emb_writer_put(writer, text, strlen(text));
}

void emb_writer_format(emb_writer *writer, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text) length = sizeof text - 1;
    if (length > 0) emb_writer_put(writer, text, (size_t)length);
}

void emb_writer_u64(emb_writer *writer, uint64_t value) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    emb_writer_put(writer, digits + at, sizeof digits - at);
}

void emb_writer_float(emb_writer *writer, float value) {
    if (!isfinite(value)) {
        emb_writer_text(writer, "null");
        return;
    }
    char text[24];
    int length = snprintf(text, sizeof text, "%.9g", (double)value);
    emb_writer_put(writer, text, (size_t)length);
}

void emb_writer_string(emb_writer *writer, const char *text, size_t length) {
    char escaped[EMB_JSON_ESCAPED_MAX];
    emb_writer_put(writer, "\"", 1);
    for (size_t used; length; text += used, length -= used)
        emb_writer_put(writer, escaped, emb_json_escape(escaped, text, length, &used));
    emb_writer_put(writer, "\"", 1);
}
