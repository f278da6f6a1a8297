/* utf8.h - inside src/text/: UTF-8 characters, complete or byte by byte.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_UTF8_H
#define EMB_TEXT_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#define EMB_TEXT_REPLACEMENT 0xFFFDu

/* ---- valid UTF-8 ----------------------------------------------------------------------------- */

/* Length of the character that begins with this byte. */
static inline uint32_t emb_text_utf8_length(uint8_t first) {
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Decodes one character. */
static inline uint32_t emb_text_utf8_decode(const uint8_t *bytes) {
    uint32_t b = bytes[0];
    if (b < 0x80) return b;
    if (b < 0xE0) return (b & 0x1F) << 6 | (bytes[1] & 0x3Fu);
    if (b < 0xF0) return (b & 0x0F) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu);
    return (b & 0x07) << 18 | (bytes[1] & 0x3Fu) << 12 | (bytes[2] & 0x3Fu) << 6 |
           (bytes[3] & 0x3Fu);
}

/* Writes one to four bytes; gives how many. */
static inline uint32_t emb_text_utf8_encode(uint8_t *bytes, uint32_t code) {
    if (code < 0x80) {
        bytes[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        bytes[0] = (uint8_t)(0xC0 | code >> 6);
        bytes[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        bytes[0] = (uint8_t)(0xE0 | code >> 12);
        bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        bytes[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    bytes[0] = (uint8_t)(0xF0 | code >> 18);
    bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    bytes[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

/* Where the last character of these bytes begins; length > 0. */
static inline uint32_t emb_text_utf8_last(const uint8_t *bytes, uint32_t length) {
    uint32_t at = length - 1;
    while (at > 0 && (bytes[at] & 0xC0) == 0x80) at--;
    return at;
}

/* Whether the bytes are valid UTF-8: no overlong forms, no surrogates, nothing truncated. */
bool emb_text_utf8_valid(const uint8_t *bytes, uint32_t length);

/* ---- any bytes, in pieces -------------------------------------------------------------------- */

/* An incomplete character. Zeros: none. */
typedef struct emb_text_utf8 {
    uint32_t code, needed; /* bits so far; bytes to come */
    uint8_t low, high;     /* bounds of the next byte */
} emb_text_utf8;

/* Begins a character of several bytes; false if the byte cannot begin one. */
static inline bool emb_text_utf8_begin(emb_text_utf8 *partial, uint8_t byte) {
    partial->low = 0x80;
    partial->high = 0xBF;
    if (byte >= 0xC2 && byte <= 0xDF) {
        partial->needed = 1;
        partial->code = byte & 0x1F;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
        if (byte == 0xE0) partial->low = 0xA0;
        if (byte == 0xED) partial->high = 0x9F; /* no surrogates */
        partial->needed = 2;
        partial->code = byte & 0x0F;
    } else if (byte >= 0xF0 && byte <= 0xF4) {
        if (byte == 0xF0) partial->low = 0x90;
        if (byte == 0xF4) partial->high = 0x8F;
        partial->needed = 3;
        partial->code = byte & 0x07;
    } else {
        return false;
    }
    return true;
}

/* Takes a byte. Gives whether *code is a character now; for invalid input one U+FFFD per maximal
 * subpart, as Python's errors="replace" does. *again: the byte ended such a subpart and must be
 * taken again. */
static inline bool emb_text_utf8_take(emb_text_utf8 *partial, uint8_t byte, uint32_t *code,
                                      bool *again) {
    *again = false;
    if (partial->needed == 0) {
        *code = byte;
        if (byte < 0x80) return true;
        *code = EMB_TEXT_REPLACEMENT;
        return !emb_text_utf8_begin(partial, byte);
    }
    if (byte < partial->low || byte > partial->high) {
        partial->needed = 0;
        *again = true;
        *code = EMB_TEXT_REPLACEMENT;
        return true;
    }
    partial->low = 0x80;
    partial->high = 0xBF;
    partial->code = partial->code << 6 | (byte & 0x3F);
    *code = partial->code;
    return --partial->needed == 0;
}

#endif
