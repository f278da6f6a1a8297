/* source.h - inside src/text/: reading tokenizer files, through a fixed buffer on the stack.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_SOURCE_H
#define EMB_TEXT_SOURCE_H

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tables.h"

#define EMB_TEXT_SOURCE_BYTES 8192

/* A JSON file being read. */
typedef struct emb_text_source {
    emb_json json;
    emb_file_stream stream;
    const char *path;
    unsigned char buffer[EMB_TEXT_SOURCE_BYTES];
} emb_text_source;

/* Fails: EMB_NOT_FOUND and the like, with the path. */
emb_status emb_text_source_open(emb_text_source *source, const char *path, emb_error *error);

/* Closes the file and puts its path before the message of a failure; gives `status` back. */
emb_status emb_text_source_close(emb_text_source *source, emb_status status, emb_error *error);

/* Inside an object: collects the next key, or sets *end at its end. */
emb_status emb_text_source_key(emb_text_source *source, char *key, size_t capacity, bool *end,
                               emb_error *error);

/* Reads the next value, which must be true or false, or null where `null_value` is not -1. */
emb_status emb_text_source_flag(emb_text_source *source, int *out, int null_value, const char *key,
                                emb_error *error);

/* Reads the start of the object (or array) that must come next; with `present`, null is allowed
 * and sets it to false. */
emb_status emb_text_source_open_container(emb_text_source *source, emb_json_event kind,
                                          bool *present, const char *key, emb_error *error);

/* Reads the id that must come next. */
emb_status emb_text_source_id(emb_text_source *source, uint32_t *id, const char *key,
                              emb_error *error);

/* Goes through an object to the value of `key`. */
emb_status emb_text_source_seek(emb_text_source *source, const char *key, emb_error *error);

/* Takes one entry of the vocabulary. */
typedef emb_status (*emb_text_entry)(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                                     emb_error *error);

/* Calls `take` with every entry of a vocab.txt or of a tokenizer.json's model.vocab, in the order
 * of the file. Fails as `take` does, and EMB_BAD_FILE, with path and place. */
emb_status emb_text_source_entries(const char *path, bool is_json, emb_text_entry take, void *user,
                                   emb_error *error);

#endif
