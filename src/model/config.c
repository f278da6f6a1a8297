/* config.c - reads config.json into the shape, and refuses what the encoder does not compute.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "model/keys.h"

/* Larger than any encoder of these families; small enough that no product of them overflows. */
#define LAYERS_MAX     256
#define WIDTH_MAX      16384
#define FFN_MAX        65536
#define HEAD_MAX       256
#define VOCABULARY_MAX (1u << 22)
#define POSITIONS_MAX  (1u << 20)
#define BUCKETS_MAX    1024

#define MPNET_PAD      1 /* its position rows start behind the padding id */
#define MPNET_DISTANCE 128
#define SPECIAL_TOKENS 2

typedef struct config {
    char type[EMB_TEXT_FIELD_MAX];
    uint64_t hidden, layers, heads, intermediate, vocabulary, window, pad, buckets;
    double epsilon;
} config;

enum key {
    KEY_TYPE,
    KEY_HIDDEN,
    KEY_LAYERS,
    KEY_HEADS,
    KEY_INTERMEDIATE,
    KEY_VOCABULARY,
    KEY_POSITIONS,
    KEY_EPSILON,
    KEY_PAD,
    KEY_BUCKETS,
    KEY_TOKENIZER,
    KEYS
};

static emb_status in_range(const emb_field *field, uint64_t low, uint64_t high, emb_error *error) {
    if (!field->given)
        return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", field->key);
    uint64_t value = *(const uint64_t *)field->out;
    if (value < low || value > high)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"%s\" is %" PRIu64 "; it must lie between %" PRIu64 " and %" PRIu64,
                             field->key, value, low, high);
    return EMB_OK;
}

static emb_status check_sizes(const emb_field *fields, const config *c, bool bert,
                              emb_error *error) {
    EMB_TRY(in_range(&fields[KEY_HIDDEN], 1, WIDTH_MAX, error));
    EMB_TRY(in_range(&fields[KEY_LAYERS], 1, LAYERS_MAX, error));
    EMB_TRY(in_range(&fields[KEY_HEADS], 1, WIDTH_MAX, error));
    EMB_TRY(in_range(&fields[KEY_INTERMEDIATE], 1, FFN_MAX, error));
    EMB_TRY(in_range(&fields[KEY_VOCABULARY], 1, VOCABULARY_MAX, error));
    uint64_t offset = bert ? 0 : MPNET_PAD + 1;
    EMB_TRY(in_range(&fields[KEY_POSITIONS], offset + SPECIAL_TOKENS + 1, POSITIONS_MAX, error));
    if (!bert) EMB_TRY(in_range(&fields[KEY_BUCKETS], 4, BUCKETS_MAX, error));
    if (c->hidden % c->heads != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"hidden_size\" %" PRIu64
                             " is not a multiple of \"num_attention_heads\" %" PRIu64,
                             c->hidden, c->heads);
    if (c->hidden / c->heads > HEAD_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%" PRIu64 " values per attention head; at most %d are supported",
                             c->hidden / c->heads, HEAD_MAX);
    if (!(c->epsilon > 0 && c->epsilon < 1))
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"layer_norm_eps\" is %g; it must lie between 0 and 1", c->epsilon);
    return EMB_OK;
}

/* Refuses what would compute something else than the encoder does; the values of keys that are only
 * looked at are in keys_table.c. */
static emb_status check_kind(const emb_field *fields, const config *c, bool bert, bool mpnet,
                             emb_error *error) {
    if (!fields[KEY_TYPE].given)
        return emb_error_set(error, EMB_BAD_FILE,
                             "the key \"model_type\" is missing: \"bert\" or \"mpnet\"");
    if (!bert && !mpnet)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "\"model_type\" is \"%s\", which is not supported: only bert and "
                             "mpnet are",
                             c->type);
    if (mpnet && c->pad != MPNET_PAD)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "\"pad_token_id\" is %" PRIu64 "; MPNet counts positions from id 1",
                             c->pad);
    if (mpnet && c->buckets % 2 != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"relative_attention_num_buckets\" %" PRIu64 " is not even",
                             c->buckets);
    return EMB_OK;
}

static void fill_shape(emb_shape *shape, const config *c, bool bert) {
    shape->architecture = bert ? EMB_ARCHITECTURE_BERT : EMB_ARCHITECTURE_MPNET;
    shape->activation = EMB_ACTIVATION_GELU_ERF;
    shape->layers = (uint32_t)c->layers;
    shape->hidden = (uint32_t)c->hidden;
    shape->heads = (uint32_t)c->heads;
    shape->head_dim = (uint32_t)(c->hidden / c->heads);
    shape->intermediate = (uint32_t)c->intermediate;
    shape->vocabulary = (uint32_t)c->vocabulary;
    shape->positions = (uint32_t)c->window;
    shape->position_offset = bert ? 0 : MPNET_PAD + 1;
    shape->window_tokens = shape->positions - shape->position_offset;
    shape->has_token_types = bert;
    shape->relative_buckets = bert ? 0 : (uint32_t)c->buckets;
    shape->relative_distance = bert ? 0 : MPNET_DISTANCE;
    shape->norm_epsilon = (float)c->epsilon;
}

emb_status emb_config_read(emb_shape *shape, emb_settings *settings, const char *root,
                           const char *path, emb_key_findings *findings, emb_error *error) {
    /* What the reference implementation takes where a key is absent. */
    config c = {.pad = MPNET_PAD, .buckets = 32, .epsilon = 1e-12};
    emb_field fields[KEYS] = {
        [KEY_TYPE] = EMB_FIELD("model_type", TEXT, c.type),
        [KEY_HIDDEN] = EMB_FIELD("hidden_size", COUNT, &c.hidden),
        [KEY_LAYERS] = EMB_FIELD("num_hidden_layers", COUNT, &c.layers),
        [KEY_HEADS] = EMB_FIELD("num_attention_heads", COUNT, &c.heads),
        [KEY_INTERMEDIATE] = EMB_FIELD("intermediate_size", COUNT, &c.intermediate),
        [KEY_VOCABULARY] = EMB_FIELD("vocab_size", COUNT, &c.vocabulary),
        [KEY_POSITIONS] = EMB_FIELD("max_position_embeddings", COUNT, &c.window),
        [KEY_EPSILON] = EMB_FIELD("layer_norm_eps", REAL, &c.epsilon),
        [KEY_PAD] = EMB_FIELD("pad_token_id", COUNT, &c.pad),
        [KEY_BUCKETS] = EMB_FIELD("relative_attention_num_buckets", COUNT, &c.buckets),
        [KEY_TOKENIZER] = EMB_FIELD("tokenizer_class", TEXT, settings->tokenizer_class),
    };
    EMB_TRY(emb_keys_read(EMB_KEYS_CONFIG, root, path, fields, KEYS, findings, error));
    bool bert = strcmp(c.type, "bert") == 0, mpnet = strcmp(c.type, "mpnet") == 0;
    emb_status status = check_kind(fields, &c, bert, mpnet, error);
    fields[KEY_BUCKETS].given = true;
    if (status == EMB_OK && findings->refused == EMB_OK)
        status = check_sizes(fields, &c, bert, error);
    if (status != EMB_OK) return emb_document_blame(path, status, error);
    EMB_TRY(emb_keys_refusal(findings, path, error));
    fill_shape(shape, &c, bert);
    return EMB_OK;
}
