/* source.c - tokenizer.json and vocab.txt as events and entries, in constant memory.
 *
 * Feeds describe.c and load.c, which read the same file one after the other.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/source.h"

#include <stdio.h>

emb_status emb_text_source_open(emb_text_source *source, const char *path, emb_error *error) {
    int descriptor;
    uint64_t bytes;
    EMB_TRY(emb_file_open_model(&descriptor, &bytes, path, error));
    source->stream = (emb_file_stream){descriptor, 0, bytes};
    source->path = path;
    emb_json_init(&source->json, source->buffer, sizeof source->buffer, emb_file_stream_read,
                  &source->stream);
    source->json.utf8_strict = true;
    return EMB_OK;
}

static emb_status name_file(emb_error *error, const char *path, emb_status status) {
    if (status == EMB_OK || !error) return status;
    emb_error inner = *error;
    return emb_error_set(error, status, "%s: %s", path, inner.message);
}

emb_status emb_text_source_close(emb_text_source *source, emb_status status, emb_error *error) {
    emb_file_close(source->stream.descriptor);
    return name_file(error, source->path, status);
}

emb_status emb_text_source_key(emb_text_source *source, char *key, size_t capacity, bool *end,
                               emb_error *error) {
    emb_json_event event;
    size_t length;
    EMB_TRY(emb_json_next(&source->json, &event, error));
    *end = event == EMB_JSON_OBJECT_END;
    if (*end) return EMB_OK;
    return emb_json_string(&source->json, key, capacity, &length, error);
}

emb_status emb_text_source_flag(emb_text_source *source, int *out, int null_value, const char *key,
                                emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(&source->json, &event, error));
    if (event == EMB_JSON_NULL && null_value != -1)
        *out = null_value;
    else if (event == EMB_JSON_TRUE || event == EMB_JSON_FALSE)
        *out = event == EMB_JSON_TRUE;
    else
        return emb_error_set(error, EMB_BAD_FILE, "\"%s\" must be true or false", key);
    return EMB_OK;
}

emb_status emb_text_source_open_container(emb_text_source *source, emb_json_event kind,
                                          bool *present, const char *key, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(&source->json, &event, error));
    if (present) *present = event == kind;
    if (event == kind || (present && event == EMB_JSON_NULL)) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "%s must be an %s", key,
                         kind == EMB_JSON_OBJECT_BEGIN ? "object" : "array");
}

emb_status emb_text_source_id(emb_text_source *source, uint32_t *id, const char *key,
                              emb_error *error) {
    uint64_t value;
    EMB_TRY(emb_json_next_u64(&source->json, &value, key, error));
    if (value >= INT32_MAX)
        return emb_error_set(error, EMB_BAD_FILE, "the id of \"%.64s\" is not below 2^31 - 1", key);
    *id = (uint32_t)value;
    return EMB_OK;
}

emb_status emb_text_source_seek(emb_text_source *source, const char *key, emb_error *error) {
    char found[EMB_TEXT_ENTRY_BYTES_MAX];
    bool end;
    EMB_TRY(emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL,
                                           "what holds the vocabulary", error));
    for (;;) {
        EMB_TRY(emb_text_source_key(source, found, sizeof found, &end, error));
        if (end) return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", key);
        if (strcmp(found, key) == 0) return EMB_OK;
        EMB_TRY(emb_json_skip(&source->json, error));
    }
}

static emb_status entries_json(emb_text_source *source, emb_text_entry take, void *user,
                               emb_error *error) {
    emb_json *json = &source->json;
    char entry[EMB_TEXT_ENTRY_BYTES_MAX];
    EMB_TRY(emb_text_source_seek(source, "model", error));
    EMB_TRY(emb_text_source_seek(source, "vocab", error));
    EMB_TRY(
        emb_text_source_open_container(source, EMB_JSON_OBJECT_BEGIN, NULL, "model.vocab", error));
    for (;;) {
        emb_json_event event;
        size_t length;
        uint32_t id = 0;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        EMB_TRY(emb_json_string(json, entry, sizeof entry, &length, error));
        EMB_TRY(emb_text_source_id(source, &id, entry, error));
        EMB_TRY(take(user, (const uint8_t *)entry, (uint32_t)length, id, error));
    }
}

/* Length without the white space at the end; the bytes are valid UTF-8. */
static uint32_t trimmed(const uint8_t *bytes, uint32_t length) {
    while (length > 0) {
        uint32_t at = length - 1;
        while (at > 0 && (bytes[at] & 0xC0) == 0x80) at--;
        if (!(emb_text_flags(emb_text_utf8_decode(bytes + at)) & EMB_TEXT_WHITE)) break;
        length = at;
    }
    return length;
}

static bool is_utf8(const uint8_t *bytes, uint32_t length) {
    for (uint32_t at = 0; at < length;) {
        uint8_t b = bytes[at], again[4];
        uint32_t n = emb_text_utf8_length(b);
        if ((b >= 0x80 && b < 0xC2) || b > 0xF4 || n > length - at) return false;
        for (uint32_t i = 1; i < n; i++)
            if ((bytes[at + i] & 0xC0) != 0x80) return false;
        uint32_t code = emb_text_utf8_decode(bytes + at);
        if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
        if (emb_text_utf8_encode(again, code) != n) return false;
        at += n;
    }
    return true;
}

static emb_status take_line(uint8_t *line, uint32_t length, uint32_t number, emb_text_entry take,
                            void *user, emb_error *error) {
    if (!is_utf8(line, length))
        return emb_error_set(error, EMB_BAD_FILE, "line %u is not UTF-8", number + 1);
    return take(user, line, trimmed(line, length), number, error);
}

static emb_status entries_lines(emb_file_stream *stream, emb_text_entry take, void *user,
                                emb_error *error) {
    uint8_t buffer[EMB_TEXT_SOURCE_BYTES], line[EMB_TEXT_ENTRY_BYTES_MAX];
    uint32_t length = 0, number = 0;
    for (;;) {
        ptrdiff_t got = emb_file_stream_read(stream, buffer, sizeof buffer);
        if (got < 0) return emb_error_set(error, EMB_IO, "reading failed: %s", strerror((int)-got));
        if (got == 0) break;
        for (ptrdiff_t i = 0; i < got; i++) {
            if (buffer[i] == '\n') {
                EMB_TRY(take_line(line, length, number, take, user, error));
                length = 0;
                number++;
            } else if (length == sizeof line) {
                return emb_error_set(error, EMB_BAD_FILE, "line %u is longer than %u bytes",
                                     number + 1, EMB_TEXT_ENTRY_BYTES_MAX);
            } else {
                line[length++] = buffer[i];
            }
        }
    }
    return length ? take_line(line, length, number, take, user, error) : EMB_OK;
}

emb_status emb_text_source_entries(const char *path, bool is_json, emb_text_entry take, void *user,
                                   emb_error *error) {
    emb_text_source source;
    EMB_TRY(emb_text_source_open(&source, path, error));
    emb_status status = is_json ? entries_json(&source, take, user, error)
                                : entries_lines(&source.stream, take, user, error);
    return emb_text_source_close(&source, status, error);
}
