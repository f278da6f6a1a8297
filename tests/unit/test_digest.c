/* test_digest.c - apps/hub: checksums against published vectors and another way of feeding them;
 * which names and files are taken.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub/digest.h"
#include "hub/name.h"

typedef struct vector {
    const char *text;
    uint32_t times;
    const char *sha256, *sha1;
} vector;

/* FIPS 180-2, appendices A and B, and the empty message */
static const vector vectors[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
     "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
     "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
    {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
     "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
};

static void test_vectors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        for (int sha1 = 0; sha1 < 2; sha1++) {
            emb_digest digest;
            char found[65];
            emb_digest_init(&digest, sha1);
            for (uint32_t n = 0; n < vectors[i].times; n++)
                emb_digest_add(&digest, vectors[i].text, strlen(vectors[i].text));
            emb_digest_finish(&digest, found);
            assert_string_equal(found, sha1 ? vectors[i].sha1 : vectors[i].sha256);
        }
    }
}

/* Every length around the block, whole and in two pieces cut at every place. */
static void test_pieces(void **state) {
    (void)state;
    unsigned char data[200];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 7 + 3);
    for (size_t length = 0; length <= sizeof data; length++) {
        emb_digest digest;
        char whole[65], pieces[65];
        emb_digest_init(&digest, length % 2);
        emb_digest_add(&digest, data, length);
        emb_digest_finish(&digest, whole);
        for (size_t cut = 0; cut <= length; cut++) {
            emb_digest_init(&digest, length % 2);
            emb_digest_add(&digest, data, cut);
            emb_digest_add(&digest, data + cut, length - cut);
            emb_digest_finish(&digest, pieces);
            assert_string_equal(pieces, whole);
        }
    }
}

static void test_names(void **state) {
    (void)state;
    emb_hub_name name;
    emb_error error;
    assert_int_equal(emb_hub_name_parse(&name, "a/b.c_d-e", NULL, &error), EMB_OK);
    assert_string_equal(name.repo, "a/b.c_d-e");
    assert_string_equal(name.revision, "main");
    assert_int_equal(emb_hub_name_parse(&name, "a/b@refs/pr/3", NULL, &error), EMB_OK);
    assert_string_equal(name.revision, "refs/pr/3");
    assert_int_equal(emb_hub_name_parse(&name, "b@v1", "v2", &error), EMB_OK);
    assert_string_equal(name.revision, "v2");
    static const char *const bad[] = {"",     "/",    "a/",   "/a",     "a/b/c",  "a b",  "../a",
                                      "a/..", "a--b", "-a",   "a.",     ".a",     "a..b", "a\\b",
                                      "a@",   "a@/b", "a@b/", "a@../b", "a@b//c", "a@-b", "a@b c"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(emb_hub_name_parse(&name, bad[i], NULL, &error), EMB_INVALID_ARGUMENT);
}

static void test_files(void **state) {
    (void)state;
    static const char *const wanted[] = {"config.json",
                                         "1_Pooling/config.json",
                                         "tokenizer.json",
                                         "model.safetensors",
                                         "model-00001-of-00012.safetensors",
                                         "2_Dense/model.safetensors",
                                         "0_Transformer/vocab.txt"};
    static const char *const others[] = {"README.md",
                                         "pytorch_model.bin",
                                         "onnx/config.json",
                                         "a/../config.json",
                                         "../config.json",
                                         "/config.json",
                                         "1_/../config.json",
                                         "1_a/b/config.json",
                                         "1_../config.json/x",
                                         "model-1.safetensors",
                                         "model.fp16.safetensors",
                                         "config.json ",
                                         "",
                                         "1_a/",
                                         "model-0000x-of-00012.safetensors"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        assert_true(emb_hub_wants_file(wanted[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(emb_hub_wants_file(others[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
