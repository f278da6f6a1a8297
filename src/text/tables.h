/* tables.h - inside src/text/: the tokenizer's tables, the state of the text being read, and the
 * steps between bytes and ids.
 *
 * bytes -> (feed.c: UTF-8) -> characters -> (normalize.c: literal tokens, clean, decompose, lower
 * case, literal tokens again, words) -> words -> (vocabulary.c: word cache, longest match) -> ids.
 * Plain ASCII between two word boundaries goes from bytes to words in fast.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_TABLES_H
#define EMB_TEXT_TABLES_H

#include <string.h>

#include "text/text.h"
#include "text/unicode.h"

#define EMB_TEXT_ENTRY_BYTES_MAX 1024 /* longest vocabulary entry */
#define EMB_TEXT_WORD_CHARS_MAX  4096 /* largest max_input_chars_per_word */
/* Normalising makes a literal at most three times as long (a Hangul syllable: 3 bytes to 9). */
#define EMB_TEXT_PATTERN_BYTES_MAX (3 * EMB_TEXT_ADDED_BYTES_MAX)
#define EMB_TEXT_KEY_BYTES         16 /* longest word that the cache holds */
/* 4 x 8,192 slots = 1 MiB: stays in a level-2 cache and holds most words of a book. */
#define EMB_TEXT_CACHE_BITS 13
#define EMB_TEXT_CACHE_WAYS 4
/* Room behind the ids that a word adds to an array: a slot is copied whole. */
#define EMB_TEXT_SLOT_IDS 8

/* A word and its ids; one half of a cache line. Small ids leave room for seven, others for three.
 */
typedef struct emb_text_slot {
    uint64_t key[2]; /* the normalised word, padded with zeros; all zeros: empty */
    union {
        uint16_t small[8]; /* the last is the count */
        uint32_t wide[4];
    } ids;
} emb_text_slot;

/* The first two ways are one cache line, which plain reading looks at; a word found in the others
 * moves to the front. */
typedef struct emb_text_set {
    emb_text_slot ways[EMB_TEXT_CACHE_WAYS];
} emb_text_set;

typedef struct emb_text_pattern {
    uint8_t bytes[EMB_TEXT_PATTERN_BYTES_MAX];
    uint32_t length, id;
    bool single_word;
} emb_text_pattern;

/* Literals looked for at one stage: before normalising, or after. */
typedef struct emb_text_matcher {
    uint32_t count;
    uint8_t first[256]; /* 1: some literal begins with this byte */
    emb_text_pattern *patterns;
} emb_text_matcher;

/* One bit for each of 64 bytes. */
typedef struct emb_text_masks {
    uint64_t boundary; /* not part of a plain word: white space, punctuation, or stop */
    uint64_t mark;     /* punctuation */
    uint64_t stop;     /* needs the careful path: not ASCII, removed, or may begin a literal */
} emb_text_masks;

/* Three sets of ASCII bytes, as 16 x 8 bit matrices: bit h of row l says that byte h << 4 | l is
 * in the set, which is how byte shuffles want it. */
typedef struct emb_text_byte_sets {
    uint8_t boundary[16], mark[16], stop[16];
} emb_text_byte_sets;

typedef void (*emb_text_classify)(emb_text_masks *out, const uint8_t *bytes,
                                  const emb_text_byte_sets *sets);

/* Byte strings to ids: open addressing, slots of tag << 24 | offset into the records. */
typedef struct emb_text_vocabulary {
    uint32_t *slots; /* [1 << bits] */
    uint32_t bits;
    uint8_t *records; /* id (4 bytes), length (2), bytes; offset 0 stands for an empty slot */
    uint32_t records_used, records_bytes;
    uint32_t entries;
    uint32_t entry_bytes_max; /* longest stored */
    /* Two bits of one word for each entry: most strings that are none are told by these alone. */
    uint64_t *filter; /* [1 << filter_bits] */
    uint32_t filter_bits;
    uint32_t prefix_bytes;
    uint8_t prefix[16];
    uint64_t prefix_hash;
    uint64_t powers[EMB_TEXT_ENTRY_BYTES_MAX + 1]; /* of the hash's base */
} emb_text_vocabulary;

struct emb_text_tables {
    bool lowercase, strip_accents, chinese_chars, clean_text;
    uint32_t word_chars_max;
    uint32_t unknown_id;
    emb_text_classify classify;
    emb_text_byte_sets sets;
    emb_text_matcher raw, normal;
    emb_text_vocabulary vocabulary;
    bool small_ids;      /* every id fits 16 bits */
    emb_text_set *cache; /* [1 << EMB_TEXT_CACHE_BITS] */
};

struct emb_text_state {
    bool finished; /* the last byte was read and everything behind it flushed */
    /* the character whose bytes are not all there */
    uint32_t partial_code, partial_needed;
    uint8_t partial_low, partial_high; /* what the next byte must lie between */
    /* characters that may begin a literal, and whether the one before them is \w */
    uint32_t raw_held, normal_held;
    bool raw_after_word, normal_after_word;
    uint8_t raw_bytes[EMB_TEXT_ADDED_BYTES_MAX + 8];
    uint8_t normal_bytes[EMB_TEXT_PATTERN_BYTES_MAX + 8];
    bool intercept;      /* normalised characters go to normal_bytes before they become words */
    uint32_t run;        /* marks waiting to be put in order: class << 24 | code point */
    uint32_t *run_marks; /* [word_chars_max + 1] */
    uint32_t word_chars, word_bytes;
    uint8_t *word;    /* [4 * word_chars_max + 16]: a key may be read behind its end */
    uint64_t *hashes; /* [4 * word_chars_max + 1] of what the word being looked up begins with */
    uint32_t *pieces; /* [word_chars_max] ids of the word being looked up */
    uint32_t pending_first, pending_end;
    uint32_t *pending; /* ids that did not fit the caller's array */
    uint32_t pending_max;
    uint32_t *ids; /* the caller's, during one call */
    size_t capacity, count;
};

/* ---- vocabulary.c ---------------------------------------------------------------------------- */

/* Sizes of the index for so many entries of so many bytes in all. */
uint32_t emb_text_vocabulary_bits(uint32_t entries);
uint32_t emb_text_vocabulary_filter_bits(uint32_t entries);
uint64_t emb_text_vocabulary_records_bytes(uint32_t entries, uint64_t bytes);
void emb_text_vocabulary_clear(emb_text_vocabulary *vocabulary, const char *prefix);

/* Adds an entry. Gives false if there is no room (the file changed). *replaced: the entry was
 * there already and has a new id now. */
bool emb_text_vocabulary_add(emb_text_vocabulary *vocabulary, const uint8_t *bytes, uint32_t length,
                             uint32_t id, bool *replaced);

/* Emits the ids of the normalised word in state->word, of at most word_chars_max characters. */
void emb_text_emit_word(const emb_text_tables *tables, emb_text_state *state, uint32_t length);

/* Ones over the first bytes of a key, by their number. */
extern const uint8_t emb_text_key_masks[EMB_TEXT_KEY_BYTES + 1][EMB_TEXT_KEY_BYTES];

/* The cache line of a word of at most EMB_TEXT_KEY_BYTES bytes. */
static inline uint32_t emb_text_key_set(uint64_t low, uint64_t high) {
    uint64_t h = (low ^ high * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    return (uint32_t)((h * 0xD6E8FEB86659FD93u) >> (64 - EMB_TEXT_CACHE_BITS));
}

/* Copies a slot's ids to `out`, which has room for EMB_TEXT_SLOT_IDS; gives how many count. */
static inline uint32_t emb_text_slot_read(const emb_text_slot *slot, bool small, uint32_t *out) {
    if (small) {
        for (uint32_t i = 0; i < 8; i++) out[i] = slot->ids.small[i];
        return slot->ids.small[7];
    }
    memcpy(out, slot->ids.wide, sizeof slot->ids.wide);
    return slot->ids.wide[3];
}

static inline void emb_text_emit(emb_text_state *state, uint32_t id) {
    if (state->count < state->capacity && state->pending_end == 0)
        state->ids[state->count++] = id;
    else
        state->pending[state->pending_end++] = id;
}

/* ---- normalize.c ----------------------------------------------------------------------------- */

/* Takes the next character of the text. */
void emb_text_take(const emb_text_tables *tables, emb_text_state *state, uint32_t code);

/* The text is over: nothing that is held back waits for more. */
void emb_text_finish(const emb_text_tables *tables, emb_text_state *state);

/* Normalises a literal into out; gives its length, 0 if it has none or is too long. */
uint32_t emb_text_normalize(const emb_text_tables *tables, emb_text_state *state, uint8_t *out,
                            const uint8_t *bytes, uint32_t length);

/* ---- fast.c, classify.c ---------------------------------------------------------------------- */

/* Reads plain ASCII words from bytes, which begin at a word boundary with nothing held back, until
 * something needs the careful path; gives how many bytes it used. */
size_t emb_text_read_plain(const emb_text_tables *tables, emb_text_state *state,
                           const uint8_t *bytes, size_t length);

/* The fastest for this CPU; all give the same masks. */
emb_text_classify emb_text_classify_select(void);
void emb_text_classify_portable(emb_text_masks *out, const uint8_t *bytes,
                                const emb_text_byte_sets *sets);
#ifdef EMB_X86
void emb_text_classify_avx2(emb_text_masks *out, const uint8_t *bytes,
                            const emb_text_byte_sets *sets);
void emb_text_classify_avx512(emb_text_masks *out, const uint8_t *bytes,
                              const emb_text_byte_sets *sets);
#endif

#endif
