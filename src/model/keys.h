/* keys.h - every key of every file of a model, and how it is handled, as data.
 *
 * The readers of this folder read through it, so that a key is read, known to change no vector,
 * accepted with certain values only, or unknown; docs/model_files.md is the same list for people.
 * A new family of models adds its keys in keys_table.c; a module's are beside their reader.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_MODEL_KEYS_H
#define EMB_MODEL_KEYS_H

#include "model/files.h"

typedef enum emb_key_rule {
    EMB_KEY_READ,     /* its value is used */
    EMB_KEY_HARMLESS, /* no value of it changes a vector here */
    EMB_KEY_LIMITED,  /* refused unless it has one of `values` */
    EMB_KEY_INSIDE    /* an object, or a list of objects, whose keys are listed with a dot */
} emb_key_rule;

typedef struct emb_key {
    const char *name; /* "a.b": of the object in "a"; "*_token": every key with that suffix */
    emb_key_rule rule;
    const char *values; /* LIMITED: as JSON writes them, separated by " | "; else NULL */
    const char *about;
} emb_key;

typedef struct emb_key_list {
    const char *file;  /* file name, within the folder of its part of the model */
    const char *about; /* what the reference does with it */
    bool strict;       /* an unknown key is refused; else it is reported (emb_model_info) */
    const emb_key *keys;
    size_t count;
} emb_key_list;

extern const emb_key_list emb_keys_modules, emb_keys_settings, emb_keys_transformer,
    emb_keys_config, emb_keys_tokenizer_config, emb_keys_special_tokens, emb_keys_tokenizer,
    emb_keys_index;

/* These; ends with NULL. The modules after the encoder have their lists in emb_module_kinds. */
extern const emb_key_list *const emb_key_lists[];

/* The entry of a key (its name with dots), or NULL. */
const emb_key *emb_key_find(const emb_key_list *list, const char *name);

/* What reading a model's files found besides the values. */
typedef struct emb_key_findings {
    char unknown[EMB_UNKNOWN_KEYS_MAX]; /* "config.json: a, b; tokenizer.json: c" */
    const char *file;                   /* the last one named in `unknown` */
    bool more;                          /* some did not fit */
    emb_status refused;                 /* EMB_OK, or why the model is refused */
    emb_error refusal;                  /* of the first such key */
} emb_key_findings;

/* Reads the next object (`entered`: its beginning was read already) by its list, and into fields,
 * whose keys are names with dots. A refusal is kept in the findings, so that the caller can report
 * more telling keys first.
 * Fails: EMB_BAD_FILE (no object, wrong kind, a duplicate key of a field). */
emb_status emb_keys_object(emb_json *json, bool entered, const emb_key_list *list,
                           emb_field *fields, size_t count, emb_key_findings *findings,
                           emb_error *error);

/* EMB_OK, or the refusal kept, with the file `path`. */
emb_status emb_keys_refusal(const emb_key_findings *findings, const char *path, emb_error *error);

/* Opens root/path and reads its one object as emb_keys_object does. Errors name the file.
 * Fails as that does, and EMB_NOT_FOUND. */
emb_status emb_keys_read(const emb_key_list *list, const char *root, const char *path,
                         emb_field *fields, size_t count, emb_key_findings *findings,
                         emb_error *error);

/* The same, and fails at once if something is to be refused. */
emb_status emb_keys_check(const emb_key_list *list, const char *root, const char *path,
                          emb_field *fields, size_t count, emb_key_findings *findings,
                          emb_error *error);

#endif
