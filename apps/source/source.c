/* source.c - opens the source that fits a file, and the piece handling all sources share.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/source.h"

#include <string.h>

#include "fail.h"
#include "source/content.h"
#include "suffix.h"

#define LINE_BITS    40
#define BAD_ROWS_MAX 1000 /* at the beginning of a file: then none will be good */

static const struct {
    const char *suffix;
    emb_source_format format;
} suffixes[] = {
    {".txt", EMB_SOURCE_TXT},      {".text", EMB_SOURCE_TXT}, {".jsonl", EMB_SOURCE_JSONL},
    {".ndjson", EMB_SOURCE_JSONL}, {".csv", EMB_SOURCE_CSV},  {".tsv", EMB_SOURCE_TSV},
    {".tab", EMB_SOURCE_TSV},
};

emb_status emb_source_format_of(emb_source_format *out, const char *path, emb_error *error) {
    EMB_APP_TRY(emb_content_check_name(path, error));
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
    if (options->delimiter && options->format != EMB_SOURCE_CSV) option = "--delimiter";
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
    source->texts_per_row = 1;
    source->input.whole = source->options.format == EMB_SOURCE_WHOLE;
    bind_buffers(source, memory);
    bool quotes = !options->no_quotes;
    switch (source->options.format) {
    case EMB_SOURCE_JSONL:
        source->next = emb_source_next_jsonl;
        return emb_source_set_field(source, options->field ? options->field : "text", error);
    case EMB_SOURCE_CSV:
    case EMB_SOURCE_TSV: {
        char delimiter = options->delimiter                         ? options->delimiter
                         : source->options.format == EMB_SOURCE_TSV ? '\t'
                                                                    : ',';
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
    if (!source->begun) emb_utf8_begin(&source->utf8, source->options.format == EMB_SOURCE_JSONL);
    emb_utf8_add(&source->utf8, data, length);
    if (!source->begun && source->prompt_length) {
        push(source, list, source->options.prompt, source->prompt_length);
    }
    if (length || !source->begun) push(source, list, data, length);
}

void emb_source_end_bad(emb_source *source, emb_piece_list *list) {
    emb_source_add(source, list, "", 0);
    if (list->count == 0) push(source, list, "", 0);
    list->pieces[list->count - 1].flags |= EMB_PIECE_LAST;
    source->begun = false;
    source->return_inside = false;
}

emb_status emb_source_end(emb_source *source, emb_piece_list *list, emb_error *error) {
    emb_utf8 *utf8 = &source->utf8;
    emb_source_notes *notes = &source->notes;
    bool inside = source->return_inside;
    emb_source_end_bad(source, list);
    emb_utf8_end(utf8);
    uint64_t place = list->pieces[list->count - 1].user;
    source->form_seen = true;
    if (utf8->replaced && source->options.invalid) {
        return emb_app_fail(error, EMB_BAD_TEXT,
                            "%s line %llu: byte %llu of the text (0x%02X) is not UTF-8",
                            emb_input_shown(&source->input), (unsigned long long)source->line,
                            (unsigned long long)utf8->first, utf8->value);
    }
    if (inside && notes->texts_return++ == 0) notes->return_place = place;
    if (utf8->replaced == 0) return EMB_OK;
    if (notes->texts_replaced++ == 0) {
        notes->replaced_place = place;
        notes->replaced_byte = utf8->first;
        notes->replaced_value = utf8->value;
    }
    notes->replaced += utf8->replaced;
    return EMB_OK;
}

/* Counts the texts that ended and the rows at the beginning of a file that are of another form. */
static void count_rows(emb_source *source, const emb_piece *pieces, uint32_t count, bool failed) {
    source->ended = 0;
    for (uint32_t i = 0; i < count; i++) source->ended += (pieces[i].flags & EMB_PIECE_LAST) != 0;
    if (source->file_seen != source->input.next) {
        source->file_seen = source->input.next;
        source->file_rows_bad = 0;
        source->file_form_seen = false;
    }
    source->file_rows_bad += failed;
    source->file_form_seen = source->file_form_seen || source->form_seen;
    source->form_seen = false;
}

emb_status emb_source_read(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error) {
    emb_status status = source->next(source, pieces, capacity, count, error);
    bool failed = status == EMB_BAD_TEXT;
    count_rows(source, pieces, *count, failed);
    if (!failed || source->file_form_seen || source->file_rows_bad < BAD_ROWS_MAX) return status;
    emb_error last = *error;
    return emb_app_fail(error, EMB_BAD_FILE, "stopped, its first %u rows all failed: %.*s",
                        source->file_rows_bad, EMB_APP_CUT(last.message, 215));
}

uint64_t emb_source_bytes_given(const emb_source *source) {
    uint64_t waiting = (source->end - source->begin) + (source->csv.end - source->csv.begin) +
                       (source->json.end - source->json.begin);
    return source->input.bytes_read - waiting;
}

void emb_source_names_add(emb_source_names *names, const char *name, size_t length) {
    size_t shown = (size_t)emb_app_whole(name, length, 24);
    const char *comma = names->used ? ", " : "", *more = shown < length ? "..." : "";
    size_t wanted = strlen(comma) + shown + strlen(more) + 2;
    if (names->full) return;
    if (names->used + wanted + sizeof ", ..." > sizeof names->text) {
        names->full = true;
        strcpy(names->text + names->used, ", ...");
        return;
    }
    char *out = names->text + names->used;
    snprintf(out, wanted + 1, "%s\"%.*s%s\"", comma, (int)shown, name, more);
    emb_utf8 utf8;
    emb_utf8_begin(&utf8, true);
    emb_utf8_add(&utf8, out, wanted);
    for (size_t i = 0; i < wanted; i++) { /* a message is one line of UTF-8 */
        unsigned char byte = (unsigned char)out[i];
        if (byte < ' ' || byte == 0x7F || (byte > 0x7F && utf8.replaced)) out[i] = '?';
    }
    names->used += (uint8_t)wanted;
}
