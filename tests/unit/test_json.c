/* test_json.c - the JSON reader: what it accepts and refuses, and that neither the size of its
 * buffer nor the way the bytes arrive changes a single event.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"

/* A source that gives at most `step` bytes a read, or breaks once at `split`, or fails at the end.
 */
typedef struct test_source {
    const char *bytes;
    size_t length, given, step, split;
    ptrdiff_t at_end;
} test_source;

static ptrdiff_t source_read(void *user, void *buffer, size_t capacity) {
    test_source *source = user;
    size_t count = source->length - source->given;
    if (count == 0) return source->at_end;
    if (count > capacity) count = capacity;
    if (source->step && count > source->step) count = source->step;
    if (source->given < source->split && count > source->split - source->given)
        count = source->split - source->given;
    memcpy(buffer, source->bytes + source->given, count);
    source->given += count;
    return (ptrdiff_t)count;
}

/* Writes the events of a whole document, strings joined, into `out`; gives the status. */
static emb_status trace(char *out, size_t capacity, test_source *source, size_t buffer_bytes,
                        bool lines, bool strict, emb_error *error) {
    static const char *const names[] = {".", "{", "}", "[", "]", "k", "s", "#", "T", "F", "0", "/"};
    unsigned char buffer[4096];
    emb_json json;
    emb_json_event event;
    size_t length = 0;
    emb_json_init(&json, buffer, buffer_bytes, source_read, source);
    json.lines = lines;
    json.utf8_strict = strict;
    do {
        emb_status status = emb_json_next(&json, &event, error);
        if (status != EMB_OK) {
            out[length] = 0;
            return status;
        }
        bool text = event == EMB_JSON_KEY || event == EMB_JSON_STRING || event == EMB_JSON_NUMBER;
        size_t more = text ? json.text_length : 0;
        assert_true(length + more + 8 < capacity);
        if (!text || json.text_first) {
            strcpy(out + length, names[event]);
            length++;
        }
        memcpy(out + length, json.text, more);
        length += more;
        if (text && json.text_last) out[length++] = ' ';
    } while (event != EMB_JSON_END);
    out[length] = 0;
    return EMB_OK;
}

static emb_status trace_plain(char *out, size_t capacity, const char *text, emb_error *error) {
    test_source source = {.bytes = text, .length = strlen(text)};
    return trace(out, capacity, &source, 256, false, false, error);
}

typedef struct test_case {
    const char *text, *events;
} test_case;

static const test_case accepted[] = {
    {"[]", "[]."},
    {"{}", "{}."},
    {" \t\r\n[ \n]\r\n", "[]."},
    {"0", "#0 ."},
    {"-0", "#-0 ."},
    {"[-0.0e-0]", "[#-0.0e-0 ]."},
    {"[1E22,1e+2,0.5,123456789]", "[#1E22 #1e+2 #0.5 #123456789 ]."},
    {"true", "T."},
    {"false", "F."},
    {"null ", "0."},
    {"\"\"", "s ."},
    {"\"a\"", "sa ."},
    {"{\"\":0}", "{k #0 }."},
    {"{\"a\":{\"a\":[]},\"b\":[{}]}", "{ka {ka []}kb [{}]}."},
    {"{\"a\":1,\"a\":2}", "{ka #1 ka #2 }."},
    {"[[],[[]],{}]", "[[][[]]{}]."},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s\"\\/\b\f\n\r\t ."},
    {"\"\\u0041\\u00e9\\u20AC\"", "sA\xC3\xA9\xE2\x82\xAC ."},
    {"\"\\uD83D\\uDE00\"", "s\xF0\x9F\x98\x80 ."},
    {"\"\\uDBFF\\uDFFF\"", "s\xF4\x8F\xBF\xBF ."},
    {"\"\\uD83D\"", "s\xEF\xBF\xBD ."},
    {"\"\\uDE00x\"", "s\xEF\xBF\xBDx ."},
    {"\"\\uD83D\\n\"", "s\xEF\xBF\xBD\n ."},
    {"\"\\uD83Dabcdefg\"", "s\xEF\xBF\xBD"
                           "abcdefg ."},
    {"\"\\uD83D\\uD83D\\uDE00\"", "s\xEF\xBF\xBD\xF0\x9F\x98\x80 ."},
    {"\"\\uD83D\\u0041\"", "s\xEF\xBF\xBD"
                           "A ."},
    {"\"\x7F\xC3\xA9\xF0\x9F\x98\x80\"", "s\x7F\xC3\xA9\xF0\x9F\x98\x80 ."},
    {"\"\xFF\x80\"", "s\xFF\x80 ."},
    {"[123456789012345678901234567890123456789012345678901234567890123]",
     "[#123456789012345678901234567890123456789012345678901234567890123 ]."},
};

static const char *const refused[] = {
    "",
    " ",
    "\n",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1,,2]",
    "[}",
    "{]",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{\"a\":}",
    "{1:1}",
    "{a:1}",
    "{'a':1}",
    "{,}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1]",
    "[\"a\":1]",
    "{\"a\",1}",
    "00",
    "01",
    "-01",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e1",
    "1e",
    "1e+",
    "-a",
    "0x1",
    "1_0",
    "1e1.5",
    "Infinity",
    "NaN",
    "-Infinity",
    "nul",
    "nulL",
    "True",
    "truex",
    "tru",
    "fals",
    "nullx",
    "\"",
    "\"a",
    "\"\\",
    "\"\\u",
    "\"\\u12",
    "\"\\u123g\"",
    "\"\\x41\"",
    "\"\\'\"",
    "\"\\U0041\"",
    "\"\\uD83D",
    "\"\\uD83D\\",
    "\"\\uD83D\\u",
    "\"\\uD83D\\uDE",
    "\"\\uD83D\\uDEzz\"",
    "\"\t\"",
    "\"\n\"",
    "\"\x01\"",
    "\"\x1F\"",
    "'a'",
    "a",
    "[a]",
    "1 2",
    "[] []",
    "{}x",
    "[]]",
    "\xEF\xBB\xBF[]",
    "\xFF\xFE",
    "\xFE\xFF",
    "//x\n1",
    "1 //x",
    "/**/1",
    "[1;2]",
    "\v1",
    "\f1",
    "\xC2\xA0 1",
    "\\u0031",
    "[\"a\",\n4\n,1,",
    "[*]",
    "<null>",
    "\"a\"b",
    "{\"a\":\"b\"}#",
};

static void test_accepts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        char events[512];
        emb_error error = {.message = ""};
        emb_status status = trace_plain(events, sizeof events, accepted[i].text, &error);
        if (status != EMB_OK) print_error("%s: %s\n", accepted[i].text, error.message);
        assert_int_equal(status, EMB_OK);
        assert_string_equal(events, accepted[i].events);
    }
}

static void test_refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char events[512];
        emb_error error = {.message = ""};
        emb_status status = trace_plain(events, sizeof events, refused[i], &error);
        if (status != EMB_BAD_FILE) print_error("accepted: %s\n", refused[i]);
        assert_int_equal(status, EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "line "));
        assert_non_null(strstr(error.message, ", byte "));
    }
}

static void test_messages_name_the_place(void **state) {
    static const char *const cases[][2] = {
        {"[1,\n 2,\n x]", "line 3, byte 2: a value was expected, found 'x'"},
        {"{\"a\":1", "line 1, byte 7: ',' or '}' was expected, found the end of the document"},
        {"[\x01]", "line 1, byte 2: a value was expected, found byte 0x01"},
        {"\"ab\\q\"", "line 1, byte 4: not a valid escape"},
        {"\xEF\xBB\xBF{}", "line 1, byte 1: a byte order mark: save the file as UTF-8 without one"},
        {"", "line 1, byte 1: empty: a JSON value was expected"},
        {"[] x", "line 1, byte 4: the end was expected, found 'x'"},
        {"[00]", "line 1, byte 3: ',' or ']' was expected, found '0'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char events[512];
        emb_error error;
        assert_int_equal(trace_plain(events, sizeof events, cases[i][0], &error), EMB_BAD_FILE);
        assert_string_equal(error.message, cases[i][1]);
    }
}

static void test_depth(void **state) {
    (void)state;
    for (int depth = 63; depth <= 66; depth++) {
        char text[200], events[512];
        emb_error error;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = 0;
        assert_int_equal(trace_plain(events, sizeof events, text, &error),
                         depth <= EMB_JSON_DEPTH_MAX ? EMB_OK : EMB_BAD_FILE);
    }
    /* A bomb: refused at the limit, whatever follows. */
    size_t length = 1 << 20;
    char *bomb = malloc(length), events[512];
    memset(bomb, '[', length);
    test_source source = {.bytes = bomb, .length = length};
    emb_error error;
    assert_int_equal(trace(events, sizeof events, &source, 64, false, false, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "64 containers"));
    assert_true(source.given <= 128);
    free(bomb);
}

static const char sample[] =
    "{\"key with \\u00e9 and \\\"quotes\\\"\": [1, -2.5e-3, true, false, null, \"\", {}],\r\n"
    " \"a long string that is longer than the smallest buffer of all, so that it comes in pieces, "
    "with \\uD83D\\uDE00 pairs, \\uD83D alone, \\t\\n\\\\ escapes \\u20AC\\u0041\": \"\\u4e2d"
    "\xE4\xB8\xAD\xE6\x96\x87\xF0\x9F\x98\x80\xC3\xA9 text \\uDE00 \\\\\\\\\\\\\\\\\\\\ end\"\n}\n";

static void test_every_buffer_and_split(void **state) {
    char expected[1024], events[1024];
    emb_error error;
    (void)state;
    test_source whole = {.bytes = sample, .length = sizeof sample - 1};
    assert_int_equal(trace(expected, sizeof expected, &whole, 4096, false, true, &error), EMB_OK);
    for (size_t buffer = EMB_JSON_BUFFER_MIN; buffer <= 200; buffer++) {
        for (size_t step = 1; step <= 13; step++) {
            test_source source = {.bytes = sample, .length = sizeof sample - 1, .step = step};
            assert_int_equal(trace(events, sizeof events, &source, buffer, false, step & 1, &error),
                             EMB_OK);
            assert_string_equal(events, expected);
        }
        for (size_t split = 1; split < sizeof sample - 1; split++) {
            test_source source = {.bytes = sample, .length = sizeof sample - 1, .split = split};
            assert_int_equal(
                trace(events, sizeof events, &source, buffer, false, split & 1, &error), EMB_OK);
            assert_string_equal(events, expected);
        }
    }
}

/* A document cut anywhere is refused, and says so in the same words whatever the buffer. */
static void test_every_cut(void **state) {
    (void)state;
    for (size_t length = 0; length < sizeof sample - 3; length++) {
        char events[1024];
        emb_error first, error;
        for (size_t buffer = 64; buffer <= 130; buffer += 33) {
            test_source source = {.bytes = sample, .length = length, .step = buffer % 7};
            emb_status status = trace(events, sizeof events, &source, buffer, false, false, &error);
            assert_int_equal(status, EMB_BAD_FILE);
            if (buffer == 64) first = error;
            assert_string_equal(error.message, first.message);
        }
    }
}

static void test_strings_that_fit_come_whole(void **state) {
    (void)state;
    for (size_t lead = 0; lead < 200; lead++) {
        char text[512];
        unsigned char buffer[64];
        memset(text, ' ', lead);
        memset(text + lead, 'x', 64);
        text[lead] = text[lead + 63] = '"';
        emb_json json;
        emb_json_event event;
        test_source source = {.bytes = text, .length = lead + 64, .step = lead % 11};
        emb_json_init(&json, buffer, sizeof buffer, source_read, &source);
        assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
        assert_int_equal(event, EMB_JSON_STRING);
        assert_true(json.text_first && json.text_last);
        assert_int_equal(json.text_length, 62);
    }
}

static void test_utf8(void **state) {
    static const char *const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xC2",
        "\xC2\x41",
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF",
        "\xE4\xB8",
        "\xE4\xB8\x41",
        "\xF0\x80\x80\x80",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFF",
        "\xF0\x9F\x98",
    };
    static const char *const good[] = {
        "\xC2\x80",     "\xDF\xBF",     "\xE0\xA0\x80",     "\xED\x9F\xBF",
        "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad + sizeof good / sizeof *good; i++) {
        bool is_good = i >= sizeof bad / sizeof *bad;
        const char *middle = is_good ? good[i - sizeof bad / sizeof *bad] : bad[i];
        for (size_t lead = 0; lead < 80; lead++) {
            char text[200], events[512];
            memset(text, 'a', sizeof text);
            text[0] = '"';
            int rest = snprintf(text + 1 + lead, 100, "%stail\"", middle);
            for (int strict = 0; strict < 2; strict++) {
                emb_error error = {.message = ""};
                test_source source = {
                    .bytes = text, .length = 1 + lead + (size_t)rest, .step = lead % 5};
                emb_status status =
                    trace(events, sizeof events, &source, 64, false, strict, &error);
                assert_int_equal(status, strict && !is_good ? EMB_BAD_FILE : EMB_OK);
                if (status != EMB_OK) assert_non_null(strstr(error.message, "not valid UTF-8"));
            }
        }
    }
}

static void test_lines(void **state) {
    static const test_case cases[] = {
        {"1\n2\n", "#1 /#2 /."},
        {"1\n2", "#1 /#2 /."},
        {"", "."},
        {"\n\n \r\n", "."},
        {"\r\n{\"a\":1}\r\n\r\n[]\r\n", "{ka #1 }/[]/."},
        {" \"x\\ny\" \t\n\"\"", "sx\ny /s /."},
    };
    static const char *const bad[] = {"1 2\n", "[1,\n2]\n",           "{\"a\":\n1}", "\"a\nb\"",
                                      "[\n]",  "1\n\xEF\xBB\xBF 1\n", "{\"a\"\n:1}", "tru\ne"};
    char events[512];
    emb_error error;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 0; step < 4; step++) {
            test_source source = {
                .bytes = cases[i].text, .length = strlen(cases[i].text), .step = step};
            assert_int_equal(trace(events, sizeof events, &source, 64, true, true, &error), EMB_OK);
            assert_string_equal(events, cases[i].events);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_source source = {.bytes = bad[i], .length = strlen(bad[i])};
        assert_int_equal(trace(events, sizeof events, &source, 64, true, true, &error),
                         EMB_BAD_FILE);
    }
}

/* After any error, the next line is read as if nothing had been. */
static void test_lines_recover(void **state) {
    static const char text[] = "{\"n\":1}\n"
                               "{\"n\":2\n"
                               "{\"n\":\"three\n"
                               "{\"n\":4}}}} \"x\" \\ junk\n"
                               "\n"
                               "{\"n\":\"\\q\"}\r\n"
                               "{\"n\":7}\n"
                               "nope";
    (void)state;
    for (size_t step = 0; step < 9; step++) {
        char log[256] = "";
        unsigned char buffer[64];
        emb_json json;
        emb_json_event event;
        test_source source = {.bytes = text, .length = sizeof text - 1, .step = step};
        emb_json_init(&json, buffer, sizeof buffer, source_read, &source);
        json.lines = true;
        for (;;) {
            emb_error error;
            size_t length = strlen(log);
            emb_status status = emb_json_next(&json, &event, &error);
            if (status != EMB_OK) {
                unsigned long long line;
                assert_int_equal(sscanf(error.message, "line %llu,", &line), 1);
                assert_int_equal(line, json.line);
                snprintf(log + length, sizeof log - length, "bad %llu;", line);
                assert_int_not_equal(emb_json_next(&json, &event, NULL), EMB_OK);
                assert_int_equal(emb_json_skip_line(&json, &error), EMB_OK);
                continue;
            }
            if (event == EMB_JSON_END) break;
            if (event == EMB_JSON_LINE_END) {
                snprintf(log + length, sizeof log - length, "good %d;", (int)json.line);
                if (step & 1) assert_int_equal(emb_json_skip_line(&json, &error), EMB_OK);
            }
        }
        assert_string_equal(log, "good 1;bad 2;bad 3;bad 4;bad 6;good 7;bad 8;");
    }
}

static void test_skip(void **state) {
    static const char text[] =
        "{\"a\":{\"x\":[1,{\"y\":\"a string of more than sixty-four bytes, to come in pieces, to "
        "be "
        "skipped\"}]},\"a key of more than sixty-four bytes, so that it also comes in pieces, yes, "
        "pieces\":\"another string of more than sixty-four bytes, passed over with its "
        "key\",\"b\":[[],[]],\"c\":3,\"d\":[1,2,3]}";
    unsigned char buffer[64];
    emb_json json;
    emb_json_event event;
    test_source source = {.bytes = text, .length = sizeof text - 1};
    (void)state;
    emb_json_init(&json, buffer, sizeof buffer, source_read, &source);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
        assert_int_equal(event, EMB_JSON_KEY);
        assert_int_equal(emb_json_skip(&json, NULL), EMB_OK);
        assert_int_equal(json.depth, 1);
    }
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(event, EMB_JSON_KEY);
    assert_memory_equal(json.text, "d", 1);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(event, EMB_JSON_ARRAY_BEGIN);
    assert_int_equal(emb_json_skip(&json, NULL), EMB_OK);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(event, EMB_JSON_OBJECT_END);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(event, EMB_JSON_END);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(event, EMB_JSON_END);
}

/* A string whose first piece was read is passed over to its end, and no further. */
static void test_skip_rest_of_string(void **state) {
    static const char text[] =
        "[\"a string of more than sixty-four bytes, which therefore comes in pieces, and in some "
        "more of them\",[1]]";
    unsigned char buffer[64];
    emb_json json;
    emb_json_event event;
    test_source source = {.bytes = text, .length = sizeof text - 1};
    (void)state;
    emb_json_init(&json, buffer, sizeof buffer, source_read, &source);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_true(event == EMB_JSON_STRING && !json.text_last);
    assert_int_equal(emb_json_skip(&json, NULL), EMB_OK);
    assert_int_equal(emb_json_next(&json, &event, NULL), EMB_OK);
    assert_true(event == EMB_JSON_ARRAY_BEGIN && json.depth == 2);
}

/* Reads `text` as one value of some kind into a number that tells the outcome. */
static emb_status read_u64(const char *text, uint64_t *out, emb_error *error) {
    unsigned char buffer[64];
    emb_json json;
    emb_json_memory memory = {text, strlen(text)};
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    return emb_json_next_u64(&json, out, "key", error);
}

static emb_status read_double(const char *text, double *out, emb_error *error) {
    unsigned char buffer[64];
    emb_json json;
    emb_json_memory memory = {text, strlen(text)};
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    return emb_json_next_double(&json, out, "key", error);
}

static void test_numbers(void **state) {
    static const char *const exact[] = {
        "0",
        "-0",
        "1",
        "1e-12",
        "1e-05",
        "0.00001",
        "1e22",
        "0.1",
        "-2.5e-3",
        "123456789.125",
        "0.3333333333333333",
        "1E5",
        "0e99999",
        "0.000000000001",
        "9007199254740991",
        "1e-400",
    };
    uint64_t whole = 0;
    double value = 0;
    emb_error error;
    (void)state;
    assert_int_equal(read_u64("18446744073709551615", &whole, &error), EMB_OK);
    assert_true(whole == UINT64_MAX);
    assert_int_equal(read_u64("0", &whole, &error), EMB_OK);
    assert_true(whole == 0);
    static const char *const not_whole[] = {
        "18446744073709551616", "99999999999999999999", "-1", "1.0", "1e2", "\"1\"", "true", "[1]"};
    for (size_t i = 0; i < sizeof not_whole / sizeof *not_whole; i++) {
        assert_int_equal(read_u64(not_whole[i], &whole, &error), EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "\"key\" must be a whole number"));
    }
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        assert_int_equal(read_double(exact[i], &value, &error), EMB_OK);
        assert_true(value == strtod(exact[i], NULL));
    }
    assert_int_equal(read_double("1.7976931348623157e308", &value, &error), EMB_OK);
    assert_true(value > 1.797693134862e308);
    assert_int_equal(read_double("1e999", &value, &error), EMB_BAD_FILE);
    assert_int_equal(read_double("-1e99999999999", &value, &error), EMB_BAD_FILE);
    assert_int_equal(read_double("null", &value, &error), EMB_BAD_FILE);
}

/* RFC 8259 sets no limit to a number: one that nobody reads is passed over, in the same memory. */
static void test_long_numbers(void **state) {
    enum { DIGITS = 100000 };
    static char text[DIGITS + 64];
    unsigned char buffer[64];
    uint64_t whole = 0;
    double value = 0;
    emb_error error;
    (void)state;
    for (size_t digits = 62; digits <= DIGITS; digits = digits < 66 ? digits + 1 : digits * 40) {
        emb_json json;
        emb_json_event event;
        size_t length = (size_t)snprintf(text, sizeof text, "{\"a\": -1.");
        memset(text + length, '7', digits);
        snprintf(text + length + digits, 48, "e+3, \"b\": 5}");
        emb_json_memory memory = {text, strlen(text)};
        emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
        assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
        assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
        assert_int_equal(emb_json_skip(&json, &error), EMB_OK);
        assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
        assert_int_equal(event, EMB_JSON_KEY);
        assert_int_equal(emb_json_next_u64(&json, &whole, "b", &error), EMB_OK);
        assert_true(whole == 5);
    }
    memset(text, '0', 64);
    memcpy(text, "1.5", 3);
    text[63] = 0;
    assert_int_equal(read_double(text, &value, &error), EMB_OK);
    assert_true(value == 1.5);
    memcpy(text + 63, "0", 2);
    assert_int_equal(read_double(text, &value, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "\"key\" must be a number of at most 63 characters"));
    assert_int_equal(read_u64(text, &whole, &error), EMB_BAD_FILE);
    memcpy(text + 64, "e+x", 4); /* what lies behind the limit is checked too */
    assert_int_equal(read_double(text, &value, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "a digit was expected"));
}

static void test_strings_and_booleans(void **state) {
    static const char text[] = "[\"hello\",\"a\\u0000b\",true,1,\"0123456789\"]";
    unsigned char buffer[64];
    char out[8];
    bool flag = false;
    emb_error error;
    emb_json json;
    emb_json_event event;
    emb_json_memory memory = {text, sizeof text - 1};
    (void)state;
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
    assert_int_equal(emb_json_next_string(&json, out, sizeof out, "k", &error), EMB_OK);
    assert_string_equal(out, "hello");
    assert_int_equal(emb_json_next_string(&json, out, sizeof out, "k", &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "\"k\" must be a string without NUL"));
    assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
    assert_int_equal(emb_json_value_bool(&json, event, &flag, "k", &error), EMB_OK);
    assert_true(flag);
    assert_int_equal(emb_json_next(&json, &event, &error), EMB_OK);
    assert_int_equal(emb_json_value_bool(&json, event, &flag, "k", &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "\"k\" must be true or false"));
    assert_int_equal(emb_json_next_string(&json, out, sizeof out, "k", &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "longer than the 7 bytes"));
}

static void test_reading_fails(void **state) {
    char events[512];
    emb_error error;
    (void)state;
    for (size_t length = 0; length < sizeof sample - 1; length++) {
        test_source source = {.bytes = sample, .length = length, .at_end = -5};
        assert_int_equal(trace(events, sizeof events, &source, 64, false, false, &error), EMB_IO);
        assert_non_null(strstr(error.message, "reading failed"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_messages_name_the_place),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_every_buffer_and_split),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_strings_that_fit_come_whole),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_lines_recover),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_skip_rest_of_string),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_long_numbers),
        cmocka_unit_test(test_strings_and_booleans),
        cmocka_unit_test(test_reading_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
