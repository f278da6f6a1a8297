/* test_text_files.c - which of a tokenizer's files counts for what, on a small vocabulary. The ids
 * are those of transformers 5; tests/models/models_variants.py compares with it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/text.h"

enum { PAD, UNK, CLS, SEP, MASK, HELLO, BIG_HELLO, CAFE, ACCENTED, FOX, LESS, MORE, TOK, NEXT_ID };

static const char vocabulary[] =
    "{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"hello\":5,\"Hello\":6,"
    "\"cafe\":7,\"caf\\u00e9\":8,\"fox\":9,\"<\":10,\">\":11,\"tok\":12}";
static const char lines[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nHello\ncafe\ncaf\xc3\xa9\n"
                            "fox\n<\n>\ntok\n";

/* Files of a tokenizer, and what they give. NULL: the file is not there. */
typedef struct setup {
    const char *tokenizer_class; /* of config.json */
    const char *config, *map, *added;
    const char *normalizer;  /* of tokenizer.json; NULL: BERT's, uncased */
    const char *json_tokens; /* its added_tokens, beside [MASK] */
    bool txt;                /* vocab.txt instead of tokenizer.json */
    bool lowercase;          /* do_lower_case of sentence_bert_config.json */
} setup;

static void put(const char *folder, const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = text ? fopen(path, "wb") : NULL;
    if (!text) return;
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void write_files(const char *folder, const setup *s) {
    static char json[1 << 20];
    snprintf(json, sizeof json,
             "{\"added_tokens\":[{\"id\":4,\"content\":\"[MASK]\",\"special\":true,"
             "\"normalized\":false}%s%s],\"normalizer\":%s,"
             "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":{\"type\":"
             "\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]},"
             "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":%s}}",
             s->json_tokens ? "," : "", s->json_tokens ? s->json_tokens : "",
             s->normalizer ? s->normalizer : "{\"type\":\"BertNormalizer\",\"lowercase\":true}",
             vocabulary);
    put(folder, "tokenizer.json", s->txt ? NULL : json);
    put(folder, "vocab.txt", s->txt ? lines : NULL);
    put(folder, "tokenizer_config.json", s->config);
    put(folder, "special_tokens_map.json", s->map);
    put(folder, "added_tokens.json", s->added);
}

static void remove_files(const char *folder) {
    static const char *const names[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

typedef struct opened {
    emb_text_spec spec;
    emb_text_added *added;
    emb_tokenizer tokenizer;
    void *arena;
    uint64_t bytes;
} opened;

static emb_status open_files(opened *o, const setup *s, emb_error *error) {
    char folder[] = "/tmp/embound-text-XXXXXX";
    emb_text_hints hints = {
        .tokenizer_class = s->tokenizer_class,
        .default_class = "BertTokenizer",
        .lowercase = s->lowercase,
        .rows = 5000,
    };
    emb_ledger ledger;
    uint32_t count = 0;
    memset(o, 0, sizeof *o);
    assert_non_null(mkdtemp(folder));
    write_files(folder, s);
    emb_status status = emb_text_count_added(&count, folder, &hints, error);
    o->added = calloc(count + 1u, sizeof *o->added);
    assert_non_null(o->added);
    if (status == EMB_OK)
        status = emb_text_describe(&o->spec, o->added, count, folder, &hints, error);
    if (status == EMB_OK) {
        emb_ledger_init(&ledger, NULL, 0);
        emb_text_layout(&o->tokenizer, &o->spec, &ledger);
        o->bytes = ledger.bytes;
        o->arena = emb_arena_open(o->bytes);
        assert_non_null(o->arena);
        emb_ledger_init(&ledger, o->arena, o->bytes);
        emb_text_layout(&o->tokenizer, &o->spec, &ledger);
        status = emb_text_load(&o->tokenizer, &o->spec, error);
    }
    remove_files(folder);
    return status;
}

static void close_files(opened *o) {
    if (o->arena) emb_arena_close(o->arena, o->bytes);
    free(o->added);
}

static void check(const setup *s, const char *text, size_t count, const uint32_t *wanted) {
    opened o;
    emb_error error = {.message = ""};
    uint32_t ids[64];
    size_t used, got;
    bool done;
    if (open_files(&o, s, &error) != EMB_OK) fail_msg("%s", error.message);
    emb_text_begin(&o.tokenizer);
    emb_text_feed(&o.tokenizer, text, strlen(text), true, ids, 64, &used, &got, &done);
    if (!done || got != count || memcmp(ids, wanted, count * sizeof *ids) != 0)
        fail_msg("\"%s\": %zu ids, first %u, second %u", text, got, ids[0], ids[1]);
    close_files(&o);
}

#define CHECK(s, text, ...)                                                                        \
    check(&(s), text, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),                        \
          (uint32_t[]){__VA_ARGS__})

static void refused(const setup *s, emb_status wanted, const char *words) {
    opened o;
    emb_error error = {.message = ""};
    emb_status status = open_files(&o, s, &error);
    if (status != wanted || !strstr(error.message, words))
        fail_msg("status %d: %s", (int)status, error.message);
    close_files(&o);
}

/* ---- case and accents ------------------------------------------------------------------------ */

static void test_case(void **state) {
    static const char text[] = "Hello Caf\xc3\xa9";
    static const char cased[] = "{\"type\":\"BertNormalizer\",\"lowercase\":false}";
    static const char inside[] =
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\",\"lowercase\":false,"
        "\"clean_text\":true}]}";
    (void)state;
    CHECK(((setup){0}), text, HELLO, CAFE);
    CHECK(((setup){.config = "{\"do_lower_case\":false}"}), text, BIG_HELLO, UNK);
    CHECK(((setup){.config = "{\"do_lower_case\":false,\"strip_accents\":true}"}), text, BIG_HELLO,
          UNK);
    CHECK(((setup){.config = "{\"strip_accents\":false}"}), text, HELLO, ACCENTED);
    /* the class builds its own normalizer, whatever the file has */
    CHECK(((setup){.normalizer = cased}), text, HELLO, CAFE);
    CHECK(((setup){.normalizer = "{\"type\":\"NFC\"}"}), text, HELLO, CAFE);
    CHECK(((setup){.normalizer = cased,
                   .config = "{\"tokenizer_class\":\"MPNetTokenizer\","
                             "\"unk_token\":\"[UNK]\",\"cls_token\":\"[CLS]\","
                             "\"sep_token\":\"[SEP]\"}"}),
          text, HELLO, CAFE);
    /* taken as it stands */
    setup file = {.normalizer = cased, .tokenizer_class = "PreTrainedTokenizerFast"};
    CHECK(file, text, BIG_HELLO, UNK);
    file.config = "{\"do_lower_case\":true}";
    CHECK(file, text, BIG_HELLO, UNK);
    file.config = "{\"tokenizer_class\":\"BertTokenizerFast\"}"; /* before config.json's */
    CHECK(file, text, HELLO, CAFE);
    CHECK(((setup){.normalizer = inside, .tokenizer_class = "TokenizersBackend"}), text, BIG_HELLO,
          UNK);
    /* the module's own lower case leaves accents alone */
    setup module = {.lowercase = true, .config = "{\"do_lower_case\":false}"};
    CHECK(module, text, HELLO, ACCENTED);
    module.config = "{\"do_lower_case\":false,\"strip_accents\":true}";
    CHECK(module, text, HELLO, CAFE);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

#define TOKEN(content, more) "{\"content\":\"" content "\"" more "}"
#define PLAIN                ",\"normalized\":true,\"special\":false"

static void test_added(void **state) {
    static const char in_json[] = "{\"id\":13,\"content\":\"<x>\"" PLAIN "}";
    (void)state;
    CHECK(((setup){.json_tokens = in_json}), "hello<X> <y>", HELLO, NEXT_ID, LESS, UNK, MORE);
    CHECK(((setup){.txt = true, .added = "{\"<x>\":13}"}), "<x>hello<X>", NEXT_ID, HELLO, NEXT_ID);
    CHECK(((setup){.added = "{\"<y>\":14}", .json_tokens = in_json}), "<x><y>", NEXT_ID,
          NEXT_ID + 1);
    /* a list in tokenizer_config.json is the only one */
    setup decoder = {.config = "{\"added_tokens_decoder\":{\"13\":" TOKEN("<y>", PLAIN) "}}",
                     .json_tokens = in_json,
                     .added = "{\"<z>\":13}"};
    CHECK(decoder, "<y> <x> tok", NEXT_ID, LESS, UNK, MORE, TOK);
    decoder.txt = true;
    CHECK(decoder, "<y> <z> [MASK]", NEXT_ID, LESS, UNK, MORE, MASK);
    decoder.tokenizer_class = "TokenizersBackend"; /* but beside tokenizer.json as it stands */
    decoder.txt = false;
    CHECK(decoder, "<y> <x>", NEXT_ID + 1, NEXT_ID);
    /* numbered behind the vocabulary, whatever the file says */
    setup gap = {.config = "{\"added_tokens_decoder\":{\"99\":" TOKEN(
                     "<y>", PLAIN) ",\"20\":" TOKEN("<x>", PLAIN) "}}"};
    CHECK(gap, "<y><x>", NEXT_ID + 1, NEXT_ID);
    /* one in the vocabulary keeps its id, and cuts words */
    CHECK(((setup){.json_tokens = "{\"id\":9,\"content\":\"fox\"" PLAIN "}"}), "hellofoxtok", HELLO,
          FOX, TOK);
    CHECK(((setup){.json_tokens = TOKEN("Hello", ",\"special\":true")}), "Hello hello", BIG_HELLO,
          HELLO);
    CHECK(((setup){.config = "{\"additional_special_tokens\":[\"fox\"]}"}), "hellofox", HELLO, FOX);
    CHECK(((setup){.map = "{\"new_token\":\"fox\"}"}), "hellofox", HELLO, FOX);
    /* a listed one is numbered too; without a row there the model is refused (test_commands.py) */
    setup extra = {.config = "{\"extra_special_tokens\":[\"<x>\"]}"};
    CHECK(extra, "<x>", NEXT_ID);
    refused(&(setup){.json_tokens = TOKEN(" x", PLAIN)}, EMB_UNSUPPORTED, "white space");
}

/* Any number of them. */
static void test_many(void **state) {
    enum { TOKENS = 4000 };
    static char json[TOKENS * 64];
    size_t used = 0;
    (void)state;
    for (int i = 0; i < TOKENS; i++)
        used += (size_t)snprintf(json + used, sizeof json - used,
                                 "%s{\"id\":%d,\"content\":\"<d%d>\",\"special\":true}",
                                 i ? "," : "", NEXT_ID + i, i);
    setup many = {.json_tokens = json};
    CHECK(many, "<d0><d39><d3999>hello<d4000>", NEXT_ID, NEXT_ID + 39, NEXT_ID + 3999, HELLO, LESS,
          UNK, MORE);
    CHECK(many, "<d1<d12<d12>", LESS, UNK, LESS, UNK, NEXT_ID + 12);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void check_ends(const setup *s, uint32_t unknown, uint32_t before, uint32_t after) {
    opened o;
    emb_error error = {.message = ""};
    if (open_files(&o, s, &error) != EMB_OK) fail_msg("%s", error.message);
    assert_int_equal(o.spec.own.wordpiece.unknown_id, unknown);
    assert_int_equal(o.spec.specials.before, 1);
    assert_int_equal(o.spec.specials.after, 1);
    assert_int_equal(o.spec.specials.ids[0], before);
    assert_int_equal(o.spec.specials.ids[1], after);
    close_files(&o);
}

static void test_names(void **state) {
    (void)state;
    check_ends(&(setup){0}, UNK, CLS, SEP);
    check_ends(&(setup){.config = "{\"sep_token\":\"fox\",\"unk_token\":{\"content\":\"tok\"}}"},
               TOK, CLS, FOX);
    check_ends(&(setup){.config = "{\"sep_token\":\"fox\"}", .map = "{\"sep_token\":\"tok\"}"}, UNK,
               CLS, TOK);
    check_ends(&(setup){.config = "{\"sep_token\":\"fox\",\"added_tokens_decoder\":{}}",
                        .map = "{\"sep_token\":\"tok\"}"},
               UNK, CLS, FOX);
    check_ends(
        &(setup){.config = "{\"sep_token\":\"fox\"}", .tokenizer_class = "TokenizersBackend"}, UNK,
        CLS, SEP);
    refused(&(setup){.config = "{\"sep_token\":\"none\"}"}, EMB_BAD_FILE,
            "the last token \"none\"");
    refused(&(setup){.map = "{\"cls_token\":null}"}, EMB_BAD_FILE, "\"cls_token\" must be a token");
    refused(&(setup){.tokenizer_class = "XLMRobertaTokenizer"}, EMB_UNSUPPORTED,
            "config.json: \"tokenizer_class\" is \"XLMRobertaTokenizer\"");
    refused(&(setup){.config = "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}"}, EMB_UNSUPPORTED,
            "tokenizer_config.json: \"tokenizer_class\"");
    refused(&(setup){.txt = true, .tokenizer_class = "TokenizersBackend"}, EMB_NOT_FOUND,
            "tokenizer.json");
    refused(&(setup){.tokenizer_class = "TokenizersBackend",
                     .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
                                   "{\"type\":\"BertNormalizer\"}]}"},
            EMB_UNSUPPORTED, "Sequence");
    refused(&(setup){.config = "{\"added_tokens_decoder\":{\"x\":{}}}"}, EMB_BAD_FILE, "not an id");
    refused(&(setup){.config = "{\"do_lower_case\":null}"}, EMB_BAD_FILE, "do_lower_case");
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
