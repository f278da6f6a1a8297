/* json_file.h - inside src/text/: a JSON file of a tokenizer, read through a fixed buffer on the
 * stack.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_JSON_FILE_H
#define EMB_TEXT_JSON_FILE_H

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

#define EMB_TEXT_BUFFER_BYTES    8192
#define EMB_TEXT_ENTRY_BYTES_MAX 1024 /* longest entry of a vocabulary */

/* A JSON file being read. */
typedef struct emb_text_json {
    emb_json json;
    emb_file_stream stream;
    const char *path;
    unsigned char buffer[EMB_TEXT_BUFFER_BYTES];
} emb_text_json;

/* Fails: EMB_NOT_FOUND and the like, with the path. */
emb_status emb_text_json_open(emb_text_json *file, const char *path, emb_error *error);

/* Closes the file and puts its path before the message of a failure; returns `status`. */
emb_status emb_text_json_close(emb_text_json *file, emb_status status, emb_error *error);

/* Inside an object: collects the next key, or sets *end at its end. */
emb_status emb_text_json_key(emb_text_json *file, char *key, size_t capacity, bool *end,
                             emb_error *error);

/* Reads the next value, which must be true or false, or null where `null_value` is not -1. */
emb_status emb_text_json_flag(emb_text_json *file, int *out, int null_value, const char *key,
                              emb_error *error);

/* Reads the start of the object (or array) that must come next; with `present`, null is allowed
 * and sets it to false. */
emb_status emb_text_json_open_container(emb_text_json *file, emb_json_event kind, bool *present,
                                        const char *key, emb_error *error);

/* Reads the id that must come next. */
emb_status emb_text_json_id(emb_text_json *file, uint32_t *id, const char *key, emb_error *error);

/* Skips through an object, which `what` names in messages, to the value of `key`. */
emb_status emb_text_json_seek(emb_text_json *file, const char *what, const char *key,
                              emb_error *error);

#endif
