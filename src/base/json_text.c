/* json_text.c - escaping for JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/json_text.h"

#include <stdbool.h>
#include <string.h>

/* Length of the valid UTF-8 sequence at `bytes`, or 0. */
static size_t sequence_length(const unsigned char *bytes, size_t available) {
    unsigned char c = bytes[0];
    if (c < 0x80) return 1;
    size_t length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || available < length) return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xC0) != 0x80) return 0;
    bool overlong = (c == 0xE0 && bytes[1] < 0xA0) || (c == 0xF0 && bytes[1] < 0x90);
    bool outside = (c == 0xED && bytes[1] > 0x9F) || (c == 0xF4 && bytes[1] > 0x8F);
    return overlong || outside ? 0 : length;
}

size_t emb_json_escape(char out[EMB_JSON_ESCAPED_MAX], const char *text, size_t length,
                       size_t *used) {
    static const char digits[] = "0123456789abcdef", replacement[] = "\xEF\xBF\xBD";
    unsigned char c = (unsigned char)*text;
    size_t sequence = sequence_length((const unsigned char *)text, length);
    *used = sequence ? sequence : 1;
    if (c == '"' || c == '\\') {
        out[0] = '\\';
        out[1] = (char)c;
        return 2;
    }
    if (c < 0x20 || c == 0x7F) {
        memcpy(out, "\\u00", 4);
        out[4] = digits[c >> 4];
        out[5] = digits[c & 15];
        return 6;
    }
    memcpy(out, sequence ? text : replacement, sequence ? sequence : sizeof replacement - 1);
    return sequence ? sequence : sizeof replacement - 1;
}
