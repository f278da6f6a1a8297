/* unicode.h - what the reference tokenizer does to a code point, as generated tables.
 *
 * Two-stage tables: blocks of 128 code points, equal blocks stored once.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_NORMALIZE_UNICODE_H
#define EMB_TEXT_NORMALIZE_UNICODE_H

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
#define EMB_TEXT_HEAD_STARTER      0x80000000u /* of class 0: marks do not move past it */
#define EMB_TEXT_HEAD_MARKS        0x40000000u /* holds marks that are kept and may be reordered */
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

#define EMB_TEXT_HANGUL_FIRST  0xAC00u
#define EMB_TEXT_HANGUL_LAST   0xD7A3u
#define EMB_TEXT_HANGUL_LEAD   0x1100u
#define EMB_TEXT_HANGUL_VOWEL  0x1161u
#define EMB_TEXT_HANGUL_TAIL   0x11A7u
#define EMB_TEXT_HANGUL_VOWELS 21u
#define EMB_TEXT_HANGUL_TAILS  28u

/* Decomposes a Hangul syllable into two or three jamo; gives their number, 0 for any other
 * character. */
static inline uint32_t emb_text_hangul(uint32_t parts[3], uint32_t code) {
    if (code < EMB_TEXT_HANGUL_FIRST || code > EMB_TEXT_HANGUL_LAST) return 0;
    uint32_t index = code - EMB_TEXT_HANGUL_FIRST, tail = index % EMB_TEXT_HANGUL_TAILS;
    uint32_t first = index / EMB_TEXT_HANGUL_TAILS;
    parts[0] = EMB_TEXT_HANGUL_LEAD + first / EMB_TEXT_HANGUL_VOWELS;
    parts[1] = EMB_TEXT_HANGUL_VOWEL + first % EMB_TEXT_HANGUL_VOWELS;
    parts[2] = EMB_TEXT_HANGUL_TAIL + tail;
    return tail ? 3 : 2;
}

#endif
