/* test_model.c - opening models: spellings and folders that are accepted, and how values are read.
 * Models are written at test time.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "model/model.h"
#include "support/model_builder.h"

/* ---- what is accepted ------------------------------------------------------------------------ */

static void check_good(const model_style *style) {
    model_builder b;
    emb_model_files *files;
    emb_shape shape;
    emb_error error = {.message = ""};
    emb_model_info info;
    float rows[40];
    unsigned char scratch[64];
    builder_init(&b, style);
    builder_write(&b);
    emb_status status = emb_model_files_open(&files, &shape, b.folder, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(status, EMB_OK);
    emb_model_files_describe(&info, files, &shape);
    assert_string_equal(info.architecture, style->mpnet ? "mpnet" : "bert");
    assert_string_equal(info.name, strrchr(b.folder, '/') + 1);
    assert_string_equal(emb_model_files_directory(files), b.folder);
    assert_int_equal(info.hidden, 4);
    assert_int_equal(info.dim, 4);
    assert_int_equal(info.positions, 8);
    assert_int_equal(info.window_tokens, style->mpnet ? 6 : 8);
    assert_int_equal(info.default_tokens, style->plain ? info.window_tokens : 5);
    assert_int_equal(info.normalizes, !style->plain);
    assert_int_equal(info.pooling, EMB_POOLING_MEAN);
    assert_int_equal(info.parameters, style->mpnet ? 296 : 240);
    assert_true(info.description_bytes > 0 && info.description_bytes < 4096);
    assert_int_equal(shape.spec.head_dim, 2);
    assert_int_equal(shape.has_token_types, !style->mpnet);
    assert_int_equal(shape.relative_buckets, style->mpnet ? 32 : 0);
    assert_true(shape.spec.norm_epsilon == 1e-12f);
    const char *prompt = emb_model_files_prompt(files, NULL);
    assert_string_equal(prompt ? prompt : "none", style->plain ? "none" : "query: ");
    prompt = emb_model_files_prompt(files, "document");
    assert_string_equal(prompt ? prompt : "none", style->plain ? "none" : "");
    assert_null(emb_model_files_prompt(files, "passage"));
    for (int role = 0; role < EMB_TENSOR_ROLES; role++) {
        if (role == (style->mpnet ? EMB_TENSOR_TOKEN_TYPES : EMB_TENSOR_RELATIVE)) continue;
        assert_int_equal(
            emb_model_read_rows(files, (emb_tensor_role)role, 0, 0, 1, rows, scratch, &error),
            EMB_OK);
        for (size_t i = 0; i < 2; i++) assert_true(rows[i] == builder_value(i));
    }
    assert_int_equal(emb_model_read_rows(files, EMB_TENSOR_FFN_OUT, 0, 1, 3, rows, scratch, &error),
                     EMB_OK);
    for (size_t i = 0; i < 24; i++) assert_true(rows[i] == builder_value(8 + i));
    assert_int_equal(emb_model_read_rows(files, EMB_TENSOR_WORDS, 0, 5, 1, rows, scratch, &error),
                     EMB_INTERNAL);
    emb_model_files_close(files);
    builder_reset(&b);
}

static void test_good_models(void **state) {
    static const model_style styles[] = {
        {.dtype = "F32"},
        {.dtype = "F16"},
        {.dtype = "BF16"},
        {.plain = true},
        {.prefix = "bert."},
        {.prefix = "0.auto_model."},
        {.old_norms = true},
        {.reversed = true},
        {.mpnet = true},
        {.mpnet = true, .dtype = "F16", .plain = true},
        {.mpnet = true, .prefix = "mpnet.", .dtype = "BF16", .reversed = true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) check_good(&styles[i]);
}

#define BERT  "sentence_transformers.models."
#define QUERY "encoder.layer.0.attention.self.query.weight"
#define FIRST "{\"embeddings.word"

static const builder_case accepted[] = {
    {"header", "}}", "}}   \n\t ", EMB_OK, {0}},
    {"header",
     FIRST,
     "{\"pooler.none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"embeddings.word",
     EMB_OK,
     {0}},
    {"header",
     FIRST,
     "{\"pooler.x\":{\"shape\":[7,0,5],\"data_offsets\":[80,80],\"dtype\":\"I64\","
     "\"more\":[{}]},\"embeddings.word",
     EMB_OK,
     {0}},
    {"header", ",\"__metadata__\":{\"format\":\"pt\"}", "", EMB_OK, {0}},
    {"header", "embeddings.word_embeddings", "embeddings\\u002eword_embeddings", EMB_OK, {0}},
    {"config.json", "\"hidden_act\": \"gelu\",", "", EMB_OK, {0}},
    {"config.json", "\"pad_token_id\": 0", "\"pad_token_id\": null", EMB_OK, {0}},
    {"config.json", "{", "{\"quantization_config\": null, \"is_decoder\": false, ", EMB_OK, {0}},
    {"config.json",
     "{",
     "{\"a\":[[{\"model_type\":1}]],\"position_embedding_type\":\"absolute\",",
     EMB_OK,
     {0}},
    {"sentence_bert_config.json", "5", "99", EMB_OK, {0}},
    {"sentence_bert_config.json", "5", "null", EMB_OK, {0}},
    {"sentence_bert_config.json", NULL, NULL, EMB_OK, {0}},
    {"config_sentence_transformers.json", NULL, NULL, EMB_OK, {0}},
    {"config_sentence_transformers.json", "\"query\", \"sim", "null, \"sim", EMB_OK, {0}},
    {"modules.json",
     BERT "Transformer",
     "sentence_transformers.base.modules.Transformer",
     EMB_OK,
     {0}},
    {"1_Pooling/config.json",
     NULL,
     "{\"embedding_dimension\":4,\"pooling_mode\":\"cls\"}",
     EMB_OK,
     {0}},
    {"1_Pooling/config.json", NULL, "{}", EMB_OK, {0}},
    {"1_Pooling/config.json", "mean_tokens\": true", "mean_tokens\": false", EMB_OK, {0}},
    {"1_Pooling/config.json", "{", "{\"pooling_mode\": [\"max\"],", EMB_OK, {0}},
    {"config_sentence_transformers.json", "\"document\"", "\"query\"", EMB_OK, {0}},
    {"config_sentence_transformers.json", "\"query: \"", "null", EMB_OK, {0}},
    {"config_sentence_transformers.json", "{\"query\": \"query: \", ", "{", EMB_OK, {0}},
    {"config_sentence_transformers.json", "null}", "\"maxsim\", \"new\": 1}", EMB_OK, {0}},
    {"sentence_bert_config.json", "false", "true", EMB_OK, {0}},
};

static void test_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++)
        assert_true(builder_check(&(model_style){0}, &accepted[i]));
}

/* ---- files and folders ----------------------------------------------------------------------- */

static void test_paths(void **state) {
    model_builder b;
    emb_error error;
    char path[1024];
    (void)state;
    builder_init(&b, &(model_style){0});
    builder_write(&b);
    snprintf(path, sizeof path, "%s///", b.folder);
    assert_int_equal(builder_try(path, &error), EMB_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", b.folder);
    assert_int_equal(builder_try(path, &error), EMB_OK);
    snprintf(path, sizeof path, "%s/config.json", b.folder);
    assert_int_equal(builder_try(path, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "neither a directory nor a .safetensors file"));
    assert_int_equal(builder_try("sentence-transformers/all-MiniLM-L6-v2", &error), EMB_NOT_FOUND);
    assert_non_null(strstr(error.message, "make models"));
    assert_int_equal(builder_try("", &error), EMB_INVALID_ARGUMENT);
    memset(path, 'x', 600);
    path[600] = 0;
    assert_int_equal(builder_try(path, &error), EMB_INVALID_ARGUMENT);

    /* As a hub's cache has them: every file a link. */
    snprintf(path, sizeof path,
             "cd %s && mkdir blobs && mv *.json *.safetensors blobs && "
             "ln -s blobs/* .",
             b.folder);
    assert_int_equal(system(path), 0);
    assert_int_equal(builder_try(b.folder, &error), EMB_OK);
    snprintf(path, sizeof path, "%s/blobs/modules.json", b.folder);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(builder_try(b.folder, &error), EMB_NOT_FOUND);
    assert_non_null(strstr(error.message, "modules.json: cannot open"));
    builder_reset(&b);
}

static void test_strange_files(void **state) {
    static const char *const names[] = {"config.json", "modules.json", "model.safetensors",
                                        "sentence_bert_config.json", "1_Pooling/config.json"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        for (int kind = 0; kind < 3; kind++) {
            model_builder b;
            emb_error error;
            char path[300];
            builder_init(&b, &(model_style){0});
            builder_write(&b);
            snprintf(path, sizeof path, "%s/%s", b.folder, names[i]);
            assert_int_equal(unlink(path), 0);
            if (kind == 0) assert_int_equal(mkfifo(path, 0600), 0);
            if (kind == 1) assert_int_equal(mkdir(path, 0700), 0);
            if (kind == 2) { /* a sparse terabyte */
                builder_put(&b, names[i], "", 0);
                assert_int_equal(truncate(path, (off_t)1 << 40), 0);
            }
            assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
            assert_non_null(strstr(error.message, names[i]));
            builder_reset(&b);
        }
    }
}

static void test_pickle(void **state) {
    model_builder b;
    emb_error error;
    (void)state;
    builder_init(&b, &(model_style){0});
    assert_true(builder_edit(&b, "header", NULL, NULL));
    builder_write(&b);
    assert_int_equal(builder_try(b.folder, &error), EMB_NOT_FOUND);
    assert_non_null(strstr(error.message, "model.safetensors"));
    builder_put(&b, "pytorch_model.bin", "x", 1);
    assert_int_equal(builder_try(b.folder, &error), EMB_UNSUPPORTED);
    assert_non_null(strstr(error.message, "pytorch_model.bin"));
    builder_reset(&b);
}

/* A folder for the encoder, as older models have it. */
static void test_transformer_folder(void **state) {
    model_builder b;
    emb_error error;
    char command[400];
    emb_model_files *files;
    emb_shape shape;
    (void)state;
    builder_init(&b, &(model_style){0});
    assert_true(builder_edit(&b, "modules.json", "\"path\": \"\"", "\"path\": \"0_BERT\""));
    builder_write(&b);
    snprintf(command, sizeof command,
             "cd %s && mkdir 0_BERT && mv config.json sentence_bert_* "
             "tokenizer* model.safetensors 0_BERT",
             b.folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(emb_model_files_open(&files, &shape, b.folder, &error), EMB_OK);
    assert_string_equal(strrchr(emb_model_files_directory(files), '/'), "/0_BERT");
    assert_int_equal(shape.default_tokens, 5);
    emb_model_files_close(files);
    builder_reset(&b);
}

/* ---- shards ---------------------------------------------------------------------------------- */

#define INDEX "model.safetensors.index.json"

/* Splits the good model behind its fifth tensor. */
static void write_shards(model_builder *b) {
    char first[4096];
    const char *at = strstr(b->header, ",\"encoder");
    snprintf(first, sizeof first, "%.*s}", (int)(at - b->header), b->header);
    size_t split = 272;
    char *second = strdup(at);
    second[0] = '{';
    for (char *offsets = second; (offsets = strstr(offsets, "data_offsets\":["));) {
        unsigned long from, to;
        char old[64], now[64];
        offsets += 15;
        assert_int_equal(sscanf(offsets, "%lu,%lu]", &from, &to), 2);
        int length = snprintf(old, sizeof old, "%lu,%lu", from, to);
        snprintf(now, sizeof now, "%-*s", length, "");
        int written = snprintf(now, sizeof now, "%lu,%lu", from - split, to - split);
        memset(now + written, ' ', (size_t)(length - written));
        memcpy(offsets, now, (size_t)length);
    }
    builder_put_weights(b, "model-00001-of-00002.safetensors", first, b->data, split);
    builder_put_weights(b, "model-00002-of-00002.safetensors", second, b->data + split,
                        b->data_bytes - split);
    free(second);
}

static const char index_text[] =
    "{\"metadata\": {\"total_size\": 1008}, \"weight_map\": {\"embeddings.LayerNorm.bias\": "
    "\"model-00001-of-00002.safetensors\", \"" QUERY "\": "
    "\"model-00002-of-00002.safetensors\"}}";

static void test_shards(void **state) {
    static const builder_case edits[] = {
        {INDEX, "{", "{", EMB_OK, {0}},
        {INDEX, "00002-of", "00003-of", EMB_NOT_FOUND, {"model-00003-of-00002.safetensors"}},
        {INDEX, "\"model-00002", "\"../model-00002", EMB_BAD_FILE, {INDEX, "../model-00002"}},
        {INDEX, "\"model-00002", "\"/model-00002", EMB_BAD_FILE, {INDEX}},
        {INDEX, "model-00002-of-00002.safetensors", "..", EMB_BAD_FILE, {INDEX}},
        {INDEX, "model-00002-of-00002.safetensors", "pytorch_model-2.bin", EMB_BAD_FILE, {INDEX}},
        {INDEX, "\"model-00002-of-00002.safetensors\"", "7", EMB_BAD_FILE, {INDEX, "weight_map"}},
        {INDEX, "00002-of", "00001-of", EMB_BAD_FILE, {"missing", QUERY}},
        {INDEX, NULL, "{}", EMB_BAD_FILE, {INDEX, "weight_map"}},
        {INDEX, NULL, "{\"weight_map\":{}}", EMB_BAD_FILE, {INDEX, "weight_map"}},
        {INDEX, NULL, "{\"weight_map\":[]}", EMB_BAD_FILE, {INDEX, "weight_map"}},
        {INDEX, "{", "{\"weight_map\":{},", EMB_BAD_FILE, {INDEX, "weight_map", "twice"}},
        {INDEX,
         "\"weight_map\": {",
         "\"weight_map\": {\"x\":\"copy.safetensors\",",
         EMB_BAD_FILE,
         {"another shard"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        model_builder b;
        emb_error error;
        char command[400];
        builder_init(&b, &(model_style){0});
        write_shards(&b);
        snprintf(command, sizeof command,
                 "cp %s/model-00001-of-00002.safetensors %s/copy.safetensors", b.folder, b.folder);
        assert_int_equal(system(command), 0);
        assert_true(builder_edit(&b, "header", NULL, NULL));
        assert_true(builder_edit(&b, INDEX, NULL, index_text));
        assert_true(builder_edit(&b, INDEX, edits[i].from, edits[i].to));
        builder_write(&b);
        emb_status status = builder_try(b.folder, &error);
        if (status != edits[i].status) print_error("case %zu: %s\n", i, error.message);
        assert_int_equal(status, edits[i].status);
        for (int k = 0; k < 3 && edits[i].names[k]; k++)
            assert_non_null(strstr(error.message, edits[i].names[k]));
        builder_reset(&b);
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

static float half_by_hand(uint16_t half, bool brain) {
    if (brain) {
        uint32_t bits = (uint32_t)half << 16;
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    if (exponent == 31) value = HUGE_VAL;
    return (float)(half & 0x8000 ? -value : value);
}

/* All 65536 patterns of a 16-bit type: widened exactly, or refused by name and element. */
static void check_patterns(bool brain) {
    model_builder b;
    emb_model_files *files;
    emb_shape shape;
    emb_error error;
    uint16_t *data = malloc(65536 * sizeof *data);
    builder_init(&b, &(model_style){.dtype = brain ? "BF16" : "F16"});
    /* The table of words becomes 16384 rows in a shard of its own. */
    for (uint32_t i = 0; i < 65536; i++) data[i] = (uint16_t)i;
    char words[200];
    snprintf(words, sizeof words,
             "{\"embeddings.word_embeddings.weight\":{\"dtype\":\"%s\",\"shape\":[16384,4],"
             "\"data_offsets\":[0,131072]}}",
             brain ? "BF16" : "F16");
    builder_put_weights(&b, "words.safetensors", words, data, 131072);
    assert_true(builder_edit(&b, "header", "embeddings.word_embeddings.weight", "pooler.x"));
    assert_true(builder_edit(&b, "config.json", "vocab_size\": 5", "vocab_size\": 16384"));
    builder_put_weights(&b, "rest.safetensors", b.header, b.data, b.data_bytes);
    assert_true(builder_edit(&b, "header", NULL, NULL));
    assert_true(builder_edit(&b, INDEX, NULL,
                             "{\"weight_map\":{\"a\":\"words.safetensors\","
                             "\"b\":\"rest.safetensors\"}}"));
    builder_write(&b);
    assert_int_equal(emb_model_files_open(&files, &shape, b.folder, &error), EMB_OK);
    uint16_t scratch[4];
    assert_true(emb_model_scratch_bytes(4) <= sizeof scratch);
    for (uint32_t row = 0; row < 16384; row++) {
        float values[4], expected[4];
        int bad = -1;
        for (int i = 3; i >= 0; i--) {
            expected[i] = half_by_hand((uint16_t)(row * 4 + (uint32_t)i), brain);
            if (!isfinite(expected[i])) bad = i;
        }
        emb_status status =
            emb_model_read_rows(files, EMB_TENSOR_WORDS, 0, row, 1, values, scratch, &error);
        assert_int_equal(status, bad < 0 ? EMB_OK : EMB_BAD_FILE);
        if (bad < 0) {
            assert_memory_equal(values, expected, sizeof values);
            continue;
        }
        char element[128];
        snprintf(element, sizeof element,
                 "words.safetensors: tensor \"embeddings.word_embeddings.weight\", element %u is",
                 row * 4 + (uint32_t)bad);
        assert_non_null(strstr(error.message, element));
    }
    emb_model_files_close(files);
    builder_reset(&b);
    free(data);
}

static void test_f16(void **state) {
    (void)state;
    check_patterns(false);
}

static void test_bf16(void **state) {
    (void)state;
    check_patterns(true);
}

/* Rows that need more than one read of the scratch; and F32 that is not finite. */
static void test_large_rows(void **state) {
    emb_model_files *files;
    emb_shape shape;
    emb_error error;
    (void)state;
    assert_int_equal(emb_model_files_open(&files, &shape, "tests/data/tiny-mpnet", &error), EMB_OK);
    size_t values = (size_t)shape.vocabulary * shape.spec.hidden;
    assert_true(values > 32768);
    float *all = malloc(values * 4), row[64];
    void *scratch = malloc(emb_model_scratch_bytes(values));
    assert_int_equal(emb_model_scratch_bytes(values), 65536);
    assert_int_equal(
        emb_model_read_rows(files, EMB_TENSOR_WORDS, 0, 0, shape.vocabulary, all, scratch, &error),
        EMB_OK);
    for (uint32_t i = 0; i < shape.vocabulary; i++) {
        assert_int_equal(
            emb_model_read_rows(files, EMB_TENSOR_WORDS, 0, i, 1, row, scratch, &error), EMB_OK);
        assert_memory_equal(row, all + (size_t)i * shape.spec.hidden, shape.spec.hidden * 4);
    }
    free(all);
    free(scratch);
    emb_model_files_close(files);

    static const uint32_t patterns[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        model_builder b;
        float values4[4];
        builder_init(&b, &(model_style){0});
        memcpy(b.data + 256 + 8, &patterns[i], 4); /* embeddings.LayerNorm.bias */
        builder_write(&b);
        assert_int_equal(emb_model_files_open(&files, &shape, b.folder, &error), EMB_OK);
        assert_int_equal(
            emb_model_read_rows(files, EMB_TENSOR_EMBED_SHIFT, 0, 0, 1, values4, NULL, &error),
            EMB_BAD_FILE);
        assert_string_equal(error.message,
                            "model.safetensors: tensor \"embeddings.LayerNorm.bias\","
                            " element 2 is NaN or infinite");
        emb_model_files_close(files);
        builder_reset(&b);
    }
}

/* A file cut after it was opened is an error, never a signal. */
static void test_cut_after_open(void **state) {
    model_builder b;
    emb_model_files *files;
    emb_shape shape;
    emb_error error;
    char path[200];
    float row[8];
    (void)state;
    builder_init(&b, &(model_style){0});
    builder_write(&b);
    assert_int_equal(emb_model_files_open(&files, &shape, b.folder, &error), EMB_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", b.folder);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(emb_model_read_rows(files, EMB_TENSOR_FFN_SHIFT, 0, 0, 1, row, NULL, &error),
                     EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "model.safetensors"));
    emb_model_files_close(files);
    builder_reset(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_models),    cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_paths),          cmocka_unit_test(test_strange_files),
        cmocka_unit_test(test_pickle),         cmocka_unit_test(test_transformer_folder),
        cmocka_unit_test(test_shards),         cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),           cmocka_unit_test(test_large_rows),
        cmocka_unit_test(test_cut_after_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
