/* vocabulary.c - words to ids: a cache of whole words before longest-match over a compact index.
 *
 * The cache holds only what longest-match gave, so it changes the time and never the ids.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/tables.h"

#define HASH_SEED   0xCBF29CE484222325u
#define HASH_PRIME  0x100000001B3u
#define RECORD_HEAD 6 /* id, length */
#define OFFSET_MASK 0xFFFFFFu

static inline uint64_t hash_byte(uint64_t hash, uint8_t byte) {
    return (hash ^ byte) * HASH_PRIME;
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) hash = hash_byte(hash, bytes[i]);
    return hash;
}

/* FNV leaves its low bits to the last bytes alone; one more round spreads them. */
static inline uint64_t hash_finish(uint64_t hash) {
    return (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
}

uint32_t emb_text_vocabulary_bits(uint32_t entries) {
    uint32_t bits = 4;
    while (bits < 31 && (1u << bits) < 2 * (uint64_t)entries) bits++;
    return bits;
}

uint64_t emb_text_vocabulary_records_bytes(uint32_t entries, uint64_t bytes) {
    return 1 + (uint64_t)entries * RECORD_HEAD + bytes;
}

void emb_text_vocabulary_clear(emb_text_vocabulary *vocabulary, const char *prefix) {
    memset(vocabulary->slots, 0, sizeof(uint32_t) << vocabulary->bits);
    vocabulary->records_used = 1;
    vocabulary->entries = 0;
    vocabulary->entry_bytes_max = 0;
    vocabulary->prefix_bytes = (uint32_t)strnlen(prefix, sizeof vocabulary->prefix);
    memcpy(vocabulary->prefix, prefix, vocabulary->prefix_bytes);
    vocabulary->continuing_seed =
        hash_bytes(HASH_SEED, vocabulary->prefix, vocabulary->prefix_bytes);
}

/* Gives the record of prefix + bytes, whose hash is known, or NULL; *place: its slot, or the empty
 * one where it belongs. */
static uint8_t *find(const emb_text_vocabulary *vocabulary, uint64_t hash, const uint8_t *prefix,
                     uint32_t prefix_bytes, const uint8_t *bytes, uint32_t length,
                     uint32_t *place) {
    uint64_t mixed = hash_finish(hash);
    uint32_t mask = (1u << vocabulary->bits) - 1;
    uint32_t tag = (uint32_t)mixed & 0xFF;
    uint32_t at = (uint32_t)(mixed >> (64 - vocabulary->bits));
    for (; vocabulary->slots[at]; at = (at + 1) & mask) {
        if (vocabulary->slots[at] >> 24 != tag) continue;
        uint8_t *record = vocabulary->records + (vocabulary->slots[at] & OFFSET_MASK);
        uint16_t stored;
        memcpy(&stored, record + 4, sizeof stored);
        if (stored == prefix_bytes + length &&
            memcmp(record + RECORD_HEAD, prefix, prefix_bytes) == 0 &&
            memcmp(record + RECORD_HEAD + prefix_bytes, bytes, length) == 0) {
            *place = at;
            return record;
        }
    }
    *place = at;
    return NULL;
}

bool emb_text_vocabulary_add(emb_text_vocabulary *vocabulary, const uint8_t *bytes, uint32_t length,
                             uint32_t id, bool *replaced) {
    uint32_t place;
    uint64_t hash = hash_bytes(HASH_SEED, bytes, length);
    uint8_t *record = find(vocabulary, hash, NULL, 0, bytes, length, &place);
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
    vocabulary->slots[place] =
        (uint32_t)(hash_finish(hash) & 0xFF) << 24 | vocabulary->records_used;
    vocabulary->records_used += needed;
    vocabulary->entries++;
    if (length > vocabulary->entry_bytes_max) vocabulary->entry_bytes_max = length;
    return true;
}

/* Gives the bytes of the longest entry that `bytes` begins with, 0 if there is none. */
static uint32_t longest(const emb_text_vocabulary *vocabulary, const uint8_t *bytes,
                        uint32_t length, bool continuing, uint32_t *id) {
    uint64_t hashes[EMB_TEXT_ENTRY_BYTES_MAX + 1];
    uint32_t prefix_bytes = continuing ? vocabulary->prefix_bytes : 0;
    if (vocabulary->entry_bytes_max <= prefix_bytes) return 0;
    uint32_t most = vocabulary->entry_bytes_max - prefix_bytes;
    if (most > length) most = length;
    hashes[0] = continuing ? vocabulary->continuing_seed : HASH_SEED;
    for (uint32_t i = 0; i < most; i++) hashes[i + 1] = hash_byte(hashes[i], bytes[i]);
    for (uint32_t n = most; n > 0; n--) {
        if (n < length && (bytes[n] & 0xC0) == 0x80) continue; /* inside a character */
        uint32_t place;
        const uint8_t *record =
            find(vocabulary, hashes[n], vocabulary->prefix, prefix_bytes, bytes, n, &place);
        if (record) {
            memcpy(id, record, sizeof *id);
            return n;
        }
    }
    return 0;
}

/* The cache's key of a word: its bytes, then zeros. A word that holds a zero has none. */
static bool make_key(uint64_t key[2], const uint8_t *word, uint32_t length) {
    if (length > EMB_TEXT_KEY_BYTES || memchr(word, 0, length)) return false;
    key[0] = key[1] = 0;
    memcpy(key, word, length);
    return true;
}

uint32_t emb_text_match_word(const emb_text_tables *tables, emb_text_state *state,
                             const uint8_t *word, uint32_t length) {
    uint32_t count = 0;
    for (uint32_t at = 0; at < length;) {
        uint32_t n =
            longest(&tables->vocabulary, word + at, length - at, at > 0, &state->pieces[count]);
        if (n == 0) { /* one part unknown: the whole word is */
            state->pieces[0] = tables->unknown_id;
            count = 1;
            break;
        }
        count++;
        at += n;
    }
    uint64_t key[2];
    if (count <= EMB_TEXT_SLOT_IDS && make_key(key, word, length)) {
        emb_text_set *set = &tables->cache[emb_text_key_set(key[0], key[1])];
        set->ways[1] = set->ways[0];
        memcpy(set->ways[0].key, key, sizeof key);
        memcpy(set->ways[0].ids, state->pieces, count * sizeof(uint32_t));
        set->ways[0].count = count;
    }
    return count;
}

void emb_text_emit_word(const emb_text_tables *tables, emb_text_state *state, const uint8_t *word,
                        uint32_t length) {
    uint64_t key[2];
    if (make_key(key, word, length)) {
        const emb_text_set *set = &tables->cache[emb_text_key_set(key[0], key[1])];
        for (uint32_t way = 0; way < 2; way++) {
            const emb_text_slot *slot = &set->ways[way];
            if (slot->key[0] != key[0] || slot->key[1] != key[1]) continue;
            for (uint32_t i = 0; i < slot->count; i++) emb_text_emit(state, slot->ids[i]);
            return;
        }
    }
    uint32_t count = emb_text_match_word(tables, state, word, length);
    for (uint32_t i = 0; i < count; i++) emb_text_emit(state, state->pieces[i]);
}
