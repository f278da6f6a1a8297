/* utf8.c - validates UTF-8.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/utf8.h"

bool emb_text_utf8_valid(const uint8_t *bytes, uint32_t length) {
    emb_text_utf8 partial = {0};
    uint32_t code;
    bool again;
    for (uint32_t i = 0; i < length; i++) {
        if (bytes[i] >= 0x80 && partial.needed == 0) {
            if (!emb_text_utf8_begin(&partial, bytes[i])) return false;
        } else {
            emb_text_utf8_take(&partial, bytes[i], &code, &again);
            if (again) return false;
        }
    }
    return partial.needed == 0;
}
