/* feed.c - the resumable reader: pieces of bytes to characters, ids to the caller's array.
 *
 * Invalid UTF-8 gives one U+FFFD for each longest part that could have begun a character, as
 * Python's errors="replace" does.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/tables.h"

#define REPLACEMENT 0xFFFDu

void emb_text_begin(emb_tokenizer *tokenizer) {
    emb_text_state *state = tokenizer->state;
    state->finished = false;
    state->partial_needed = 0;
    state->raw_held = state->normal_held = 0;
    state->raw_after_word = state->normal_after_word = false;
    state->intercept = tokenizer->tables->normal.count > 0;
    state->run = 0;
    state->word_chars = state->word_bytes = 0;
    state->pending_first = state->pending_end = 0;
}

/* Begins a character of several bytes, or replaces a byte that begins none. */
static void begin_character(const emb_text_tables *tables, emb_text_state *state, uint8_t byte) {
    state->partial_low = 0x80;
    state->partial_high = 0xBF;
    if (byte >= 0xC2 && byte <= 0xDF) {
        state->partial_needed = 1;
        state->partial_code = byte & 0x1F;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
        if (byte == 0xE0) state->partial_low = 0xA0;
        if (byte == 0xED) state->partial_high = 0x9F; /* no surrogates */
        state->partial_needed = 2;
        state->partial_code = byte & 0x0F;
    } else if (byte >= 0xF0 && byte <= 0xF4) {
        if (byte == 0xF0) state->partial_low = 0x90;
        if (byte == 0xF4) state->partial_high = 0x8F;
        state->partial_needed = 3;
        state->partial_code = byte & 0x07;
    } else {
        emb_text_take(tables, state, REPLACEMENT);
    }
}

/* Takes one byte; gives 0 if it ended a broken character and is to be read again. */
static size_t take_byte(const emb_text_tables *tables, emb_text_state *state, uint8_t byte) {
    if (state->partial_needed == 0) {
        if (byte < 0x80)
            emb_text_take(tables, state, byte);
        else
            begin_character(tables, state, byte);
        return 1;
    }
    if (byte < state->partial_low || byte > state->partial_high) {
        state->partial_needed = 0;
        emb_text_take(tables, state, REPLACEMENT);
        return 0;
    }
    state->partial_low = 0x80;
    state->partial_high = 0xBF;
    state->partial_code = state->partial_code << 6 | (byte & 0x3F);
    if (--state->partial_needed == 0) emb_text_take(tables, state, state->partial_code);
    return 1;
}

/* Nothing is held back and no word has begun. */
static bool at_boundary(const emb_text_state *state) {
    return !state->word_chars && !state->run && !state->raw_held && !state->normal_held &&
           !state->partial_needed;
}

/* Moves waiting ids to the caller. Gives whether none is left. */
static bool drain(emb_text_state *state) {
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

static size_t read_plain(const emb_text_tables *tables, emb_text_state *state, const uint8_t *bytes,
                         size_t length) {
    size_t used = emb_text_read_plain(tables, state, bytes, length);
    if (used > 0) {
        bool word = emb_text_flags(bytes[used - 1]) & EMB_TEXT_WORD;
        state->raw_after_word = state->normal_after_word = word;
    }
    return used;
}

/* Character by character, to where plain reading may be tried again. */
static size_t read_carefully(const emb_text_tables *tables, emb_text_state *state,
                             const uint8_t *bytes, size_t length) {
    size_t at = 0;
    do at += take_byte(tables, state, bytes[at]);
    while (at < length && !state->pending_end && !(bytes[at] < 0x80 && at_boundary(state)));
    return at;
}

void emb_text_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                   uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done) {
    const emb_text_tables *tables = tokenizer->tables;
    emb_text_state *state = tokenizer->state;
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
        if (state->partial_needed) {
            state->partial_needed = 0;
            emb_text_take(tables, state, REPLACEMENT);
        }
        emb_text_finish(tables, state);
        state->finished = true;
        drain(state);
    }
    *used = at;
    *count = state->count;
    *done = last && state->finished && state->pending_end == 0;
}
