/* json_text.h - escapes texts for JSON strings.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_JSON_TEXT_H
#define EMB_BASE_JSON_TEXT_H

#include <stddef.h>

#define EMB_JSON_ESCAPED_MAX 6

/* Writes the first character of text[0 .. length), length > 0, for a JSON string: escaped if it
 * must be, U+FFFD for a byte that is not UTF-8. Gives the bytes written, and in *used those
 * read. */
size_t emb_json_escape(char out[EMB_JSON_ESCAPED_MAX], const char *text, size_t length,
                       size_t *used);

#endif
