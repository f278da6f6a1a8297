/* open.c - opens the source that fits a file, and reads it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/open.h"

#include <string.h>

#include "fail.h"
#include "source/content.h"
#include "source/pieces.h"
#include "suffix.h"

#define BAD_ROWS_MAX 1000 /* at the beginning of a file: then none will be good */

#define OPS(name, NAME) [EMB_SOURCE_##NAME] = &emb_source_##name##_ops,

static const emb_source_ops *const formats[] = {EMB_SOURCES(OPS, OPS)};

/* The format that a file name stands for. Fails: EMB_INVALID_ARGUMENT (a suffix that is known and
 * not read, such as .gz). */
static emb_status format_of(emb_source_format *out, const char *path, emb_error *error) {
    EMB_APP_TRY(emb_content_check_name(path, error));
    *out = EMB_SOURCE_TXT;
    for (uint32_t i = EMB_SOURCE_AUTO + 1; i < EMB_SOURCE_FORMATS; i++) {
        const char *const *suffix = formats[i]->suffixes;
        for (; suffix && *suffix; suffix++)
            if (emb_app_has_suffix(path, *suffix)) *out = (emb_source_format)i;
    }
    return EMB_OK;
}

static emb_status choose_format(emb_source_format *format, const char *const *paths, uint32_t count,
                                emb_error *error) {
    for (uint32_t i = 0; i < count && *format == EMB_SOURCE_AUTO; i++) {
        emb_source_format first, other;
        EMB_APP_TRY(format_of(&first, paths[0], error));
        EMB_APP_TRY(format_of(&other, paths[i], error));
        if (first != other) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "%s and %s have different formats; state one with --input-format",
                                paths[0], paths[i]);
        }
        if (i + 1 == count) *format = first;
    }
    return EMB_OK;
}

/* Refuses an option of another format: it would change nothing, though the user expects it to. */
static emb_status check_options(const emb_source_options *options, unsigned takes,
                                emb_error *error) {
    const char *option = NULL;
    if (options->field && !(takes & EMB_SOURCE_TAKES_FIELD)) option = "--field";
    if (options->column && !(takes & EMB_SOURCE_TAKES_COLUMN)) option = "--column";
    if (options->delimiter && !(takes & EMB_SOURCE_TAKES_DELIMITER)) option = "--delimiter";
    if (options->no_header && !(takes & EMB_SOURCE_TAKES_NO_HEADER)) option = "--no-header";
    if (options->no_quotes && !(takes & EMB_SOURCE_TAKES_NO_QUOTES)) option = "--no-quotes";
    if (!option) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s has no meaning for this input; state its format with --input-format",
                        option);
}

size_t emb_source_own_bytes(emb_source_format format) {
    return (formats[format]->bytes + 63) / 64 * 64;
}

emb_status emb_source_open(emb_source *source, const emb_source_options *options,
                           const char *const *paths, uint32_t paths_count, int stop_descriptor,
                           void *memory, size_t memory_bytes, emb_error *error) {
    emb_source_options chosen = *options;
    memset(source, 0, sizeof *source);
    EMB_APP_TRY(choose_format(&chosen.format, paths, paths_count, error));
    const emb_source_ops *ops = formats[chosen.format];
    EMB_APP_TRY(check_options(&chosen, ops->takes, error));
    emb_source_init(source, ops, memory, &chosen);
    EMB_APP_TRY(emb_input_open(&source->input, paths, paths_count, stop_descriptor, error));
    source->input.whole = ops->whole;
    size_t own = emb_source_own_bytes(chosen.format);
    memset(memory, 0, own);
    return ops->open(source, (unsigned char *)memory + own, memory_bytes - own, error);
}

void emb_source_close(emb_source *source) {
    emb_input_close(&source->input);
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
    emb_status status = source->ops->next(source, pieces, capacity, count, error);
    bool failed = status == EMB_BAD_TEXT;
    count_rows(source, pieces, *count, failed);
    if (!failed || source->file_form_seen || source->file_rows_bad < BAD_ROWS_MAX) return status;
    emb_error last = *error;
    return emb_app_fail(error, EMB_BAD_FILE, "stopped, its first %u rows all failed: %.*s",
                        source->file_rows_bad, EMB_APP_CUT(last.message, 215));
}

uint64_t emb_source_bytes_given(const emb_source *source) {
    size_t waiting = source->ops->waiting ? source->ops->waiting(source) : 0;
    return source->input.bytes_read - waiting;
}
