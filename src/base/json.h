/* json.h - strict JSON (RFC 8259), read as a stream of events through a fixed buffer.
 *
 * Allocates nothing: memory does not depend on the document. Serves safetensors headers, tokenizer
 * and configuration files, JSON Lines and request bodies. Depends only on error.c, so that apps can
 * use it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_JSON_H
#define EMB_BASE_JSON_H

#include <stdbool.h>

#include "embound.h"

#define EMB_JSON_DEPTH_MAX  64
#define EMB_JSON_BUFFER_MIN 64

typedef enum emb_json_event {
    EMB_JSON_END = 0, /* the document (in lines mode: all documents) ended */
    EMB_JSON_OBJECT_BEGIN,
    EMB_JSON_OBJECT_END,
    EMB_JSON_ARRAY_BEGIN,
    EMB_JSON_ARRAY_END,
    EMB_JSON_KEY,    /* text, in pieces */
    EMB_JSON_STRING, /* text, in pieces */
    EMB_JSON_NUMBER, /* text: its first 63 characters; number_cut: there were more */
    EMB_JSON_TRUE,
    EMB_JSON_FALSE,
    EMB_JSON_NULL,
    EMB_JSON_LINE_END /* lines mode only: the document of this line is complete */
} emb_json_event;

/* Like read(2): bytes, 0 at the end, or -errno. */
typedef ptrdiff_t (*emb_json_read)(void *user, void *buffer, size_t capacity);

typedef struct emb_json {
    emb_json_read read;
    void *user;
    unsigned char *buffer;
    size_t capacity, begin, end;
    bool lines;          /* JSON Lines: one document per line, blank lines skipped */
    uint64_t line;       /* 1-based */
    uint64_t line_bytes; /* of that line, before buffer[begin]; the place that errors name */
    uint32_t depth;
    uint8_t kinds[EMB_JSON_DEPTH_MAX]; /* of the open containers */
    uint8_t state;
    bool at_end; /* read gave 0 and is not called again */
    /* of the latest KEY, STRING or NUMBER: unescaped UTF-8, valid until the next call. A string
     * that does not fit the buffer (quotes and escapes included) comes in several events of the
     * same kind; text_last marks the last. A lone surrogate escape becomes U+FFFD and sets
     * text_replaced. Bytes above 0x7F are passed on as they are (UTF-8 is checked only if
     * utf8_strict, and then no piece ends inside a character). */
    const char *text;
    size_t text_length;
    bool text_first, text_last, text_replaced, number_cut;
    bool utf8_strict;
    char number[64];
} emb_json;

/* buffer: at least EMB_JSON_BUFFER_MIN bytes, the caller's, for the reader's whole life. */
void emb_json_init(emb_json *json, void *buffer, size_t capacity, emb_json_read read, void *user);

/* Gives the next event. Fails: EMB_BAD_FILE with the line and the byte in it, both from 1, in the
 * message (malformed, too deep, invalid UTF-8 where strict), EMB_IO. After a failure in lines mode,
 * emb_json_skip_line resumes. */
emb_status emb_json_next(emb_json *json, emb_json_event *event, emb_error *error);

/* After KEY, OBJECT_BEGIN or ARRAY_BEGIN: skips the value that follows, or the rest of the
 * container just entered. After a STRING that is not its last piece: skips the other pieces. */
emb_status emb_json_skip(emb_json *json, emb_error *error);

/* Lines mode: skips to the start of the next line, whatever is in between. The newline of a
 * document is not yet read at its LINE_END: `line` still names it, and there this call does no more
 * than the next emb_json_next. */
emb_status emb_json_skip_line(emb_json *json, emb_error *error);

/* Collects the rest of the KEY or STRING just begun into out (NUL-terminated, at most capacity - 1
 * bytes; embedded NULs are kept, see length). Fails: EMB_BAD_FILE if it is longer. */
emb_status emb_json_string(emb_json *json, char *out, size_t capacity, size_t *length,
                           emb_error *error);

/* Read the next value, which must be of that kind. `key` is for messages.
 * Fails: EMB_BAD_FILE (another kind, out of range, not a whole number, a number of more than 63
 * characters, a NUL inside a string). */
emb_status emb_json_next_string(emb_json *json, char *out, size_t capacity, const char *key,
                                emb_error *error);
emb_status emb_json_next_u64(emb_json *json, uint64_t *out, const char *key, emb_error *error);
emb_status emb_json_next_double(emb_json *json, double *out, const char *key, emb_error *error);

/* The same for a value whose first event the caller has already read. */
emb_status emb_json_value_string(emb_json *json, emb_json_event event, char *out, size_t capacity,
                                 const char *key, emb_error *error);
emb_status emb_json_value_u64(emb_json *json, emb_json_event event, uint64_t *out, const char *key,
                              emb_error *error);
emb_status emb_json_value_double(emb_json *json, emb_json_event event, double *out, const char *key,
                                 emb_error *error);
emb_status emb_json_value_bool(emb_json *json, emb_json_event event, bool *out, const char *key,
                               emb_error *error);

/* For documents in memory: `user` is an emb_json_memory. */
typedef struct emb_json_memory {
    const char *bytes;
    size_t length;
} emb_json_memory;
ptrdiff_t emb_json_memory_read(void *user, void *buffer, size_t capacity);

#endif
