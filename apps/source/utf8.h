/* utf8.h - counts what of a text is not UTF-8, piece by piece: the tokenizer reads it as U+FFFD.
 *
 * Changes nothing; tells the user what was replaced, and where. Feeds the pieces of every source.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_SOURCE_UTF8_H
#define EMB_SOURCE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct emb_utf8 {
    bool nul_is_text;  /* a NUL byte is a character like any other (JSON: "\u0000") */
    uint8_t left;      /* bytes still missing from the current character */
    uint8_t low, high; /* bounds of the next byte */
    uint8_t lead;      /* its first byte */
    uint8_t value;     /* the first byte of the first bad character */
    uint64_t bytes;    /* of the text so far */
    uint64_t begin;    /* where the current character began: bytes before it */
    uint64_t replaced; /* characters: each that is truncated or invalid, and each NUL */
    uint64_t nuls;     /* among them */
    uint64_t first;    /* 1-based byte of the first of them; 0: none */
} emb_utf8;

/* Starts a text. */
void emb_utf8_begin(emb_utf8 *utf8, bool nul_is_text);

void emb_utf8_add(emb_utf8 *utf8, const void *data, size_t length);

/* Counts a character that had been replaced before it came here, at this place. */
void emb_utf8_note(emb_utf8 *utf8, uint8_t value);

/* Ends the text: a truncated last character is counted. */
void emb_utf8_end(emb_utf8 *utf8);

#endif
