/* feed.c - the resumable reader: pieces of bytes to characters, ids to the caller's array.
 *
 * Plain ASCII between two word boundaries takes the fast path (plain.c), the rest the general one
 * (words.c).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

void emb_wordpiece_begin(emb_tokenizer *tokenizer) {
    const emb_wordpiece_tables *tables = tokenizer->tables;
    emb_wordpiece_state *state = tokenizer->state;
    state->finished = false;
    state->partial.needed = 0;
    state->raw.count = state->normal.count = 0;
    state->raw.after_word = state->normal.after_word = false;
    state->intercept = tables->normal.count > 0;
    state->marks.count = 0;
    state->word_chars = state->word_bytes = 0;
    state->pending_first = state->pending_end = 0;
}

/* Takes one byte; gives 0 if it ended an invalid character and must be read again. */
static size_t take_byte(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                        uint8_t byte) {
    uint32_t code;
    bool again;
    if (emb_text_utf8_take(&state->partial, byte, &code, &again))
        emb_wordpiece_take(tables, state, code);
    return !again;
}

/* Nothing is held back and no word has begun. */
static bool at_boundary(const emb_wordpiece_state *state) {
    return !state->word_chars && !state->marks.count && !state->raw.count && !state->normal.count &&
           !state->partial.needed;
}

/* Moves pending ids to the caller. Gives whether none is left. */
static bool drain(emb_wordpiece_state *state) {
    size_t room = state->capacity - state->count;
    size_t count = state->pending_end - state->pending_first;
    if (count > room) count = room;
    if (count) {
        memcpy(state->ids + state->count, state->pending + state->pending_first,
               count * sizeof(uint32_t));
        state->count += count;
        state->pending_first += (uint32_t)count;
    }
    if (state->pending_first < state->pending_end) return false;
    state->pending_first = state->pending_end = 0;
    return true;
}

static size_t read_plain(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                         const uint8_t *bytes, size_t length) {
    size_t used = emb_wordpiece_read_plain(tables, state, bytes, length);
    if (used > 0) {
        bool word = emb_text_flags(bytes[used - 1]) & EMB_TEXT_WORD;
        state->raw.after_word = state->normal.after_word = word;
    }
    return used;
}

/* The general path, character by character, until the fast path can be tried again. */
static size_t read_carefully(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                             const uint8_t *bytes, size_t length) {
    size_t at = 0;
    do at += take_byte(tables, state, bytes[at]);
    while (at < length && !state->pending_end && !(bytes[at] < 0x80 && at_boundary(state)));
    return at;
}

void emb_wordpiece_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                        uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done) {
    const emb_wordpiece_tables *tables = tokenizer->tables;
    emb_wordpiece_state *state = tokenizer->state;
    const uint8_t *text = (const uint8_t *)bytes;
    size_t at = 0;
    state->ids = ids;
    state->capacity = capacity;
    state->count = 0;
    while (drain(state) && at < length) {
        if (at_boundary(state)) at += read_plain(tables, state, text + at, length - at);
        if (at < length && !state->pending_end)
            at += read_carefully(tables, state, text + at, length - at);
    }
    if (last && at == length && !state->finished && state->pending_end == 0) {
        if (state->partial.needed) {
            state->partial.needed = 0;
            emb_wordpiece_take(tables, state, EMB_TEXT_REPLACEMENT);
        }
        emb_wordpiece_finish(tables, state);
        state->finished = true;
        drain(state);
    }
    *used = at;
    *count = state->count;
    *done = last && state->finished && state->pending_end == 0;
}
