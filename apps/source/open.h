/* open.h - opens the source that fits a file, and reads it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_OPEN_H
#define EMB_SOURCE_OPEN_H

#include "source/source.h"

/* Of EMB_SOURCE_BYTES, what a format keeps its own state in. */
size_t emb_source_own_bytes(emb_source_format format);

/* Needs: memory of EMB_SOURCE_BYTES (or memory_bytes, to test small blocks), aligned to 64; options
 * and paths that outlive the source.
 * Fails: EMB_NOT_FOUND, EMB_INVALID_ARGUMENT (formats that differ, an unknown one). */
emb_status emb_source_open(emb_source *source, const emb_source_options *options,
                           const char *const *paths, uint32_t paths_count, int stop_descriptor,
                           void *memory, size_t memory_bytes, emb_error *error);
void emb_source_close(emb_source *source);

/* What every reader of texts calls: next(), which also counts the texts that it ends (`ended`) and
 * gives up where the first rows of a file all are of another form: EMB_BAD_FILE. */
emb_status emb_source_read(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error);

/* Bytes of all files whose texts were given: what was read, less what waits in the buffer. */
uint64_t emb_source_bytes_given(const emb_source *source);

#endif
