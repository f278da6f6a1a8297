/* plain.c - the fast path, plain ASCII from bytes to ids: boundaries by bit masks, words through
 * the cache.
 *
 * Stops at the first byte that is not plain; feed.c continues there on the general path.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

#define NONE      SIZE_MAX
#define WORDS_MAX 192 /* a block may hold 64, and end one more */

/* Lower case of eight ASCII bytes at once: the top bit of each byte says "at least A", then "more
 * than Z"; no sum leaves its byte, because every byte is below 0x80. */
static inline uint64_t lower_ascii(uint64_t bytes, uint64_t wanted) {
    uint64_t from = bytes + 0x3F3F3F3F3F3F3F3Fu, beyond = bytes + 0x2525252525252525u;
    return bytes | ((from & ~beyond & 0x8080808080808080u) >> 2 & wanted);
}

/* A word found, before it is looked up. */
typedef struct plain_word {
    uint64_t key[2];
    const emb_wordpiece_set *set; /* NULL: too long for the cache */
    size_t start, end;
} plain_word;

/* One call's input, and the words found but not looked up yet: the cache lines of earlier ones
 * arrive while later ones are found. */
typedef struct reader {
    const emb_wordpiece_tables *tables;
    emb_wordpiece_state *state;
    const uint8_t *bytes;
    size_t length;
    uint64_t lower; /* ~0 if words are lowercased */
    uint32_t count;
    plain_word words[WORDS_MAX];
} reader;

static inline void add_word(reader *from, size_t start, size_t end) {
    plain_word *word = &from->words[from->count++];
    size_t length = end - start;
    word->start = start;
    word->end = end;
    word->set = NULL;
    if (__builtin_expect(length > EMB_WORDPIECE_KEY_BYTES, 0)) return;
    uint64_t key[2] = {0, 0}, mask[2];
    if (__builtin_expect(from->length - start >= sizeof key, 1))
        memcpy(key, from->bytes + start, sizeof key);
    else
        memcpy(key, from->bytes + start, length);
    memcpy(mask, emb_wordpiece_key_masks[length], sizeof mask);
    word->key[0] = lower_ascii(key[0] & mask[0], from->lower);
    word->key[1] = lower_ascii(key[1] & mask[1], from->lower);
    word->set = &from->tables->cache[emb_wordpiece_key_set(word->key[0], word->key[1])];
    __builtin_prefetch(word->set);
}

/* Emits a word that is not in the cache, has no key, or whose ids may not fit. */
static __attribute__((noinline)) void emit_slowly(const reader *from, const plain_word *word) {
    const emb_wordpiece_tables *tables = from->tables;
    emb_wordpiece_state *state = from->state;
    size_t length = word->end - word->start;
    if (length > tables->word_chars_max) {
        emb_wordpiece_emit(state, tables->unknown_id);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        uint8_t b = from->bytes[word->start + i];
        state->word[i] = from->lower && b >= 'A' && b <= 'Z' ? (uint8_t)(b | 0x20) : b;
    }
    emb_wordpiece_emit_word(tables, state, (uint32_t)length);
}

static inline uint64_t differ(const emb_wordpiece_slot *slot, const uint64_t key[2]) {
    return (slot->key[0] ^ key[0]) | (slot->key[1] ^ key[1]);
}

/* Emits the words found so far. Gives NONE, or the end of the last word whose ids fitted. */
static inline size_t emit_words(reader *from, bool small) {
    emb_wordpiece_state *state = from->state;
    for (uint32_t i = 0; i < from->count; i++) {
        const plain_word *word = &from->words[i];
        if (word->set && state->capacity - state->count >= EMB_WORDPIECE_SLOT_IDS) {
            /* without a branch: which of the two ways it is cannot be predicted */
            const emb_wordpiece_slot *slot =
                &word->set->ways[differ(&word->set->ways[0], word->key) != 0];
            if (__builtin_expect(differ(slot, word->key) == 0, 1)) {
                state->count += emb_wordpiece_slot_read(slot, small, state->ids + state->count);
                continue;
            }
        }
        emit_slowly(from, word);
        if (state->pending_end) return word->end;
    }
    from->count = 0;
    return NONE;
}

static void classify(emb_wordpiece_masks *masks, const reader *from, size_t base) {
    size_t left = from->length - base;
    if (left >= 64) {
        from->tables->classify(masks, from->bytes + base, &from->tables->sets);
        return;
    }
    uint8_t block[64];
    memset(block, 0xFF, sizeof block); /* the end counts as a stop */
    memcpy(block, from->bytes + base, left);
    from->tables->classify(masks, block, &from->tables->sets);
}

/* Finds words from `start` on, until there are enough or a byte stops it; *stopped tells which.
 * Gives where to continue: at the start of a word whose end was not seen, or after the last
 * word. */
static inline size_t find_words(reader *from, size_t start, bool *stopped) {
    size_t open = NONE;  /* start of a word whose end is not seen yet */
    uint64_t before = 1; /* the byte before the block is a boundary */
    size_t base = start, enough = from->state->capacity - from->state->count;
    if (enough > WORDS_MAX - 65) enough = WORDS_MAX - 65;
    *stopped = false;
    for (; base < from->length && from->count <= enough; base += 64) {
        emb_wordpiece_masks masks;
        classify(&masks, from, base);
        uint64_t plain = masks.stop ? (masks.stop & -masks.stop) - 1 : ~(uint64_t)0;
        uint64_t starts = ((~masks.boundary & (masks.boundary << 1 | before)) | masks.mark) & plain;
        uint64_t edges = (masks.boundary & plain) | starts;
        if (open != NONE && edges) {
            add_word(from, open, base + (size_t)__builtin_ctzll(edges));
            open = NONE;
        }
        while (starts) {
            size_t at = (size_t)__builtin_ctzll(starts);
            uint64_t later = edges & ~(((uint64_t)2 << at) - 1);
            starts &= starts - 1;
            if (!later) {
                open = base + at;
                break;
            }
            add_word(from, base + at, base + (size_t)__builtin_ctzll(later));
        }
        if (masks.stop) {
            *stopped = true;
            return open != NONE ? open : base + (size_t)__builtin_ctzll(masks.stop);
        }
        before = masks.boundary >> 63;
    }
    *stopped = base >= from->length;
    if (open != NONE) return open;
    return base < from->length ? base : from->length;
}

static inline size_t read_plain(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                                const uint8_t *bytes, size_t length, bool small) {
    reader from;
    from.tables = tables;
    from.state = state;
    from.bytes = bytes;
    from.length = length;
    from.lower = tables->normalizer.lowercase ? ~(uint64_t)0 : 0;
    from.count = 0;
    bool stopped = false;
    size_t at = 0;
    while (!stopped) {
        size_t next = find_words(&from, at, &stopped);
        size_t full = emit_words(&from, small);
        if (full != NONE) return full;
        at = next;
    }
    return at;
}

size_t emb_wordpiece_read_plain(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                                const uint8_t *bytes, size_t length) {
    if (tables->small_ids) return read_plain(tables, state, bytes, length, true);
    return read_plain(tables, state, bytes, length, false);
}
