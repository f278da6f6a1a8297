/* test_text.c - the tokenizer on a small vocabulary: words, literals, broken bytes, and that no way
 * of cutting a text into pieces changes an id. (tests/tokenizer/ compares with the reference.)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "text/text.h"
#include "text/wordpiece/tables.h"

#define IDS_MAX 4096

enum {
    PAD,
    UNK,
    CLS,
    SEP,
    MASK,
    HELLO,
    UN,
    AFF,
    ABLE,
    A,
    A2,
    B,
    B2,
    COMMA,
    BRACKET,
    ZHONG,
    E_ACUTE,
    E,
    REPLACED,
    REPLACED2,
    BIG_A,
    KA,
    VOICED,
    LESS,
    NEXT_ID
};

static const char vocabulary[] =
    "{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"hello\":5,\"un\":6,"
    "\"##aff\":7,\"##able\":8,\"a\":9,\"##a\":10,\"b\":11,\"##b\":12,\",\":13,\"[\":14,"
    "\"\\u4e2d\":15,\"\\u00e9\":16,\"e\":17,\"\\ufffd\":18,\"##\\ufffd\":19,\"A\":20,"
    "\"\\u304b\":21,\"\\u304c\":22,\"<\":23}";

static const char literals[] =
    "{\"id\":4,\"content\":\"[MASK]\",\"special\":true,\"normalized\":false},"
    "{\"id\":99,\"content\":\"<x>\",\"normalized\":false,\"lstrip\":true},"
    "{\"id\":99,\"content\":\"ab\",\"normalized\":false,\"single_word\":true},"
    "{\"id\":99,\"content\":\"New York\",\"normalized\":true},"
    "{\"id\":99,\"content\":\"[MASK]!!\",\"normalized\":false}";
enum { X_TOKEN = NEXT_ID, AB_TOKEN, YORK_TOKEN, MASK2_TOKEN };

static const char bert_end[] =
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},";

/* ---- a tokenizer from files written for one test --------------------------------------------- */

typedef struct fixture {
    char directory[64];
    emb_text_spec spec;
    emb_text_added *added;
    const char *tokenizer_class; /* of config.json; NULL: taken as it stands */
    emb_tokenizer tokenizer;
    void *arena;
    uint64_t bytes;
} fixture;

static void write_file(const fixture *f, const char *name, const char *content) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
}

static void make_directory(fixture *f) {
    memset(f, 0, sizeof *f);
    strcpy(f->directory, "/tmp/embound-text-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
}

static void remove_directory(fixture *f) {
    static const char *const names[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", f->directory, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(f->directory), 0);
}

static emb_status load(fixture *f, emb_error *error) {
    emb_ledger ledger;
    emb_text_hints hints = {.tokenizer_class = "TokenizersBackend", .rows = UINT32_MAX};
    uint32_t count;
    if (f->tokenizer_class) hints.tokenizer_class = f->tokenizer_class;
    emb_status status = emb_text_count_added(&count, f->directory, &hints, error);
    if (status != EMB_OK) return status;
    free(f->added);
    f->added = calloc(count + 1u, sizeof *f->added);
    assert_non_null(f->added);
    status = emb_text_describe(&f->spec, f->added, count, f->directory, &hints, error);
    if (status != EMB_OK) return status;
    emb_ledger_init(&ledger, NULL, 0);
    emb_text_layout(&f->tokenizer, &f->spec, &ledger);
    f->bytes = ledger.bytes;
    f->arena = emb_arena_open(f->bytes);
    assert_non_null(f->arena);
    emb_ledger_init(&ledger, f->arena, f->bytes);
    emb_text_layout(&f->tokenizer, &f->spec, &ledger);
    assert_false(ledger.overflow);
    assert_int_equal(ledger.bytes, f->bytes);
    return emb_text_load(&f->tokenizer, &f->spec, error);
}

static void close_fixture(fixture *f) {
    if (f->arena) emb_arena_close(f->arena, f->bytes);
    free(f->added);
    remove_directory(f);
}

/* Opens one with these normalizer options and added tokens. */
static void open_json(fixture *f, const char *options, const char *added) {
    char json[8192];
    emb_error error = {0};
    make_directory(f);
    snprintf(json, sizeof json,
             "{\"version\":\"1.0\",\"truncation\":{\"max_length\":2},\"added_tokens\":[%s],"
             "\"normalizer\":{\"type\":\"BertNormalizer\",%s},%s"
             "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":%s}}",
             added, options, bert_end, vocabulary);
    write_file(f, "tokenizer.json", json);
    if (load(f, &error) != EMB_OK) fail_msg("%s", error.message);
}

static const char uncased[] = "\"clean_text\":true,\"handle_chinese_chars\":true,"
                              "\"strip_accents\":null,\"lowercase\":true";
static const char unclean[] = "\"clean_text\":false,\"handle_chinese_chars\":true,"
                              "\"strip_accents\":null,\"lowercase\":false";

/* Reads a text in pieces of `step` bytes, the first of `first`, into arrays of `room` ids. */
static size_t read_ids(fixture *f, const char *text, size_t length, size_t first, size_t step,
                       size_t room, uint32_t *ids) {
    size_t at = 0, total = 0, piece = first, calls = 0;
    bool done = false;
    emb_text_begin(&f->tokenizer);
    while (!done) {
        size_t used = 0, count = 0, left = length - at;
        if (piece > left) piece = left;
        bool last = at + piece == length;
        /* a copy that ends where the piece does, for the address sanitizer */
        char *copy = malloc(piece + 1);
        uint32_t *out = malloc(room * sizeof(uint32_t) + 1);
        memcpy(copy, text + at, piece);
        emb_text_feed(&f->tokenizer, copy, piece, last, out, room, &used, &count, &done);
        assert_true(used <= piece && count <= room && total + count <= IDS_MAX);
        memcpy(ids + total, out, count * sizeof(uint32_t));
        free(copy);
        free(out);
        at += used;
        total += count;
        piece = used == piece ? step : piece - used;
        assert_true(++calls < 10 * (length + IDS_MAX));
    }
    assert_int_equal(at, length);
    return total;
}

static void expect(fixture *f, const char *text, size_t count, const uint32_t *wanted) {
    uint32_t ids[IDS_MAX];
    size_t got = read_ids(f, text, strlen(text), strlen(text), 1, IDS_MAX, ids);
    if (got != count || (count && memcmp(ids, wanted, count * sizeof(uint32_t)) != 0)) {
        char list[512] = "";
        for (size_t i = 0; i < got && i < 40; i++)
            snprintf(list + strlen(list), sizeof list - strlen(list), " %u", ids[i]);
        fail_msg("\"%s\" gave%s", text, list);
    }
}

#define EXPECT(f, text, ...)                                                                       \
    do {                                                                                           \
        const uint32_t wanted_[] = {__VA_ARGS__};                                                  \
        expect(f, text, sizeof wanted_ / sizeof wanted_[0], wanted_);                              \
    } while (0)
#define EXPECT_NOTHING(f, text) expect(f, text, 0, NULL)

static void expect_specials(const fixture *f, uint32_t before, uint32_t after,
                            const uint32_t *wanted) {
    const emb_specials *specials = &f->spec.specials;
    assert_int_equal(specials->before, before);
    assert_int_equal(specials->after, after);
    assert_memory_equal(specials->ids, wanted, (before + after) * sizeof *wanted);
}

/* ---- words ----------------------------------------------------------------------------------- */

static void test_words(void **unused) {
    (void)unused;
    fixture f;
    open_json(&f, uncased, "");
    expect_specials(&f, 1, 1, (uint32_t[]){CLS, SEP});
    assert_int_equal(f.spec.own.wordpiece.unknown_id, UNK);
    assert_int_equal(f.spec.ids_end, NEXT_ID);
    EXPECT_NOTHING(&f, "");
    EXPECT_NOTHING(&f, " \t\r\n \xc2\xa0\xe3\x80\x80");
    EXPECT(&f, "hello", HELLO);
    EXPECT(&f, " HELLO,Hello ", HELLO, COMMA, HELLO);
    EXPECT(&f, "unaffable", UN, AFF, ABLE);
    EXPECT(&f, "unaffablex", UNK);
    EXPECT(&f, "unaff able", UN, AFF, UNK);
    EXPECT(&f, "aab ba", A, A2, B2, B, A2);
    EXPECT(&f, ",,[", COMMA, COMMA, BRACKET);
    EXPECT(&f,
           "a\xe4\xb8\xad"
           "a",
           A, ZHONG, A);                                /* Chinese stands alone */
    EXPECT(&f, "\xc3\xa9 \xc3\x89 e\xcc\x81", E, E, E); /* accents and case go */
    EXPECT(&f, "\xe3\x81\x8c", KA);                     /* its voicing mark counts as an accent */
    EXPECT(&f,
           "h\xe2\x80\x8b"
           "ello\x01 \x7f"
           "a\x0b",
           HELLO, A); /* controls vanish */
    EXPECT(&f,
           "a\xef\xbf\xbd"
           "a",
           A, A2); /* so does the replacement character */
    EXPECT(&f, "\xf0\x9f\x98\x80 a", UNK, A);
    EXPECT(&f,
           "a\xe2\x80\x80"
           "a",
           A, A); /* a space that decomposes into another */
    close_fixture(&f);
}

static void test_options(void **unused) {
    (void)unused;
    fixture f;
    open_json(&f, unclean, "");
    EXPECT(&f, "A a \xc3\xa9 e", BIG_A, A, E_ACUTE, E);
    EXPECT(&f, "\xe3\x81\x8c", VOICED);
    EXPECT(&f,
           "a\x01"
           "a",
           UNK);
    EXPECT(&f,
           "a\x0b"
           "a",
           A, A);
    EXPECT(&f, "\xef\xbf\xbd\xef\xbf\xbd", REPLACED, REPLACED2);
    close_fixture(&f);
    open_json(&f,
              "\"clean_text\":true,\"handle_chinese_chars\":false,\"strip_accents\":false,"
              "\"lowercase\":true",
              "");
    EXPECT(&f, "\xc3\x89 \xe4\xb8\xad", E_ACUTE, ZHONG);
    EXPECT(&f, "a\xe4\xb8\xad", UNK);
    close_fixture(&f);
    open_json(&f,
              "\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":true,"
              "\"lowercase\":false",
              "");
    EXPECT(&f, "\xc3\xa9 A \xc3\x81", E, BIG_A, BIG_A);
    close_fixture(&f);
}

static void test_long_words(void **unused) {
    (void)unused;
    fixture f;
    char text[1024];
    uint32_t ids[IDS_MAX];
    open_json(&f, uncased, "");
    for (size_t length = 98; length < 400; length++) {
        memset(text, 'a', length);
        size_t count = read_ids(&f, text, length, length, 1, IDS_MAX, ids);
        assert_int_equal(count, length <= 100 ? length : 1);
        assert_int_equal(ids[0], length <= 100 ? A : UNK);
    }
    /* characters count, not bytes; and marks that vanish do not count */
    for (size_t chars = 99; chars <= 102; chars++) {
        for (size_t i = 0; i < chars; i++) memcpy(text + 4 * i, "a\xcc\x81\xcc", 4);
        for (size_t i = 0; i < chars; i++) memcpy(text + 4 * i, "\xc3\xa1\xcc\x81", 4);
        size_t count = read_ids(&f, text, 4 * chars, 7, 5, IDS_MAX, ids);
        assert_int_equal(count, chars <= 100 ? chars : 1);
    }
    close_fixture(&f);
}

/* ---- literals -------------------------------------------------------------------------------- */

static void test_literals(void **unused) {
    (void)unused;
    fixture f;
    open_json(&f, uncased, literals);
    assert_int_equal(f.spec.added_count, 5);
    assert_int_equal(f.spec.ids_end, MASK2_TOKEN + 1);
    EXPECT(&f, "[MASK]", MASK);
    EXPECT(&f, "a[MASK]a", A, MASK, A);
    EXPECT(&f, "[MASK]!", MASK, UNK);
    EXPECT(&f, "[MASK]!!", MASK2_TOKEN); /* the longest */
    EXPECT(&f, "[MASK]!!!", MASK2_TOKEN, UNK);
    EXPECT(&f, "[[MASK]", BRACKET, MASK);
    EXPECT(&f, "[mask]", BRACKET, UNK, UNK);
    EXPECT(&f, "[MAS", BRACKET, UNK);
    EXPECT(&f, "[MA\xe2\x80\x8bSK]", BRACKET, UNK, UNK); /* before cleaning */
    EXPECT(&f, "a \t <x> a", A, X_TOKEN, A);
    EXPECT(&f, "<x><x", X_TOKEN, LESS, UNK);
    EXPECT(&f, "ab", AB_TOKEN);
    EXPECT(&f, "ab,ab ab", AB_TOKEN, COMMA, AB_TOKEN, AB_TOKEN);
    EXPECT(&f, "aab aba abab ab_ _ab", A, A2, B2, A, B2, A2, A, B2, A2, B2, A, B2, UNK, UNK, A, B2);
    EXPECT(&f,
           "\xc3\xa9"
           "ab",
           E, A2, B2);
    EXPECT(&f, "new york NEW\tYork Ne\xcc\x81w York", YORK_TOKEN, YORK_TOKEN, YORK_TOKEN);
    EXPECT(&f, "anew yorka", A, YORK_TOKEN, A);
    EXPECT(&f, "new", UNK);
    EXPECT(&f, "new [MASK] york", UNK, MASK, UNK);
    close_fixture(&f);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* As many replacement characters as Python gives for each. */
static void test_broken_bytes(void **unused) {
    (void)unused;
    static const struct {
        const char *bytes;
        size_t replaced;
    } cases[] = {{"\x80", 1},
                 {"\xff\xfe", 2},
                 {"\xc0\x80", 2},
                 {"\xc3", 1},
                 {"\xe2\x82", 1},
                 {"\xe2\x82\xe2\x82", 2},
                 {"\xe0\x80\x80", 3},
                 {"\xed\xa0\x80", 3},
                 {"\xf0\x9f\x98", 1},
                 {"\xf0\x80\x80\x80", 4},
                 {"\xf4\x90\x80\x80", 4},
                 {"\xf0\x9f\xff\x98", 3},
                 {"\xf5\x80", 2},
                 {"\xf0\x9f\x98\xc3", 2}};
    fixture f;
    open_json(&f, unclean, "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t ids[IDS_MAX];
        size_t length = strlen(cases[i].bytes);
        for (size_t first = 0; first <= length; first++) {
            size_t count = read_ids(&f, cases[i].bytes, length, first, 1, IDS_MAX, ids);
            assert_int_equal(count, cases[i].replaced);
            for (size_t j = 0; j < count; j++) assert_int_equal(ids[j], j ? REPLACED2 : REPLACED);
        }
    }
    EXPECT(&f,
           "\xe2\x82"
           "a",
           REPLACED, A2);
    EXPECT(&f, "\xe2\x82 a", REPLACED, A);
    close_fixture(&f);
}

static const char *const split_texts[] = {
    "hello, unaffable HELLO [MASK] aab",
    "[MASK]!![MASK]! [[MASK <x> <x ab aab ab_",
    "new york new  york New York[MASK]new yor",
    "a\xe4\xb8\xad\xe4\xb8\xad \xe3\x81\x8c \xc3\xa9\xcc\x81\xcc\x80 \xf0\x9f\x98\x80",
    "a\xf0\x9d\x85\xa5\xe3\x80\xae\xf0\x9d\x85\xad\xcc\x81 b\xe3\x80\xae\xf0\x9d\x85\xa5",
    "\xea\xb0\x81\xed\x9e\xa3 \xf0\x9f\x98 \xe2\x82\xff\xed\xa0\x80 hello",
    "hello hello hello hello hello hello hello hello hello hello hello hello hello hello hello "
    "hello, hello, hello, hello, unaffable unaffable unaffable unaffable unaffable, [ [ [ , , a b "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "a "
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaa hello"};

static void check_splits(fixture *f) {
    static const size_t rooms[] = {1, 2, 7, 8, 9, 101, IDS_MAX};
    for (size_t i = 0; i < sizeof split_texts / sizeof split_texts[0]; i++) {
        const char *text = split_texts[i];
        uint32_t whole[IDS_MAX], ids[IDS_MAX];
        size_t length = strlen(text);
        size_t count = read_ids(f, text, length, length, 1, IDS_MAX, whole);
        for (size_t first = 0; first <= length; first++) {
            size_t got = read_ids(f, text, length, first, length, IDS_MAX, ids);
            assert_int_equal(got, count);
            assert_memory_equal(ids, whole, count * sizeof(uint32_t));
        }
        for (size_t step = 1; step < 9; step++) {
            for (size_t room = 0; room < sizeof rooms / sizeof rooms[0]; room++) {
                size_t got = read_ids(f, text, length, step, step, rooms[room], ids);
                assert_int_equal(got, count);
                assert_memory_equal(ids, whole, count * sizeof(uint32_t));
                got = read_ids(f, text, length, length, 1, rooms[room], ids);
                assert_int_equal(got, count);
                assert_memory_equal(ids, whole, count * sizeof(uint32_t));
            }
        }
    }
}

static void test_splits(void **unused) {
    (void)unused;
    fixture f;
    open_json(&f, uncased, "");
    check_splits(&f);
    close_fixture(&f);
    open_json(&f, uncased, literals);
    check_splits(&f);
    close_fixture(&f);
    open_json(&f, unclean, literals);
    check_splits(&f);
    close_fixture(&f);
}

/* ---- speed that must not matter -------------------------------------------------------------- */

static void test_classify(void **unused) {
    (void)unused;
    fixture f;
    uint8_t bytes[64];
    open_json(&f, uncased, literals);
    const emb_wordpiece_tables *tables = f.tokenizer.tables;
    emb_wordpiece_classify others[3] = {tables->classify};
    size_t count = 1;
#ifdef EMB_X86
    if (__builtin_cpu_supports("avx2")) others[count++] = emb_wordpiece_classify_avx2;
    if (__builtin_cpu_supports("avx512bw")) others[count++] = emb_wordpiece_classify_avx512;
#endif
    srand(1);
    for (int round = 0; round < 2000; round++) {
        emb_wordpiece_masks wanted, got;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(round < 4 ? 64 * round + (int)i : rand() >> 7);
        emb_wordpiece_classify_portable(&wanted, bytes, &tables->sets);
        for (size_t i = 0; i < count; i++) {
            others[i](&got, bytes, &tables->sets);
            assert_memory_equal(&got, &wanted, sizeof got);
        }
    }
    close_fixture(&f);
}

/* More words than the cache holds, twice: what it holds must not show. */
static void test_cache(void **unused) {
    (void)unused;
    fixture f;
    open_json(&f, uncased, "");
    for (int round = 0; round < 2; round++) {
        for (uint32_t n = 0; n < 100000; n++) {
            char text[32];
            uint32_t ids[32], used = 0;
            for (uint32_t rest = n; used < 17; rest >>= 1) text[used++] = rest & 1 ? 'a' : 'b';
            uint32_t length = 1 + n % 17;
            size_t count = read_ids(&f, text, length, length, 1, 32, ids);
            assert_int_equal(count, length);
            for (uint32_t i = 0; i < length; i++)
                assert_int_equal(ids[i], text[i] == 'a' ? (i ? A2 : A) : (i ? B2 : B));
        }
    }
    close_fixture(&f);
}

static double seconds_for(fixture *f, const char *unit, size_t bytes) {
    struct timespec start, end;
    char *text = malloc(bytes);
    uint32_t ids[512];
    size_t unit_length = strlen(unit);
    for (size_t i = 0; i < bytes; i++) text[i] = unit[i % unit_length];
    double best = 1e9;
    for (int round = 0; round < 3; round++) {
        bool done = false;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        emb_text_begin(&f->tokenizer);
        for (size_t at = 0, used, count; !done; at += used)
            emb_text_feed(&f->tokenizer, text + at, bytes - at, true, ids, 512, &used, &count,
                          &done);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        double seconds =
            (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
        if (seconds < best) best = seconds;
    }
    free(text);
    return best;
}

/* Texts that trouble tokenizers: four times the bytes, about four times the time. */
static void test_linear(void **unused) {
    (void)unused;
    static const char *const units[] = {"a",
                                        "[",
                                        "[MASK",
                                        "\xcc\x81",
                                        "\xe3\x80\xae",
                                        " ",
                                        "\xff",
                                        "ab",
                                        "new ",
                                        "\xe4\xb8\xad",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaa ",
                                        "\xf0\x9d\x85\xa5\xe3\x80\xae"};
    fixture f;
    open_json(&f, uncased, literals);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double small = seconds_for(&f, units[i], 200000), large = seconds_for(&f, units[i], 800000);
        if (large > 10 * small + 0.002)
            fail_msg("\"%s\": %.4f s for four times what takes %.4f s", units[i], large, small);
    }
    close_fixture(&f);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_vocab_txt(void **unused) {
    (void)unused;
    fixture f;
    emb_error error;
    make_directory(&f);
    f.tokenizer_class = "BertTokenizer";
    write_file(&f, "vocab.txt", "[PAD]\n[UNK]\r\n[CLS]\n[SEP]\n[MASK]\nhello \n\xc3\xa9\nE\nlast");
    assert_int_equal(load(&f, &error), EMB_OK);
    assert_int_equal(f.spec.vocabulary, 9);
    assert_int_equal(f.spec.added_count, 5);
    EXPECT(&f, "hello LAST \xc3\xa9[MASK]", 5, 8, 1, 4);
    emb_arena_close(f.arena, f.bytes);
    write_file(&f, "tokenizer_config.json",
               "{\"do_lower_case\": false, \"sep_token\": {\"content\": \"last\"}, "
               "\"mask_token\": \"<mask>\", \"strip_accents\": null, \"other\": [1, {}]}");
    assert_int_equal(load(&f, &error), EMB_OK);
    expect_specials(&f, 1, 1, (uint32_t[]){2, 8});
    EXPECT(&f, "hello LAST \xc3\xa9 E last", 5, 1, 6, 7, 8);
    EXPECT(&f, "[MASK]", 1, 1, 1);
    close_fixture(&f);
}

static void test_template(void **unused) {
    (void)unused;
    fixture f;
    emb_error error;
    char json[4096];
    make_directory(&f);
    snprintf(json, sizeof json,
             "{\"model\":{\"vocab\":%s,\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":3,"
             "\"continuing_subword_prefix\":\"\",\"type\":\"WordPiece\"},\"normalizer\":null,"
             "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{"
             "\"special_tokens\":{\"x\":{\"id\":\"x\",\"ids\":[3],\"tokens\":[\"x\"]},"
             "\"y\":{\"ids\":[2],\"tokens\":[\"y\"]}},\"type\":\"TemplateProcessing\",\"single\":["
             "{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}},"
             "{\"SpecialToken\":{\"id\":\"y\"}}],\"pair\":[1]}}",
             vocabulary);
    write_file(&f, "tokenizer.json", json);
    if (load(&f, &error) != EMB_OK) fail_msg("%s", error.message);
    expect_specials(&f, 1, 1, (uint32_t[]){3, 2});
    EXPECT(&f, "abA aabb a", A, B, BIG_A, UNK, A); /* no prefix; no lower case; at most three */
    close_fixture(&f);
}

/* A post-processor's parts: x is 3, y is 2, "" the text. */
static emb_status load_template(fixture *f, const char *const *parts, emb_error *error) {
    char json[8192], single[2048] = "";
    make_directory(f);
    for (size_t i = 0; parts[i]; i++) {
        size_t used = strlen(single);
        const char *format = *parts[i] ? "%s{\"SpecialToken\":{\"id\":\"%s\"}}"
                                       : "%s{\"Sequence\":{\"id\":\"A%s\"}}";
        snprintf(single + used, sizeof single - used, format, i ? "," : "", parts[i]);
    }
    snprintf(json, sizeof json,
             "{\"model\":{\"vocab\":%s,\"unk_token\":\"[UNK]\",\"type\":\"WordPiece\"},"
             "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
             "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[%s],"
             "\"special_tokens\":{\"x\":{\"ids\":[3]},\"y\":{\"ids\":[2]}}}}",
             vocabulary, single);
    write_file(f, "tokenizer.json", json);
    return load(f, error);
}

#define PARTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_templates(void **unused) {
    (void)unused;
    static const struct {
        const char *parts[11];
        uint32_t before, after, ids[EMB_SPECIALS_MAX];
    } cases[] = {
        {{"x", "y", "", "y"}, 2, 1, {3, 2, 2}},
        {{"", "x"}, 0, 1, {3}},
        {{"x", ""}, 1, 0, {3}},
        {{""}, 0, 0, {0}},
        {{"x", "x", "x", "x", "", "y", "y", "y", "y"}, 4, 4, {3, 3, 3, 3, 2, 2, 2, 2}},
    };
    fixture f;
    emb_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (load_template(&f, cases[i].parts, &error) != EMB_OK) fail_msg("%s", error.message);
        expect_specials(&f, cases[i].before, cases[i].after, cases[i].ids);
        EXPECT(&f, "a", A); /* reading knows nothing of them */
        close_fixture(&f);
    }
    static const char *const refused[][12] = {
        {"x"},
        {"", ""},
        {"x", "", "y", ""},
        {"x", "x", "x", "x", "x", "x", "x", "x", "x"},
        {"x", "x", "x", "x", "x", "", "y", "y", "y", "y"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(load_template(&f, refused[i], &error), EMB_UNSUPPORTED);
        assert_non_null(strstr(error.message, "post_processor.single"));
        close_fixture(&f);
    }
    assert_int_equal(load_template(&f, PARTS("z", "", "x"), &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "no id for \"z\""));
    close_fixture(&f);
}

static void test_wrap(void **unused) {
    (void)unused;
    const emb_specials specials = {2, 1, {7, 8, 9}}, none = {0};
    uint32_t ids[8] = {0, 0, 1, 2, 3, 0, 77}, empty[4] = {0, 0, 0, 77};
    static const uint32_t wanted[] = {7, 8, 1, 2, 3, 9, 77}, wanted_empty[] = {7, 8, 9, 77};
    assert_int_equal(emb_text_wrap(&specials, ids, 3), 6);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_int_equal(emb_text_wrap(&specials, empty, 0), 3);
    assert_memory_equal(empty, wanted_empty, sizeof wanted_empty);
    assert_int_equal(emb_text_wrap(&none, ids, 7), 7);
    assert_memory_equal(ids, wanted, sizeof wanted);
}

/* Replaces `from` in a good file by `to`; expects the status and words of the message. */
static void expect_refused(const char *from, const char *to, emb_status wanted, const char *words) {
    fixture f;
    emb_error error = {0};
    char json[8192], broken[8192];
    make_directory(&f);
    snprintf(json, sizeof json,
             "{\"added_tokens\":[{\"content\":\"[MASK]\"}],\"normalizer\":{\"type\":"
             "\"BertNormalizer\",\"lowercase\":true},%s\"model\":{\"type\":\"WordPiece\","
             "\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":100,\"vocab\":%s}}",
             bert_end, vocabulary);
    const char *at = strstr(json, from);
    assert_non_null(at);
    snprintf(broken, sizeof broken, "%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
    write_file(&f, "tokenizer.json", broken);
    emb_status status = load(&f, &error);
    if (status != wanted || !strstr(error.message, words) ||
        !strstr(error.message, "tokenizer.json"))
        fail_msg("%s -> %s: status %d, \"%s\"", from, to, (int)status, error.message);
    close_fixture(&f);
}

static void test_refused(void **unused) {
    (void)unused;
    expect_refused("\"WordPiece\"", "\"BPE\"", EMB_UNSUPPORTED, "model.type is \"BPE\"");
    expect_refused("\"BertNormalizer\"", "\"NFC\"", EMB_UNSUPPORTED, "normalizer.type");
    expect_refused("\"BertPreTokenizer\"", "\"Whitespace\"", EMB_UNSUPPORTED, "pre_tokenizer.type");
    expect_refused("\"BertProcessing\"", "\"ByteLevel\"", EMB_UNSUPPORTED, "post_processor.type");
    expect_refused("\"lowercase\":true", "\"lowercase\":1", EMB_BAD_FILE, "lowercase");
    expect_refused("\"model\":", "\"mode\":", EMB_BAD_FILE, "\"model\" is missing");
    expect_refused("\"vocab\":", "\"vocabulary\":", EMB_BAD_FILE, "\"vocab\" is missing");
    expect_refused("\"unk_token\":\"[UNK]\"", "\"unk_token\":\"<unk>\"", EMB_BAD_FILE, "<unk>");
    expect_refused("\"max_input_chars_per_word\":100", "\"max_input_chars_per_word\":0",
                   EMB_UNSUPPORTED, "max_input_chars_per_word");
    expect_refused("\"hello\":5", "\"hello\":-5", EMB_BAD_FILE, "hello");
    expect_refused("\"hello\":5", "\"hello\":99999999999", EMB_BAD_FILE, "hello");
    expect_refused("\"hello\":5", "\"un\":5", EMB_BAD_FILE, "twice");
    expect_refused("\"hello\":5", "\"hello\":5,,", EMB_BAD_FILE, "byte");
    expect_refused("\"<\":23}", "\"<\":23", EMB_BAD_FILE, "byte");
    expect_refused("[\"[SEP]\",3]", "[\"[SEP]\",99]", EMB_BAD_FILE, "beyond the vocabulary");
    expect_refused("[\"[SEP]\",3]", "[\"[SEP]\"]", EMB_BAD_FILE, "");
    expect_refused("\"content\":\"[MASK]\"", "\"content\":\" x\"", EMB_UNSUPPORTED, "white space");
    expect_refused("\"content\":\"[MASK]\"", "\"content\":\"\\u0301\"", EMB_BAD_FILE, "normalizes");
    expect_refused("{\"content\":\"[MASK]\"}", "{\"content\":\"X\"},{\"content\":\"x\"}",
                   EMB_BAD_FILE, "normalizes");
    expect_refused("[MASK]", "[MASK]xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                   EMB_BAD_FILE, "63 bytes");
}

static void test_missing(void **unused) {
    (void)unused;
    fixture f;
    emb_error error;
    make_directory(&f);
    f.tokenizer_class = "BertTokenizer";
    assert_int_equal(load(&f, &error), EMB_NOT_FOUND);
    assert_non_null(strstr(error.message, "neither tokenizer.json nor vocab.txt"));
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),        cmocka_unit_test(test_options),
        cmocka_unit_test(test_long_words),   cmocka_unit_test(test_literals),
        cmocka_unit_test(test_broken_bytes), cmocka_unit_test(test_splits),
        cmocka_unit_test(test_classify),     cmocka_unit_test(test_cache),
        cmocka_unit_test(test_linear),       cmocka_unit_test(test_vocab_txt),
        cmocka_unit_test(test_template),     cmocka_unit_test(test_templates),
        cmocka_unit_test(test_wrap),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_missing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
