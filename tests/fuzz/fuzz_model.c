/* fuzz_model.c - opening a model in which one file is any bytes: the first byte of the input says
 * which file, the rest is its content; the others are those of a good model. With its top bit set
 * tokenizer.json is taken as it stands, whose other parts are not read else.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embound.h"

#define GOOD "tests/data/tiny-bert"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = {"config.json",
                                    "model.safetensors",
                                    "tokenizer.json",
                                    "modules.json",
                                    "1_Pooling/config.json",
                                    "sentence_bert_config.json",
                                    "config_sentence_transformers.json",
                                    "tokenizer_config.json",
                                    "vocab.txt",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "2_Normalize/config.json"};
#define FILES      (sizeof files / sizeof *files)
#define TOKENIZER  2
#define CONFIG     7
#define VOCABULARY 8
#define FOLDERS    2

static const char *const folders[FOLDERS] = {"1_Pooling", "2_Normalize"};
static const char as_it_stands[] = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}";

typedef struct content {
    uint8_t *bytes;
    size_t size;
} content;

static content read_file(const char *name) {
    char path[256];
    snprintf(path, sizeof path, GOOD "/%s", name);
    content out = {NULL, 0};
    FILE *file = fopen(path, "rb");
    if (!file) return out;
    out.bytes = malloc(1 << 22);
    if (!out.bytes) abort();
    out.size = fread(out.bytes, 1, 1 << 22, file);
    fclose(file);
    return out;
}

static void write_file(const char *folder, const char *name, const uint8_t *bytes, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (descriptor < 0 || write(descriptor, bytes, size) != (ssize_t)size) abort();
    close(descriptor);
}

static char folder[] = "/tmp/embound-fuzz-XXXXXX";

static void remove_all(void) {
    char path[256];
    for (size_t i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        rmdir(path);
    }
    rmdir(folder);
}

static void make_folder(const content *good) {
    char path[256];
    if (!mkdtemp(folder)) abort();
    for (size_t i = 0; i < FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        if (mkdir(path, 0700) != 0) abort();
    }
    for (size_t i = 0; i < FILES; i++) {
        if (good[i].bytes) write_file(folder, files[i], good[i].bytes, good[i].size);
    }
    atexit(remove_all);
}

static void put_back(const content *good, size_t which) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, files[which]);
    if (good[which].bytes)
        write_file(folder, files[which], good[which].bytes, good[which].size);
    else
        unlink(path);
}

static void open_and_close(void) {
    emb_error error = {0};
    emb_model *model = NULL;
    emb_model_info info = {.struct_bytes = sizeof info};
    emb_status status = emb_model_open(&model, folder, &error);
    if (status != EMB_OK) {
        if (model || !error.message[0]) abort();
        return;
    }
    emb_model_describe(&info, model);
    emb_tokenizer_handle *tokenizer = NULL;
    if (emb_tokenizer_open(&tokenizer, model, &error) == EMB_OK) {
        emb_tokenizer_close(tokenizer);
    } else if (tokenizer || !error.message[0]) {
        abort();
    }
    emb_model_close(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static content good[FILES];
    if (!good[0].bytes) {
        for (size_t i = 0; i < FILES; i++) good[i] = read_file(files[i]);
        make_folder(good);
    }
    if (size == 0) return 0;
    size_t which = (data[0] & 0x7F) % FILES;
    bool whole = data[0] & 0x80;
    if (whole)
        write_file(folder, files[CONFIG], (const uint8_t *)as_it_stands, sizeof as_it_stands - 1);
    write_file(folder, files[which], data + 1, size - 1);
    if (which == VOCABULARY) { /* it is read only where there is no tokenizer.json */
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, files[TOKENIZER]);
        unlink(path);
        open_and_close();
        write_file(folder, files[TOKENIZER], good[TOKENIZER].bytes, good[TOKENIZER].size);
    } else {
        open_and_close();
    }
    put_back(good, which);
    if (whole) put_back(good, CONFIG);
    return 0;
}
