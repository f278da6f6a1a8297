/* test_model_keys.c - the list of a model's keys: docs/model_files.md says the same (`--write`
 * makes it so), no key stands there twice, and unknown ones give the stated result in each file.
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
#include <sys/stat.h>

#include "model/keys.h"
#include "support/model_builder.h"

#define DOCUMENT "docs/model_files.md"
#define MARK     "<!-- From here on made by `build/tests/test_model_keys --write`. -->\n"

/* ---- the document ---------------------------------------------------------------------------- */

static void write_key(FILE *out, const emb_key *key) {
    static const char *const rules[] = {[EMB_KEY_READ] = "read",
                                        [EMB_KEY_HARMLESS] = "harmless",
                                        [EMB_KEY_LIMITED] = "only ",
                                        [EMB_KEY_INSIDE] = "holds keys"};
    if (*key->name == '*')
        fprintf(out, "| any other `...%s` |", key->name + 1);
    else
        fprintf(out, "| `%s` |", key->name);
    fprintf(out, " %s", rules[key->rule]);
    for (const char *at = key->values; at;) {
        const char *end = strstr(at, " | ");
        fprintf(out, "`%.*s`", (int)(end ? (size_t)(end - at) : strlen(at)), at);
        if (end) fputs(", ", out);
        at = end ? end + 3 : NULL;
    }
    fprintf(out, " | %s |\n", key->about);
}

static void write_list(FILE *out, const emb_key_list *list) {
    fprintf(out, "\n### %s\n\n%c%s. An unknown key is %s.\n\n", list->file,
            list->about[0] - 'a' + 'A', list->about + 1, list->strict ? "refused" : "reported");
    fputs("| key | | |\n|---|---|---|\n", out);
    for (size_t i = 0; i < list->count; i++) write_key(out, &list->keys[i]);
}

/* The n-th of all lists; NULL past the last. */
static const emb_key_list *list_of(size_t n) {
    for (const emb_key_list *const *list = emb_key_lists; *list; list++)
        if (n-- == 0) return *list;
    for (const emb_module_kind *kind = emb_module_kinds; kind->type; kind++)
        if (kind->keys && n-- == 0) return kind->keys;
    return NULL;
}

static char *make_tables(void) {
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    for (size_t n = 0; list_of(n); n++) write_list(out, list_of(n));
    assert_int_equal(fclose(out), 0);
    return text;
}

static char *read_document(void) {
    static char text[1 << 17];
    FILE *file = fopen(DOCUMENT, "rb");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

static void test_document(void **state) {
    (void)state;
    char *tables = make_tables(), *found = strstr(read_document(), MARK);
    assert_non_null(found);
    if (strcmp(found + strlen(MARK), tables) != 0)
        fail_msg(DOCUMENT
                 " differs from the lists of keys: run build/tests/test_model_keys --write");
    free(tables);
}

static int write_document(void) {
    char *tables = make_tables(), *text = read_document(), *mark = strstr(text, MARK);
    FILE *file = mark ? fopen(DOCUMENT, "wb") : NULL;
    if (!file) return 1;
    fwrite(text, 1, (size_t)(mark - text) + strlen(MARK), file);
    fputs(tables, file);
    free(tables);
    return fclose(file);
}

/* ---- the list -------------------------------------------------------------------------------- */

static void test_list(void **state) {
    (void)state;
    for (size_t n = 0; list_of(n); n++) {
        const emb_key_list *list = list_of(n);
        for (size_t i = 0; i < list->count; i++) {
            const emb_key *key = &list->keys[i];
            char parent[256];
            assert_ptr_equal(emb_key_find(list, key->name), key); /* not twice */
            assert_int_equal(key->rule == EMB_KEY_LIMITED, key->values != NULL);
            snprintf(parent, sizeof parent, "%s", key->name);
            char *dot = strrchr(parent, '.');
            if (!dot) continue;
            *dot = 0;
            const emb_key *above = emb_key_find(list, parent);
            assert_true(above && above->rule == EMB_KEY_INSIDE);
        }
    }
}

/* ---- unknown keys ---------------------------------------------------------------------------- */

static emb_status open_model(const model_builder *b, emb_model_info *info, emb_error *error) {
    emb_model_files *files;
    emb_shape shape;
    emb_status status = emb_model_files_open(&files, &shape, b->folder, error);
    if (status != EMB_OK) return status;
    emb_model_files_describe(info, files, &shape);
    emb_model_files_close(files);
    return EMB_OK;
}

/* Each file of a model, with one key more. */
static void test_unknown(void **state) {
    static const struct {
        const char *file, *from, *to, *wanted; /* in `unknown_keys`, or in the refusal */
        bool refused;
    } cases[] = {
        {"modules.json", "{\"idx\"", "{\"nova\":1,\"idx\"", "modules.json: nova", false},
        {"config.json", "{", "{\"nova\":[{\"x\":1}],", "config.json: nova", false},
        {"tokenizer_config.json", "{", "{\"nova\":1,", "tokenizer_config.json: nova", false},
        {"tokenizer.json", "{", "{\"model\":{\"nova\":1}", "tokenizer.json: model.nova", false},
        {"config_sentence_transformers.json", "{", "{\"nova\":1,",
         "config_sentence_transformers.json: nova", false},
        {"sentence_bert_config.json", "{", "{\"nova\":1,",
         "sentence_bert_config.json: the key \"nova\" is not known", true},
        {"1_Pooling/config.json", "{", "{\"nova\":1,",
         "1_Pooling/config.json: the key \"nova\" is not known", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_builder b;
        emb_model_info info = {.unknown_keys = ""};
        emb_error error = {.message = ""};
        builder_init(&b, &(model_style){0});
        assert_true(builder_edit(&b, cases[i].file, cases[i].from, cases[i].to));
        builder_write(&b);
        emb_status status = open_model(&b, &info, &error);
        assert_int_equal(status, cases[i].refused ? EMB_UNSUPPORTED : EMB_OK);
        if (cases[i].refused)
            assert_non_null(strstr(error.message, cases[i].wanted));
        else
            assert_string_equal(info.unknown_keys, cases[i].wanted);
        builder_reset(&b);
    }
}

/* Files that few models have. */
static void test_unknown_elsewhere(void **state) {
    static const char normal[] = "{\"nova\":1,\"module_input_name\":\"sentence_embedding\"}";
    static const char other[] = "{\"module_input_name\":\"token_embeddings\"}";
    static const char map[] = "{\"nova\":1,\"x_token\":\"<x>\"}";
    static const char index[] = "{\"nova\":1,\"weight_map\":{\"a\":\"w.safetensors\"}}";
    model_builder b;
    emb_model_info info = {.unknown_keys = ""};
    emb_error error;
    char path[300];
    (void)state;
    builder_init(&b, &(model_style){0});
    free(b.weights);
    b.weights = strdup("w.safetensors");
    builder_write(&b);
    snprintf(path, sizeof path, "%s/2_Normalize", b.folder);
    assert_int_equal(mkdir(path, 0700), 0);
    builder_put(&b, "2_Normalize/config.json", normal, sizeof normal - 1);
    builder_put(&b, "special_tokens_map.json", map, sizeof map - 1);
    builder_put(&b, "model.safetensors.index.json", index, sizeof index - 1);
    assert_int_equal(open_model(&b, &info, &error), EMB_OK);
    assert_string_equal(info.unknown_keys,
                        "2_Normalize/config.json: nova; special_tokens_map.json: "
                        "nova; model.safetensors.index.json: nova");
    builder_put(&b, "2_Normalize/config.json", other, sizeof other - 1);
    assert_int_equal(open_model(&b, &info, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "2_Normalize/config.json: \"module_input_name\""));
    builder_reset(&b);
}

/* More than there is room for. */
static void test_many_unknown(void **state) {
    model_builder b;
    emb_model_info info = {.unknown_keys = ""};
    emb_error error;
    char keys[4096] = "{";
    (void)state;
    builder_init(&b, &(model_style){0});
    for (int i = 0; i < 200; i++)
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "\"key%d\":0,", i);
    assert_true(builder_edit(&b, "config.json", "{", keys));
    builder_write(&b);
    assert_int_equal(open_model(&b, &info, &error), EMB_OK);
    assert_non_null(strstr(info.unknown_keys, "config.json: key0, key1, "));
    assert_string_equal(info.unknown_keys + strlen(info.unknown_keys) - 5, ", ...");
    builder_reset(&b);
}

/* ---- what is read ---------------------------------------------------------------------------- */

static void test_settings(void **state) {
    enum { PROMPTS = 3000 };
    static char text[PROMPTS * 40];
    model_builder b;
    emb_model_files *files;
    emb_shape shape;
    emb_error error;
    (void)state;
    builder_init(&b, &(model_style){0});
    size_t used = (size_t)snprintf(text, sizeof text, "{\"truncate_dim\": 3, \"prompts\": {");
    for (int i = 0; i < PROMPTS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"name%d\":\"text%d: \",", i, i);
    snprintf(text + used, sizeof text - used,
             "\"name7\":null}, \"default_prompt_name\": \"name2999\"}");
    assert_true(builder_edit(&b, "config_sentence_transformers.json", NULL, text));
    builder_write(&b);
    assert_int_equal(emb_model_files_open(&files, &shape, b.folder, &error), EMB_OK);
    assert_int_equal(shape.truncate_dim, 3);
    assert_string_equal(emb_model_files_prompt(files, NULL), "text2999: ");
    assert_string_equal(emb_model_files_prompt(files, "name0"), "text0: ");
    assert_string_equal(emb_model_files_prompt(files, "name7"), ""); /* the last of equal names */
    assert_null(emb_model_files_prompt(files, "name3000"));
    emb_model_files_close(files);
    builder_reset(&b);
}

/* Which of the files that state a length counts. */
static void test_lengths(void **state) {
    static const struct {
        const char *module, *tokenizer;
        uint32_t tokens;
    } cases[] = {
        {"{\"max_seq_length\": 5}", "{\"model_max_length\": 4}", 5},
        {"{\"max_seq_length\": null}", "{\"model_max_length\": 4}", 4},
        {"{}", "{\"max_len\": 4}", 4},
        {"{}", "{\"max_len\": 4, \"model_max_length\": 6}", 6},
        {"{}", "{\"max_len\": 4, \"model_max_length\": null}", 8},
        {"{\"max_seq_length\": 5, \"tokenizer_args\": {\"model_max_length\": 6}}", "{}", 6},
        {"{\"processor_kwargs\": {\"model_max_length\": 6}}", "{\"model_max_length\": 4}", 6},
        {"{\"processing_kwargs\": {\"text\": {\"max_length\": 3, \"truncation\": true}},"
         "\"max_seq_length\": 5}",
         "{}", 3},
        {"{\"processing_kwargs\": {\"common\": {\"max_length\": 4}, \"text\": {\"max_length\": "
         "3}}}",
         "{}", 4},
        {"{\"processing_kwargs\": {}, \"max_seq_length\": 7, \"unpad_inputs\": null}", "{}", 7},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_builder b;
        emb_model_info info;
        emb_error error = {.message = ""};
        builder_init(&b, &(model_style){0});
        assert_true(builder_edit(&b, "sentence_bert_config.json", NULL, cases[i].module));
        assert_true(builder_edit(&b, "tokenizer_config.json", NULL, cases[i].tokenizer));
        builder_write(&b);
        assert_int_equal(open_model(&b, &info, &error), EMB_OK);
        assert_int_equal(info.default_tokens, cases[i].tokens);
        builder_reset(&b);
    }
}

/* Without a modules.json the reference does not look at what sentence-transformers wrote. */
static void test_bare(void **state) {
    model_builder b;
    emb_model_info info;
    emb_error error = {.message = ""};
    (void)state;
    builder_init(&b, &(model_style){0});
    assert_true(builder_edit(&b, "modules.json", NULL, NULL));
    assert_true(builder_edit(&b, "config_sentence_transformers.json", "{", "{\"truncate_dim\":2,"));
    builder_write(&b);
    assert_int_equal(open_model(&b, &info, &error), EMB_OK);
    assert_int_equal(info.default_tokens, 8);
    assert_int_equal(info.truncate_dim, 0);
    builder_put(&b, "adapter_config.json", "{}", 2);
    assert_int_equal(open_model(&b, &info, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "adapter_config.json"));
    builder_reset(&b);
}

static void test_pointers(void **state) {
    static const char *const files[] = {"model.safetensors", "config.json", "modules.json"};
    static const char pointer[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:53aa51172d"
        "142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\nsize 9\n";
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        model_builder b;
        emb_model_info info;
        emb_error error;
        builder_init(&b, &(model_style){0});
        builder_write(&b);
        builder_put(&b, files[i], pointer, sizeof pointer - 1);
        assert_int_equal(open_model(&b, &info, &error), EMB_BAD_FILE);
        assert_non_null(strstr(error.message, files[i]));
        assert_non_null(strstr(error.message, "git-lfs pointer"));
        assert_non_null(strstr(error.message, "git lfs pull, or embound pull"));
        builder_reset(&b);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),          cmocka_unit_test(test_list),
        cmocka_unit_test(test_unknown),           cmocka_unit_test(test_many_unknown),
        cmocka_unit_test(test_unknown_elsewhere), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_lengths),           cmocka_unit_test(test_bare),
        cmocka_unit_test(test_pointers),
    };
    if (argc > 1 && strcmp(argv[1], "--write") == 0) return write_document();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
