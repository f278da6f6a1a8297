/* sink.c - opens the sink that fits an output.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/sink.h"

#include <string.h>
#include <sys/stat.h>

#include "fail.h"
#include "suffix.h"

#define WRITER_BYTES (64u << 10)

size_t emb_sink_bytes(uint32_t dim) {
    return WRITER_BYTES + ((size_t)dim * sizeof(float) + 63) / 64 * 64;
}

emb_status emb_sink_choose_format(emb_sink_format *format, const char *path, emb_error *error) {
    struct stat status;
    bool stream = strcmp(path, "-") == 0 || (stat(path, &status) == 0 && !S_ISREG(status.st_mode) &&
                                             !S_ISDIR(status.st_mode));
    if (*format == EMB_SINK_AUTO) {
        if (emb_app_has_suffix(path, ".npy")) {
            *format = EMB_SINK_NPY;
        } else if (stream || emb_app_has_suffix(path, ".jsonl") ||
                   emb_app_has_suffix(path, ".ndjson")) {
            *format = EMB_SINK_JSONL;
        } else {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                                "-o %s: the suffix says no format; use .npy or .jsonl, or state "
                                "--output-format npy|jsonl",
                                path);
        }
    }
    if (*format == EMB_SINK_NPY && stream) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "-o %s: .npy needs a file, because its header is written last; use "
                            "--output-format jsonl",
                            path);
    }
    return EMB_OK;
}

emb_status emb_sink_open(emb_sink *sink, emb_sink_format format, const char *path, uint32_t dim,
                         void *memory, emb_error *error) {
    sink->dim = dim;
    sink->rows_written = 0;
    sink->not_a_number = memory;
    char *buffer = (char *)memory + (emb_sink_bytes(dim) - WRITER_BYTES);
    EMB_APP_TRY(emb_output_open(&sink->output, path, error));
    emb_writer_init(&sink->writer, &sink->output, buffer, WRITER_BYTES);
    emb_status status =
        format == EMB_SINK_NPY ? emb_sink_open_npy(sink, error) : emb_sink_open_jsonl(sink, error);
    if (status != EMB_OK) emb_output_abort(&sink->output);
    return status;
}
