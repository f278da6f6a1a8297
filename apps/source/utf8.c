/* utf8.c - UTF-8 (RFC 3629) by ranges of the next byte; ASCII is skipped a word at a time.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/utf8.h"

#include <string.h>

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS (ONES * 0x80)

void emb_utf8_begin(emb_utf8 *utf8, bool nul_is_text) {
    memset(utf8, 0, sizeof *utf8);
    utf8->nul_is_text = nul_is_text;
}

static void note(emb_utf8 *utf8, uint64_t at, uint8_t value) {
    utf8->nuls += value == 0;
    if (utf8->replaced++ == 0) {
        utf8->first = at + 1;
        utf8->value = value;
    }
}

/* The first byte of a character. */
static void begin_character(emb_utf8 *utf8, uint8_t byte, uint64_t at) {
    utf8->low = 0x80;
    utf8->high = 0xBF;
    utf8->begin = at;
    if (byte < 0x80) {
        if (byte == 0 && !utf8->nul_is_text) note(utf8, at, byte);
    } else if (byte >= 0xC2 && byte <= 0xDF) {
        utf8->left = 1;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
        utf8->left = 2;
        if (byte == 0xE0) utf8->low = 0xA0;  /* below is overlong */
        if (byte == 0xED) utf8->high = 0x9F; /* surrogates */
    } else if (byte >= 0xF0 && byte <= 0xF4) {
        utf8->left = 3;
        if (byte == 0xF0) utf8->low = 0x90;
        if (byte == 0xF4) utf8->high = 0x8F;
    } else {
        note(utf8, at, byte);
    }
    utf8->lead = byte;
}

/* The length of the ASCII run without NUL from here on, in full words. */
static size_t plain_words(const unsigned char *bytes, size_t length) {
    size_t at = 0;
    for (; at + 8 <= length; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, 8);
        if ((word | (word - ONES)) & HIGHS) break; /* a high bit, or a zero byte */
    }
    return at;
}

void emb_utf8_add(emb_utf8 *utf8, const void *data, size_t length) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length;) {
        if (utf8->left == 0) {
            i += plain_words(bytes + i, length - i);
            if (i == length) break;
            begin_character(utf8, bytes[i], utf8->bytes + i);
            i++;
        } else if (bytes[i] >= utf8->low && bytes[i] <= utf8->high) {
            utf8->left--;
            utf8->low = 0x80;
            utf8->high = 0xBF;
            i++;
        } else { /* the character is truncated; this byte may begin another */
            utf8->left = 0;
            note(utf8, utf8->begin, utf8->lead);
        }
    }
    utf8->bytes += length;
}

void emb_utf8_note(emb_utf8 *utf8, uint8_t value) {
    note(utf8, utf8->bytes, value);
}

void emb_utf8_end(emb_utf8 *utf8) {
    if (utf8->left) note(utf8, utf8->begin, utf8->lead);
    utf8->left = 0;
}
