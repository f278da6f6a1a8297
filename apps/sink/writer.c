/* writer.c - the buffered writer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/writer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

/* Length of the valid UTF-8 sequence at `bytes`, or 0. */
static size_t sequence_length(const unsigned char *bytes, size_t available) {
    unsigned char c = bytes[0];
    if (c < 0x80) return 1;
    size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || available < length) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    }
    bool overlong = (c == 0xE0 && bytes[1] < 0xA0) || (c == 0xF0 && bytes[1] < 0x90);
    bool outside = (c == 0xED && bytes[1] > 0x9F) || (c == 0xF4 && bytes[1] > 0x8F);
    return overlong || outside ? 0 : length;
}

void emb_writer_string(emb_writer *writer, const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    emb_writer_put(writer, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = bytes[i];
        size_t sequence = sequence_length(bytes + i, length - i);
        if (c == '"' || c == '\\') {
            char escaped[2] = {'\\', (char)c};
            emb_writer_put(writer, escaped, 2);
        } else if (c < 0x20 || c == 0x7F) {
            emb_writer_format(writer, "\\u%04x", c);
        } else if (sequence == 0) {
            emb_writer_text(writer, "\xEF\xBF\xBD");
        } else {
            emb_writer_put(writer, bytes + i, sequence);
        }
        i += sequence ? sequence : 1;
    }
    emb_writer_put(writer, "\"", 1);
}
