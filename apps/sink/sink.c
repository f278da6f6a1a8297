/* sink.c - opens the sink that fits an output.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/sink.h"

#include <string.h>
#include <sys/stat.h>

#include "fail.h"
#include "suffix.h"

#define WRITER_BYTES (64u << 10)

#define OPS(name, NAME)  [EMB_SINK_##NAME] = &emb_sink_##name##_ops,
#define NAME(name, NAME) [EMB_SINK_##NAME] = #name,

static const emb_sink_ops *const formats[] = {EMB_SINKS(OPS, OPS)};
static const char *const names[] = {EMB_SINKS(NAME, NAME)};

size_t emb_sink_bytes(uint32_t dim) {
    size_t most = 0;
    for (uint32_t i = EMB_SINK_AUTO + 1; i < EMB_SINK_FORMATS; i++) {
        size_t bytes = formats[i]->bytes ? formats[i]->bytes(dim) : 0;
        if (bytes > most) most = bytes;
    }
    return WRITER_BYTES + (most + 63) / 64 * 64;
}

bool emb_sink_may_write_behind(emb_sink_format format) {
    return format == EMB_SINK_AUTO || formats[format]->behind;
}

static emb_sink_format format_of_suffix(const char *path) {
    for (uint32_t i = EMB_SINK_AUTO + 1; i < EMB_SINK_FORMATS; i++)
        for (const char *const *suffix = formats[i]->suffixes; *suffix; suffix++)
            if (emb_app_has_suffix(path, *suffix)) return (emb_sink_format)i;
    return EMB_SINK_AUTO;
}

/* The first that can go to a pipe. */
static emb_sink_format format_of_streams(void) {
    uint32_t i = EMB_SINK_AUTO + 1;
    while (i < EMB_SINK_FORMATS && formats[i]->needs_file) i++;
    return i < EMB_SINK_FORMATS ? (emb_sink_format)i : EMB_SINK_AUTO;
}

/* "use .npy or .jsonl, or state --output-format npy|jsonl" */
static emb_status no_format(const char *path, emb_error *error) {
    char suffixes[64] = "", words[64] = "";
    size_t s = 0, w = 0;
    for (uint32_t i = EMB_SINK_AUTO + 1; i < EMB_SINK_FORMATS; i++) {
        const char *comma = i == 1 ? "" : i + 1 == EMB_SINK_FORMATS ? " or " : ", ";
        if (s < sizeof suffixes)
            s += (size_t)snprintf(suffixes + s, sizeof suffixes - s, "%s%s", comma,
                                  formats[i]->suffixes[0]);
        if (w < sizeof words)
            w += (size_t)snprintf(words + w, sizeof words - w, "%s%s", i == 1 ? "" : "|", names[i]);
    }
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "-o %s: the suffix says no format; use %s, or state --output-format %s",
                        path, suffixes, words);
}

emb_status emb_sink_choose_format(emb_sink_format *format, const char *path, emb_error *error) {
    struct stat status;
    bool stream = strcmp(path, "-") == 0 || (stat(path, &status) == 0 && !S_ISREG(status.st_mode) &&
                                             !S_ISDIR(status.st_mode));
    if (*format == EMB_SINK_AUTO) *format = format_of_suffix(path);
    if (*format == EMB_SINK_AUTO && stream) *format = format_of_streams();
    if (*format == EMB_SINK_AUTO) return no_format(path, error);
    const emb_sink_ops *ops = formats[*format];
    if (!ops->needs_file || !stream) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "-o %s: %s needs a file, because %s; use --output-format %s", path,
                        ops->suffixes[0], ops->needs_file, names[format_of_streams()]);
}

emb_status emb_sink_open(emb_sink *sink, emb_sink_format format, const char *path, uint32_t dim,
                         void *memory, emb_error *error) {
    sink->ops = formats[format];
    sink->own = memory;
    sink->dim = dim;
    sink->rows_written = 0;
    char *buffer = (char *)memory + (emb_sink_bytes(dim) - WRITER_BYTES);
    EMB_APP_TRY(emb_output_open(&sink->output, path, error));
    emb_writer_init(&sink->writer, &sink->output, buffer, WRITER_BYTES);
    emb_status status = sink->ops->open ? sink->ops->open(sink, error) : EMB_OK;
    if (status != EMB_OK) emb_output_abort(&sink->output);
    return status;
}

emb_status emb_sink_rows(emb_sink *sink, const emb_row *rows, uint32_t count, emb_error *error) {
    return sink->ops->rows(sink, rows, count, error);
}

emb_status emb_sink_finish(emb_sink *sink, emb_error *error) {
    emb_status status = sink->ops->finish(sink, error);
    if (status == EMB_OK) return emb_output_commit(&sink->output, error);
    emb_output_abort(&sink->output);
    return status;
}

void emb_sink_abort(emb_sink *sink) {
    emb_output_abort(&sink->output);
}
