/* vocabulary.c - words to ids: a cache of words before longest-match over a compact index.
 *
 * The cache holds only results of longest-match, so it affects speed and never the ids.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

#define HASH_BASE   0x9E3779B97F4A7C15u
#define RECORD_HEAD 6 /* id, length */
#define OFFSET_MASK 0xFFFFFFu

const uint8_t emb_wordpiece_key_masks[EMB_WORDPIECE_KEY_BYTES + 1][EMB_WORDPIECE_KEY_BYTES] = {
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

/* A polynomial hash: the hash of any substring of a word follows from those of two prefixes. */
static inline uint64_t hash_byte(uint64_t hash, uint8_t byte) {
    return hash * HASH_BASE + byte + 1;
}

static uint64_t hash_bytes(const uint8_t *bytes, uint32_t length) {
    uint64_t hash = 0;
    for (uint32_t i = 0; i < length; i++) hash = hash_byte(hash, bytes[i]);
    return hash;
}

/* The low bits of a polynomial hash depend only on the last bytes: this mixes all of them. */
static inline uint64_t hash_finish(uint64_t hash) {
    return (hash ^ hash >> 32) * 0xBF58476D1CE4E5B9u;
}

static inline uint64_t filter_mask(uint64_t mixed) {
    return (uint64_t)1 << (mixed >> 8 & 63) | (uint64_t)1 << (mixed >> 14 & 63);
}

uint32_t emb_wordpiece_vocabulary_bits(uint32_t entries) {
    uint32_t bits = 4;
    while (bits < 31 && (1u << bits) < 2 * (uint64_t)entries) bits++;
    return bits;
}

uint32_t emb_wordpiece_vocabulary_filter_bits(uint32_t entries) {
    uint32_t bits = emb_wordpiece_vocabulary_bits(entries); /* 16 to 32 bits for each entry */
    return bits > 6 ? bits - 2 : 4;
}

uint64_t emb_wordpiece_vocabulary_records_bytes(uint32_t entries, uint64_t bytes) {
    return 1 + (uint64_t)entries * RECORD_HEAD + bytes;
}

void emb_wordpiece_vocabulary_clear(emb_wordpiece_vocabulary *vocabulary, const char *prefix) {
    memset(vocabulary->slots, 0, sizeof(uint32_t) << vocabulary->bits);
    vocabulary->records_used = 1;
    vocabulary->entries = 0;
    vocabulary->entry_bytes_max = 0;
    vocabulary->prefix_bytes = (uint32_t)strnlen(prefix, sizeof vocabulary->prefix);
    memcpy(vocabulary->prefix, prefix, vocabulary->prefix_bytes);
    vocabulary->prefix_hash = hash_bytes(vocabulary->prefix, vocabulary->prefix_bytes);
    memset(vocabulary->filter, 0, sizeof(uint64_t) << vocabulary->filter_bits);
    vocabulary->powers[0] = 1;
    for (uint32_t i = 0; i < EMB_TEXT_ENTRY_BYTES_MAX; i++)
        vocabulary->powers[i + 1] = vocabulary->powers[i] * HASH_BASE;
}

/* Gives the record of prefix + bytes, or NULL. `mixed` is their finished hash. *place: its slot, or
 * the empty one where it belongs. */
static uint8_t *find(const emb_wordpiece_vocabulary *vocabulary, uint64_t mixed,
                     uint32_t prefix_bytes, const uint8_t *bytes, uint32_t length,
                     uint32_t *place) {
    uint32_t mask = (1u << vocabulary->bits) - 1;
    uint32_t tag = (uint32_t)mixed & 0xFF;
    uint32_t at = (uint32_t)(mixed >> (64 - vocabulary->bits));
    for (; vocabulary->slots[at]; at = (at + 1) & mask) {
        if (vocabulary->slots[at] >> 24 != tag) continue;
        uint8_t *record = vocabulary->records + (vocabulary->slots[at] & OFFSET_MASK);
        uint16_t stored;
        memcpy(&stored, record + 4, sizeof stored);
        if (stored == prefix_bytes + length &&
            memcmp(record + RECORD_HEAD, vocabulary->prefix, prefix_bytes) == 0 &&
            memcmp(record + RECORD_HEAD + prefix_bytes, bytes, length) == 0) {
            *place = at;
            return record;
        }
    }
    *place = at;
    return NULL;
}

bool emb_wordpiece_vocabulary_add(emb_wordpiece_vocabulary *vocabulary, const uint8_t *bytes,
                                  uint32_t length, uint32_t id, bool *replaced) {
    uint32_t place;
    uint64_t mixed = hash_finish(hash_bytes(bytes, length));
    uint8_t *record = find(vocabulary, mixed, 0, bytes, length, &place);
    *replaced = record != NULL;
    if (record) {
        memcpy(record, &id, sizeof id);
        return true;
    }
    uint32_t needed = RECORD_HEAD + length;
    if (needed > vocabulary->records_bytes - vocabulary->records_used ||
        2 * (uint64_t)(vocabulary->entries + 1) > (uint64_t)1 << vocabulary->bits)
        return false;
    uint16_t stored = (uint16_t)length;
    record = vocabulary->records + vocabulary->records_used;
    memcpy(record, &id, sizeof id);
    memcpy(record + 4, &stored, sizeof stored);
    memcpy(record + RECORD_HEAD, bytes, length);
    vocabulary->slots[place] = (uint32_t)(mixed & 0xFF) << 24 | vocabulary->records_used;
    vocabulary->filter[mixed >> (64 - vocabulary->filter_bits)] |= filter_mask(mixed);
    vocabulary->records_used += needed;
    vocabulary->entries++;
    if (length > vocabulary->entry_bytes_max) vocabulary->entry_bytes_max = length;
    return true;
}

/* Gives the bytes of the longest entry that word[at..] begins with, 0 if there is none. hashes[i]
 * is of the first i bytes of the word. */
static uint32_t longest(const emb_wordpiece_vocabulary *vocabulary, const uint64_t *hashes,
                        const uint8_t *word, uint32_t length, uint32_t at, uint32_t *id) {
    uint32_t prefix_bytes = at > 0 ? vocabulary->prefix_bytes : 0;
    if (vocabulary->entry_bytes_max <= prefix_bytes) return 0;
    uint32_t most = vocabulary->entry_bytes_max - prefix_bytes;
    if (most > length - at) most = length - at;
    /* replaces the bytes before `at` by the continuing prefix */
    uint64_t shift = (at > 0 ? vocabulary->prefix_hash : 0) - hashes[at];
    for (uint32_t n = most; n > 0; n--) {
        if (at + n < length && (word[at + n] & 0xC0) == 0x80) continue; /* inside a character */
        uint64_t mixed = hash_finish(hashes[at + n] + shift * vocabulary->powers[n]);
        uint64_t mask = filter_mask(mixed);
        if ((vocabulary->filter[mixed >> (64 - vocabulary->filter_bits)] & mask) != mask) continue;
        uint32_t place;
        const uint8_t *record = find(vocabulary, mixed, prefix_bytes, word + at, n, &place);
        if (record) {
            memcpy(id, record, sizeof *id);
            return n;
        }
    }
    return 0;
}

static uint32_t match_word(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                           const uint8_t *word, uint32_t length) {
    uint32_t count = 0;
    state->hashes[0] = 0;
    for (uint32_t i = 0; i < length; i++)
        state->hashes[i + 1] = hash_byte(state->hashes[i], word[i]);
    for (uint32_t at = 0; at < length;) {
        uint32_t n =
            longest(&tables->vocabulary, state->hashes, word, length, at, &state->pieces[count]);
        if (n == 0) { /* one unknown part makes the word unknown */
            state->pieces[0] = tables->unknown_id;
            return 1;
        }
        count++;
        at += n;
    }
    return count;
}

/* The cache key of state->word: its bytes, padded with zeros. A word that contains a zero has
 * none. */
static bool make_key(uint64_t key[2], const emb_wordpiece_tables *tables,
                     const emb_wordpiece_state *state, uint32_t length) {
    uint64_t mask[2];
    if (length > EMB_WORDPIECE_KEY_BYTES) return false;
    if (!tables->normalizer.clean_text && memchr(state->word, 0, length))
        return false; /* else removed */
    memcpy(key, state->word, sizeof mask);
    memcpy(mask, emb_wordpiece_key_masks[length], sizeof mask);
    key[0] &= mask[0];
    key[1] &= mask[1];
    return true;
}

/* Frees the first way of a set by moving the ways before `end` back by one. */
static emb_wordpiece_slot *front(emb_wordpiece_set *set, uint32_t end) {
    for (uint32_t way = end; way > 0; way--) set->ways[way] = set->ways[way - 1];
    return &set->ways[0];
}

static void keep(const emb_wordpiece_tables *tables, emb_wordpiece_set *set, const uint64_t key[2],
                 const uint32_t *ids, uint32_t count) {
    if (count >= (tables->small_ids ? 8 : 4)) return;
    emb_wordpiece_slot *slot = front(set, EMB_WORDPIECE_CACHE_WAYS - 1);
    memcpy(slot->key, key, sizeof slot->key);
    memset(&slot->ids, 0, sizeof slot->ids);
    for (uint32_t i = 0; i < count; i++) {
        if (tables->small_ids)
            slot->ids.small[i] = (uint16_t)ids[i];
        else
            slot->ids.wide[i] = ids[i];
    }
    if (tables->small_ids)
        slot->ids.small[7] = (uint16_t)count;
    else
        slot->ids.wide[3] = count;
}

void emb_wordpiece_emit_word(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                             uint32_t length) {
    uint64_t key[2];
    uint32_t few[EMB_WORDPIECE_SLOT_IDS], count, way = 0;
    const uint32_t *ids = few;
    bool keyed = make_key(key, tables, state, length);
    emb_wordpiece_set *set = keyed ? &tables->cache[emb_wordpiece_key_set(key[0], key[1])] : NULL;
    if (keyed)
        while (way < EMB_WORDPIECE_CACHE_WAYS && memcmp(set->ways[way].key, key, sizeof key) != 0)
            way++;
    if (keyed && way < EMB_WORDPIECE_CACHE_WAYS) {
        if (way >= EMB_WORDPIECE_CACHE_WAYS / 2) {
            emb_wordpiece_slot found = set->ways[way];
            *front(set, way) = found;
            way = 0;
        }
        count = emb_wordpiece_slot_read(&set->ways[way], tables->small_ids, few);
    } else {
        count = match_word(tables, state, state->word, length);
        ids = state->pieces;
        if (keyed) keep(tables, set, key, ids, count);
    }
    for (uint32_t i = 0; i < count; i++) emb_wordpiece_emit(state, ids[i]);
}
