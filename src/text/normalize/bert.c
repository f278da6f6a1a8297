/* bert.c - reads a BertNormalizer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/normalize/bert.h"

#include <string.h>

#include "text/json_file.h"

#define TYPE_MAX 64

/* Reads an object whose beginning was read. A Sequence of one normalizer stands for that one;
 * *inner: this object is inside such a Sequence. */
static emb_status read_keys(emb_text_json *file, emb_text_bert *out, char type[TYPE_MAX],
                            bool *inner, emb_error *error) {
    char key[64];
    bool end;
    *inner = false;
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) return EMB_OK;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&file->json, type, TYPE_MAX, key, error));
        else if (strcmp(key, "clean_text") == 0)
            EMB_TRY(emb_text_json_flag(file, &out->clean_text, -1, key, error));
        else if (strcmp(key, "handle_chinese_chars") == 0)
            EMB_TRY(emb_text_json_flag(file, &out->chinese_chars, -1, key, error));
        else if (strcmp(key, "strip_accents") == 0)
            EMB_TRY(
                emb_text_json_flag(file, &out->strip_accents, EMB_TEXT_AS_LOWERCASE, key, error));
        else if (strcmp(key, "lowercase") == 0)
            EMB_TRY(emb_text_json_flag(file, &out->lowercase, -1, key, error));
        else if (strcmp(key, "normalizers") == 0 && strcmp(type, "Sequence") == 0) {
            *inner = true;
            return EMB_OK;
        } else {
            EMB_TRY(emb_json_skip(&file->json, error));
        }
    }
}

/* Reads the list of a Sequence: one normalizer, and nothing after it. */
static emb_status read_sequence_of_one(emb_text_json *file, emb_text_bert *out, char type[TYPE_MAX],
                                       emb_error *error) {
    emb_json_event first, after, end;
    bool inner;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_ARRAY_BEGIN, NULL, "normalizer.normalizers",
                                         error));
    EMB_TRY(emb_json_next(&file->json, &first, error));
    if (first == EMB_JSON_OBJECT_BEGIN) {
        EMB_TRY(read_keys(file, out, type, &inner, error));
        EMB_TRY(emb_json_next(&file->json, &after, error));
        if (after == EMB_JSON_ARRAY_END && !inner) {
            EMB_TRY(emb_json_next(&file->json, &end, error));
            if (end == EMB_JSON_OBJECT_END) return EMB_OK;
        }
    }
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "normalizer: a Sequence of other than one BertNormalizer is not "
                         "supported");
}

emb_status emb_text_bert_read(emb_text_bert *out, emb_text_json *file, emb_error *error) {
    char type[TYPE_MAX] = "";
    bool present, inner;
    EMB_TRY(
        emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, &present, "normalizer", error));
    *out = present ? EMB_TEXT_BERT_DEFAULT : (emb_text_bert){0};
    if (!present) return EMB_OK;
    EMB_TRY(read_keys(file, out, type, &inner, error));
    if (inner) EMB_TRY(read_sequence_of_one(file, out, type, error));
    if (strcmp(type, "BertNormalizer") == 0) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "normalizer.type is \"%s\"; only \"BertNormalizer\" is supported", type);
}
