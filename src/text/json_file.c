/* json_file.c - reads the JSON files that describe a model's tokenizer, in constant memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/json_file.h"

#include <string.h>

emb_status emb_text_json_open(emb_text_json *file, const char *path, emb_error *error) {
    int descriptor;
    uint64_t bytes;
    EMB_TRY(emb_file_open_model(&descriptor, &bytes, path, error));
    file->stream = (emb_file_stream){descriptor, 0, bytes};
    file->path = path;
    emb_json_init(&file->json, file->buffer, sizeof file->buffer, emb_file_stream_read,
                  &file->stream);
    file->json.utf8_strict = true;
    return EMB_OK;
}

static emb_status name_file(emb_error *error, const char *path, emb_status status) {
    if (status == EMB_OK || !error) return status;
    emb_error inner = *error;
    return emb_error_set(error, status, "%s: %s", path, inner.message);
}

emb_status emb_text_json_close(emb_text_json *file, emb_status status, emb_error *error) {
    emb_file_close(file->stream.descriptor);
    return name_file(error, file->path, status);
}

emb_status emb_text_json_key(emb_text_json *file, char *key, size_t capacity, bool *end,
                             emb_error *error) {
    emb_json_event event;
    size_t length;
    EMB_TRY(emb_json_next(&file->json, &event, error));
    *end = event == EMB_JSON_OBJECT_END;
    if (*end) return EMB_OK;
    return emb_json_string(&file->json, key, capacity, &length, error);
}

emb_status emb_text_json_flag(emb_text_json *file, int *out, int null_value, const char *key,
                              emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(&file->json, &event, error));
    if (event == EMB_JSON_NULL && null_value != -1)
        *out = null_value;
    else if (event == EMB_JSON_TRUE || event == EMB_JSON_FALSE)
        *out = event == EMB_JSON_TRUE;
    else
        return emb_error_set(error, EMB_BAD_FILE, "\"%s\" must be true or false", key);
    return EMB_OK;
}

emb_status emb_text_json_open_container(emb_text_json *file, emb_json_event kind, bool *present,
                                        const char *key, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(&file->json, &event, error));
    if (present) *present = event == kind;
    if (event == kind || (present && event == EMB_JSON_NULL)) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "%s must be an %s", key,
                         kind == EMB_JSON_OBJECT_BEGIN ? "object" : "array");
}

emb_status emb_text_json_id(emb_text_json *file, uint32_t *id, const char *key, emb_error *error) {
    uint64_t value;
    EMB_TRY(emb_json_next_u64(&file->json, &value, key, error));
    if (value >= INT32_MAX)
        return emb_error_set(error, EMB_BAD_FILE, "the id of \"%.64s\" is not below 2^31 - 1", key);
    *id = (uint32_t)value;
    return EMB_OK;
}

emb_status emb_text_json_seek(emb_text_json *file, const char *what, const char *key,
                              emb_error *error) {
    char found[EMB_TEXT_ENTRY_BYTES_MAX];
    bool end;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, what, error));
    for (;;) {
        EMB_TRY(emb_text_json_key(file, found, sizeof found, &end, error));
        if (end) return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", key);
        if (strcmp(found, key) == 0) return EMB_OK;
        EMB_TRY(emb_json_skip(&file->json, error));
    }
}
