/* words.c - characters to words, one at a time: literal tokens, cleaning, decomposition, lower
 * case, literal tokens again, splitting. The order of the stages is that of the reference.
 *
 * Each stage passes on a character as soon as it is final, so that a text of any length needs the
 * same few hundred bytes. All are in one file, so that the compiler can inline them.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

/* ---- words ----------------------------------------------------------------------------------- */

static void end_word(const emb_wordpiece_tables *tables, emb_wordpiece_state *state) {
    if (state->word_chars == 0) return;
    if (state->word_chars > tables->word_chars_max)
        emb_wordpiece_emit(state, tables->unknown_id);
    else
        emb_wordpiece_emit_word(tables, state, state->word_bytes);
    state->word_chars = 0;
    state->word_bytes = 0;
}

static void split(const emb_wordpiece_tables *tables, emb_wordpiece_state *state, uint32_t code) {
    uint32_t flags = emb_text_flags(code);
    if (flags & (EMB_TEXT_WHITE | EMB_TEXT_PUNCTUATION)) {
        end_word(tables, state);
        if (flags & EMB_TEXT_WHITE) return;
    }
    if (state->word_chars < tables->word_chars_max) {
        state->word_bytes += emb_text_utf8_encode(state->word + state->word_bytes, code);
        state->word_chars++;
    } else {
        state->word_chars = tables->word_chars_max + 1; /* too long: only this is remembered */
    }
    if (flags & EMB_TEXT_PUNCTUATION) end_word(tables, state);
}

/* ---- literal tokens among normalised characters ---------------------------------------------- */

static void match_normal(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                         bool final) {
    emb_text_held *held = &state->normal;
    uint8_t *bytes = state->normal_bytes;
    uint32_t at = 0;
    while (at < held->count) {
        uint32_t length = 0, id = 0;
        emb_text_found found = emb_text_literals_find(&tables->normal, bytes + at, held->count - at,
                                                      final, held->after_word, &length, &id);
        if (found == EMB_TEXT_FOUND_MORE) break;
        held->after_word = emb_text_ends_in_word(bytes + at, length);
        uint32_t end = at + length;
        if (found == EMB_TEXT_FOUND_TOKEN) {
            end_word(tables, state);
            emb_wordpiece_emit(state, id);
        } else {
            for (uint32_t i = at; i < end; i += emb_text_utf8_length(bytes[i]))
                split(tables, state, emb_text_utf8_decode(bytes + i));
        }
        at = end;
    }
    held->count -= at;
    memmove(bytes, bytes + at, held->count);
}

static void put(const emb_wordpiece_tables *tables, emb_wordpiece_state *state, uint32_t code) {
    if (!state->intercept) {
        split(tables, state, code);
        return;
    }
    uint8_t bytes[4];
    uint32_t length = emb_text_utf8_encode(bytes, code);
    if (tables->normal.count && !state->normal.count && !tables->normal.first[bytes[0]]) {
        state->normal.after_word = emb_text_flags(code) & EMB_TEXT_WORD;
        split(tables, state, code);
        return;
    }
    if (state->normal.count + 4 > sizeof state->normal_bytes) return; /* too long a literal */
    memcpy(state->normal_bytes + state->normal.count, bytes, length);
    state->normal.count += length;
    if (tables->normal.count) match_normal(tables, state, false);
}

/* ---- normalising ----------------------------------------------------------------------------- */

static void put_lower(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                      uint32_t code) {
    uint32_t place = tables->normalizer.lowercase ? EMB_TEXT_LOOK_UP(lowered, code) : 0;
    if (place == 0) {
        put(tables, state, code);
        return;
    }
    const uint32_t *sequence = emb_text_lowered_pool + place;
    for (uint32_t i = 0; i < EMB_TEXT_HEAD_LENGTH(sequence[0]); i++)
        put(tables, state, EMB_TEXT_CODE(sequence[i]));
}

static void end_marks(const emb_wordpiece_tables *tables, emb_wordpiece_state *state) {
    for (uint32_t i = 0; i < state->marks.count; i++)
        put_lower(tables, state, EMB_TEXT_CODE(state->marks.list[i]));
    state->marks.count = 0;
}

static void decompose(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                      uint32_t code) {
    uint32_t jamo[3], jamo_count = emb_text_hangul(jamo, code);
    if (jamo_count) {
        end_marks(tables, state);
        for (uint32_t i = 0; i < jamo_count; i++) put(tables, state, jamo[i]);
        return;
    }
    const uint32_t *sequence = emb_text_decomposed_pool + EMB_TEXT_LOOK_UP(decomposed, code);
    uint32_t head = sequence[0];
    if (head & EMB_TEXT_HEAD_STARTER) end_marks(tables, state);
    for (uint32_t i = 0; i < EMB_TEXT_HEAD_LENGTH(head); i++) {
        uint32_t part = EMB_TEXT_CODE(sequence[i]);
        uint32_t mark = head & EMB_TEXT_HEAD_MARKS ? emb_text_mark(part) : 0;
        if (mark) {
            /* a word of more than these is unknown, whatever follows */
            emb_text_marks_insert(&state->marks, tables->word_chars_max + 1, mark);
        } else {
            end_marks(tables, state);
            put_lower(tables, state, part);
        }
    }
}

static void normalize(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                      uint32_t code) {
    uint32_t flags = emb_text_flags(code);
    state->raw.after_word = flags & EMB_TEXT_WORD;
    if (tables->normalizer.clean_text) {
        if (flags & EMB_TEXT_REMOVED) return;
        if (flags &
            EMB_TEXT_SPACE) { /* before decomposition, which would turn some spaces into others */
            code = ' ';
            flags = 0;
        }
    }
    bool chinese = tables->normalizer.chinese_chars && flags & EMB_TEXT_CHINESE;
    if (chinese) {
        end_marks(tables, state);
        put(tables, state, ' ');
    }
    if (tables->normalizer.strip_accents && flags & EMB_TEXT_DECOMPOSED) {
        decompose(tables, state, code);
    } else {
        end_marks(tables, state);
        put_lower(tables, state, code);
    }
    if (chinese) put(tables, state, ' ');
}

/* ---- literal tokens in the text as it is ----------------------------------------------------- */

/* Ends a run of normalised text, at the end of the text or at a literal. */
static void end_segment(const emb_wordpiece_tables *tables, emb_wordpiece_state *state) {
    end_marks(tables, state);
    if (state->intercept) match_normal(tables, state, true);
    end_word(tables, state);
    state->normal.after_word = false;
}

static void match_raw(const emb_wordpiece_tables *tables, emb_wordpiece_state *state, bool final) {
    emb_text_held *held = &state->raw;
    uint8_t *bytes = state->raw_bytes;
    uint32_t at = 0;
    while (at < held->count) {
        uint32_t length = 0, id = 0;
        emb_text_found found = emb_text_literals_find(&tables->raw, bytes + at, held->count - at,
                                                      final, held->after_word, &length, &id);
        if (found == EMB_TEXT_FOUND_MORE) break;
        uint32_t end = at + length;
        if (found == EMB_TEXT_FOUND_TOKEN) {
            end_segment(tables, state);
            emb_wordpiece_emit(state, id);
            held->after_word = emb_text_ends_in_word(bytes + at, length);
        } else {
            for (uint32_t i = at; i < end; i += emb_text_utf8_length(bytes[i]))
                normalize(tables, state, emb_text_utf8_decode(bytes + i));
        }
        at = end;
    }
    held->count -= at;
    memmove(bytes, bytes + at, held->count);
}

void emb_wordpiece_take(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                        uint32_t code) {
    if (tables->raw.count) {
        uint8_t bytes[4];
        uint32_t length = emb_text_utf8_encode(bytes, code);
        if (state->raw.count || tables->raw.first[bytes[0]]) {
            memcpy(state->raw_bytes + state->raw.count, bytes, length);
            state->raw.count += length;
            match_raw(tables, state, false);
            return;
        }
    }
    normalize(tables, state, code);
}

void emb_wordpiece_finish(const emb_wordpiece_tables *tables, emb_wordpiece_state *state) {
    match_raw(tables, state, true);
    end_segment(tables, state);
}

uint32_t emb_wordpiece_normalize(const emb_wordpiece_tables *tables, emb_wordpiece_state *state,
                                 uint8_t *out, const uint8_t *bytes, uint32_t length) {
    state->intercept = true;
    state->normal.count = 0;
    for (uint32_t i = 0; i < length; i += emb_text_utf8_length(bytes[i]))
        normalize(tables, state, emb_text_utf8_decode(bytes + i));
    end_marks(tables, state);
    uint32_t held = state->normal.count;
    state->normal.count = 0;
    if (held > EMB_TEXT_LITERAL_BYTES_MAX) return 0; /* put drops what does not fit */
    memcpy(out, state->normal_bytes, held);
    return held;
}
