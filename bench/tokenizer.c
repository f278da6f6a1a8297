/* tokenizer.c - bytes to ids on one thread, through the public interface alone.
 *
 *   tokenizer MODEL FILE [IDS]
 *
 * Every line of FILE is a text. For each number N read from standard input, tokenizes the whole
 * file N times and prints seconds, seconds of processor time, bytes and ids on one line; then waits
 * for the next number, so that a driver can interleave programs. With IDS, first writes the ids of
 * one pass there: for each text a u32 count and so many u32.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embound.h"

#define IDS_MAX 65536

typedef struct bench {
    emb_tokenizer_handle *tokenizer;
    char *bytes;
    size_t length;
    uint32_t ids[IDS_MAX];
} bench;

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *bytes = NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        rewind(file);
        if (size > 0) bytes = malloc((size_t)size);
        *length = bytes ? fread(bytes, 1, (size_t)size, file) : 0;
    }
    fclose(file);
    return bytes;
}

/* Tokenizes one line; gives how many ids it has, of which the last calls' stand in b->ids. */
static uint64_t tokenize(bench *b, const char *line, size_t length) {
    uint64_t total = 0;
    uint32_t flags = EMB_PIECE_FIRST | EMB_PIECE_LAST, done = 0;
    while (!done) {
        size_t used, count;
        emb_tokenize(b->tokenizer, line, length, flags, b->ids, IDS_MAX, &used, &count, &done,
                     NULL);
        flags = EMB_PIECE_LAST;
        line += used;
        length -= used;
        total += count;
    }
    return total;
}

static uint64_t pass(bench *b, FILE *ids) {
    uint64_t total = 0;
    for (size_t at = 0; at < b->length;) {
        const char *end = memchr(b->bytes + at, '\n', b->length - at);
        size_t length = end ? (size_t)(end - b->bytes) - at : b->length - at;
        uint64_t count = tokenize(b, b->bytes + at, length);
        if (ids) {
            uint32_t written = (uint32_t)count;
            fwrite(&written, sizeof written, 1, ids);
            fwrite(b->ids, sizeof(uint32_t), count, ids);
        }
        total += count;
        at += length + 1;
    }
    return total;
}

static int run(bench *b, const char *ids_path) {
    if (ids_path) {
        FILE *ids = fopen(ids_path, "wb");
        if (!ids) return 73;
        pass(b, ids);
        if (fclose(ids) != 0) return 74;
    }
    unsigned repeats;
    while (scanf("%u", &repeats) == 1) {
        uint64_t total = 0;
        double wall = now(CLOCK_MONOTONIC), processor = now(CLOCK_THREAD_CPUTIME_ID);
        for (unsigned i = 0; i < repeats; i++) total += pass(b, NULL);
        printf("%.9f %.9f %zu %llu\n", now(CLOCK_MONOTONIC) - wall,
               now(CLOCK_THREAD_CPUTIME_ID) - processor, repeats * b->length,
               (unsigned long long)total);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    static bench b;
    emb_model *model = NULL;
    emb_error error;
    if (argc < 3) {
        fprintf(stderr, "usage: tokenizer MODEL FILE [IDS]\n");
        return 64;
    }
    b.bytes = read_file(argv[2], &b.length);
    if (!b.bytes) {
        fprintf(stderr, "%s: cannot be read, or is empty\n", argv[2]);
        return 66;
    }
    if (emb_model_open(&model, argv[1], &error) != EMB_OK ||
        emb_tokenizer_open(&b.tokenizer, model, &error) != EMB_OK) {
        fprintf(stderr, "%s\n", error.message);
        emb_model_close(model);
        return 65;
    }
    int status = run(&b, argc > 3 ? argv[3] : NULL);
    emb_tokenizer_close(b.tokenizer);
    emb_model_close(model);
    free(b.bytes);
    return status;
}
