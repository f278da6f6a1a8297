/* content.h - tells by the first bytes of a file that it holds no text, and what it holds instead.
 *
 * Feeds the input files of every source.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_CONTENT_H
#define EMB_SOURCE_CONTENT_H

#include "embound.h"

#define EMB_CONTENT_BYTES 4096 /* that are looked at, of each file */

/* Looks at the first `length` bytes of the file `name`. Refused are UTF-16 and UTF-32, with a mark
 * or without, formats that are known, and NUL bytes. Fails: EMB_BAD_FILE, with what to do. */
emb_status emb_content_check(const char *name, const unsigned char *bytes, size_t length,
                             emb_error *error);

/* The same by the end of the file's name: EMB_INVALID_ARGUMENT for what is known and not read. */
emb_status emb_content_check_name(const char *path, emb_error *error);

#endif
