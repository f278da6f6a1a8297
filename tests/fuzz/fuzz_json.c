/* fuzz_json.c - the JSON reader over any bytes, through buffers of several sizes, in both modes.
 * The events must not depend on the buffer's size or on how the bytes arrive.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    const uint8_t *data;
    size_t size, at, step;
} input;

static ptrdiff_t read_some(void *user, void *buffer, size_t capacity) {
    input *from = user;
    size_t length = from->size - from->at;
    if (length > capacity) length = capacity;
    if (length > from->step) length = from->step;
    memcpy(buffer, from->data + from->at, length);
    from->at += length;
    return (ptrdiff_t)length;
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < length; i++) hash = (hash ^ at[i]) * 1099511628211u;
    return hash;
}

/* A digest of all events and texts up to the end or the first error. */
static uint64_t digest(const uint8_t *data, size_t size, size_t capacity, size_t step, bool lines) {
    unsigned char buffer[512];
    input from = {data, size, 0, step};
    emb_json json;
    emb_error error;
    emb_json_init(&json, buffer, capacity, read_some, &from);
    json.lines = lines;
    uint64_t hash = 14695981039346656037u, pending = hash; /* a text counts once it is complete */
    for (size_t i = 0; i < 4 * size + 16; i++) {
        emb_json_event event;
        emb_status status = emb_json_next(&json, &event, &error);
        if (status != EMB_OK) return mix(hash, &status, sizeof status);
        bool text = event == EMB_JSON_KEY || event == EMB_JSON_STRING;
        if (text || event == EMB_JSON_NUMBER) {
            pending = mix(pending, json.text, json.text_length);
        }
        if (!text || json.text_last) hash = pending = mix(pending, &event, sizeof event);
        if (event == EMB_JSON_END) return hash;
    }
    abort(); /* more events than bytes: it does not end */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int lines = 0; lines < 2; lines++) {
        uint64_t whole = digest(data, size, 512, 512, lines);
        if (digest(data, size, 64, 64, lines) != whole) abort();
        if (digest(data, size, 64, 1, lines) != whole) abort();
        if (digest(data, size, 127, 13, lines) != whole) abort();
    }
    return 0;
}
