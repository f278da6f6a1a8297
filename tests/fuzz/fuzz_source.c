/* fuzz_source.c - the readers of texts over any bytes, in every format, through blocks of several
 * sizes: the texts, which of them fail, and what is not UTF-8 must not depend on the blocks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "source/examples.h"
#include "source/open.h"
#include "source/pairs.h"

#define PIECES 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Alignas(64) unsigned char memory[EMB_SOURCE_BYTES + 4096];

static uint64_t mix(uint64_t hash, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < length; i++) hash = (hash ^ at[i]) * 1099511628211u;
    return hash;
}

/* A digest of all texts up to the end or to what ends a job. */
static uint64_t read_all(emb_source *source, size_t size) {
    const uint64_t start = 14695981039346656037u;
    emb_piece pieces[PIECES];
    emb_error error = {0};
    uint64_t hash = start, text = start; /* a text counts once it is complete */
    bool open = false;
    for (size_t calls = 0; calls < 4 * size + 16; calls++) {
        uint32_t count = 0;
        emb_status status = emb_source_read(source, pieces, PIECES, &count, &error);
        bool failed = status == EMB_BAD_TEXT;
        if (failed && (count == 0 || !(pieces[count - 1].flags & EMB_PIECE_LAST))) abort();
        if (status != EMB_OK && !error.message[0]) abort();
        for (uint32_t i = 0; i < count; i++) {
            if (open == ((pieces[i].flags & EMB_PIECE_FIRST) != 0)) abort();
            text = mix(text, pieces[i].data, pieces[i].length);
            open = !(pieces[i].flags & EMB_PIECE_LAST);
            if (open) continue;
            uint64_t whole = failed && i + 1 == count ? 0 : text; /* of a failed one, how much was
                                                                     given depends on blocks */
            hash = mix(hash, &whole, sizeof whole);
            hash = mix(hash, &pieces[i].user, sizeof pieces[i].user);
            text = start;
        }
        if (status != EMB_OK && !failed) return mix(hash, &status, sizeof status);
        if (count > 0) continue;
        if (open) abort();
        const emb_source_notes *notes = &source->notes;
        hash = mix(hash, &notes->replaced, sizeof notes->replaced);
        hash = mix(hash, &notes->replaced_byte, sizeof notes->replaced_byte);
        return mix(hash, &notes->texts_return, sizeof notes->texts_return);
    }
    abort(); /* more calls than bytes: it does not end */
}

static uint64_t digest(const char *path, const emb_source_options *options, size_t size,
                       size_t block) {
    const char *const paths[] = {path};
    emb_source source;
    emb_error error = {0};
    size_t blocks = options->format == EMB_SOURCE_JSONL ? 2 : 1; /* one for the unescaped text */
    size_t bytes = emb_source_own_bytes(options->format) + blocks * block;
    emb_status status = emb_source_open(&source, options, paths, 1, -1, memory, bytes, &error);
    if (status != EMB_OK) return status;
    uint64_t hash = read_all(&source, size);
    emb_source_close(&source);
    return hash;
}

static void read_pairs(const char *path, size_t size) {
    static emb_pairs pairs;
    const emb_source_options options = {0};
    emb_error error = {0};
    if (emb_pairs_inspect(&pairs, path, NULL, &options, memory, &error) != EMB_OK) return;
    double *scores = calloc(pairs.rows_max, sizeof *scores);
    if (scores && emb_pairs_open(&pairs, &options, scores, -1, memory, &error) == EMB_OK)
        read_all(&pairs.source, size);
    emb_source_close(&pairs.source);
    free(scores);
}

/* Examples to train on: what was counted must be what is read, and lie in its memory. */
static void read_examples(const char *path, emb_examples_kind kind, emb_source_options options,
                          const char *columns) {
    const char *const paths[] = {path};
    emb_error error = {0};
    emb_examples examples = {.kind = kind,
                             .paths = paths,
                             .paths_count = 1,
                             .columns = columns,
                             .columns_option = "--columns",
                             .options = options,
                             .stop_descriptor = -1};
    if (emb_examples_inspect(&examples, memory, &error) != EMB_OK) {
        if (!error.message[0]) abort();
        return;
    }
    void *room = malloc(emb_examples_bytes(&examples));
    if (!room || emb_examples_read(&examples, room, memory, &error) != EMB_OK) abort();
    uint64_t bytes = 0;
    for (uint32_t row = 0; row < examples.count; row++) {
        for (uint32_t k = 0; k < examples.texts; k++) {
            emb_text text = emb_examples_text(&examples, row, k);
            if (text.length == 0) abort();
            mix(0, text.data, text.length); /* reads all of it */
            bytes += text.length;
        }
    }
    if (bytes != examples.bytes) abort();
    free(room);
}

static void read_all_examples(const char *path) {
    for (emb_examples_kind kind = EMB_EXAMPLES_GROUPS; kind <= EMB_EXAMPLES_LABELLED; kind++) {
        const char *columns = emb_examples_are_scored(kind) ? "3,1,2" : "1,2";
        const char *keys = emb_examples_are_scored(kind) ? "n,a,text" : "a,text";
        read_examples(path, kind, (emb_source_options){.format = EMB_SOURCE_JSONL}, NULL);
        read_examples(path, kind, (emb_source_options){.format = EMB_SOURCE_JSONL}, keys);
        read_examples(path, kind, (emb_source_options){.invalid = 1}, NULL);
        read_examples(path, kind, (emb_source_options){.no_header = true}, columns);
        read_examples(path, kind, (emb_source_options){.format = EMB_SOURCE_TSV}, columns);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const emb_source_options forms[] = {
        {.format = EMB_SOURCE_TXT},
        {.format = EMB_SOURCE_TXT, .invalid = 1},
        {.format = EMB_SOURCE_WHOLE},
        {.format = EMB_SOURCE_JSONL},
        {.format = EMB_SOURCE_JSONL, .field = "a.b", .invalid = 1, .prompt = "p"},
        {.format = EMB_SOURCE_CSV},
        {.format = EMB_SOURCE_CSV, .column = "2", .no_header = true},
        {.format = EMB_SOURCE_CSV, .column = "1", .no_quotes = true, .delimiter = ';'},
        {.format = EMB_SOURCE_TSV, .no_header = true, .invalid = 1},
    };
    if (size > EMB_SOURCE_BYTES / 2) return 0;
    char path[32];
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        uint64_t whole = digest(path, &forms[i], size, EMB_SOURCE_BYTES / 2);
        if (digest(path, &forms[i], size, 64) != whole) abort();
        if (digest(path, &forms[i], size, 71) != whole) abort();
    }
    read_pairs(path, size);
    read_all_examples(path);
    close(file);
    return 0;
}
