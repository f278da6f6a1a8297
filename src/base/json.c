/* json.c - strict JSON as a stream of events, through a fixed buffer, in linear time.
 *
 * Fed by a read callback, feeds every reader of JSON. Strings are unescaped in place, so that an
 * event points into the buffer. Never allocates, never recurses: the open containers are an array.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

/* What may come next. */
enum state {
    STATE_START,        /* a document, or in lines mode the end of the stream */
    STATE_VALUE,        /* a value */
    STATE_VALUE_OR_END, /* the same, or the end of an array just opened */
    STATE_KEY,
    STATE_KEY_OR_END,
    STATE_COLON,
    STATE_AFTER,  /* a comma, or the end of the container */
    STATE_DONE,   /* nothing more in this document */
    STATE_IN_KEY, /* the next piece of a key */
    STATE_IN_STRING,
    STATE_FAILED
};

enum kind { KIND_OBJECT, KIND_ARRAY };

void emb_json_init(emb_json *json, void *buffer, size_t capacity, emb_json_read read, void *user) {
    memset(json, 0, sizeof *json);
    json->read = read;
    json->user = user;
    json->buffer = buffer;
    json->capacity = capacity;
    json->line = 1;
    json->state = STATE_START;
    json->text = "";
}

/* The position of the next byte in its line, from 1. */
static uint64_t byte(const emb_json *json) {
    return json->line_bytes + 1;
}

static emb_status fail(emb_json *json, const char *what, emb_error *error) {
    json->state = STATE_FAILED;
    return emb_error_set(error, EMB_BAD_FILE, "line %" PRIu64 ", byte %" PRIu64 ": %s", json->line,
                         byte(json), what);
}

/* Fails at a byte (-1: the end) where something else was expected. */
static emb_status fail_at(emb_json *json, int c, const char *expected, emb_error *error) {
    json->state = STATE_FAILED;
    char found[24] = "the end of the document";
    if (c == '\n') memcpy(found, "the end of the line", 20);
    if (c >= 0 && c != '\n') {
        const char *digits = "0123456789abcdef";
        char printable[4] = {'\'', (char)c, '\'', 0};
        char hex[11] = {'b', 'y', 't', 'e', ' ', '0', 'x', digits[c >> 4], digits[c & 15], 0};
        bool plain = c > 0x20 && c < 0x7F;
        memcpy(found, plain ? printable : hex, plain ? sizeof printable : sizeof hex);
    }
    return emb_error_set(error, EMB_BAD_FILE,
                         "line %" PRIu64 ", byte %" PRIu64 ": %s was expected, found %s",
                         json->line, byte(json), expected, found);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void consume(emb_json *json, size_t count) {
    json->begin += count;
    json->line_bytes += count;
}

/* Consumes `count` bytes, the last of which ends a line. */
static void consume_line(emb_json *json, size_t count) {
    json->begin += count;
    json->line_bytes = 0;
    json->line++;
}

/* Reads more bytes after `end`, where there must be room. At the end of the stream sets at_end. */
static emb_status fill(emb_json *json, emb_error *error) {
    if (json->at_end) return EMB_OK;
    ptrdiff_t got = json->read(json->user, json->buffer + json->end, json->capacity - json->end);
    if (got < 0) {
        json->state = STATE_FAILED;
        return emb_error_set(error, EMB_IO,
                             "line %" PRIu64 ", byte %" PRIu64 ": reading failed: %s", json->line,
                             byte(json), strerror((int)-got));
    }
    if (got == 0) json->at_end = true;
    json->end += (size_t)got;
    return EMB_OK;
}

/* Gives the next byte, unread; -1 at the end of the stream. */
static emb_status peek(emb_json *json, int *c, emb_error *error) {
    if (json->begin == json->end) {
        json->begin = json->end = 0;
        EMB_TRY(fill(json, error));
    }
    *c = json->begin < json->end ? json->buffer[json->begin] : -1;
    return EMB_OK;
}

/* The same after white space. In lines mode a newline is white space only between documents. */
static emb_status peek_token(emb_json *json, int *c, emb_error *error) {
    for (;;) {
        EMB_TRY(peek(json, c, error));
        if (*c == '\n') {
            if (json->lines && json->state != STATE_START) return EMB_OK;
            consume_line(json, 1);
            continue;
        }
        if (*c != ' ' && *c != '\t' && *c != '\r') return EMB_OK;
        consume(json, 1);
    }
}

/* ---- strings --------------------------------------------------------------------------------- */

#define EVERY_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Length of the run that can be copied as it is: no quote, backslash or control character; ASCII
 * only if strict. */
static size_t plain_length(const unsigned char *bytes, size_t length, bool strict) {
    const uint64_t high = EVERY_BYTE(0x80), above = strict ? high : 0;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        uint64_t quote = word ^ EVERY_BYTE('"'), slash = word ^ EVERY_BYTE('\\');
        /* x - 1 borrows into the top bit of the lowest byte that is zero: a hit is never missed,
         * and the byte loop below finds where it is. */
        uint64_t hit = ((word - EVERY_BYTE(0x20)) & ~word) | ((quote - EVERY_BYTE(1)) & ~quote) |
                       ((slash - EVERY_BYTE(1)) & ~slash);
        if ((hit & high) | (word & above)) break;
    }
    while (i < length && bytes[i] >= 0x20 && bytes[i] != '"' && bytes[i] != '\\' &&
           !(strict && bytes[i] >= 0x80))
        i++;
    return i;
}

/* Length of the well-formed UTF-8 character at `bytes`; 0 if more bytes are needed; -1 if
 * invalid. */
static int utf8_length(const unsigned char *bytes, size_t available) {
    unsigned char lead = bytes[0], low = 0x80, high = 0xBF;
    int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead < 0xC2 || lead > 0xF4) return -1;
    if (lead == 0xE0) low = 0xA0;  /* below is overlong */
    if (lead == 0xED) high = 0x9F; /* surrogates */
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F; /* above U+10FFFF */
    for (int i = 1; i < length; i++) {
        if ((size_t)i == available) return 0;
        if (bytes[i] < low || bytes[i] > high) return -1;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

static size_t utf8_put(unsigned char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (unsigned char)(0xC0 | code >> 6);
        out[1] = (unsigned char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (unsigned char)(0xE0 | code >> 12);
        out[1] = (unsigned char)(0x80 | (code >> 6 & 63));
        out[2] = (unsigned char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (unsigned char)(0xF0 | code >> 18);
    out[1] = (unsigned char)(0x80 | (code >> 12 & 63));
    out[2] = (unsigned char)(0x80 | (code >> 6 & 63));
    out[3] = (unsigned char)(0x80 | (code & 63));
    return 4;
}

/* The value of four hexadecimal digits; -1 if they are not. */
static int32_t hex4(const unsigned char *bytes) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = bytes[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Decodes the escape at `bytes`, which starts with a backslash. Gives its length; 0 if more bytes
 * are needed; -1 if it is invalid. */
static int read_escape(const unsigned char *bytes, size_t available, uint32_t *code, bool *lone) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    *lone = false;
    if (available < 2) return 0;
    if (bytes[1] != 'u') {
        const char *letter = bytes[1] ? strchr(letters, bytes[1]) : NULL;
        if (!letter) return -1;
        *code = (unsigned char)values[letter - letters];
        return 2;
    }
    if (available < 6) return 0;
    int32_t first = hex4(bytes + 2);
    if (first < 0) return -1;
    *code = (uint32_t)first;
    if (first < 0xD800 || first > 0xDFFF) return 6;
    *lone = true;
    *code = 0xFFFD;
    if (first > 0xDBFF) return 6;
    /* A low surrogate may follow: read only as far as needed to tell. */
    if (available < 7) return 0;
    if (bytes[6] != '\\') return 6;
    if (available < 8) return 0;
    if (bytes[7] != 'u') return 6;
    if (available < 12) return 0;
    int32_t second = hex4(bytes + 8);
    if (second < 0xDC00 || second > 0xDFFF) return 6;
    *lone = false;
    *code = 0x10000 + ((uint32_t)(first - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
    return 12;
}

/* Handles the byte that ended a plain run: an escape, or a character to be checked. Writes it at
 * *out; sets *more if it continues past the buffered bytes. */
static emb_status read_special(emb_json *json, size_t *out, bool *more, emb_error *error) {
    unsigned char *at = json->buffer + json->begin;
    size_t available = json->end - json->begin;
    int length;
    if (*at == '\\') {
        uint32_t code = 0;
        bool lone = false;
        length = read_escape(at, available, &code, &lone);
        if (length < 0) return fail(json, "not a valid escape", error);
        if (length > 0) *out += utf8_put(json->buffer + *out, code);
        json->text_replaced |= length > 0 && lone;
    } else if (*at >= 0x80) {
        length = utf8_length(at, available);
        if (length < 0) return fail(json, "not valid UTF-8", error);
        memmove(json->buffer + *out, at, (size_t)length);
        *out += (size_t)length;
    } else if (*at == '\n') {
        return fail(json, "a string is not closed at the end of its line", error);
    } else {
        return fail_at(json, *at, "an escape instead of a control character", error);
    }
    *more = length == 0;
    consume(json, (size_t)length);
    return EMB_OK;
}

/* Gives the next piece of the string being read: all of the rest if the buffer can hold it. [start,
 * out) is the piece so far; it never overtakes what was read. */
static emb_status read_piece(emb_json *json, emb_error *error) {
    size_t start = json->begin, out = start;
    bool last = false;
    for (;;) {
        size_t run =
            plain_length(json->buffer + json->begin, json->end - json->begin, json->utf8_strict);
        if (out != json->begin) memmove(json->buffer + out, json->buffer + json->begin, run);
        out += run;
        consume(json, run);
        bool more = json->begin == json->end;
        if (!more && json->buffer[json->begin] == '"') {
            consume(json, 1);
            last = true;
            break;
        }
        if (!more) EMB_TRY(read_special(json, &out, &more, error));
        if (!more) continue;
        if (json->at_end) return fail(json, "a string is not closed", error);
        if (json->end == json->capacity) {
            if (start == 0) break;
            size_t piece = out - start, rest = json->end - json->begin;
            memmove(json->buffer, json->buffer + start, piece);
            memmove(json->buffer + piece, json->buffer + json->begin, rest);
            start = 0;
            out = json->begin = piece;
            json->end = piece + rest;
        }
        EMB_TRY(fill(json, error));
    }
    json->text = (const char *)json->buffer + start;
    json->text_length = out - start;
    json->text_last = last;
    if (last) {
        json->state = json->state == STATE_IN_KEY ? STATE_COLON
                      : json->depth > 0           ? STATE_AFTER
                                                  : STATE_DONE;
    }
    return EMB_OK;
}

static emb_status begin_text(emb_json *json, enum state state, emb_error *error) {
    consume(json, 1);
    json->state = (uint8_t)state;
    json->text_first = true;
    json->text_replaced = false;
    return read_piece(json, error);
}

/* ---- numbers, literals, containers ----------------------------------------------------------- */

/* Appends the next byte to the number, or drops it if the number is full. */
static emb_status number_take(emb_json *json, int *c, emb_error *error) {
    json->number_cut = json->text_length + 1 == sizeof json->number;
    if (!json->number_cut) json->number[json->text_length++] = (char)*c;
    consume(json, 1);
    return peek(json, c, error);
}

static emb_status number_digits(emb_json *json, int *c, emb_error *error) {
    if (*c < '0' || *c > '9') return fail_at(json, *c, "a digit", error);
    while (*c >= '0' && *c <= '9') EMB_TRY(number_take(json, c, error));
    return EMB_OK;
}

static emb_status read_number(emb_json *json, int c, emb_error *error) {
    json->text_length = 0;
    json->number_cut = false;
    if (c == '-') EMB_TRY(number_take(json, &c, error));
    if (c == '0')
        EMB_TRY(number_take(json, &c, error));
    else
        EMB_TRY(number_digits(json, &c, error));
    if (c == '.') {
        EMB_TRY(number_take(json, &c, error));
        EMB_TRY(number_digits(json, &c, error));
    }
    if (c == 'e' || c == 'E') {
        EMB_TRY(number_take(json, &c, error));
        if (c == '+' || c == '-') EMB_TRY(number_take(json, &c, error));
        EMB_TRY(number_digits(json, &c, error));
    }
    json->number[json->text_length] = 0;
    json->text = json->number;
    json->text_first = json->text_last = true;
    return EMB_OK;
}

static emb_status read_literal(emb_json *json, const char *word, emb_error *error) {
    for (; *word; word++) {
        int c;
        EMB_TRY(peek(json, &c, error));
        if (c != *word) return fail_at(json, c, "true, false or null", error);
        consume(json, 1);
    }
    return EMB_OK;
}

static emb_status open_container(emb_json *json, enum kind kind, emb_error *error) {
    if (json->depth == EMB_JSON_DEPTH_MAX)
        return fail(json, "more than 64 containers inside each other", error);
    json->kinds[json->depth++] = (uint8_t)kind;
    json->state = kind == KIND_OBJECT ? STATE_KEY_OR_END : STATE_VALUE_OR_END;
    consume(json, 1);
    return EMB_OK;
}

static void close_container(emb_json *json, emb_json_event *event) {
    json->depth--;
    *event = json->kinds[json->depth] == KIND_OBJECT ? EMB_JSON_OBJECT_END : EMB_JSON_ARRAY_END;
    json->state = json->depth > 0 ? STATE_AFTER : STATE_DONE;
    consume(json, 1);
}

/* ---- events ---------------------------------------------------------------------------------- */

static emb_status read_value(emb_json *json, int c, emb_json_event *event, emb_error *error) {
    switch (c) {
    case '{':
        *event = EMB_JSON_OBJECT_BEGIN;
        return open_container(json, KIND_OBJECT, error);
    case '[':
        *event = EMB_JSON_ARRAY_BEGIN;
        return open_container(json, KIND_ARRAY, error);
    case '"':
        *event = EMB_JSON_STRING;
        return begin_text(json, STATE_IN_STRING, error);
    case 't':
        *event = EMB_JSON_TRUE;
        EMB_TRY(read_literal(json, "true", error));
        break;
    case 'f':
        *event = EMB_JSON_FALSE;
        EMB_TRY(read_literal(json, "false", error));
        break;
    case 'n':
        *event = EMB_JSON_NULL;
        EMB_TRY(read_literal(json, "null", error));
        break;
    default:
        if (c != '-' && (c < '0' || c > '9')) return fail_at(json, c, "a value", error);
        *event = EMB_JSON_NUMBER;
        EMB_TRY(read_number(json, c, error));
    }
    json->state = json->depth > 0 ? STATE_AFTER : STATE_DONE;
    return EMB_OK;
}

/* Between documents; *given: there is an event, else a value follows. */
static emb_status read_start(emb_json *json, int c, emb_json_event *event, bool *given,
                             emb_error *error) {
    *given = c < 0 && json->lines;
    *event = EMB_JSON_END;
    if (c == 0xEF || c == 0xFE || c == 0xFF)
        return fail(json, "a byte order mark: save the file as UTF-8 without one", error);
    if (c < 0 && !json->lines) return fail(json, "empty: a JSON value was expected", error);
    return EMB_OK;
}

/* After a document. */
static emb_status read_done(emb_json *json, int c, emb_json_event *event, emb_error *error) {
    if (c >= 0 && !(json->lines && c == '\n'))
        return fail_at(json, c, json->lines ? "the end of the line" : "the end", error);
    *event = EMB_JSON_END;
    if (json->lines) {
        *event = EMB_JSON_LINE_END;
        json->state = STATE_START;
    }
    return EMB_OK;
}

emb_status emb_json_next(emb_json *json, emb_json_event *event, emb_error *error) {
    bool given = false, object;
    int c;
    if (json->state == STATE_FAILED)
        return emb_error_set(error, EMB_BAD_FILE,
                             "line %" PRIu64 ": reading went on after an error", json->line);
    if (json->state == STATE_IN_KEY || json->state == STATE_IN_STRING) {
        *event = json->state == STATE_IN_KEY ? EMB_JSON_KEY : EMB_JSON_STRING;
        json->text_first = false;
        return read_piece(json, error);
    }
    for (;;) {
        EMB_TRY(peek_token(json, &c, error));
        switch (json->state) {
        case STATE_START:
            EMB_TRY(read_start(json, c, event, &given, error));
            return given ? EMB_OK : read_value(json, c, event, error);
        case STATE_VALUE_OR_END:
            if (c == ']') {
                close_container(json, event);
                return EMB_OK;
            }
            return read_value(json, c, event, error);
        case STATE_VALUE:
            return read_value(json, c, event, error);
        case STATE_KEY_OR_END:
            if (c == '}') {
                close_container(json, event);
                return EMB_OK;
            }
            /* fall through */
        case STATE_KEY:
            if (c != '"') return fail_at(json, c, "a key in quotes", error);
            *event = EMB_JSON_KEY;
            return begin_text(json, STATE_IN_KEY, error);
        case STATE_COLON:
            if (c != ':') return fail_at(json, c, "':'", error);
            consume(json, 1);
            json->state = STATE_VALUE;
            break;
        case STATE_AFTER:
            object = json->kinds[json->depth - 1] == KIND_OBJECT;
            if (c == (object ? '}' : ']')) {
                close_container(json, event);
                return EMB_OK;
            }
            if (c != ',') return fail_at(json, c, object ? "',' or '}'" : "',' or ']'", error);
            consume(json, 1);
            json->state = object ? STATE_KEY : STATE_VALUE;
            break;
        default:
            return read_done(json, c, event, error);
        }
    }
}

/* ---- on top of events ------------------------------------------------------------------------ */

emb_status emb_json_skip(emb_json *json, emb_error *error) {
    emb_json_event event;
    while (json->state == STATE_IN_KEY) EMB_TRY(emb_json_next(json, &event, error));
    bool entered = json->state == STATE_KEY_OR_END || json->state == STATE_VALUE_OR_END;
    uint32_t depth = entered ? json->depth - 1 : json->depth;
    do EMB_TRY(emb_json_next(json, &event, error));
    while (json->depth > depth || json->state == STATE_IN_STRING);
    return EMB_OK;
}

emb_status emb_json_skip_line(emb_json *json, emb_error *error) {
    json->depth = 0;
    json->state = STATE_START;
    for (;;) {
        int c;
        EMB_TRY(peek(json, &c, error));
        if (c < 0) return EMB_OK;
        const unsigned char *at = json->buffer + json->begin;
        const unsigned char *newline = memchr(at, '\n', json->end - json->begin);
        if (newline) {
            consume_line(json, (size_t)(newline - at) + 1);
            return EMB_OK;
        }
        consume(json, json->end - json->begin);
    }
}

emb_status emb_json_string(emb_json *json, char *out, size_t capacity, size_t *length,
                           emb_error *error) {
    size_t count = 0;
    for (;;) {
        if (json->text_length >= capacity - count)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "line %" PRIu64 ", byte %" PRIu64
                                 ": a string is longer than the %zu bytes allowed here",
                                 json->line, byte(json), capacity - 1);
        memcpy(out + count, json->text, json->text_length);
        count += json->text_length;
        if (json->text_last) break;
        emb_json_event event;
        EMB_TRY(emb_json_next(json, &event, error));
    }
    out[count] = 0;
    if (length) *length = count;
    return EMB_OK;
}

static emb_status wrong_value(const emb_json *json, const char *key, const char *expected,
                              emb_error *error) {
    return emb_error_set(error, EMB_BAD_FILE,
                         "line %" PRIu64 ", byte %" PRIu64 ": \"%s\" must be %s", json->line,
                         byte(json), key, expected);
}

emb_status emb_json_value_string(emb_json *json, emb_json_event event, char *out, size_t capacity,
                                 const char *key, emb_error *error) {
    size_t length = 0;
    if (event != EMB_JSON_STRING) return wrong_value(json, key, "a string", error);
    EMB_TRY(emb_json_string(json, out, capacity, &length, error));
    if (memchr(out, 0, length)) return wrong_value(json, key, "a string without NUL", error);
    return EMB_OK;
}

emb_status emb_json_value_u64(emb_json *json, emb_json_event event, uint64_t *out, const char *key,
                              emb_error *error) {
    uint64_t value = 0;
    bool whole = event == EMB_JSON_NUMBER && !json->number_cut;
    for (size_t i = 0; whole && i < json->text_length; i++) {
        uint64_t digit = (uint64_t)json->text[i] - '0';
        whole = digit <= 9 && value <= (UINT64_MAX - digit) / 10;
        if (whole) value = value * 10 + digit;
    }
    if (!whole) return wrong_value(json, key, "a whole number from 0 to 2^64 - 1", error);
    *out = value;
    return EMB_OK;
}

/* Decimal to binary, independent of the locale, which strtod is not. Exact (rounded once) for up to
 * 19 digits below 2^53 with a power of ten within 10^22; else within a few units in the last
 * place. */
static double to_double(const char *text) {
    uint64_t digits = 0;
    int32_t exponent = 0, stated = 0;
    bool negative = *text == '-', fraction = false, minus;
    for (text += negative; *text && *text != 'e' && *text != 'E'; text++) {
        if (*text == '.') {
            fraction = true;
        } else if (digits < UINT64_C(1000000000000000000)) {
            digits = digits * 10 + (uint64_t)(*text - '0');
            exponent -= fraction;
        } else {
            exponent += !fraction;
        }
    }
    if (*text) text++;
    minus = *text == '-';
    if (*text == '-' || *text == '+') text++;
    for (; *text; text++)
        if (stated < 100000) stated = stated * 10 + (*text - '0');
    exponent += minus ? -stated : stated;

    double value = (double)digits;
    for (; exponent > 0 && value != 0 && isfinite(value);
         exponent -= exponent < 22 ? exponent : 22) {
        double power = 1;
        for (int32_t i = 0; i < exponent && i < 22; i++) power *= 10;
        value *= power;
    }
    for (; exponent < 0 && value != 0; exponent += exponent > -22 ? -exponent : 22) {
        double power = 1;
        for (int32_t i = 0; i > exponent && i > -22; i--) power *= 10;
        value /= power;
    }
    return negative ? -value : value;
}

emb_status emb_json_value_double(emb_json *json, emb_json_event event, double *out, const char *key,
                                 emb_error *error) {
    if (event == EMB_JSON_NUMBER && json->number_cut)
        return wrong_value(json, key, "a number of at most 63 characters", error);
    double value = event == EMB_JSON_NUMBER ? to_double(json->text) : HUGE_VAL;
    if (!isfinite(value)) return wrong_value(json, key, "a finite number", error);
    *out = value;
    return EMB_OK;
}

emb_status emb_json_value_bool(emb_json *json, emb_json_event event, bool *out, const char *key,
                               emb_error *error) {
    if (event != EMB_JSON_TRUE && event != EMB_JSON_FALSE)
        return wrong_value(json, key, "true or false", error);
    *out = event == EMB_JSON_TRUE;
    return EMB_OK;
}

emb_status emb_json_next_string(emb_json *json, char *out, size_t capacity, const char *key,
                                emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    return emb_json_value_string(json, event, out, capacity, key, error);
}

emb_status emb_json_next_u64(emb_json *json, uint64_t *out, const char *key, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    return emb_json_value_u64(json, event, out, key, error);
}

emb_status emb_json_next_double(emb_json *json, double *out, const char *key, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    return emb_json_value_double(json, event, out, key, error);
}

ptrdiff_t emb_json_memory_read(void *user, void *buffer, size_t capacity) {
    emb_json_memory *memory = user;
    size_t count = memory->length < capacity ? memory->length : capacity;
    memcpy(buffer, memory->bytes, count);
    memory->bytes += count;
    memory->length -= count;
    return (ptrdiff_t)count;
}
