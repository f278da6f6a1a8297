/* fast.c - plain ASCII from bytes to ids: boundaries by bit masks, whole words through the cache.
 *
 * Gives up, without harm, at the first thing that is not plain; feed.c then goes on with care.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/tables.h"

#define NONE SIZE_MAX

static const uint8_t key_masks[EMB_TEXT_KEY_BYTES + 1][EMB_TEXT_KEY_BYTES] = {
#define ROW(n)                                                                                     \
    {                                                                                              \
        (n) > 0 ? 255 : 0, (n) > 1 ? 255 : 0, (n) > 2 ? 255 : 0, (n) > 3 ? 255 : 0,                \
            (n) > 4 ? 255 : 0, (n) > 5 ? 255 : 0, (n) > 6 ? 255 : 0, (n) > 7 ? 255 : 0,            \
            (n) > 8 ? 255 : 0, (n) > 9 ? 255 : 0, (n) > 10 ? 255 : 0, (n) > 11 ? 255 : 0,          \
            (n) > 12 ? 255 : 0, (n) > 13 ? 255 : 0, (n) > 14 ? 255 : 0, (n) > 15 ? 255 : 0         \
    }
    ROW(0), ROW(1),  ROW(2),  ROW(3),  ROW(4),  ROW(5),  ROW(6),  ROW(7), ROW(8),
    ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15), ROW(16)
#undef ROW
};

/* Lower case of eight ASCII bytes at once: the top bit of each byte says "at least A", then "more
 * than Z"; no sum leaves its byte, because every byte is below 0x80. */
static inline uint64_t lower_ascii(uint64_t bytes, uint64_t wanted) {
    uint64_t from = bytes + 0x3F3F3F3F3F3F3F3Fu, beyond = bytes + 0x2525252525252525u;
    return bytes | ((from & ~beyond & 0x8080808080808080u) >> 2 & wanted);
}

/* Where the words of one call come from. */
typedef struct reader {
    const emb_text_tables *tables;
    emb_text_state *state;
    const uint8_t *bytes;
    size_t length;
    uint64_t lower; /* ~0 if words are put in lower case */
} reader;

/* A word that the cache does not hold, or has no key for, or whose ids may not fit. */
static __attribute__((noinline)) void emit_slowly(const reader *from, size_t start, size_t end) {
    const emb_text_tables *tables = from->tables;
    emb_text_state *state = from->state;
    size_t length = end - start;
    if (length > tables->word_chars_max) {
        emb_text_emit(state, tables->unknown_id);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        uint8_t b = from->bytes[start + i];
        state->word[i] = from->lower && b >= 'A' && b <= 'Z' ? (uint8_t)(b | 0x20) : b;
    }
    emb_text_emit_word(tables, state, state->word, (uint32_t)length);
}

static inline void emit(const reader *from, size_t start, size_t end) {
    emb_text_state *state = from->state;
    size_t length = end - start;
    if (length <= EMB_TEXT_KEY_BYTES && state->capacity - state->count > EMB_TEXT_SLOT_IDS) {
        uint64_t key[2], mask[2];
        bool whole = from->length - start >= EMB_TEXT_KEY_BYTES;
        memcpy(mask, key_masks[length], sizeof mask);
        if (__builtin_expect(whole, 1)) {
            memcpy(key, from->bytes + start, sizeof key);
        } else {
            key[0] = key[1] = 0;
            memcpy(key, from->bytes + start, length);
        }
        key[0] = lower_ascii(key[0] & mask[0], from->lower);
        key[1] = lower_ascii(key[1] & mask[1], from->lower);
        const emb_text_set *set = &from->tables->cache[emb_text_key_set(key[0], key[1])];
        const emb_text_slot *slot =
            &set->ways[set->ways[0].key[0] != key[0] || set->ways[0].key[1] != key[1]];
        if (slot->key[0] == key[0] && slot->key[1] == key[1]) {
            /* always three: the count decides how many stay */
            memcpy(state->ids + state->count, slot->ids, sizeof slot->ids);
            state->count += slot->count;
            return;
        }
    }
    emit_slowly(from, start, end);
}

static void classify(emb_text_masks *masks, const reader *from, size_t base) {
    size_t left = from->length - base;
    if (left >= 64) {
        from->tables->classify(masks, from->bytes + base, &from->tables->sets);
        return;
    }
    uint8_t block[64];
    memset(block, 0xFF, sizeof block); /* the end stops */
    memcpy(block, from->bytes + base, left);
    from->tables->classify(masks, block, &from->tables->sets);
}

size_t emb_text_read_plain(const emb_text_tables *tables, emb_text_state *state,
                           const uint8_t *bytes, size_t length) {
    reader from = {tables, state, bytes, length, tables->lowercase ? ~(uint64_t)0 : 0};
    size_t open = NONE;  /* start of a word whose end is not seen yet */
    uint64_t before = 1; /* the byte before the block is a boundary */
    for (size_t base = 0; base < length; base += 64) {
        emb_text_masks masks;
        classify(&masks, &from, base);
        uint64_t plain = masks.stop ? (masks.stop & -masks.stop) - 1 : ~(uint64_t)0;
        uint64_t starts = ((~masks.boundary & (masks.boundary << 1 | before)) | masks.mark) & plain;
        uint64_t edges = (masks.boundary & plain) | starts;
        if (open != NONE && edges) {
            emit(&from, open, base + (size_t)__builtin_ctzll(edges));
            open = NONE;
            if (state->pending_end) return base + (size_t)__builtin_ctzll(edges);
        }
        while (starts) {
            size_t at = (size_t)__builtin_ctzll(starts);
            uint64_t later = edges & ~(((uint64_t)2 << at) - 1);
            starts &= starts - 1;
            if (!later) {
                open = base + at;
                break;
            }
            size_t end = (size_t)__builtin_ctzll(later);
            emit(&from, base + at, base + end);
            if (state->pending_end) return base + end;
        }
        if (masks.stop) return open != NONE ? open : base + (size_t)__builtin_ctzll(masks.stop);
        before = masks.boundary >> 63;
    }
    return open != NONE ? open : length;
}
