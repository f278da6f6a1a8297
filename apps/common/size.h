/* size.h - byte sizes as people write and read them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_SIZE_H
#define EMB_COMMON_SIZE_H

#include "embound.h"

/* Bytes from "96MiB", "1.5GB", "64M"; "auto" is 0. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_size_parse(uint64_t *out, const char *text, const char *option, emb_error *error);

/* "43.2MiB": at least `bytes`, and emb_size_parse reads it back. */
void emb_size_text(char *out, size_t capacity, uint64_t bytes);

/* "43.25MiB", "10 bytes": at most `bytes`, precise enough to be recognised by the user who stated
 * it. */
void emb_size_stated(char *out, size_t capacity, uint64_t bytes);

/* "43.3MiB": a budget that works when a plan's minimum is bytes_min. */
void emb_size_minimum(char *out, size_t capacity, uint64_t bytes_min);

#endif
