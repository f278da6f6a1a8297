/* normalize.c - characters to words, one at a time: literal tokens, cleaning, decomposition, lower
 * case, literal tokens again, splitting.
 *
 * Each stage hands on as soon as what it did cannot change any more, so that a text needs the same
 * few hundred bytes however long it is. The order of the stages is that of the reference.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/tables.h"

#define HANGUL_FIRST  0xAC00u
#define HANGUL_LAST   0xD7A3u
#define HANGUL_LEAD   0x1100u
#define HANGUL_VOWEL  0x1161u
#define HANGUL_TAIL   0x11A7u
#define HANGUL_VOWELS 21u
#define HANGUL_TAILS  28u
#define FIRST_MARK    0x300u

/* ---- words ----------------------------------------------------------------------------------- */

static void end_word(const emb_text_tables *tables, emb_text_state *state) {
    if (state->word_chars == 0) return;
    if (state->word_chars > tables->word_chars_max)
        emb_text_emit(state, tables->unknown_id);
    else
        emb_text_emit_word(tables, state, state->word_bytes);
    state->word_chars = 0;
    state->word_bytes = 0;
}

static void split(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    uint32_t flags = emb_text_flags(code);
    if (flags & (EMB_TEXT_WHITE | EMB_TEXT_PUNCTUATION)) {
        end_word(tables, state);
        if (flags & EMB_TEXT_WHITE) return;
    }
    if (state->word_chars < tables->word_chars_max) {
        state->word_bytes += emb_text_utf8_encode(state->word + state->word_bytes, code);
        state->word_chars++;
    } else {
        state->word_chars = tables->word_chars_max + 1; /* too long: only that is remembered */
    }
    if (flags & EMB_TEXT_PUNCTUATION) end_word(tables, state);
}

/* ---- literal tokens -------------------------------------------------------------------------- */

typedef enum { FIND_NOTHING, FIND_MORE, FIND_REJECTED, FIND_TOKEN } find_result;

/* The first of the patterns [low, high), which agree in `at` bytes, whose next byte is not below
 * `byte`. */
static uint32_t first_not_below(const emb_text_pattern *patterns, uint32_t low, uint32_t high,
                                uint32_t at, uint32_t byte) {
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        bool below = patterns[middle].length == at || patterns[middle].bytes[at] < byte;
        if (below)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Looks for a literal at the start of `held`, the longest that fits, as far as can be told yet.
 * The patterns are sorted by their bytes, so that those which agree lie together. */
static find_result find_literal(const emb_text_matcher *matcher, const uint8_t *held, uint32_t n,
                                bool final, bool after_word, uint32_t *length, uint32_t *id) {
    const emb_text_pattern *best = NULL, *patterns = matcher->patterns;
    uint32_t low = 0, high = matcher->count, at = 0;
    for (; at < n && low < high; at++) {
        low = first_not_below(patterns, low, high, at, held[at]);
        high = first_not_below(patterns, low, high, at, held[at] + 1u);
        if (low < high && patterns[low].length == at + 1) best = &patterns[low];
    }
    if (!final && low < high && patterns[high - 1].length > n) return FIND_MORE;
    if (!best) return FIND_NOTHING;
    if (best->single_word && best->length == n && !final) return FIND_MORE;
    *length = best->length;
    *id = best->id;
    if (best->single_word &&
        (after_word || (best->length < n &&
                        emb_text_flags(emb_text_utf8_decode(held + best->length)) & EMB_TEXT_WORD)))
        return FIND_REJECTED;
    return FIND_TOKEN;
}

/* Whether the last character of these bytes is \w. */
static bool ends_in_word(const uint8_t *bytes, uint32_t length) {
    uint32_t at = length - 1;
    while (at > 0 && (bytes[at] & 0xC0) == 0x80) at--;
    return emb_text_flags(emb_text_utf8_decode(bytes + at)) & EMB_TEXT_WORD;
}

static void match_normal(const emb_text_tables *tables, emb_text_state *state, bool final) {
    uint8_t *held = state->normal_bytes;
    uint32_t at = 0;
    while (at < state->normal_held) {
        uint32_t length = 0, id = 0;
        find_result found = find_literal(&tables->normal, held + at, state->normal_held - at, final,
                                         state->normal_after_word, &length, &id);
        if (found == FIND_MORE) break;
        if (found == FIND_NOTHING) length = emb_text_utf8_length(held[at]);
        state->normal_after_word = ends_in_word(held + at, length);
        uint32_t end = at + length;
        if (found == FIND_TOKEN) {
            end_word(tables, state);
            emb_text_emit(state, id);
        } else {
            for (uint32_t i = at; i < end; i += emb_text_utf8_length(held[i]))
                split(tables, state, emb_text_utf8_decode(held + i));
        }
        at = end;
    }
    state->normal_held -= at;
    memmove(held, held + at, state->normal_held);
}

/* ---- normalising ----------------------------------------------------------------------------- */

static void put(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    if (!state->intercept) {
        split(tables, state, code);
        return;
    }
    uint8_t bytes[4];
    uint32_t length = emb_text_utf8_encode(bytes, code);
    if (tables->normal.count && !state->normal_held && !tables->normal.first[bytes[0]]) {
        state->normal_after_word = emb_text_flags(code) & EMB_TEXT_WORD;
        split(tables, state, code);
        return;
    }
    if (state->normal_held + 4 > sizeof state->normal_bytes) return; /* too long a literal */
    memcpy(state->normal_bytes + state->normal_held, bytes, length);
    state->normal_held += length;
    if (tables->normal.count) match_normal(tables, state, false);
}

static void put_lower(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    uint32_t place = tables->lowercase ? EMB_TEXT_LOOK_UP(lowered, code) : 0;
    if (place == 0) {
        put(tables, state, code);
        return;
    }
    const uint32_t *sequence = emb_text_lowered_pool + place;
    for (uint32_t i = 0; i < EMB_TEXT_HEAD_LENGTH(sequence[0]); i++)
        put(tables, state, EMB_TEXT_CODE(sequence[i]));
}

static void end_run(const emb_text_tables *tables, emb_text_state *state) {
    for (uint32_t i = 0; i < state->run; i++)
        put_lower(tables, state, EMB_TEXT_CODE(state->run_marks[i]));
    state->run = 0;
}

/* Keeps the marks behind a character in the order of their classes, equal ones as they came. Of
 * more than a word may hold only the first are kept: that word is unknown whatever follows. */
static void insert_mark(const emb_text_tables *tables, emb_text_state *state, uint32_t mark) {
    uint32_t at = state->run;
    while (at > 0 && state->run_marks[at - 1] >> 24 > mark >> 24) at--;
    uint32_t most = tables->word_chars_max + 1;
    if (at == most) return;
    uint32_t moved = (state->run < most ? state->run : most - 1) - at;
    memmove(state->run_marks + at + 1, state->run_marks + at, moved * sizeof(uint32_t));
    state->run_marks[at] = mark;
    state->run = at + moved + 1;
}

/* Gives class << 24 | code of a mark that is kept, 0 of any other character. */
static uint32_t kept_mark(uint32_t code) {
    if (code < FIRST_MARK) return 0;
    uint32_t low = 0, high = emb_text_classes_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (EMB_TEXT_CODE(emb_text_classes[middle]) < code)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == emb_text_classes_count || EMB_TEXT_CODE(emb_text_classes[low]) != code) return 0;
    return emb_text_classes[low];
}

static void decompose(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    if (code >= HANGUL_FIRST && code <= HANGUL_LAST) {
        uint32_t index = code - HANGUL_FIRST, tail = index % HANGUL_TAILS;
        end_run(tables, state);
        put(tables, state, HANGUL_LEAD + index / HANGUL_TAILS / HANGUL_VOWELS);
        put(tables, state, HANGUL_VOWEL + index / HANGUL_TAILS % HANGUL_VOWELS);
        if (tail) put(tables, state, HANGUL_TAIL + tail);
        return;
    }
    const uint32_t *sequence = emb_text_decomposed_pool + EMB_TEXT_LOOK_UP(decomposed, code);
    uint32_t head = sequence[0];
    if (head & EMB_TEXT_HEAD_STARTER) end_run(tables, state);
    for (uint32_t i = 0; i < EMB_TEXT_HEAD_LENGTH(head); i++) {
        uint32_t part = EMB_TEXT_CODE(sequence[i]);
        uint32_t mark = head & EMB_TEXT_HEAD_MARKS ? kept_mark(part) : 0;
        if (mark) {
            insert_mark(tables, state, mark);
        } else {
            end_run(tables, state);
            put_lower(tables, state, part);
        }
    }
}

static void normalize(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    uint32_t flags = emb_text_flags(code);
    state->raw_after_word = flags & EMB_TEXT_WORD;
    if (tables->clean_text) {
        if (flags & EMB_TEXT_REMOVED) return;
        if (flags & EMB_TEXT_SPACE) { /* some spaces would decompose into others */
            code = ' ';
            flags = 0;
        }
    }
    bool chinese = tables->chinese_chars && flags & EMB_TEXT_CHINESE;
    if (chinese) {
        end_run(tables, state);
        put(tables, state, ' ');
    }
    if (tables->strip_accents && flags & EMB_TEXT_DECOMPOSED) {
        decompose(tables, state, code);
    } else {
        end_run(tables, state);
        put_lower(tables, state, code);
    }
    if (chinese) put(tables, state, ' ');
}

/* ---- stages together ------------------------------------------------------------------------- */

/* What follows is normalised by itself: the end of the text, or a literal. */
static void end_segment(const emb_text_tables *tables, emb_text_state *state) {
    end_run(tables, state);
    if (state->intercept) match_normal(tables, state, true);
    end_word(tables, state);
    state->normal_after_word = false;
}

static void match_raw(const emb_text_tables *tables, emb_text_state *state, bool final) {
    uint8_t *held = state->raw_bytes;
    uint32_t at = 0;
    while (at < state->raw_held) {
        uint32_t length = 0, id = 0;
        find_result found = find_literal(&tables->raw, held + at, state->raw_held - at, final,
                                         state->raw_after_word, &length, &id);
        if (found == FIND_MORE) break;
        if (found == FIND_NOTHING) length = emb_text_utf8_length(held[at]);
        uint32_t end = at + length;
        if (found == FIND_TOKEN) {
            end_segment(tables, state);
            emb_text_emit(state, id);
            state->raw_after_word = ends_in_word(held + at, length);
        } else {
            for (uint32_t i = at; i < end; i += emb_text_utf8_length(held[i]))
                normalize(tables, state, emb_text_utf8_decode(held + i));
        }
        at = end;
    }
    state->raw_held -= at;
    memmove(held, held + at, state->raw_held);
}

void emb_text_take(const emb_text_tables *tables, emb_text_state *state, uint32_t code) {
    if (tables->raw.count) {
        uint8_t bytes[4];
        uint32_t length = emb_text_utf8_encode(bytes, code);
        if (state->raw_held || tables->raw.first[bytes[0]]) {
            memcpy(state->raw_bytes + state->raw_held, bytes, length);
            state->raw_held += length;
            match_raw(tables, state, false);
            return;
        }
    }
    normalize(tables, state, code);
}

void emb_text_finish(const emb_text_tables *tables, emb_text_state *state) {
    match_raw(tables, state, true);
    end_segment(tables, state);
}

uint32_t emb_text_normalize(const emb_text_tables *tables, emb_text_state *state, uint8_t *out,
                            const uint8_t *bytes, uint32_t length) {
    state->intercept = true;
    state->normal_held = 0;
    for (uint32_t i = 0; i < length; i += emb_text_utf8_length(bytes[i]))
        normalize(tables, state, emb_text_utf8_decode(bytes + i));
    end_run(tables, state);
    uint32_t held = state->normal_held;
    state->normal_held = 0;
    if (held > EMB_TEXT_PATTERN_BYTES_MAX) return 0; /* where put drops what does not fit */
    memcpy(out, state->normal_bytes, held);
    return held;
}
