/* spec.c - finds a model's tokenizer files, orders the tokens added to the vocabulary as the
 * reference does, and gives each its id.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/spec.h"

#include <stdio.h>
#include <unistd.h>

#include "base/sort.h"

#define RECORDS_BYTES_MAX  (1u << 24) /* what a slot of the index can point into */
#define DEFAULT_WORD_CHARS 100

static bool is_white(const char *bytes) {
    return emb_text_flags(emb_text_utf8_decode((const uint8_t *)bytes)) & EMB_TEXT_WHITE;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

emb_status emb_text_reading_add(emb_text_reading *reading, const emb_text_added *token,
                                emb_text_rank rank, uint32_t order, emb_error *error) {
    uint32_t tail = token->length;
    if (tail == 0) return EMB_OK;
    do tail--;
    while (tail > 0 && (token->bytes[tail] & 0xC0) == 0x80);
    if (token->normalized && (is_white(token->bytes) || is_white(token->bytes + tail)))
        return emb_error_set(error, EMB_UNSUPPORTED,
                             "the added token \"%s\" has white space at an end: remove it, or set "
                             "\"normalized\": false",
                             token->bytes);
    uint32_t place = reading->seen++;
    if (reading->counts) return EMB_OK;
    if (place >= reading->capacity)
        return emb_error_set(error, EMB_BAD_FILE, "the file changed while it was being read");
    emb_text_added *added = &reading->spec->added[place];
    *added = *token;
    added->id = EMB_TEXT_ID_NONE;
    added->rank = (uint8_t)rank;
    added->order = order;
    added->place = place;
    reading->spec->added_count = reading->seen;
    return EMB_OK;
}

static bool by_rank(const void *a, const void *b) {
    const emb_text_added *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank;
    return x->order != y->order ? x->order < y->order : x->place < y->place;
}

static bool by_bytes(const void *a, const void *b) {
    const emb_text_added *x = a, *y = b;
    int order = strcmp(x->bytes, y->bytes);
    return order ? order < 0 : x->place < y->place;
}

static bool by_place(const void *a, const void *b) {
    return ((const emb_text_added *)a)->place < ((const emb_text_added *)b)->place;
}

/* Leaves one of each token, sorted by its bytes. `place` is then the order of adding. */
static void make_unique(emb_text_spec *spec) {
    emb_text_added *added = spec->added;
    uint32_t kept = 0;
    emb_sort(added, spec->added_count, sizeof *added, by_rank);
    for (uint32_t i = 0; i < spec->added_count; i++) {
        /* of two listed under the same id the reference knows the later one */
        if (i + 1 < spec->added_count && added[i].rank == EMB_TEXT_RANK_LISTED &&
            added[i + 1].rank == EMB_TEXT_RANK_LISTED && added[i].order == added[i + 1].order)
            continue;
        added[kept] = added[i];
        added[kept].place = kept;
        kept++;
    }
    spec->added_count = kept;
    emb_sort(added, kept, sizeof *added, by_bytes);
    kept = 0;
    for (uint32_t i = 0; i < spec->added_count; i++) {
        if (kept == 0 || strcmp(added[kept - 1].bytes, added[i].bytes) != 0) {
            added[kept++] = added[i];
        } else if (added[i].rank <= EMB_TEXT_RANK_LISTED) { /* adding it again changes its flags */
            uint32_t place = added[kept - 1].place;
            added[kept - 1] = added[i];
            added[kept - 1].place = place;
        }
    }
    spec->added_count = kept;
}

/* ---- the vocabulary, counted and searched for the tokens named ------------------------------- */

typedef struct count_context {
    emb_text_spec *spec;
    const emb_text_reading *reading;
} count_context;

static uint32_t specials_of(const emb_text_spec *spec) {
    return spec->specials.before + spec->specials.after;
}

static void match_name(uint32_t *id_out, const char *name, const uint8_t *bytes, uint32_t length,
                       uint32_t id) {
    if (name[0] && strlen(name) == length && memcmp(name, bytes, length) == 0) *id_out = id;
}

static void match_added(emb_text_spec *spec, const uint8_t *bytes, uint32_t length, uint32_t id) {
    uint32_t low = 0, high = spec->added_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        emb_text_added *added = &spec->added[middle];
        uint32_t common = added->length < length ? added->length : length;
        int order = memcmp(added->bytes, bytes, common);
        if (order == 0 && added->length == length) {
            added->id = id;
            return;
        }
        if (order < 0 || (order == 0 && added->length < length))
            low = middle + 1;
        else
            high = middle;
    }
}

static emb_status count_entry(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                              emb_error *error) {
    count_context *context = user;
    emb_text_spec *spec = context->spec;
    const emb_text_reading *reading = context->reading;
    spec->vocabulary++;
    spec->vocabulary_bytes += length;
    /* an empty entry, as of a blank line at the end of vocab.txt, is a token of no text */
    if (length && id >= spec->ids_end) spec->ids_end = id + 1;
    if (emb_text_vocabulary_records_bytes(spec->vocabulary, spec->vocabulary_bytes) >
        RECORDS_BYTES_MAX)
        return emb_error_set(error, EMB_UNSUPPORTED, "the vocabulary is larger than %u MiB",
                             RECORDS_BYTES_MAX >> 20);
    match_name(&spec->unknown_id, reading->unknown, bytes, length, id);
    for (uint32_t i = 0; reading->kind != EMB_TEXT_KIND_FILE && i < specials_of(spec); i++)
        match_name(&spec->specials.ids[i], reading->named[reading->around[i]].bytes, bytes, length,
                   id);
    match_added(spec, bytes, length, id);
    return EMB_OK;
}

static emb_status require(uint32_t id, const char *what, const char *name, const char *path,
                          emb_error *error) {
    if (id != EMB_TEXT_ID_NONE) return EMB_OK;
    return emb_error_set(error, EMB_BAD_FILE, "%s: %s \"%s\" is not in the vocabulary", path, what,
                         name);
}

/* Numbers the added tokens that the vocabulary lacks, as the reference does, whatever id the files
 * state. A mask or the like that only has its usual name, and no row, cannot be meant: such a text
 * fails in the reference too. One that the files list themselves is found to have no row. */
static void number_added(emb_text_spec *spec, uint32_t rows) {
    uint32_t kept = 0, next_id = spec->vocabulary;
    emb_sort(spec->added, spec->added_count, sizeof *spec->added, by_place);
    for (uint32_t i = 0; i < spec->added_count; i++) {
        emb_text_added *added = &spec->added[i];
        if (added->id == EMB_TEXT_ID_NONE) added->id = next_id++;
        if (added->id >= rows && added->rank == EMB_TEXT_RANK_NAMED) continue;
        if (added->id >= spec->ids_end) spec->ids_end = added->id + 1;
        spec->added[kept++] = *added;
    }
    spec->added_count = kept;
}

static emb_status resolve(emb_text_reading *reading, uint32_t rows, emb_error *error) {
    emb_text_spec *spec = reading->spec;
    count_context context = {spec, reading};
    make_unique(spec);
    EMB_TRY(emb_text_source_entries(spec->path, spec->is_json, count_entry, &context, error));
    EMB_TRY(require(spec->unknown_id, "the unknown token", reading->unknown, spec->path, error));
    for (uint32_t i = 0; i < specials_of(spec); i++)
        EMB_TRY(require(spec->specials.ids[i],
                        i < spec->specials.before ? "the first token" : "the last token",
                        reading->named[reading->around[i]].bytes, spec->path, error));
    number_added(spec, rows);
    for (uint32_t i = 0; i < specials_of(spec); i++)
        if (spec->specials.ids[i] >= spec->ids_end)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "%s: post_processor names ids beyond the vocabulary's %u",
                                 spec->path, spec->ids_end);
    return EMB_OK;
}

/* ---- the files ------------------------------------------------------------------------------- */

static bool try_path(emb_text_spec *spec, const char *directory, const char *name) {
    int length = snprintf(spec->path, sizeof spec->path, "%s/%s", directory, name);
    return length >= 0 && (size_t)length < sizeof spec->path && access(spec->path, F_OK) == 0;
}

/* Reads everything but the vocabulary. */
static emb_status read_files(emb_text_reading *reading, const char *directory,
                             const emb_text_hints *hints, emb_error *error) {
    emb_text_spec *spec = reading->spec;
    if (strlen(directory) + sizeof "/special_tokens_map.json" > sizeof spec->path)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "%.100s...: the path is longer than %d bytes", directory,
                             EMB_TEXT_PATH_MAX - 1);
    EMB_TRY(emb_text_read_config(reading, directory, hints, error));
    spec->lowercase = (uint32_t)reading->lowercase;
    spec->strip_accents =
        (uint32_t)(reading->strip_accents == -2 ? reading->lowercase : reading->strip_accents);
    spec->chinese_chars = (uint32_t)reading->chinese_chars;
    spec->clean_text = 1;
    spec->word_chars_max = DEFAULT_WORD_CHARS;
    memcpy(spec->continuing_prefix, "##", sizeof "##");
    memcpy(reading->unknown, reading->named[EMB_TEXT_UNK].bytes, sizeof reading->unknown);
    spec->is_json = try_path(spec, directory, "tokenizer.json");
    if (spec->is_json)
        EMB_TRY(emb_text_describe_json(reading, error));
    else if (reading->kind == EMB_TEXT_KIND_FILE)
        return emb_error_set(error, EMB_NOT_FOUND,
                             "%s: tokenizer.json is not there, which a PreTrainedTokenizerFast is "
                             "read from",
                             directory);
    else if (!try_path(spec, directory, "vocab.txt"))
        return emb_error_set(error, EMB_NOT_FOUND,
                             "%s: neither tokenizer.json nor vocab.txt is there", directory);
    EMB_TRY(emb_text_add_named(reading, error));
    if (hints->lowercase) spec->lowercase = 1; /* accents are the tokenizer's affair */
    return EMB_OK;
}

emb_status emb_text_count_added(uint32_t *count, const char *directory, const emb_text_hints *hints,
                                emb_error *error) {
    emb_text_spec spec = {0};
    emb_text_reading reading = {.spec = &spec, .counts = true};
    emb_status status = read_files(&reading, directory, hints, error);
    *count = reading.seen;
    return status;
}

emb_status emb_text_describe(emb_text_spec *out, emb_text_added *added, uint32_t capacity,
                             const char *directory, const emb_text_hints *hints, emb_error *error) {
    emb_text_reading reading = {.spec = out, .capacity = capacity};
    memset(out, 0, sizeof *out);
    out->unknown_id = EMB_TEXT_ID_NONE;
    out->added = added;
    EMB_TRY(read_files(&reading, directory, hints, error));
    if (reading.seen != capacity)
        return emb_error_set(error, EMB_BAD_FILE, "%s: it changed while it was being read",
                             out->path);
    return resolve(&reading, hints->rows, error);
}
