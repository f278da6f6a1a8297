/* tensors.c - which tensor of a file plays which role, and reading its rows as f32.
 *
 * Fed by safetensors.c with names, feeds the encoder with rows. Every needed tensor must exist
 * once, in the shape that config.json implies. Reads with pread through the caller's scratch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/quantize.h"
#include "model/family/family.h"
#include "model/files.h"

#define CHUNK_BYTES (64u << 10) /* of 16-bit values, read and widened at a time */
#define ROLE_NONE   EMB_TENSOR_ROLES

uint32_t emb_tensors_count(const emb_shape *shape) {
    return EMB_TENSOR_QUERY + shape->layers * EMB_LAYER_ROLES;
}

static uint32_t slot_of(emb_tensor_role role, uint32_t layer) {
    return (uint32_t)role + (role < EMB_TENSOR_QUERY ? 0 : layer * EMB_LAYER_ROLES);
}

static void write_name(char *out, size_t capacity, const emb_family *family, emb_tensor_role role,
                       uint32_t layer) {
    const char *name = family->tensors[role];
    if (role < EMB_TENSOR_QUERY)
        snprintf(out, capacity, "%s", name);
    else
        snprintf(out, capacity, "%s%" PRIu32 ".%s", family->layer, layer, name);
}

/* ---- from name to role ----------------------------------------------------------------------- */

/* Whether `name` is `known`, also by TensorFlow's older names gamma and beta. */
static bool same_name(const char *name, const char *known) {
    static const char *const old[][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                         {"LayerNorm.bias", "LayerNorm.beta"}};
    if (strcmp(name, known) == 0) return true;
    for (size_t i = 0; i < 2; i++) {
        const char *end = strstr(known, old[i][0]);
        if (end && strncmp(name, known, (size_t)(end - known)) == 0 &&
            strcmp(name + (end - known), old[i][1]) == 0)
            return true;
    }
    return false;
}

/* Reads a number such as "12.", without leading zeros, and moves *at past it. UINT32_MAX if it is
 * none. */
static uint32_t read_layer(const char **at) {
    const char *text = *at;
    uint32_t layer = 0;
    while (*text >= '0' && *text <= '9' && text - *at < 6)
        layer = layer * 10 + (uint32_t)(*text++ - '0');
    if (text == *at || *text != '.' || (**at == '0' && text - *at > 1)) return UINT32_MAX;
    *at = text + 1;
    return layer;
}

static emb_status unknown(const emb_shape *shape, const char *full, emb_error *error) {
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "tensor \"%s\": not part of a %s encoder as supported here", full,
                         shape->family->name);
}

static bool begins_with(const char *name, const char *start) {
    return strncmp(name, start, strlen(start)) == 0;
}

/* Whether the name begins with one of the list, or, if `whole`, equals one; the list ends with
 * NULL. */
static bool is_listed(const char *const *list, const char *name, bool whole) {
    for (; *list; list++)
        if (whole ? strcmp(name, *list) == 0 : begins_with(name, *list)) return true;
    return false;
}

/* `full` is the tensor's name for messages, `name` the same without the suffix of a part. */
static emb_status find_role(const emb_shape *shape, const char *name, const char *full,
                            emb_tensor_role *role, uint32_t *layer, emb_error *error) {
    const emb_family *family = shape->family;
    const char *const *names = family->tensors;
    for (const char *const *prefix = family->prefixes; *prefix; prefix++)
        if (begins_with(full, *prefix)) name += strlen(*prefix);
    uint32_t first = 0, end = EMB_TENSOR_QUERY;
    bool encoder = is_listed(family->parts, name, false);
    *layer = 0;
    *role = ROLE_NONE;
    if (begins_with(name, family->layer)) {
        name += strlen(family->layer);
        *layer = read_layer(&name);
        first = EMB_TENSOR_QUERY;
        end = EMB_TENSOR_ROLES;
        if (*layer != UINT32_MAX && *layer >= shape->layers)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "tensor \"%s\": config.json says \"num_hidden_layers\" %" PRIu32,
                                 full, shape->layers);
        if (*layer == UINT32_MAX) end = first;
    }
    for (uint32_t i = first; i < end; i++) {
        if (!names[i] || !same_name(name, names[i])) continue;
        *role = (emb_tensor_role)i;
        return EMB_OK;
    }
    if (is_listed(family->derived, name, true)) return EMB_OK;
    /* Heads after the encoder do not matter; an unknown part of it would change the vectors. */
    return encoder ? unknown(shape, full, error) : EMB_OK;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

/* Sets the expected shape; rows 0: any number above 0. Gives the rank. */
static uint32_t expected_shape(const emb_shape *shape, emb_tensor_role role, uint64_t *rows,
                               uint64_t *cols) {
    const emb_layer_spec *spec = &shape->spec;
    *rows = *cols = spec->hidden;
    switch (role) {
    case EMB_TENSOR_WORDS:
        *rows = shape->vocabulary;
        return 2;
    case EMB_TENSOR_POSITIONS:
        *rows = shape->positions;
        return 2;
    case EMB_TENSOR_TOKEN_TYPES: /* only row 0 is used */
        *rows = 0;
        return 2;
    case EMB_TENSOR_RELATIVE:
        *rows = shape->relative_buckets;
        *cols = spec->heads;
        return 2;
    case EMB_TENSOR_FFN_IN:
        *rows = emb_spec_ffn_rows(spec);
        return 2;
    case EMB_TENSOR_FFN_OUT:
        *cols = spec->intermediate;
        return 2;
    case EMB_TENSOR_QUERY:
        *rows = emb_spec_context(spec);
        return 2;
    case EMB_TENSOR_KEY:
    case EMB_TENSOR_VALUE:
        *rows = spec->kv_heads * spec->head_dim;
        return 2;
    case EMB_TENSOR_ATTENTION_OUT:
        *cols = emb_spec_context(spec);
        return 2;
    case EMB_TENSOR_QUERY_BIAS:
        *cols = emb_spec_context(spec);
        break;
    case EMB_TENSOR_KEY_BIAS:
    case EMB_TENSOR_VALUE_BIAS:
        *cols = spec->kv_heads * spec->head_dim;
        break;
    case EMB_TENSOR_FFN_IN_BIAS:
        *cols = emb_spec_ffn_rows(spec);
        break;
    default:
        break;
    }
    *rows = 1;
    return 1;
}

static void write_shape(char *out, size_t capacity, uint32_t rank, uint64_t rows, uint64_t cols) {
    if (rank == 0)
        snprintf(out, capacity, "[]");
    else if (rank == 1)
        snprintf(out, capacity, "[%" PRIu64 "]", cols);
    else
        snprintf(out, capacity, "[%" PRIu64 ", %" PRIu64 "%s]", rows, cols,
                 rank > 2 ? ", ..." : "");
}

/* packed: two values per byte along cols. */
static emb_status check_shape(const emb_shape *shape, emb_tensor_role role,
                              const emb_tensor_header *t, bool packed, emb_tensor *out,
                              emb_error *error) {
    char expected[64], found[64];
    uint64_t rows, cols;
    uint32_t rank = expected_shape(shape, role, &rows, &cols);
    uint64_t rows_found = rank == 2 ? t->dims[0] : 1, cols_found = t->dims[rank - 1];
    uint64_t bytes = packed ? (cols + 1) / 2 : cols;
    bool good = rows ? rows_found == rows : rows_found > 0 && rows_found <= UINT32_MAX;
    if (t->rank == rank && cols_found == bytes && good) {
        out->rows = (uint32_t)rows_found;
        out->cols = (uint32_t)cols;
        return EMB_OK;
    }
    write_shape(expected, sizeof expected, rank, rows ? rows : 2, bytes);
    write_shape(found, sizeof found, t->rank, t->dims[0], t->dims[t->rank != 1]);
    return emb_error_set(error, EMB_BAD_FILE,
                         "tensor \"%s\": \"shape\" is %s, but config.json asks for %s", t->name,
                         found, expected);
}

/* ---- binding --------------------------------------------------------------------------------- */

/* U8 holds two 4-bit values per byte; word embeddings never have so few bits. */
static uint8_t dtype_of(const char *name, emb_tensor_role role) {
    bool matrix = emb_model_quantizable(role), words = role == EMB_TENSOR_WORDS;
    if (strcmp(name, "F32") == 0) return EMB_DTYPE_F32;
    if (strcmp(name, "F16") == 0) return EMB_DTYPE_F16;
    if (strcmp(name, "BF16") == 0) return EMB_DTYPE_BF16;
    if (strcmp(name, "I8") == 0 && matrix) return EMB_DTYPE_INT8;
    if (strcmp(name, "U8") == 0 && matrix && !words) return EMB_DTYPE_INT4;
    if (strcmp(name, "F8_E4M3") == 0 && matrix && !words) return EMB_DTYPE_FP8;
    return 0;
}

/* Takes a tensor, or the values of a quantized matrix, whose parts may have come before. */
static emb_status bind_values(const emb_binding *b, emb_tensor *slot, emb_tensor_role role,
                              const emb_tensor_header *tensor, emb_error *error) {
    if (slot->dtype != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "tensor \"%s\": the same tensor is there under another name or in "
                             "another shard",
                             tensor->name);
    uint8_t dtype = dtype_of(tensor->dtype, role);
    if (dtype == 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "tensor \"%s\": \"dtype\" is \"%s\", which is not supported: only "
                             "F32, F16 and BF16 are, and what `embound quantize` writes",
                             tensor->name, tensor->dtype);
    EMB_TRY(check_shape(b->shape, role, tensor, dtype == EMB_DTYPE_INT4, slot, error));
    slot->dtype = dtype;
    slot->shard = b->shard;
    slot->offset = tensor->begin;
    return EMB_OK;
}

/* Remembers a word embedding under an unsupported prefix, to name it in the error if that tensor is
 * missing. */
static void note_other_prefix(emb_model_files *files, const char *name) {
    const char *words = files->family->tensors[EMB_TENSOR_WORDS];
    size_t length = strlen(name), tail = strlen(words);
    if (length > tail && strcmp(name + length - tail, words) == 0)
        snprintf(files->found_instead, sizeof files->found_instead, "%s", name);
}

emb_status emb_tensors_bind(void *binding, const emb_tensor_header *tensor, emb_error *error) {
    const emb_binding *b = binding;
    emb_tensor_role role;
    uint32_t layer;
    char name[EMB_TENSOR_NAME_MAX];
    memcpy(name, tensor->name, sizeof name);
    emb_quantized_part part = emb_quantized_cut(name);
    EMB_TRY(find_role(b->shape, name, tensor->name, &role, &layer, error));
    if (role == ROLE_NONE) {
        note_other_prefix(b->files, tensor->name);
        return EMB_OK;
    }
    emb_tensor *slot = &b->files->tensors[slot_of(role, layer)];
    if (part == EMB_PARTS) return bind_values(b, slot, role, tensor, error);
    if (!emb_model_quantizable(role)) return unknown(b->shape, tensor->name, error);
    return emb_quantized_bind(slot, part, tensor, b->shard, error);
}

/* Mixed models would need a choice of kernels per matrix. */
static emb_status check_alike(const emb_model_files *files, const emb_shape *shape,
                              emb_error *error) {
    char name[EMB_TENSOR_NAME_MAX], first[EMB_TENSOR_NAME_MAX];
    uint8_t dtype = files->tensors[EMB_TENSOR_QUERY].dtype;
    bool quantized = emb_dtype_quantized(dtype);
    for (uint32_t i = 0; i < files->tensors_count; i++) {
        uint32_t layer = i < EMB_TENSOR_QUERY ? 0 : (i - EMB_TENSOR_QUERY) / EMB_LAYER_ROLES;
        emb_tensor_role role = (emb_tensor_role)(i - layer * EMB_LAYER_ROLES);
        uint8_t found = files->tensors[i].dtype;
        if (!emb_model_quantizable(role)) continue;
        emb_dtype wanted = emb_quantized_as((emb_dtype)dtype, role);
        if (quantized ? found == wanted : !emb_dtype_quantized(found)) continue;
        write_name(name, sizeof name, shape->family, role, layer);
        write_name(first, sizeof first, shape->family, EMB_TENSOR_QUERY, 0);
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "tensor \"%.64s\" is quantized otherwise than \"%.64s\": all "
                             "matrices are alike, words I8, beside F8_E4M3 the attention's output "
                             "F16; quantize the original again",
                             name, first);
    }
    return EMB_OK;
}

emb_status emb_tensors_complete(const emb_model_files *files, const emb_shape *shape,
                                emb_error *error) {
    for (uint32_t i = 0; i < files->tensors_count; i++) {
        uint32_t layer = i < EMB_TENSOR_QUERY ? 0 : (i - EMB_TENSOR_QUERY) / EMB_LAYER_ROLES;
        emb_tensor_role role = (emb_tensor_role)(i - layer * EMB_LAYER_ROLES);
        char name[EMB_TENSOR_NAME_MAX];
        if (!shape->family->tensors[role]) continue;
        write_name(name, sizeof name, shape->family, role, layer);
        if (files->tensors[i].dtype == 0 && *files->found_instead)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "tensor \"%.64s\" is missing from %.64s, which has \"%.100s\": "
                                 "take away what stands before its name",
                                 name, files->shards[0], files->found_instead);
        if (files->tensors[i].dtype == 0)
            return emb_error_set(error, EMB_BAD_FILE, "tensor \"%s\" is missing from %s%s", name,
                                 files->shards[0],
                                 files->shards_count > 1 ? " and its shards" : "");
        if (emb_model_quantizable(role))
            EMB_TRY(emb_quantized_check(&files->tensors[i], role, name, error));
    }
    return check_alike(files, shape, error);
}

/* ---- rows ------------------------------------------------------------------------------------ */

size_t emb_model_scratch_bytes(size_t values) {
    return values < CHUNK_BYTES / 2 ? values * 2 : CHUNK_BYTES;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void widen_f16(float *out, const uint16_t *in, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = emb_quantize_widen_f16(in[i]);
}

static void widen_bf16(float *out, const uint16_t *in, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = float_of((uint32_t)in[i] << 16);
}

/* Index of the first value that is NaN or infinite; count if none is. */
static size_t first_not_finite(const float *values, size_t count) {
    uint32_t any = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        any |= ((bits & 0x7F800000) + 0x00800000) &
               0x80000000; /* an exponent of all ones carries into the top bit */
    }
    if (!any) return count;
    size_t i = 0;
    for (uint32_t bits = 0; i < count; i++) {
        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & 0x7F800000) == 0x7F800000) break;
    }
    return i;
}

static emb_status read_values(const emb_model_files *files, const emb_tensor *t, uint64_t first,
                              size_t count, float *out, void *scratch, emb_error *error) {
    const char *path = files->shards[t->shard];
    int descriptor = files->descriptors[t->shard];
    if (t->dtype == EMB_DTYPE_F32)
        return emb_file_read_at(descriptor, out, count * 4, t->offset + first * 4, path, error);
    for (size_t done = 0, part; done < count; done += part) {
        part = count - done < CHUNK_BYTES / 2 ? count - done : CHUNK_BYTES / 2;
        EMB_TRY(emb_file_read_at(descriptor, scratch, part * 2, t->offset + (first + done) * 2,
                                 path, error));
        if (t->dtype == EMB_DTYPE_F16)
            widen_f16(out + done, scratch, part);
        else
            widen_bf16(out + done, scratch, part);
    }
    return EMB_OK;
}

const emb_tensor *emb_tensors_find(const emb_model_files *files, emb_tensor_role role,
                                   uint32_t layer) {
    if ((uint32_t)role >= EMB_TENSOR_ROLES) return NULL;
    uint32_t slot = slot_of(role, layer);
    bool there = slot < files->tensors_count && files->tensors[slot].dtype != 0;
    return there ? &files->tensors[slot] : NULL;
}

void emb_model_tensor_name(char *out, size_t capacity, const emb_model_files *files,
                           emb_tensor_role role, uint32_t layer) {
    write_name(out, capacity, files->family, role, layer);
}

bool emb_model_tensor_shape(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                            uint32_t *rank, uint32_t *rows, uint32_t *cols) {
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    bool table = role == EMB_TENSOR_POSITIONS || role == EMB_TENSOR_TOKEN_TYPES ||
                 role == EMB_TENSOR_RELATIVE || emb_model_quantizable(role);
    *rank = table ? 2 : 1;
    *rows = t ? t->rows : 0;
    *cols = t ? t->cols : 0;
    return t != NULL;
}

emb_dtype emb_model_tensor_dtype(const emb_model_files *files, emb_tensor_role role,
                                 uint32_t layer) {
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    return t ? (emb_dtype)t->dtype : EMB_DTYPE_DEFAULT;
}

emb_status emb_tensors_blame(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                             const char *suffix, uint64_t element, const char *what,
                             emb_error *error) {
    char name[EMB_TENSOR_NAME_MAX];
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    write_name(name, sizeof name, files->family, role, layer);
    return emb_error_set(error, EMB_BAD_FILE, "%s: tensor \"%s%s\", element %" PRIu64 " is %s",
                         files->shards[t->shard], name, suffix, element, what);
}

emb_status emb_model_read_rows(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                               uint32_t row0, uint32_t rows, float *out, void *scratch,
                               emb_error *error) {
    const emb_tensor *t = emb_tensors_find(files, role, layer);
    if (!t)
        return emb_error_set(error, EMB_INTERNAL, "the model has no tensor of role %d in layer %u",
                             (int)role, layer);
    if (row0 > t->rows || rows > t->rows - row0)
        return emb_error_set(error, EMB_INTERNAL, "rows %u to %u of %u in role %d", row0,
                             row0 + rows, t->rows, (int)role);
    uint64_t first = (uint64_t)row0 * t->cols;
    size_t count = (size_t)rows * t->cols;
    if (emb_dtype_quantized(t->dtype))
        EMB_TRY(emb_quantized_read_rows(files, role, layer, row0, rows, out, scratch, error));
    else
        EMB_TRY(read_values(files, t, first, count, out, scratch, error));
    size_t bad = first_not_finite(out, count);
    if (bad == count) return EMB_OK;
    return emb_tensors_blame(files, role, layer, "", first + bad, "NaN or infinite", error);
}
