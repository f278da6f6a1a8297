/* ids_of.c - texts on stdin, ids on stdout, for comparing with other tokenizers.
 *
 * usage: ids_of DIRECTORY [SEED]
 * In: a little-endian u32 length and so many bytes, again and again. Out: a u32 count and so many
 * u32 ids for each. With a SEED, texts are fed in pieces of random sizes into arrays of random
 * sizes, and classified by the portable code on every other text.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "text/text.h"
#include "text/wordpiece/tables.h"

typedef struct writer {
    uint32_t *ids;
    size_t count, capacity;
} writer;

static void *need(void *memory) {
    if (memory) return memory;
    fprintf(stderr, "ids_of: out of memory\n");
    exit(71);
}

static uint32_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Reads one text, whole or in random pieces, into a growing array. */
static void read_text(writer *out, emb_tokenizer *tokenizer, const char *bytes, size_t length,
                      uint64_t *seed) {
    size_t at = 0, piece = length;
    bool done = false;
    out->count = 0;
    emb_text_begin(tokenizer);
    while (!done) {
        if (out->capacity - out->count < 4096) {
            out->capacity = 2 * out->capacity + 8192;
            out->ids = need(realloc(out->ids, out->capacity * sizeof(uint32_t)));
        }
        size_t room = out->capacity - out->count, used, count;
        if (*seed) {
            uint32_t kind = next_random(seed) % 4;
            piece = kind == 0 ? next_random(seed) % 4 : next_random(seed) % (64u << 2 * kind);
            if (piece > length - at) piece = length - at;
            if (next_random(seed) % 2) room = next_random(seed) % 8;
        }
        /* a piece of its own, so that a read beyond its end is a read beyond an allocation */
        char *copy = *seed ? memcpy(need(malloc(piece + 1)), bytes + at, piece) : NULL;
        emb_text_feed(tokenizer, copy ? copy : bytes + at, piece, at + piece == length,
                      out->ids + out->count, room, &used, &count, &done);
        free(copy);
        at += used;
        piece = length - at;
        out->count += count;
    }
}

static int serve(emb_tokenizer *tokenizer, uint64_t seed) {
    writer out = {NULL, 0, 0};
    char *bytes = NULL;
    uint32_t length, capacity = 0;
    emb_wordpiece_tables *tables = tokenizer->tables;
    emb_wordpiece_classify best = tables->classify;
    for (uint64_t n = 0; fread(&length, sizeof length, 1, stdin) == 1; n++) {
        if (length >= capacity) {
            capacity = length + 4096;
            bytes = need(realloc(bytes, capacity));
        }
        if (length && fread(bytes, 1, length, stdin) != length) return 65;
        if (seed) tables->classify = n % 2 ? best : emb_wordpiece_classify_portable;
        read_text(&out, tokenizer, bytes, length, &seed);
        uint32_t count = (uint32_t)out.count;
        if (fwrite(&count, sizeof count, 1, stdout) != 1 ||
            fwrite(out.ids, sizeof(uint32_t), count, stdout) != count)
            return 74;
    }
    free(bytes);
    free(out.ids);
    return fflush(stdout) == 0 ? 0 : 74;
}

int main(int argc, char **argv) {
    emb_text_spec spec;
    emb_tokenizer tokenizer;
    emb_ledger ledger;
    emb_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: ids_of DIRECTORY [SEED]\n");
        return 64;
    }
    /* tokenizer.json as it stands, as the reference's library reads it */
    char json[EMB_TEXT_PATH_MAX];
    snprintf(json, sizeof json, "%s/tokenizer.json", argv[1]);
    bool file = access(json, F_OK) == 0;
    emb_text_hints hints = {.tokenizer_class = file ? "TokenizersBackend" : "BertTokenizer",
                            .rows = UINT32_MAX};
    uint32_t count = 0;
    emb_status status = emb_text_count_added(&count, argv[1], &hints, &error);
    emb_text_added *added = need(calloc(count + 1u, sizeof *added));
    if (status == EMB_OK) status = emb_text_describe(&spec, added, count, argv[1], &hints, &error);
    if (status == EMB_OK) {
        emb_ledger_init(&ledger, NULL, 0);
        emb_text_layout(&tokenizer, &spec, &ledger);
        uint64_t bytes = ledger.bytes;
        void *base = need(emb_arena_open(bytes));
        emb_ledger_init(&ledger, base, bytes);
        emb_text_layout(&tokenizer, &spec, &ledger);
        status = emb_text_load(&tokenizer, &spec, &error);
        fprintf(stderr, "ids_of: %llu bytes, %u entries\n", (unsigned long long)bytes,
                spec.vocabulary);
    }
    if (status != EMB_OK) {
        fprintf(stderr, "ids_of: %s\n", error.message);
        return 65;
    }
    return serve(&tokenizer, argc > 2 ? strtoull(argv[2], NULL, 10) : 0);
}
