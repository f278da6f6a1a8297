/* txt.c - source of plain text: one text a line, or one text a file.
 *
 * Pieces point straight into the block that was read. NUL bytes are passed on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "source/source.h"

/* Reads the next block; at the end of a file, ends its last text and goes to the next file.
 * `done` is set when there is nothing left to read. */
static emb_status refill(emb_source *source, emb_piece_list *list, bool *done, emb_error *error) {
    bool whole = source->options.format == EMB_SOURCE_WHOLE;
    if (source->file_open) {
        ptrdiff_t got = emb_input_read(&source->input, source->buffer, source->capacity);
        if (got < 0) return emb_input_fail(&source->input, error);
        source->begin = 0;
        source->end = (size_t)got;
        if (got > 0) return EMB_OK;
        source->file_open = false;
        if (source->carriage_return) emb_source_add(source, list, "\r", 1);
        source->carriage_return = false;
        if (source->begun || whole) return emb_source_end(source, list, error);
    }
    emb_status status = emb_input_advance(&source->input, &source->file_open, error);
    *done = !source->file_open;
    source->line = 1;
    return status;
}

/* Gives the rest of the line that stands at `begin`, or as much of it as the block holds. */
static emb_status take_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    const unsigned char *start = source->buffer + source->begin;
    size_t available = source->end - source->begin;
    const unsigned char *newline = memchr(start, '\n', available);
    size_t length = newline ? (size_t)(newline - start) : available;
    bool split = source->carriage_return;
    source->carriage_return = false;
    if (split && !(newline && length == 0)) {
        emb_source_add(source, list, "\r", 1);
        source->return_inside = true;
    }
    size_t given = length;
    if (given && start[given - 1] == '\r') {
        given--;
        source->carriage_return = !newline;
    }
    if (given) emb_source_add(source, list, start, given);
    if (given && memchr(start, '\r', given)) source->return_inside = true;
    source->begin += length + (newline != NULL);
    if (!newline) return EMB_OK;
    emb_status status = emb_source_end(source, list, error);
    source->line++;
    return status;
}

emb_status emb_source_next_txt(emb_source *source, emb_piece *pieces, uint32_t capacity,
                               uint32_t *count, emb_error *error) {
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    bool whole = source->options.format == EMB_SOURCE_WHOLE, done = false;
    emb_status status = EMB_OK;
    while (!done && status == EMB_OK && !emb_piece_list_full(&list)) {
        if (source->begin == source->end) {
            if (list.count) break; /* the pieces point into the block */
            status = refill(source, &list, &done, error);
        } else if (whole) {
            emb_source_add(source, &list, source->buffer + source->begin,
                           source->end - source->begin);
            source->begin = source->end;
        } else {
            status = take_line(source, &list, error);
        }
    }
    *count = list.count;
    return status;
}
