/* test_model_refused.c - malformed and unsupported models: each is refused with a message that
 * names the file, the key or the tensor. Each is one edit of a good model.
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

#include "support/model_builder.h"

#define BERT      "sentence_transformers.models."
#define QUERY     "encoder.layer.0.attention.self.query.weight"
#define LAST      "\"encoder.layer.0.output.LayerNorm.bias\":{"
#define FIRST     "{\"embeddings.word"
#define ZERO_SIZE "{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[16,16]}"

/* ---- what is refused ------------------------------------------------------------------------- */

static const builder_case refused_config[] = {
    {"config.json", NULL, "", EMB_BAD_FILE, {"config.json: line 1, byte 1:"}},
    {"config.json", NULL, "[]", EMB_BAD_FILE, {"config.json", "object"}},
    {"config.json", NULL, NULL, EMB_NOT_FOUND, {"config.json"}},
    {"config.json", "}", "} {}", EMB_BAD_FILE, {"config.json: line 13"}},
    {"config.json", "\"model_type\": \"bert\",", "", EMB_BAD_FILE, {"config.json", "model_type"}},
    {"config.json",
     "\"bert\"",
     "\"roberta\"",
     EMB_UNSUPPORTED,
     {"config.json", "\"model_type\"", "roberta"}},
    {"config.json", "\"bert\"", "\"be\\nrt\"", EMB_BAD_FILE, {"model_type", "control"}},
    {"config.json", "\"bert\"", "3", EMB_BAD_FILE, {"config.json", "\"model_type\" must be"}},
    {"config.json",
     "\"gelu\"",
     "\"gelu_new\"",
     EMB_UNSUPPORTED,
     {"config.json", "hidden_act", "gelu_new"}},
    {"config.json",
     "{",
     "{\"position_embedding_type\": \"relative_key\",",
     EMB_UNSUPPORTED,
     {"config.json", "position_embedding_type", "relative_key"}},
    {"config.json", "\"hidden_size\": 4", "\"hidden_size\": 0", EMB_BAD_FILE, {"hidden_size"}},
    {"config.json",
     "\"hidden_size\": 4",
     "\"hidden_size\": 99999999999999999999",
     EMB_BAD_FILE,
     {"hidden_size"}},
    {"config.json", "\"hidden_size\": 4,", "", EMB_BAD_FILE, {"config.json", "hidden_size"}},
    {"config.json",
     "\"hidden_size\": 4",
     "\"hidden_size\": 6",
     EMB_BAD_FILE,
     {"1_Pooling/config.json", "word_embedding_dimension"}},
    {"config.json",
     "\"hidden_size\": 4",
     "\"hidden_size\": 5",
     EMB_BAD_FILE,
     {"config.json", "hidden_size", "num_attention_heads"}},
    {"config.json", "_heads\": 2", "_heads\": 0", EMB_BAD_FILE, {"num_attention_heads"}},
    {"config.json", "_heads\": 2", "_heads\": -2", EMB_BAD_FILE, {"num_attention_heads"}},
    {"config.json", "_heads\": 2", "_heads\": 2.0", EMB_BAD_FILE, {"num_attention_heads"}},
    {"config.json", "\"hidden_size\": 4", "\"hidden_size\": 1024", EMB_UNSUPPORTED, {"head"}},
    {"config.json",
     "_layers\": 1",
     "_layers\": 1000000000",
     EMB_BAD_FILE,
     {"config.json", "num_hidden_layers", "1000000000"}},
    {"config.json",
     "_layers\": 1",
     "_layers\": 2",
     EMB_BAD_FILE,
     {"encoder.layer.1.attention.self.query.weight", "missing"}},
    {"config.json",
     "_layers\": 1",
     "_layers\": 1, \"num_hidden_layers\": 1",
     EMB_BAD_FILE,
     {"config.json", "num_hidden_layers", "twice"}},
    {"config.json",
     "intermediate_size\": 8",
     "intermediate_size\": 16",
     EMB_BAD_FILE,
     {"intermediate.dense.weight", "[8, 4]", "[16, 4]"}},
    {"config.json",
     "vocab_size\": 5",
     "vocab_size\": 6",
     EMB_BAD_FILE,
     {"model.safetensors", "embeddings.word_embeddings.weight", "[6, 4]"}},
    {"config.json",
     "_embeddings\": 8",
     "_embeddings\": 0",
     EMB_BAD_FILE,
     {"max_position_embeddings"}},
    {"config.json", "1e-12", "0", EMB_BAD_FILE, {"layer_norm_eps"}},
    {"config.json", "1e-12", "1e999", EMB_BAD_FILE, {"layer_norm_eps"}},
    {"config.json",
     "{",
     "{\"quantization_config\": {\"bits\": 4},",
     EMB_UNSUPPORTED,
     {"config.json", "quantization_config"}},
    {"config.json", "{", "{\"is_decoder\": true,", EMB_UNSUPPORTED, {"config.json", "is_decoder"}},
    {"modules.json", NULL, "{}", EMB_BAD_FILE, {"modules.json"}},
    {"modules.json", NULL, "[]", EMB_UNSUPPORTED, {"modules.json"}},
    {"modules.json", NULL, "[1]", EMB_BAD_FILE, {"modules.json", "module 0"}},
    {"modules.json",
     "\"type\": \"" BERT "Pooling\"",
     "\"t\": 0",
     EMB_BAD_FILE,
     {"modules.json", "module 1", "\"type\""}},
    {"modules.json",
     BERT "Normalize",
     BERT "Dense",
     EMB_UNSUPPORTED,
     {"modules.json", "2_Normalize", "models.Dense"}},
    {"modules.json",
     BERT "Transformer",
     "custom_st.Transformer",
     EMB_UNSUPPORTED,
     {"modules.json", "custom_st.Transformer"}},
    {"modules.json", BERT "Pooling", BERT "Normalize", EMB_UNSUPPORTED, {"modules.json"}},
    {"modules.json", "1_Pooling", "../1_Pooling", EMB_BAD_FILE, {"modules.json", "../1_Pooling"}},
    {"modules.json", "1_Pooling", "/tmp", EMB_BAD_FILE, {"modules.json", "/tmp"}},
    {"modules.json", "1_Pooling", "a/../../b", EMB_BAD_FILE, {"modules.json", "a/../../b"}},
    {"1_Pooling/config.json", NULL, NULL, EMB_NOT_FOUND, {"1_Pooling/config.json"}},
    {"1_Pooling/config.json",
     "sqrt_len_tokens\": false",
     "sqrt_len_tokens\": true",
     EMB_UNSUPPORTED,
     {"1_Pooling/config.json", "pooling_mode_mean_sqrt_len_tokens"}},
    {"1_Pooling/config.json",
     "cls_token\": false",
     "cls_token\": true",
     EMB_UNSUPPORTED,
     {"1_Pooling/config.json", "pooling_mode_cls_token", "pooling_mode_mean_tokens"}},
    {"1_Pooling/config.json",
     "{",
     "{\"pooling_mode_lasttoken\": true,",
     EMB_UNSUPPORTED,
     {"pooling_mode_lasttoken"}},
    {"1_Pooling/config.json",
     "mean_tokens\": true",
     "mean_tokens\": true, \"pooling_mode\": [\"cls\", \"mean\"]",
     EMB_UNSUPPORTED,
     {"1_Pooling/config.json", "pooling_mode", "cls+mean"}},
    {"1_Pooling/config.json",
     "{",
     "{\"pooling_mode_first\": true,",
     EMB_UNSUPPORTED,
     {"1_Pooling/config.json", "\"pooling_mode_first\" is not known"}},
    {"1_Pooling/config.json",
     "{",
     "{\"pooling_mode\": \"lasttoken\",",
     EMB_UNSUPPORTED,
     {"1_Pooling/config.json", "pooling_mode", "lasttoken"}},
    {"1_Pooling/config.json",
     "{",
     "{\"include_prompt\": false,",
     EMB_UNSUPPORTED,
     {"include_prompt"}},
    {"1_Pooling/config.json", "true", "1", EMB_BAD_FILE, {"pooling_mode_mean_tokens"}},
    {"sentence_bert_config.json",
     "5",
     "0",
     EMB_BAD_FILE,
     {"sentence_bert_config.json", "max_seq_length"}},
    {"sentence_bert_config.json", "5", "-1", EMB_BAD_FILE, {"max_seq_length"}},
    {"sentence_bert_config.json",
     "{",
     "{\"max_length\": 9,",
     EMB_UNSUPPORTED,
     {"sentence_bert_config.json", "\"max_length\" is not known"}},
    {"sentence_bert_config.json",
     "{",
     "{\"query_length\": 32,",
     EMB_UNSUPPORTED,
     {"sentence_bert_config.json", "\"query_length\" is 32", "only null"}},
    {"sentence_bert_config.json",
     "{",
     "{\"processing_kwargs\": {\"text\": {\"max_length\": 0}},",
     EMB_BAD_FILE,
     {"sentence_bert_config.json", "processing_kwargs.text.max_length", "0"}},
    {"sentence_bert_config.json",
     "{",
     "{\"processing_kwargs\": {\"text\": {\"truncation\": false}},",
     EMB_UNSUPPORTED,
     {"sentence_bert_config.json", "processing_kwargs.text.truncation\" is false"}},
    {"sentence_bert_config.json",
     "{",
     "{\"tokenizer_args\": {\"do_lower_case\": true},",
     EMB_UNSUPPORTED,
     {"sentence_bert_config.json", "\"tokenizer_args.do_lower_case\" is not known"}},
    {"tokenizer_config.json",
     "{",
     "{\"truncation_side\": \"left\",",
     EMB_UNSUPPORTED,
     {"tokenizer_config.json", "truncation_side", "left"}},
    {"tokenizer_config.json",
     "{",
     "{\"model_input_names\": [\"input_ids\", \"token_type_ids\"],",
     EMB_UNSUPPORTED,
     {"tokenizer_config.json", "model_input_names"}},
    {"tokenizer_config.json",
     "{",
     "{\"auto_map\": {\"AutoTokenizer\": [\"x.Y\", null]},",
     EMB_UNSUPPORTED,
     {"tokenizer_config.json", "\"auto_map\" is {...}"}},
    {"tokenizer.json",
     "{",
     "{\"truncation\": {\"direction\": \"Left\"}",
     EMB_UNSUPPORTED,
     {"tokenizer.json", "truncation.direction", "Left"}},
    {"config.json",
     "{",
     "{\"auto_map\": {\"AutoModel\": \"modeling.X\"},",
     EMB_UNSUPPORTED,
     {"config.json", "auto_map"}},
    {"config.json",
     "{",
     "{\"pruned_heads\": {\"0\": [1]},",
     EMB_UNSUPPORTED,
     {"config.json", "pruned_heads", "{...}"}},
    {"modules.json",
     "\"name\": \"1\"",
     "\"name\": \"0\"",
     EMB_UNSUPPORTED,
     {"modules.json", "same \"name\""}},
    {"config_sentence_transformers.json",
     "{",
     "{\"truncate_dim\": 0,",
     EMB_UNSUPPORTED,
     {"config_sentence_transformers.json", "truncate_dim"}},
    {"config_sentence_transformers.json",
     "\"query\", \"sim",
     "\"none\", \"sim",
     EMB_BAD_FILE,
     {"config_sentence_transformers.json", "default_prompt_name", "none"}},
    {"config_sentence_transformers.json", "\"\"", "3", EMB_BAD_FILE, {"prompts"}},
    {"config_sentence_transformers.json", "\"\"", "\"\\u0000\"", EMB_BAD_FILE, {"prompts", "NUL"}},
    {"config_sentence_transformers.json",
     "{",
     "{\"model_type\": \"SparseEncoder\",",
     EMB_UNSUPPORTED,
     {"config_sentence_transformers.json", "model_type", "SparseEncoder"}},
    {"config_sentence_transformers.json", "{", "{\xFF", EMB_BAD_FILE, {"line 1, byte 2"}},
};

static const builder_case refused_header[] = {
    {"header", NULL, "", EMB_BAD_FILE, {"model.safetensors"}},
    {"header", NULL, " {}", EMB_BAD_FILE, {"model.safetensors", "'{'"}},
    {"header", NULL, "{}", EMB_BAD_FILE, {"model.safetensors", "960 bytes follow"}},
    {"header", NULL, "{]", EMB_BAD_FILE, {"model.safetensors: line 1, byte 2"}},
    {"header", "}}", "}},", EMB_BAD_FILE, {"model.safetensors"}},
    {"header", "}}", "}", EMB_BAD_FILE, {"model.safetensors"}},
    {"header", "}}", "}}{}", EMB_BAD_FILE, {"model.safetensors"}},
    {"header", "}}", "}}\x01", EMB_BAD_FILE, {"model.safetensors"}},
    {"header", "query.weight", "query.\xFFweight", EMB_BAD_FILE, {"not valid UTF-8"}},
    {"header", "query.weight", "query.weight\\u0000", EMB_BAD_FILE, {"control character"}},
    {"header",
     QUERY,
     "encoder.layer.0.attention.self.query.bias",
     EMB_BAD_FILE,
     {"model.safetensors", "query.bias"}},
    {"header", QUERY, "pooler.x", EMB_BAD_FILE, {QUERY, "missing"}},
    {"header",
     "embeddings.word",
     "text_model.embeddings.word",
     EMB_BAD_FILE,
     {"\"embeddings.word_embeddings.weight\" is missing",
      "\"text_model.embeddings.word_embeddings.weight\""}},
    {"header",
     QUERY,
     "encoder.layer.0.attention.self.distance_embedding.weight",
     EMB_UNSUPPORTED,
     {"distance_embedding"}},
    {"header",
     QUERY,
     "encoder.layer.00.attention.self.query.weight",
     EMB_UNSUPPORTED,
     {"encoder.layer.00."}},
    {"header",
     QUERY,
     "encoder.layer.1.attention.self.query.weight",
     EMB_BAD_FILE,
     {"encoder.layer.1.", "num_hidden_layers"}},
    {"header",
     QUERY,
     "encoder.layer.4294967296.attention.self.query.weight",
     EMB_UNSUPPORTED,
     {"encoder.layer.4294967296"}},
    {"header",
     "{\"dtype\":\"F32\",\"shape\":[4],",
     "{\"dtype\":\"I32\",\"shape\":[4],",
     EMB_UNSUPPORTED,
     {"embeddings.LayerNorm.weight", "I32"}},
    {"header",
     "{\"dtype\":\"F32\",\"shape\":[4],",
     "{\"dtype\":\"F8_E4M3\",\"shape\":[16],",
     EMB_UNSUPPORTED,
     {"embeddings.LayerNorm.weight", "F8_E4M3"}},
    {"header",
     "{\"dtype\":\"F32\",\"shape\":[4],",
     "{\"dtype\":\"Q4\",\"shape\":[4],",
     EMB_UNSUPPORTED,
     {"embeddings.LayerNorm.weight", "Q4"}},
    {"header",
     "{\"dtype\":\"F32\",\"shape\":[4],",
     "{\"dtype\":\"F4\",\"shape\":[31],",
     EMB_BAD_FILE,
     {"embeddings.LayerNorm.weight", "16 bytes", "31 values"}},
    {"header", "\"dtype\":\"F32\",", "", EMB_BAD_FILE, {"word_embeddings", "dtype"}},
    {"header",
     "\"dtype\":\"F32\",",
     "\"dtype\":\"F32\",\"dtype\":\"F32\",",
     EMB_BAD_FILE,
     {"word_embeddings", "twice"}},
    {"header", "[5,4]", "[4,5]", EMB_BAD_FILE, {"word_embeddings", "[4, 5]", "[5, 4]"}},
    {"header", "[5,4]", "[20]", EMB_BAD_FILE, {"word_embeddings", "[20]"}},
    {"header", "[5,4]", "[5,2,2]", EMB_BAD_FILE, {"word_embeddings", "[5, 2, ...]"}},
    {"header", "[5,4]", "[5,3]", EMB_BAD_FILE, {"word_embeddings", "80 bytes", "15 values"}},
    {"header", "[5,4]", "[4294967296,4294967296]", EMB_BAD_FILE, {"word_embeddings", "too large"}},
    {"header", "[5,4]", "[4611686018427387904,4]", EMB_BAD_FILE, {"word_embeddings", "too large"}},
    {"header", "[5,4]", "[2305843009213693953,8]", EMB_BAD_FILE, {"word_embeddings", "too large"}},
    {"header", "[5,4]", "[576460752303423508,1]", EMB_BAD_FILE, {"word_embeddings", "too large"}},
    {"header", "[5,4]", "[-5,4]", EMB_BAD_FILE, {"shape"}},
    {"header", "[5,4]", "[5.0,4]", EMB_BAD_FILE, {"shape"}},
    {"header", "[5,4]", "20", EMB_BAD_FILE, {"word_embeddings", "shape"}},
    {"header", "[0,80]", "[80,0]", EMB_BAD_FILE, {"word_embeddings", "[80, 0]"}},
    {"header", "[0,80]", "[0,80,80]", EMB_BAD_FILE, {"word_embeddings", "data_offsets"}},
    {"header", "[0,80]", "[0]", EMB_BAD_FILE, {"data_offsets"}},
    {"header", "[0,80]", "[-80,0]", EMB_BAD_FILE, {"data_offsets"}},
    {"header", "[0,80]", "[18446744073709551615,79]", EMB_BAD_FILE, {"word_embeddings"}},
    {"header", "[0,80]", "[0,961]", EMB_BAD_FILE, {"word_embeddings", "960 bytes of data", "cut"}},
    {"header", "[0,80]", "[4,84]", EMB_BAD_FILE, {"word_embeddings", "hole"}},
    {"header", "[240,256]", "[239,255]", EMB_BAD_FILE, {"overlap"}},
    {"header", "[944,960]", "[928,944]", EMB_BAD_FILE, {"overlap"}},
    {"header",
     LAST,
     "\"pooler.x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}," LAST,
     EMB_BAD_FILE,
     {"overlap"}},
    {"header",
     LAST,
     "\"pooler.x\":" ZERO_SIZE ",\"pooler.x\":" ZERO_SIZE "," LAST,
     EMB_BAD_FILE,
     {"model.safetensors"}},
    {"header",
     FIRST,
     "{\"p\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"p\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
     "\"embeddings.word",
     EMB_BAD_FILE,
     {"tensor \"p\"", "twice"}},
    {"header", FIRST, "{\"__metadata__\":{},\"embeddings.word", EMB_BAD_FILE, {"__metadata__"}},
    {"header",
     FIRST,
     "{\"bert.embeddings.LayerNorm.weight\":{\"dtype\":\"F32\",\"shape\":[4],"
     "\"data_offsets\":[240,256]},\"embeddings.word",
     EMB_BAD_FILE,
     {"embeddings.LayerNorm.weight", "another name"}},
    {"header", FIRST, "{\"p\":[],\"embeddings.word", EMB_BAD_FILE, {"tensor \"p\"", "object"}},
};

static void test_refused_config(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused_config / sizeof *refused_config; i++)
        assert_true(builder_check(&(model_style){0}, &refused_config[i]));
}

static void test_refused_header(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused_header / sizeof *refused_header; i++)
        assert_true(builder_check(&(model_style){0}, &refused_header[i]));
}

static void test_refused_mpnet(void **state) {
    static const builder_case edits[] = {
        {"config.json",
         "pad_token_id\": 1",
         "pad_token_id\": 0",
         EMB_UNSUPPORTED,
         {"config.json", "pad_token_id"}},
        {"config.json",
         "{",
         "{\"relative_attention_num_buckets\": 7,",
         EMB_BAD_FILE,
         {"relative_attention_num_buckets"}},
        {"config.json",
         "{",
         "{\"relative_attention_num_buckets\": 0,",
         EMB_BAD_FILE,
         {"relative_attention_num_buckets"}},
        {"config.json",
         "{",
         "{\"relative_attention_num_buckets\": 16,",
         EMB_BAD_FILE,
         {"encoder.relative_attention_bias.weight", "[32, 2]", "[16, 2]"}},
        {"header",
         "encoder.relative_attention_bias.weight",
         "other",
         EMB_BAD_FILE,
         {"encoder.relative_attention_bias.weight", "missing"}},
        {"header", "attn.q.weight", "self.query.weight", EMB_UNSUPPORTED, {"self.query.weight"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++)
        assert_true(builder_check(&(model_style){.mpnet = true}, &edits[i]));
}

/* Every cut of a good model's header, and every length in front of it, is refused. */
static void test_refused_lengths(void **state) {
    static const uint64_t lengths[] = {
        0, 1, 25u << 20, (25u << 20) + 1, UINT64_MAX, UINT64_MAX - 7, INT64_MAX, 100u << 20};
    model_builder b;
    emb_error error;
    (void)state;
    builder_init(&b, &(model_style){0});
    builder_write(&b);
    size_t header_bytes = strlen(b.header), total = 8 + header_bytes + b.data_bytes;
    unsigned char *all = calloc(1, total + 1);
    memcpy(all + 8, b.header, header_bytes);
    memcpy(all + 8 + header_bytes, b.data, b.data_bytes);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int k = 0; k < 8; k++) all[k] = (unsigned char)(lengths[i] >> 8 * k);
        builder_put(&b, "model.safetensors", all, total);
        assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "model.safetensors: states a header of"));
    }
    for (int k = 0; k < 8; k++) all[k] = (unsigned char)((uint64_t)header_bytes >> 8 * k);
    for (size_t cut = 0; cut < total; cut += cut < 20 || cut > total - 20 ? 1 : 7) {
        builder_put(&b, "model.safetensors", all, cut);
        assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
        assert_non_null(strstr(error.message, "model.safetensors"));
    }
    builder_put(&b, "model.safetensors", all, total + 1);
    assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "1 bytes follow"));
    builder_put(&b, "model.safetensors", all, total);
    assert_int_equal(builder_try(b.folder, &error), EMB_OK);
    free(all);
    builder_reset(&b);
}

static void test_many_tensors_and_depth(void **state) {
    (void)state;
    for (size_t count = 99979; count <= 99980; count++) { /* with those of the model: the limit */
        model_builder b;
        emb_error error;
        char *more = malloc(count * 70), *at = more;
        builder_init(&b, &(model_style){0});
        *at++ = '{';
        for (size_t i = 0; i < count; i++)
            at += sprintf(
                at, "\"h%zu\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[80,80]},", i);
        strcpy(at, "\"embeddings.word");
        assert_true(builder_edit(&b, "header", FIRST, more));
        builder_write(&b);
        emb_status status = builder_try(b.folder, &error);
        assert_int_equal(status, count == 99979 ? EMB_OK : EMB_UNSUPPORTED);
        if (status != EMB_OK) assert_non_null(strstr(error.message, "more than 100000 tensors"));
        builder_reset(&b);
        free(more);
    }
    model_builder b;
    emb_error error;
    static char bomb[(1 << 20) + 8];
    builder_init(&b, &(model_style){0});
    memcpy(bomb, "{\"a\":", 5);
    memset(bomb + 5, '[', 1 << 20);
    assert_true(builder_edit(&b, "header", NULL, bomb));
    builder_write(&b);
    assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
    memcpy(bomb, "{\"__metadata__\":[[[", 19);
    assert_true(builder_edit(&b, "header", NULL, bomb));
    builder_write(&b);
    assert_int_equal(builder_try(b.folder, &error), EMB_BAD_FILE);
    assert_non_null(strstr(error.message, "64 containers"));
    builder_reset(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_config),         cmocka_unit_test(test_refused_header),
        cmocka_unit_test(test_refused_mpnet),          cmocka_unit_test(test_refused_lengths),
        cmocka_unit_test(test_many_tensors_and_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
