/* json_text.h - texts as JSON strings hold them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_JSON_TEXT_H
#define EMB_BASE_JSON_TEXT_H

#include <stddef.h>

#define EMB_JSON_ESCAPED_MAX 6

/* Writes the form that the first character of text[0 .. length) has inside a JSON string, length >
 * 0: itself, escaped where it must be; U+FFFD in place of a byte that is not UTF-8. Gives the bytes
 * written, and in *used those read. */
size_t emb_json_escape(char out[EMB_JSON_ESCAPED_MAX], const char *text, size_t length,
                       size_t *used);

#endif
