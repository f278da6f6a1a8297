/* config.c - reads config.json into the shape, as its family's table says.
 *
 * The values of keys that are only looked at are in keys_table.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/family/family.h"
#include "model/keys.h"

/* What is read besides the family's counts. */
enum { KEY_EPSILON, KEY_TOKENIZER, KEYS };

static emb_status check_count(const emb_family_count *count, const emb_field *field, uint64_t value,
                              emb_error *error) {
    if (!field->given && !count->optional)
        return emb_error_set(error, EMB_BAD_FILE, "the key \"%s\" is missing", count->key);
    if (value < count->low || value > count->high)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"%s\" is %" PRIu64 "; it must lie between %" PRIu32 " and %" PRIu32,
                             count->key, value, count->low, count->high);
    return EMB_OK;
}

/* A head's width follows from the others; there are as many key and value heads as query heads. */
static emb_status finish_heads(emb_layer_spec *spec, emb_error *error) {
    if (spec->hidden % spec->heads != 0)
        return emb_error_set(error, EMB_BAD_FILE,
                             "\"hidden_size\" %" PRIu32
                             " is not a multiple of \"num_attention_heads\" %" PRIu32,
                             spec->hidden, spec->heads);
    spec->head_dim = spec->hidden / spec->heads;
    spec->kv_heads = spec->heads;
    if (spec->head_dim > EMB_HEAD_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "%" PRIu32 " values per attention head; at most %d are supported",
                             spec->head_dim, EMB_HEAD_MAX);
    return EMB_OK;
}

static emb_status fill_shape(emb_shape *shape, const emb_family *family, const emb_field *fields,
                             const uint64_t *values, double epsilon, emb_error *error) {
    shape->family = family;
    shape->spec = family->layers;
    for (uint32_t i = 0; i < family->counts_count; i++) {
        const emb_family_count *count = &family->counts[i];
        EMB_TRY(check_count(count, &fields[i], values[i], error));
        memcpy((char *)shape + count->offset, &(uint32_t){(uint32_t)values[i]}, sizeof(uint32_t));
    }
    EMB_TRY(finish_heads(&shape->spec, error));
    if (!(epsilon > 0 && epsilon < 1))
        return emb_error_set(error, EMB_BAD_FILE, "\"%s\" is %g; it must lie between 0 and 1",
                             family->epsilon, epsilon);
    shape->spec.norm_epsilon = (float)epsilon;
    shape->position_offset = family->position_offset;
    shape->window_tokens = shape->positions - shape->position_offset;
    shape->has_token_types = family->token_types;
    return family->finish ? family->finish(shape, error) : EMB_OK;
}

/* "bert and mpnet" */
static void write_names(char *out, size_t capacity, const char *between, const char *last) {
    size_t used = 0;
    for (size_t i = 0; emb_families[i] && used < capacity; i++) {
        const char *gap = i == 0 ? "" : emb_families[i + 1] ? between : last;
        int wrote = snprintf(out + used, capacity - used, "%s%s", gap, emb_families[i]->name);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

/* The family decides which keys are read, so its key is read first, in a pass of its own. */
static emb_status read_family(const emb_family **out, const char *root, const char *path,
                              emb_error *error) {
    char type[EMB_TEXT_FIELD_MAX] = "", names[128];
    emb_field field = EMB_FIELD("model_type", TEXT, type);
    emb_key_findings passed_over = {.refused = EMB_OK};
    EMB_TRY(emb_keys_read(&emb_keys_config, root, path, &field, 1, &passed_over, error));
    *out = field.given ? emb_family_find(type) : NULL;
    if (*out) return EMB_OK;
    if (!field.given) {
        write_names(names, sizeof names, "\", \"", "\" or \"");
        emb_error_set(error, EMB_BAD_FILE, "the key \"model_type\" is missing: \"%s\"", names);
        return emb_document_blame(path, EMB_BAD_FILE, error);
    }
    write_names(names, sizeof names, ", ", " and ");
    emb_error_set(error, EMB_UNSUPPORTED,
                  "\"model_type\" is \"%s\", which is not supported: only %s are", type, names);
    return emb_document_blame(path, EMB_UNSUPPORTED, error);
}

emb_status emb_config_read(emb_shape *shape, emb_settings *settings, const char *root,
                           const char *path, emb_key_findings *findings, emb_error *error) {
    const emb_family *family;
    uint64_t values[EMB_FAMILY_COUNTS_MAX];
    emb_field fields[EMB_FAMILY_COUNTS_MAX + KEYS];
    EMB_TRY(read_family(&family, root, path, error));
    uint32_t counts = family->counts_count;
    double epsilon = family->epsilon_fallback;
    for (uint32_t i = 0; i < counts; i++) {
        values[i] = family->counts[i].fallback;
        fields[i] = (emb_field)EMB_FIELD(family->counts[i].key, COUNT, &values[i]);
    }
    fields[counts + KEY_EPSILON] = (emb_field)EMB_FIELD(family->epsilon, REAL, &epsilon);
    fields[counts + KEY_TOKENIZER] =
        (emb_field)EMB_FIELD("tokenizer_class", TEXT, settings->tokenizer_class);
    EMB_TRY(emb_keys_read(&emb_keys_config, root, path, fields, counts + KEYS, findings, error));
    EMB_TRY(emb_keys_refusal(findings, path, error));
    emb_status status = fill_shape(shape, family, fields, values, epsilon, error);
    return status == EMB_OK ? EMB_OK : emb_document_blame(path, status, error);
}
