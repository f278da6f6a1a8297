/* literals.h - inside src/text/: searching a text for added tokens, before or after it is
 * normalised, as byte strings.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_LITERALS_H
#define EMB_TEXT_LITERALS_H

#include "text/text.h"

/* Normalising makes a literal at most three times as long (a Hangul syllable: 3 bytes to 9). */
#define EMB_TEXT_LITERAL_BYTES_MAX (3 * EMB_TEXT_ADDED_BYTES_MAX)

typedef struct emb_text_literal {
    uint8_t bytes[EMB_TEXT_LITERAL_BYTES_MAX];
    uint32_t length, id;
    bool single_word;
} emb_text_literal;

/* The literals searched for at one stage. */
typedef struct emb_text_literals {
    uint32_t count;
    uint8_t first[256]; /* 1: some literal begins with this byte */
    emb_text_literal *list;
} emb_text_literals;

/* Bytes that a stage holds back because a literal may begin with them. */
typedef struct emb_text_held {
    uint32_t count;
    bool after_word; /* the character before them is \w */
} emb_text_held;

/* What the bytes held back begin with. */
typedef enum emb_text_found {
    EMB_TEXT_FOUND_MORE, /* not known yet: it depends on what follows */
    EMB_TEXT_FOUND_TEXT, /* *length bytes that are no literal */
    EMB_TEXT_FOUND_TOKEN /* *length bytes that are the literal of *id */
} emb_text_found;

/* Sorts the first `count` of the list for searching. Gives one that is there twice, or NULL. */
const emb_text_literal *emb_text_literals_sort(emb_text_literals *literals, uint32_t count);

/* Looks for the longest literal at the start of n > 0 bytes of UTF-8. final: no more bytes
 * follow. */
emb_text_found emb_text_literals_find(const emb_text_literals *literals, const uint8_t *bytes,
                                      uint32_t n, bool final, bool after_word, uint32_t *length,
                                      uint32_t *id);

/* Whether the last character of these bytes is \w. */
bool emb_text_ends_in_word(const uint8_t *bytes, uint32_t length);

#endif
