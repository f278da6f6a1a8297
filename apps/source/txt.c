/* txt.c - source of plain text: one text a line, or one text a file.
 *
 * Pieces point straight into the block that was read. NUL bytes are passed on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "source/pieces.h"

typedef struct text_file {
    unsigned char *buffer;
    size_t capacity, begin, end;
    bool carriage_return; /* the block before ended with one */
} text_file;

/* Reads the next block; at the end of a file, ends its last text and goes to the next file.
 * `done` is set when there is nothing left to read. */
static emb_status refill(emb_source *source, emb_piece_list *list, bool *done, emb_error *error) {
    text_file *own = source->own;
    if (source->file_open) {
        ptrdiff_t got = emb_input_read(&source->input, own->buffer, own->capacity);
        if (got < 0) return emb_input_fail(&source->input, error);
        own->begin = 0;
        own->end = (size_t)got;
        if (got > 0) return EMB_OK;
        source->file_open = false;
        if (own->carriage_return) emb_source_add(source, list, "\r", 1);
        own->carriage_return = false;
        if (source->begun || source->ops->whole) return emb_source_end(source, list, error);
    }
    emb_status status = emb_input_advance(&source->input, &source->file_open, error);
    *done = !source->file_open;
    source->line = 1;
    return status;
}

/* Gives the rest of the line at `begin`, or as much of it as the block holds. */
static emb_status take_line(emb_source *source, emb_piece_list *list, emb_error *error) {
    text_file *own = source->own;
    const unsigned char *start = own->buffer + own->begin;
    size_t available = own->end - own->begin;
    const unsigned char *newline = memchr(start, '\n', available);
    size_t length = newline ? (size_t)(newline - start) : available;
    bool split = own->carriage_return;
    own->carriage_return = false;
    if (split && !(newline && length == 0)) {
        emb_source_add(source, list, "\r", 1);
        source->return_inside = true;
    }
    size_t given = length;
    if (given && start[given - 1] == '\r') {
        given--;
        own->carriage_return = !newline;
    }
    if (given) emb_source_add(source, list, start, given);
    if (given && memchr(start, '\r', given)) source->return_inside = true;
    own->begin += length + (newline != NULL);
    if (!newline) return EMB_OK;
    emb_status status = emb_source_end(source, list, error);
    source->line++;
    return status;
}

static emb_status next_txt(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error) {
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    const bool whole = source->ops->whole;
    text_file *own = source->own;
    bool done = false;
    emb_status status = EMB_OK;
    while (!done && status == EMB_OK && !emb_piece_list_full(&list)) {
        if (own->begin == own->end) {
            if (list.count) break; /* the pieces point into the block */
            status = refill(source, &list, &done, error);
        } else if (whole) {
            emb_source_add(source, &list, own->buffer + own->begin, own->end - own->begin);
            own->begin = own->end;
        } else {
            status = take_line(source, &list, error);
        }
    }
    *count = list.count;
    return status;
}

static emb_status open_txt(emb_source *source, void *memory, size_t memory_bytes,
                           emb_error *error) {
    (void)error;
    text_file *own = source->own;
    own->buffer = memory;
    own->capacity = memory_bytes;
    return EMB_OK;
}

static size_t waiting(const emb_source *source) {
    const text_file *own = source->own;
    return own->end - own->begin;
}

const emb_source_ops emb_source_txt_ops = {
    .suffixes = (const char *const[]){".txt", ".text", NULL},
    .bytes = sizeof(text_file),
    .open = open_txt,
    .next = next_txt,
    .waiting = waiting,
};

const emb_source_ops emb_source_whole_ops = {
    .whole = true,
    .bytes = sizeof(text_file),
    .open = open_txt,
    .next = next_txt,
    .waiting = waiting,
};
