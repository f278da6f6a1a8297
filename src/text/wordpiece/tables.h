/* tables.h - inside src/text/wordpiece/: tables, the state of the text being read, and the steps
 * between bytes and ids.
 *
 * bytes -> (feed.c: UTF-8) -> characters -> (words.c: literal tokens, clean, decompose, lower case,
 * literal tokens again, words) -> words -> (vocabulary.c: word cache, longest match) -> ids.
 * Plain ASCII between two word boundaries goes from bytes to words in plain.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_WORDPIECE_TABLES_H
#define EMB_TEXT_WORDPIECE_TABLES_H

#include <string.h>

#include "text/family.h"
#include "text/json_file.h"
#include "text/literals.h"
#include "text/normalize/marks.h"
#include "text/normalize/unicode.h"
#include "text/utf8.h"

#define EMB_WORDPIECE_WORD_CHARS_MAX 4096 /* largest max_input_chars_per_word */
#define EMB_WORDPIECE_KEY_BYTES      16   /* longest word that the cache holds */
/* 4 x 8,192 slots = 1 MiB: stays in a level-2 cache and holds most words of a book. */
#define EMB_WORDPIECE_CACHE_BITS 13
#define EMB_WORDPIECE_CACHE_WAYS 4
/* Room needed after the ids that a word appends: a slot is copied as a whole. */
#define EMB_WORDPIECE_SLOT_IDS 8

/* A word and its ids; half a cache line, with room for seven ids of 16 bits or three others.
 */
typedef struct emb_wordpiece_slot {
    uint64_t key[2]; /* the normalised word, padded with zeros; all zeros: empty */
    union {
        uint16_t small[8]; /* the last is the count */
        uint32_t wide[4];
    } ids;
} emb_wordpiece_slot;

/* The first two ways are one cache line, which the fast path checks; a word found in the others
 * moves to the front. */
typedef struct emb_wordpiece_set {
    emb_wordpiece_slot ways[EMB_WORDPIECE_CACHE_WAYS];
} emb_wordpiece_set;

/* One bit for each of 64 bytes. */
typedef struct emb_wordpiece_masks {
    uint64_t boundary; /* not part of a plain word: white space, punctuation, or stop */
    uint64_t mark;     /* punctuation */
    uint64_t stop;     /* needs the general path: not ASCII, removed, or may begin a literal */
} emb_wordpiece_masks;

/* Three sets of ASCII bytes, as 16 x 8 bit matrices: bit h of row l says that byte h << 4 | l is in
 * the set, the layout that byte shuffles need. */
typedef struct emb_wordpiece_byte_sets {
    uint8_t boundary[16], mark[16], stop[16];
} emb_wordpiece_byte_sets;

typedef void (*emb_wordpiece_classify)(emb_wordpiece_masks *out, const uint8_t *bytes,
                                       const emb_wordpiece_byte_sets *sets);

/* Byte strings to ids: open addressing, slots of tag << 24 | offset into the records. */
typedef struct emb_wordpiece_vocabulary {
    uint32_t *slots; /* [1 << bits] */
    uint32_t bits;
    uint8_t *records; /* id (4 bytes), length (2), bytes; offset 0 means an empty slot */
    uint32_t records_used, records_bytes;
    uint32_t entries;
    uint32_t entry_bytes_max; /* longest entry */
    /* A Bloom filter, two bits of one word for each entry: it rejects most strings that are no
     * entry. */
    uint64_t *filter; /* [1 << filter_bits] */
    uint32_t filter_bits;
    uint32_t prefix_bytes;
    uint8_t prefix[16];
    uint64_t prefix_hash;
    uint64_t powers[EMB_TEXT_ENTRY_BYTES_MAX + 1]; /* of the hash's base */
} emb_wordpiece_vocabulary;

typedef struct emb_wordpiece_tables {
    emb_text_bert normalizer;
    uint32_t word_chars_max;
    uint32_t unknown_id;
    emb_wordpiece_classify classify;
    emb_wordpiece_byte_sets sets;
    emb_text_literals raw, normal;
    emb_wordpiece_vocabulary vocabulary;
    bool small_ids;           /* every id fits 16 bits */
    emb_wordpiece_set *cache; /* [1 << EMB_WORDPIECE_CACHE_BITS] */
} emb_wordpiece_tables;

typedef struct emb_wordpiece_state {
    bool finished;  /* the last byte was read and everything held back flushed */
    bool intercept; /* normalised characters go to normal_bytes before they become words */
    emb_text_utf8 partial;
    emb_text_held raw, normal; /* characters that may begin a literal */
    uint8_t raw_bytes[EMB_TEXT_ADDED_BYTES_MAX + 8];
    uint8_t normal_bytes[EMB_TEXT_LITERAL_BYTES_MAX + 8];
    emb_text_marks marks; /* [word_chars_max + 1] */
    uint32_t word_chars, word_bytes;
    uint8_t *word;    /* [4 * word_chars_max + 16]: a key may be read past its end */
    uint64_t *hashes; /* [4 * word_chars_max + 1] of the prefixes of the word being looked up */
    uint32_t *pieces; /* [word_chars_max] ids of the word being looked up */
    uint32_t pending_first, pending_end;
    uint32_t *pending; /* ids that did not fit the caller's array */
    uint32_t pending_max;
    uint32_t *ids; /* the caller's, during one call */
    size_t capacity, count;
} emb_wordpiece_state;

/* ---- the family's operations (family.h) ------------------------------------------------------ */

/* describe.c */
void emb_wordpiece_defaults(emb_text_reading *reading);
emb_status emb_wordpiece_read_setting(emb_text_reading *reading, emb_text_json *file,
                                      const char *key, bool *taken, emb_error *error);
emb_status emb_wordpiece_read_part(emb_text_reading *reading, emb_text_json *file, const char *key,
                                   emb_error *error);
emb_status emb_wordpiece_read_vocabulary(emb_text_reading *reading, emb_error *error);

/* Calls `take` with every entry of the vocabulary. */
emb_status emb_wordpiece_entries(const emb_text_spec *spec, emb_text_entry take, void *user,
                                 emb_error *error);

/* load.c */
void emb_wordpiece_layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, bool shared,
                          emb_ledger *ledger);
void emb_wordpiece_share(emb_tokenizer *tokenizer, const emb_tokenizer *loaded);
emb_status emb_wordpiece_load(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                              emb_error *error);

/* feed.c */
void emb_wordpiece_begin(emb_tokenizer *tokenizer);
void emb_wordpiece_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                        uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done);

/* ---- vocabulary.c ---------------------------------------------------------------------------- */

/* Sizes of the index for so many entries of so many bytes in all. */
uint32_t emb_wordpiece_vocabulary_bits(uint32_t entries);
uint32_t emb_wordpiece_vocabulary_filter_bits(uint32_t entries);
uint64_t emb_wordpiece_vocabulary_records_bytes(uint32_t entries, uint64_t bytes);
void emb_wordpiece_vocabulary_clear(emb_wordpiece_vocabulary *vocabulary, const char *prefix);

/* Adds an entry. Gives false if there is no room (the file changed). *replaced: the entry was
 * there already and has a new id now. */
bool emb_wordpiece_vocabulary_add(emb_wordpiece_vocabulary *vocabulary, const uint8_t *bytes,
                                  uint32_t length, uint32_t id, bool *replaced);

/* Emits the ids of the normalised word in state->word, of at most word_chars_max characters. */
void emb_wordpiece_emit_word(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                             uint32_t length);

/* Masks of the first n bytes of a key, by n. */
extern const uint8_t emb_wordpiece_key_masks[EMB_WORDPIECE_KEY_BYTES + 1][EMB_WORDPIECE_KEY_BYTES];

/* The cache line of a word of at most EMB_WORDPIECE_KEY_BYTES bytes. */
static inline uint32_t emb_wordpiece_key_set(uint64_t low, uint64_t high) {
    uint64_t h = (low ^ high * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    return (uint32_t)((h * 0xD6E8FEB86659FD93u) >> (64 - EMB_WORDPIECE_CACHE_BITS));
}

/* Copies a slot's ids to `out`, which has room for EMB_WORDPIECE_SLOT_IDS; gives how many count. */
static inline uint32_t emb_wordpiece_slot_read(const emb_wordpiece_slot *slot, bool small,
                                               uint32_t *out) {
    if (small) {
        for (uint32_t i = 0; i < 8; i++) out[i] = slot->ids.small[i];
        return slot->ids.small[7];
    }
    memcpy(out, slot->ids.wide, sizeof slot->ids.wide);
    return slot->ids.wide[3];
}

static inline void emb_wordpiece_emit(emb_wordpiece_state *state, uint32_t id) {
    if (state->count < state->capacity && state->pending_end == 0)
        state->ids[state->count++] = id;
    else
        state->pending[state->pending_end++] = id;
}

/* ---- words.c --------------------------------------------------------------------------------- */

/* Takes the next character of the text. */
void emb_wordpiece_take(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                        uint32_t code);

/* Ends the text: flushes all that is held back. */
void emb_wordpiece_finish(const emb_wordpiece_tables *tables, emb_wordpiece_state *state);

/* Normalises a literal into out; gives its length, 0 if nothing is left or it is too long. */
uint32_t emb_wordpiece_normalize(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                                 uint8_t *out, const uint8_t *bytes, uint32_t length);

/* ---- plain.c, classify.c --------------------------------------------------------------------- */

/* Reads plain ASCII words from bytes, which begin at a word boundary with nothing held back, until
 * something needs the general path; gives how many bytes it used. */
size_t emb_wordpiece_read_plain(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                                const uint8_t *bytes, size_t length);

/* The fastest for this CPU; all give the same masks. */
emb_wordpiece_classify emb_wordpiece_classify_select(void);
void emb_wordpiece_classify_portable(emb_wordpiece_masks *out, const uint8_t *bytes,
                                     const emb_wordpiece_byte_sets *sets);
#ifdef EMB_X86
void emb_wordpiece_classify_avx2(emb_wordpiece_masks *out, const uint8_t *bytes,
                                 const emb_wordpiece_byte_sets *sets);
void emb_wordpiece_classify_avx512(emb_wordpiece_masks *out, const uint8_t *bytes,
                                   const emb_wordpiece_byte_sets *sets);
#endif

#endif
