/* model_builder.c - see model_builder.h.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support/model_builder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/model.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "model_builder.c:%d: %s\n", __LINE__, #condition);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct tensor {
    const char *name, *shape;
    size_t values;
} tensor;

static const tensor bert[] = {
    {"embeddings.word_embeddings.weight", "5,4", 20},
    {"embeddings.position_embeddings.weight", "8,4", 32},
    {"embeddings.token_type_embeddings.weight", "2,4", 8},
    {"embeddings.LayerNorm.weight", "4", 4},
    {"embeddings.LayerNorm.bias", "4", 4},
    {"encoder.layer.0.attention.self.query.weight", "4,4", 16},
    {"encoder.layer.0.attention.self.query.bias", "4", 4},
    {"encoder.layer.0.attention.self.key.weight", "4,4", 16},
    {"encoder.layer.0.attention.self.key.bias", "4", 4},
    {"encoder.layer.0.attention.self.value.weight", "4,4", 16},
    {"encoder.layer.0.attention.self.value.bias", "4", 4},
    {"encoder.layer.0.attention.output.dense.weight", "4,4", 16},
    {"encoder.layer.0.attention.output.dense.bias", "4", 4},
    {"encoder.layer.0.attention.output.LayerNorm.weight", "4", 4},
    {"encoder.layer.0.attention.output.LayerNorm.bias", "4", 4},
    {"encoder.layer.0.intermediate.dense.weight", "8,4", 32},
    {"encoder.layer.0.intermediate.dense.bias", "8", 8},
    {"encoder.layer.0.output.dense.weight", "4,8", 32},
    {"encoder.layer.0.output.dense.bias", "4", 4},
    {"encoder.layer.0.output.LayerNorm.weight", "4", 4},
    {"encoder.layer.0.output.LayerNorm.bias", "4", 4},
};
static const tensor mpnet[] = {
    {"embeddings.word_embeddings.weight", "5,4", 20},
    {"embeddings.position_embeddings.weight", "8,4", 32},
    {"embeddings.LayerNorm.weight", "4", 4},
    {"embeddings.LayerNorm.bias", "4", 4},
    {"encoder.relative_attention_bias.weight", "32,2", 64},
    {"encoder.layer.0.attention.attn.q.weight", "4,4", 16},
    {"encoder.layer.0.attention.attn.q.bias", "4", 4},
    {"encoder.layer.0.attention.attn.k.weight", "4,4", 16},
    {"encoder.layer.0.attention.attn.k.bias", "4", 4},
    {"encoder.layer.0.attention.attn.v.weight", "4,4", 16},
    {"encoder.layer.0.attention.attn.v.bias", "4", 4},
    {"encoder.layer.0.attention.attn.o.weight", "4,4", 16},
    {"encoder.layer.0.attention.attn.o.bias", "4", 4},
    {"encoder.layer.0.attention.LayerNorm.weight", "4", 4},
    {"encoder.layer.0.attention.LayerNorm.bias", "4", 4},
    {"encoder.layer.0.intermediate.dense.weight", "8,4", 32},
    {"encoder.layer.0.intermediate.dense.bias", "8", 8},
    {"encoder.layer.0.output.dense.weight", "4,8", 32},
    {"encoder.layer.0.output.dense.bias", "4", 4},
    {"encoder.layer.0.output.LayerNorm.weight", "4", 4},
    {"encoder.layer.0.output.LayerNorm.bias", "4", 4},
};

static const char config[] =
    "{\n \"model_type\": \"%s\",\n \"hidden_act\": \"gelu\",\n \"hidden_size\": 4,\n"
    " \"num_hidden_layers\": 1,\n \"num_attention_heads\": 2,\n \"intermediate_size\": 8,\n"
    " \"vocab_size\": 5,\n \"max_position_embeddings\": 8,\n \"layer_norm_eps\": 1e-12,\n"
    " \"pad_token_id\": %d,\n \"classifier_dropout\": null\n}\n";
static const char modules[] =
    "[{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": "
    "\"sentence_transformers.models.Transformer\"},\n {\"idx\": 1, \"name\": \"1\", \"path\": "
    "\"1_Pooling\", \"type\": \"sentence_transformers.models.Pooling\"},\n {\"idx\": 2, \"name\": "
    "\"2\", \"path\": \"2_Normalize\", \"type\": \"sentence_transformers.models.Normalize\"}]";
static const char pooling[] =
    "{\"word_embedding_dimension\": 4, \"pooling_mode_cls_token\": false, "
    "\"pooling_mode_mean_tokens\": true, \"pooling_mode_max_tokens\": false, "
    "\"pooling_mode_mean_sqrt_len_tokens\": false}";
static const char length[] = "{\"max_seq_length\": 5, \"do_lower_case\": false}";
static const char prompts[] =
    "{\"__version__\": {\"pytorch\": \"2\"}, \"prompts\": {\"query\": \"query: \", \"document\": "
    "\"\"}, \"default_prompt_name\": \"query\", \"similarity_fn_name\": null}";

static char *copy(const char *text) {
    char *out = strdup(text);
    CHECK(out);
    return out;
}

float builder_value(size_t i) {
    return (float)(i % 41) * 0.25f - 3.0f;
}

static size_t put_value(unsigned char *at, const char *dtype, float value) {
    uint32_t bits, sign;
    uint16_t half;
    memcpy(&bits, &value, 4);
    if (strcmp(dtype, "F32") == 0) {
        memcpy(at, &bits, 4);
        return 4;
    }
    sign = bits >> 16 & 0x8000;
    half = strcmp(dtype, "BF16") == 0
               ? (uint16_t)(bits >> 16)
               : (uint16_t)(bits << 1 == 0 ? sign : sign | ((bits << 1 >> 14) - (112u << 10)));
    memcpy(at, &half, 2);
    return 2;
}

int8_t builder_code(size_t i, uint32_t bits) {
    if (bits == 8) return (int8_t)((int)(i * 37 % 255) - 127);
    return (int8_t)(bits == 4 ? i * 7 % 16 : i * 37 % 0x7F); /* no NaN of fp8 */
}

float builder_scale(size_t row) {
    return 0.25f * (float)(row + 1);
}

uint8_t builder_zero(size_t row) {
    return (uint8_t)(row * 5 % 16);
}

float builder_smooth(size_t col) {
    return 0.5f * (float)(col + 1);
}

size_t builder_find(const model_builder *b, const char *name) {
    char quoted[160];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(b->header, quoted);
    CHECK(at);
    at = strstr(at, "\"data_offsets\":[");
    CHECK(at);
    return strtoul(at + 16, NULL, 10);
}

/* The entry of a tensor whose data were put since `begin`. */
static void add_entry(const model_builder *b, const char *name, const char *dtype,
                      const char *shape, size_t begin, FILE *header) {
    fprintf(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
            begin ? "," : "", name, dtype, shape, begin, b->data_bytes);
}

static bool is_matrix(const char *name) {
    size_t letters = strlen(name);
    bool weight = letters > 7 && strcmp(name + letters - 7, ".weight") == 0;
    return weight && !strstr(name, "LayerNorm") &&
           (strstr(name, "encoder.layer.") || strstr(name, "word_embeddings"));
}

/* A part of a matrix: its values, by function of the place; a zero for each row, if `zeros`. */
static void add_part(model_builder *b, const char *name, const char *suffix, size_t count,
                     float value(size_t), const char *shape, FILE *header) {
    char full[160];
    size_t begin = b->data_bytes;
    for (size_t i = 0; i < count; i++) {
        if (value)
            b->data_bytes += put_value(b->data + b->data_bytes, "F32", value(i));
        else
            b->data[b->data_bytes++] = builder_zero(i);
    }
    snprintf(full, sizeof full, "%s%s", name, suffix);
    add_entry(b, full, value ? "F32" : "U8", shape, begin, header);
}

static void add_matrix(model_builder *b, const model_style *style, const tensor *t, FILE *header) {
    size_t rows = strtoul(t->shape, NULL, 10), cols = strtoul(strchr(t->shape, ',') + 1, NULL, 10);
    size_t begin = b->data_bytes;
    bool words = strstr(t->name, "word_embeddings") != NULL;
    uint32_t bits = words ? 8 : style->bits;
    char shape[64];
    for (size_t i = 0; i < t->values; i++) {
        uint8_t code = (uint8_t)builder_code(i, bits);
        if (bits != 4)
            b->data[b->data_bytes++] = code;
        else if (i % 2)
            b->data[b->data_bytes - 1] |= (uint8_t)(code << 4);
        else
            b->data[b->data_bytes++] = code;
    }
    snprintf(shape, sizeof shape, "%zu,%zu", rows, bits == 4 ? cols / 2 : cols);
    add_entry(b, t->name, bits == 8 ? "I8" : bits == 4 ? "U8" : "F8_E4M3", shape, begin, header);
    snprintf(shape, sizeof shape, bits == 4 ? "%zu,1" : "%zu", rows);
    add_part(b, t->name, ".scales", rows, builder_scale, shape, header);
    if (bits == 4) add_part(b, t->name, ".zeros", rows, NULL, shape, header);
    bool shares = strstr(t->name, "self.key") || strstr(t->name, "self.value");
    snprintf(shape, sizeof shape, "%zu", cols);
    if (style->smooth && !words && !shares)
        add_part(b, t->name, ".smooth", cols, builder_smooth, shape, header);
}

/* One entry of the header, and its data. */
static void add_tensor(model_builder *b, const model_style *style, const tensor *t, FILE *header) {
    const char *dtype = style->dtype ? style->dtype : "F32";
    char name[128];
    size_t begin = b->data_bytes;
    snprintf(name, sizeof name, "%s%s", style->prefix ? style->prefix : "", t->name);
    char *norm = style->old_norms ? strstr(name, "LayerNorm.") : NULL;
    if (norm) memcpy(norm + 10, norm[10] == 'w' ? "gamma" : "beta", norm[10] == 'w' ? 6 : 5);
    bool keeps = strstr(t->name, "attention.output.dense.w") || strstr(t->name, "attn.o.w");
    if (style->bits == 1 && keeps) dtype = "F16"; /* as beside fp8 */
    if (style->bits && is_matrix(t->name) && !(style->bits == 1 && keeps)) {
        add_matrix(b, style, t, header);
        return;
    }
    for (size_t i = 0; i < t->values; i++)
        b->data_bytes += put_value(b->data + b->data_bytes, dtype, builder_value(i));
    CHECK(b->data_bytes <= BUILDER_DATA);
    add_entry(b, name, dtype, t->shape, begin, header);
}

void builder_init(model_builder *b, const model_style *style) {
    char text[1024];
    memset(b, 0, sizeof *b);
    snprintf(b->folder, sizeof b->folder, "/tmp/embound-test-XXXXXX");
    CHECK(mkdtemp(b->folder));
    snprintf(text, sizeof text, config, style->mpnet ? "mpnet" : "bert", style->mpnet ? 1 : 0);
    const struct {
        const char *name, *text;
    } files[BUILDER_FILES] = {
        {"config.json", text},
        {"modules.json", style->plain ? NULL : modules},
        {"1_Pooling/config.json", style->plain ? NULL : pooling},
        {"sentence_bert_config.json", style->plain ? NULL : length},
        {"config_sentence_transformers.json", style->plain ? NULL : prompts},
        {"tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}"},
        {"model.safetensors.index.json", NULL},
        {"tokenizer.json", "{}"},
    };
    for (int i = 0; i < BUILDER_FILES; i++) {
        b->files[i].name = files[i].name;
        b->files[i].text = files[i].text ? copy(files[i].text) : NULL;
    }
    b->weights = copy("model.safetensors");
    const tensor *tensors = style->mpnet ? mpnet : bert;
    size_t count = style->mpnet ? sizeof mpnet / sizeof *mpnet : sizeof bert / sizeof *bert;
    size_t bytes;
    FILE *header = open_memstream(&b->header, &bytes);
    CHECK(header);
    fputc('{', header);
    for (size_t i = 0; i < count; i++)
        add_tensor(b, style, &tensors[style->reversed ? count - 1 - i : i], header);
    fputs(",\"__metadata__\":{\"format\":\"pt\"}}", header);
    fclose(header);
}

static char **find_file(model_builder *b, const char *file) {
    if (strcmp(file, "header") == 0) return &b->header;
    for (int i = 0; i < BUILDER_FILES; i++)
        if (strcmp(b->files[i].name, file) == 0) return &b->files[i].text;
    abort();
}

bool builder_edit(model_builder *b, const char *file, const char *from, const char *to) {
    char **text = find_file(b, file), *out = NULL;
    if (to) {
        const char *old = *text ? *text : "";
        const char *at = from ? strstr(old, from) : old;
        if (!at) return false;
        size_t lead = (size_t)(at - old), skip = from ? strlen(from) : strlen(old);
        size_t bytes = strlen(old) - skip + strlen(to) + 1;
        out = malloc(bytes);
        CHECK(out);
        snprintf(out, bytes, "%.*s%s%s", (int)lead, old, to, at + skip);
    }
    free(*text);
    *text = out;
    return true;
}

void builder_put(const model_builder *b, const char *name, const void *bytes, size_t count) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", b->folder, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    mkdir(path, 0700);
    *slash = '/';
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, count, file) == count);
    CHECK(fclose(file) == 0);
}

void builder_put_weights(const model_builder *b, const char *name, const char *header,
                         const void *data, size_t data_bytes) {
    size_t header_bytes = strlen(header), total = 8 + header_bytes + data_bytes;
    unsigned char *all = malloc(total);
    CHECK(all);
    for (int i = 0; i < 8; i++) all[i] = (unsigned char)((uint64_t)header_bytes >> 8 * i);
    memcpy(all + 8, header, header_bytes);
    if (data_bytes) memcpy(all + 8 + header_bytes, data, data_bytes);
    builder_put(b, name, all, total);
    free(all);
}

void builder_write(const model_builder *b) {
    for (int i = 0; i < BUILDER_FILES; i++)
        if (b->files[i].text)
            builder_put(b, b->files[i].name, b->files[i].text, strlen(b->files[i].text));
    if (b->header) builder_put_weights(b, b->weights, b->header, b->data, b->data_bytes);
}

void builder_reset(model_builder *b) {
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", b->folder);
    CHECK(system(command) == 0);
    for (int i = 0; i < BUILDER_FILES; i++) free(b->files[i].text);
    free(b->header);
    free(b->weights);
}

static int open_descriptors(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

emb_status builder_try(const char *path, emb_error *error) {
    emb_model_files *files;
    emb_shape shape;
    memset(error, 0, sizeof *error);
    int before = open_descriptors();
    emb_status status = emb_model_files_open(&files, &shape, path, error);
    CHECK(status == EMB_OK || !files);
    emb_model_files_close(files);
    CHECK(open_descriptors() == before);
    return status;
}

bool builder_check(const model_style *style, const builder_case *c) {
    model_builder b;
    emb_error error;
    builder_init(&b, style);
    bool good = builder_edit(&b, c->file, c->from, c->to);
    if (!good) printf("\"%s\" is not in %s\n", c->from, c->file);
    builder_write(&b);
    emb_status status = builder_try(b.folder, &error);
    if (status != c->status)
        printf("expected %s for %s, got %s\n", emb_status_name(c->status), c->to ? c->to : "none",
               emb_status_name(status));
    good = good && status == c->status;
    for (int i = 0; i < 3 && c->names[i]; i++) {
        if (strstr(error.message, c->names[i])) continue;
        printf("\"%s\" is not in the message\n", c->names[i]);
        good = false;
    }
    if (!good) printf("  of %s: %s\n", c->file, error.message);
    builder_reset(&b);
    return good;
}
