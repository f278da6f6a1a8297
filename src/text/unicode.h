/* unicode.h - what the reference tokenizer does to a code point, as generated tables.
 *
 * Two-stage tables: blocks of 128 code points, equal blocks stored once.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_UNICODE_H
#define EMB_TEXT_UNICODE_H

#include <stdint.h>

#define EMB_TEXT_REMOVED     0x01 /* clean_text drops it */
#define EMB_TEXT_SPACE       0x02 /* clean_text makes it U+0020 */
#define EMB_TEXT_CHINESE     0x04 /* handle_chinese_chars puts spaces around it */
#define EMB_TEXT_WHITE       0x08 /* separates words */
#define EMB_TEXT_PUNCTUATION 0x10 /* is a word of its own */
#define EMB_TEXT_WORD        0x20 /* \w, for tokens that must stand alone */
#define EMB_TEXT_DECOMPOSED  0x40 /* strip_accents changes, drops or may move it */
#define EMB_TEXT_LOWERED     0x80 /* lowercase changes it */

#define EMB_TEXT_BLOCK_BITS 7

/* Heads in the pools: the first of `length` code points, and two facts about the sequence. */
#define EMB_TEXT_HEAD_STARTER      0x80000000u /* of class 0: marks before it stay before */
#define EMB_TEXT_HEAD_MARKS        0x40000000u /* holds marks that are kept and may move */
#define EMB_TEXT_HEAD_LENGTH(head) ((head) >> 24 & 0x3F)
#define EMB_TEXT_CODE(head)        ((head)&0x1FFFFF)

extern const uint8_t emb_text_flags_first[];
extern const uint8_t emb_text_flags_second[];
extern const uint8_t emb_text_decomposed_first[];
extern const uint16_t emb_text_decomposed_second[];
extern const uint32_t emb_text_decomposed_pool[];
extern const uint8_t emb_text_lowered_first[];
extern const uint16_t emb_text_lowered_second[];
extern const uint32_t emb_text_lowered_pool[];
extern const uint32_t emb_text_classes_count;
extern const uint32_t emb_text_classes[]; /* combining class << 24 | code point, by code point */

#define EMB_TEXT_LOOK_UP(table, code)                                                              \
    emb_text_##table##_second[(uint32_t)emb_text_##table##_first[(code) >> EMB_TEXT_BLOCK_BITS]    \
                                  << EMB_TEXT_BLOCK_BITS |                                         \
                              ((code) & ((1u << EMB_TEXT_BLOCK_BITS) - 1))]

static inline uint32_t emb_text_flags(uint32_t code) {
    return EMB_TEXT_LOOK_UP(flags, code);
}

/* Bytes of the UTF-8 character that begins with this byte of valid UTF-8. */
static inline uint32_t emb_text_utf8_length(uint8_t first) {
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Decodes one character of valid UTF-8. */
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

#endif
