/* document.c - reads one JSON file of a model: opens it, passes it to a parser, names it in errors.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "model/files.h"

#define DOCUMENT_BUFFER 4096 /* holds any key we look for, and reads config files in few calls */

emb_status emb_document_path(char *out, size_t capacity, const char *root, const char *path,
                             emb_error *error) {
    const char *slash = *root && *path ? "/" : "";
    int length = snprintf(out, capacity, "%s%s%s", root, slash, path);
    if (length < 0 || (size_t)length >= capacity)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "the model's path is longer than %zu bytes: move it or link to it",
                             capacity - 1);
    return EMB_OK;
}

emb_status emb_document_blame(const char *path, emb_status status, emb_error *error) {
    if (!error) return status;
    emb_error inner = *error;
    return emb_error_set(error, status, "%s: %s", path, inner.message);
}

bool emb_document_printable(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F) return false;
    return true;
}

bool emb_document_exists(const char *root, const char *path) {
    char full[EMB_MODEL_PATH_MAX + EMB_RELATIVE_PATH_MAX];
    struct stat about;
    return emb_document_path(full, sizeof full, root, path, NULL) == EMB_OK &&
           lstat(full, &about) == 0;
}

emb_status emb_document_read(const char *root, const char *path, emb_document_parse parse,
                             void *user, emb_error *error) {
    char full[EMB_MODEL_PATH_MAX + EMB_RELATIVE_PATH_MAX];
    unsigned char buffer[DOCUMENT_BUFFER];
    emb_file_stream stream = {0};
    emb_json json;
    emb_json_event event;
    EMB_TRY(emb_document_path(full, sizeof full, root, path, error));
    EMB_TRY(emb_file_open_model(&stream.descriptor, &stream.end, full, error));
    emb_json_init(&json, buffer, sizeof buffer, emb_file_stream_read, &stream);
    json.utf8_strict = true;
    emb_status status = parse(&json, user, error);
    if (status == EMB_OK) status = emb_json_next(&json, &event, error); /* nothing may follow */
    emb_file_close(stream.descriptor);
    return status == EMB_OK ? EMB_OK : emb_document_blame(path, status, error);
}

emb_status emb_document_key(emb_json *json, char *key, size_t capacity, bool *done,
                            emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    *done = event == EMB_JSON_OBJECT_END;
    *key = 0;
    if (*done || !json->text_last || json->text_length >= capacity) return EMB_OK;
    return emb_json_string(json, key, capacity, NULL, error);
}

/* A string, or a list of strings, which are joined by a plus. */
static emb_status read_texts(emb_json *json, emb_json_event event, const emb_field *field,
                             emb_error *error) {
    char *out = field->out;
    size_t used = 0;
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_json_value_string(json, event, out, EMB_TEXT_FIELD_MAX, field->key, error);
    for (*out = 0;; used = strlen(out)) {
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (used) {
            memcpy(out + used, "+", 2);
            used++;
        }
        if (used + 1 >= EMB_TEXT_FIELD_MAX)
            return emb_error_set(error, EMB_BAD_FILE, "\"%s\" is too long", field->key);
        EMB_TRY(emb_json_value_string(json, event, out + used, EMB_TEXT_FIELD_MAX - used,
                                      field->key, error));
    }
}

static emb_status check_printable(const emb_field *field, emb_error *error) {
    if (emb_document_printable(field->out)) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "\"%s\" holds a control character", field->key);
}

emb_status emb_document_field(emb_json *json, emb_field *field, emb_error *error) {
    emb_json_event event;
    if (field->seen)
        return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" appears twice", field->key);
    field->seen = true;
    EMB_TRY(emb_json_next(json, &event, error));
    field->given = event != EMB_JSON_NULL;
    if (!field->given) return EMB_OK;
    switch (field->kind) {
    case EMB_FIELD_TEXT:
        EMB_TRY(
            emb_json_value_string(json, event, field->out, EMB_TEXT_FIELD_MAX, field->key, error));
        return check_printable(field, error);
    case EMB_FIELD_TEXTS:
        EMB_TRY(read_texts(json, event, field, error));
        return check_printable(field, error);
    case EMB_FIELD_COUNT:
        return emb_json_value_u64(json, event, field->out, field->key, error);
    case EMB_FIELD_REAL:
        return emb_json_value_double(json, event, field->out, field->key, error);
    case EMB_FIELD_FLAG:
        return emb_json_value_bool(json, event, field->out, field->key, error);
    case EMB_FIELD_PARSED:
        break;
    }
    return field->parse(json, event, field->out, error);
}
