/* source.c - opens the source that fits a file, and the piece handling all sources share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/source.h"

#include <string.h>

#include "fail.h"
#include "suffix.h"

#define LINE_BITS 40

static const struct {
    const char *suffix;
    emb_source_format format;
} suffixes[] = {
    {".txt", EMB_SOURCE_TXT},      {".text", EMB_SOURCE_TXT}, {".jsonl", EMB_SOURCE_JSONL},
    {".ndjson", EMB_SOURCE_JSONL}, {".csv", EMB_SOURCE_CSV},  {".tsv", EMB_SOURCE_TSV},
    {".tab", EMB_SOURCE_TSV},
};

static const struct {
    const char *suffix, *advice;
} refused[] = {
    {".gz", "compressed input is not read yet; use: gzip -dc FILE | embound ... -i -"},
    {".zst", "compressed input is not read yet; use: zstd -dc FILE | embound ... -i -"},
    {".json", "a JSON document is not read; write one object a line (.jsonl)"},
    {".parquet", "Parquet is not read; convert it to .jsonl or .csv"},
    {".npy", "these are vectors, not texts"},
    {".safetensors", "these are tensors, not texts"},
    {".db", "databases are not read yet; export to .jsonl or .csv"},
    {".sqlite", "databases are not read yet; export to .jsonl or .csv"},
};

emb_status emb_source_format_of(emb_source_format *out, const char *path, emb_error *error) {
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (emb_app_has_suffix(path, refused[i].suffix)) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: %s (or state --input-format)",
                                path, refused[i].advice);
        }
    }
    *out = EMB_SOURCE_TXT;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (emb_app_has_suffix(path, suffixes[i].suffix)) *out = suffixes[i].format;
    }
    return EMB_OK;
}

static emb_status choose_format(emb_source_format *format, const char *const *paths, uint32_t count,
                                emb_error *error) {
    for (uint32_t i = 0; i < count && *format == EMB_SOURCE_AUTO; i++) {
        emb_source_format first, other;
        EMB_APP_TRY(emb_source_format_of(&first, paths[0], error));
        EMB_APP_TRY(emb_source_format_of(&other, paths[i], error));
        if (first != other) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "%s and %s have different formats; state one with --input-format",
                                paths[0], paths[i]);
        }
        if (i + 1 == count) *format = first;
    }
    return EMB_OK;
}

/* An option of another format would change nothing, and the user believes it does. */
static emb_status check_options(const emb_source_options *options, emb_error *error) {
    bool table = options->format == EMB_SOURCE_CSV || options->format == EMB_SOURCE_TSV;
    const char *option = NULL;
    if (options->field && options->format != EMB_SOURCE_JSONL) option = "--field";
    if (options->column && !table) option = "--column";
    if (options->no_header && !table) option = "--no-header";
    if (options->no_quotes && !table) option = "--no-quotes";
    if (!option) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s has no meaning for this input; state its format with --input-format",
                        option);
}

static void bind_buffers(emb_source *source, unsigned char *memory) {
    source->buffer = memory;
    source->capacity = EMB_SOURCE_BYTES;
    if (source->options.format == EMB_SOURCE_JSONL) {
        source->capacity = EMB_SOURCE_BYTES / 2;
        source->text = memory + source->capacity;
        source->text_capacity = EMB_SOURCE_BYTES - source->capacity;
    }
}

emb_status emb_source_open(emb_source *source, const emb_source_options *options,
                           const char *const *paths, uint32_t paths_count, int stop_descriptor,
                           void *memory, emb_error *error) {
    memset(source, 0, sizeof *source);
    source->options = *options;
    EMB_APP_TRY(choose_format(&source->options.format, paths, paths_count, error));
    EMB_APP_TRY(check_options(&source->options, error));
    EMB_APP_TRY(emb_input_open(&source->input, paths, paths_count, stop_descriptor, error));
    source->prompt_length = options->prompt ? strlen(options->prompt) : 0;
    bind_buffers(source, memory);
    bool quotes = !options->no_quotes;
    switch (source->options.format) {
    case EMB_SOURCE_JSONL:
        source->next = emb_source_next_jsonl;
        return emb_source_set_field(source, options->field ? options->field : "text", error);
    case EMB_SOURCE_CSV:
    case EMB_SOURCE_TSV: {
        char delimiter = source->options.format == EMB_SOURCE_TSV ? '\t' : ',';
        emb_csv_init(&source->csv, source->buffer, source->capacity, delimiter, quotes);
        source->next = emb_source_next_csv;
        return EMB_OK;
    }
    default:
        source->next = emb_source_next_txt;
        return EMB_OK;
    }
}

void emb_source_close(emb_source *source) {
    emb_input_close(&source->input);
}

void emb_source_place(uint64_t user, uint32_t *file, uint64_t *line) {
    *file = (uint32_t)(user >> LINE_BITS);
    *line = user & ((UINT64_C(1) << LINE_BITS) - 1);
}

bool emb_piece_list_full(const emb_piece_list *list) {
    return list->count + 3 > list->capacity;
}

static void push(emb_source *source, emb_piece_list *list, const void *data, size_t length) {
    uint64_t file = source->input.next ? source->input.next - 1 : 0;
    list->pieces[list->count++] = (emb_piece){
        .data = data,
        .length = length,
        .flags = source->begun ? 0 : EMB_PIECE_FIRST,
        .user = file << LINE_BITS | source->line,
    };
    source->begun = true;
}

void emb_source_add(emb_source *source, emb_piece_list *list, const void *data, size_t length) {
    if (!source->begun && source->prompt_length) {
        push(source, list, source->options.prompt, source->prompt_length);
    }
    if (length || !source->begun) push(source, list, data, length);
}

void emb_source_end(emb_source *source, emb_piece_list *list) {
    emb_source_add(source, list, "", 0);
    if (list->count == 0) push(source, list, "", 0);
    list->pieces[list->count - 1].flags |= EMB_PIECE_LAST;
    source->begun = false;
}
