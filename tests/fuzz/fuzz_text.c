/* fuzz_text.c - the tokenizer over any bytes. The ids must not depend on where the text is cut nor
 * on the room for ids, and none lies outside the vocabulary.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embound.h"

#define IDS_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct setup {
    emb_model *model;
    emb_tokenizer_handle *tokenizer;
    emb_model_info info;
} setup;

static void open_once(setup *out, const char *path) {
    emb_error error;
    out->info.struct_bytes = sizeof out->info;
    if (emb_model_open(&out->model, path, &error) != EMB_OK ||
        emb_tokenizer_open(&out->tokenizer, out->model, &error) != EMB_OK) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    emb_model_describe(&out->info, out->model);
}

static size_t tokenize(const setup *with, const uint8_t *data, size_t size, size_t cut, size_t room,
                       uint32_t *ids) {
    size_t at = 0, total = 0;
    uint32_t done = 0, flags = EMB_PIECE_FIRST;
    emb_error error;
    for (size_t calls = 0; !done; calls++) {
        size_t length = size - at < cut ? size - at : cut, used, count;
        if (at + length == size) flags |= EMB_PIECE_LAST;
        size_t capacity = IDS_MAX - total < room ? IDS_MAX - total : room;
        if (calls > 4 * size + 1000) abort(); /* it does not get on */
        if (emb_tokenize(with->tokenizer, (const char *)data + at, length, flags, ids + total,
                         capacity, &used, &count, &done, &error) != EMB_OK) {
            abort();
        }
        if (used > length || count > capacity) abort();
        at += used;
        total += count;
        flags &= ~(uint32_t)EMB_PIECE_FIRST;
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static setup models[2];
    static uint32_t whole[IDS_MAX], parts[IDS_MAX];
    static const size_t cuts[][2] = {{1, 1}, {1, IDS_MAX}, {7, 3}, {64, 64}};
    if (!models[0].tokenizer) {
        open_once(&models[0], "tests/data/tiny-bert");
        open_once(&models[1], "tests/data/tiny-mpnet");
    }
    if (size > IDS_MAX / 4) return 0;
    for (int m = 0; m < 2; m++) {
        size_t count = tokenize(&models[m], data, size, SIZE_MAX, IDS_MAX, whole);
        for (size_t i = 0; i < count; i++) {
            if (whole[i] >= models[m].info.vocabulary) abort();
        }
        for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
            size_t again = tokenize(&models[m], data, size, cuts[c][0], cuts[c][1], parts);
            if (again != count || memcmp(whole, parts, count * sizeof *whole) != 0) abort();
        }
    }
    return 0;
}
