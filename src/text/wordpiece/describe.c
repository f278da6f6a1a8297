/* describe.c - what tokenizer files say of a WordPiece tokenizer; everything else is refused.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "base/file.h"
#include "text/wordpiece/tables.h"

#define DEFAULT_WORD_CHARS 100
#define RECORDS_BYTES_MAX  (1u << 24) /* the most that an index slot can address */
#define BIT(named)         (1u << (named))

/* ---- classes --------------------------------------------------------------------------------- */

static const emb_text_class classes[] = {
    {
        .name = "BertTokenizer",
        .named = {"", "", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"},
        .before = 1,
        .after = 1,
        .around = {EMB_TEXT_CLS, EMB_TEXT_SEP},
        .needed = BIT(EMB_TEXT_UNK) | BIT(EMB_TEXT_CLS) | BIT(EMB_TEXT_SEP),
    },
    {
        .name = "MPNetTokenizer",
        .named = {"<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"},
        .before = 1,
        .after = 1,
        .around = {EMB_TEXT_CLS, EMB_TEXT_SEP},
        .needed = BIT(EMB_TEXT_UNK) | BIT(EMB_TEXT_CLS) | BIT(EMB_TEXT_SEP),
    },
    {.name = NULL},
};

const emb_text_family emb_text_wordpiece = {
    .model = "WordPiece",
    .vocabulary = "vocab.txt",
    .classes = classes,
    .defaults = emb_wordpiece_defaults,
    .read_setting = emb_wordpiece_read_setting,
    .read_part = emb_wordpiece_read_part,
    .read_vocabulary = emb_wordpiece_read_vocabulary,
    .layout = emb_wordpiece_layout,
    .share = emb_wordpiece_share,
    .load = emb_wordpiece_load,
    .begin = emb_wordpiece_begin,
    .feed = emb_wordpiece_feed,
};

void emb_wordpiece_defaults(emb_text_reading *reading) {
    reading->spec->own.wordpiece = (emb_wordpiece_spec){
        .normalizer = EMB_TEXT_BERT_DEFAULT,
        .word_chars_max = DEFAULT_WORD_CHARS,
        .continuing_prefix = "##",
        .unknown_id = EMB_TEXT_ID_NONE,
    };
}

/* ---- parts of the files ---------------------------------------------------------------------- */

emb_status emb_wordpiece_read_setting(emb_text_reading *reading, emb_text_json *file,
                                      const char *key, bool *taken, emb_error *error) {
    emb_text_bert *normalizer = &reading->spec->own.wordpiece.normalizer;
    *taken = true;
    if (strcmp(key, "do_lower_case") == 0)
        return emb_text_json_flag(file, &normalizer->lowercase, -1, key, error);
    if (strcmp(key, "strip_accents") == 0)
        return emb_text_json_flag(file, &normalizer->strip_accents, EMB_TEXT_AS_LOWERCASE, key,
                                  error);
    if (strcmp(key, "tokenize_chinese_chars") == 0)
        return emb_text_json_flag(file, &normalizer->chinese_chars, -1, key, error);
    *taken = false;
    return EMB_OK;
}

static emb_status read_pre_tokenizer(emb_text_json *file, emb_error *error) {
    char key[64], type[64] = "null";
    bool present, end = false;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, &present, "pre_tokenizer",
                                         error));
    while (present) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&file->json, type, sizeof type, key, error));
        else
            EMB_TRY(emb_json_skip(&file->json, error));
    }
    if (strcmp(type, "BertPreTokenizer") != 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "pre_tokenizer.type is \"%s\"; only \"BertPreTokenizer\" is supported",
                             type);
    return EMB_OK;
}

static emb_status read_model(emb_text_json *file, emb_text_reading *reading, emb_error *error) {
    emb_wordpiece_spec *spec = &reading->spec->own.wordpiece;
    char key[64], type[64] = "", unknown[EMB_TEXT_ADDED_BYTES_MAX] = "";
    char prefix[sizeof spec->continuing_prefix] = "##";
    uint64_t chars = 100;
    bool end;
    EMB_TRY(emb_text_json_open_container(file, EMB_JSON_OBJECT_BEGIN, NULL, "model", error));
    for (;;) {
        EMB_TRY(emb_text_json_key(file, key, sizeof key, &end, error));
        if (end) break;
        if (strcmp(key, "type") == 0)
            EMB_TRY(emb_json_next_string(&file->json, type, sizeof type, key, error));
        else if (strcmp(key, "unk_token") == 0)
            EMB_TRY(emb_json_next_string(&file->json, unknown, sizeof unknown, key, error));
        else if (strcmp(key, "continuing_subword_prefix") == 0)
            EMB_TRY(emb_json_next_string(&file->json, prefix, sizeof prefix, key, error));
        else if (strcmp(key, "max_input_chars_per_word") == 0)
            EMB_TRY(emb_json_next_u64(&file->json, &chars, key, error));
        else
            EMB_TRY(emb_json_skip(&file->json, error));
    }
    if (strcmp(type, emb_text_wordpiece.model) != 0)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "model.type is \"%s\"; only \"%s\" is supported", type,
                             emb_text_wordpiece.model);
    if (reading->builder) return EMB_OK;
    if (chars < 1 || chars > EMB_WORDPIECE_WORD_CHARS_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "model.max_input_chars_per_word must be 1 to %u",
                             EMB_WORDPIECE_WORD_CHARS_MAX);
    spec->word_chars_max = (uint32_t)chars;
    memcpy(spec->continuing_prefix, prefix, sizeof prefix);
    memcpy(reading->unknown, unknown, sizeof unknown);
    return EMB_OK;
}

emb_status emb_wordpiece_read_part(emb_text_reading *reading, emb_text_json *file, const char *key,
                                   emb_error *error) {
    if (strcmp(key, "model") == 0) return read_model(file, reading, error);
    if (strcmp(key, "pre_tokenizer") == 0) return read_pre_tokenizer(file, error);
    return emb_text_bert_read(&reading->spec->own.wordpiece.normalizer, file, error);
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

/* Length without the white space at the end; the bytes are valid UTF-8. */
static uint32_t trimmed(const uint8_t *bytes, uint32_t length) {
    while (length > 0) {
        uint32_t at = length - 1;
        while (at > 0 && (bytes[at] & 0xC0) == 0x80) at--;
        if (!(emb_text_flags(emb_text_utf8_decode(bytes + at)) & EMB_TEXT_WHITE)) break;
        length = at;
    }
    return length;
}

static emb_status take_line(uint8_t *line, uint32_t length, uint32_t number, emb_text_entry take,
                            void *user, emb_error *error) {
    if (!emb_text_utf8_valid(line, length))
        return emb_error_set(error, EMB_BAD_FILE, "line %u is not UTF-8", number + 1);
    return take(user, line, trimmed(line, length), number, error);
}

static emb_status read_lines(emb_file_stream *stream, emb_text_entry take, void *user,
                             emb_error *error) {
    uint8_t buffer[EMB_TEXT_BUFFER_BYTES], line[EMB_TEXT_ENTRY_BYTES_MAX];
    uint32_t length = 0, number = 0;
    for (;;) {
        ptrdiff_t got = emb_file_stream_read(stream, buffer, sizeof buffer);
        if (got < 0) return emb_error_set(error, EMB_IO, "reading failed: %s", strerror((int)-got));
        if (got == 0) break;
        for (ptrdiff_t i = 0; i < got; i++) {
            if (buffer[i] == '\n') {
                EMB_TRY(take_line(line, length, number, take, user, error));
                length = 0;
                number++;
            } else if (length == sizeof line) {
                return emb_error_set(error, EMB_BAD_FILE, "line %u is longer than %u bytes",
                                     number + 1, EMB_TEXT_ENTRY_BYTES_MAX);
            } else {
                line[length++] = buffer[i];
            }
        }
    }
    return length ? take_line(line, length, number, take, user, error) : EMB_OK;
}

emb_status emb_wordpiece_entries(const emb_text_spec *spec, emb_text_entry take, void *user,
                                 emb_error *error) {
    if (spec->is_json) return emb_text_json_entries(spec->path, take, user, error);
    emb_text_json file;
    EMB_TRY(emb_text_json_open(&file, spec->path, error));
    return emb_text_json_close(&file, read_lines(&file.stream, take, user, error), error);
}

typedef struct count_context {
    emb_text_reading *reading;
    const char *unknown;
} count_context;

static emb_status count_entry(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                              emb_error *error) {
    count_context *context = user;
    emb_text_spec *spec = context->reading->spec;
    emb_wordpiece_spec *own = &spec->own.wordpiece;
    const char *unknown = context->unknown;
    emb_text_reading_entry(context->reading, bytes, length, id);
    own->vocabulary_bytes += length;
    if (*unknown && strlen(unknown) == length && memcmp(unknown, bytes, length) == 0)
        own->unknown_id = id;
    if (emb_wordpiece_vocabulary_records_bytes(spec->vocabulary, own->vocabulary_bytes) <=
        RECORDS_BYTES_MAX)
        return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED, "the vocabulary is larger than %u MiB",
                         RECORDS_BYTES_MAX >> 20);
}

emb_status emb_wordpiece_read_vocabulary(emb_text_reading *reading, emb_error *error) {
    emb_wordpiece_spec *own = &reading->spec->own.wordpiece;
    count_context context = {reading, reading->builder ? reading->named[EMB_TEXT_UNK].bytes
                                                       : reading->unknown};
    emb_text_bert_settle(&own->normalizer);
    if (reading->hints->lowercase) own->normalizer.lowercase = 1; /* it does not affect accents */
    EMB_TRY(emb_wordpiece_entries(reading->spec, count_entry, &context, error));
    return emb_text_reading_require(reading, own->unknown_id, "the unknown token", context.unknown,
                                    error);
}
