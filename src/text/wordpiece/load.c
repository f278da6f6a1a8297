/* load.c - books the tokenizer's buffers and fills its tables.
 *
 * Sizes follow from the spec only, so that the planner can measure a tokenizer without loading it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/wordpiece/tables.h"

/* The most ids that one step can give: those of the longest word, of as many held marks, and of the
 * literals held back at both stages, with at most six per character. */
static uint32_t pending_max(uint32_t word_chars_max) {
    return 2 * word_chars_max + 8 * (EMB_TEXT_ADDED_BYTES_MAX + EMB_TEXT_LITERAL_BYTES_MAX + 16);
}

/* What each tokenizer has of its own: the tables' struct, the word cache, the state. */
static emb_wordpiece_tables *layout_own(emb_tokenizer *tokenizer, emb_wordpiece_tables *measured,
                                        const emb_text_spec *spec, emb_ledger *ledger) {
    emb_wordpiece_state state_none, *state;
    uint32_t chars = spec->own.wordpiece.word_chars_max;
    tokenizer->tables = emb_ledger_take(ledger, 1, sizeof(emb_wordpiece_tables));
    tokenizer->state = emb_ledger_take(ledger, 1, sizeof(emb_wordpiece_state));
    emb_wordpiece_tables *tables = tokenizer->tables ? tokenizer->tables : measured;
    state = tokenizer->state ? tokenizer->state : &state_none;
    tables->cache =
        emb_ledger_take(ledger, (uint64_t)1 << EMB_WORDPIECE_CACHE_BITS, sizeof(emb_wordpiece_set));
    state->marks.list = emb_ledger_take(ledger, (uint64_t)chars + 1, sizeof(uint32_t));
    state->word = emb_ledger_take(ledger, 4 * (uint64_t)chars + 16, 1);
    state->hashes = emb_ledger_take(ledger, 4 * (uint64_t)chars + 1, sizeof(uint64_t));
    state->pieces = emb_ledger_take(ledger, (uint64_t)chars + 1, sizeof(uint32_t));
    state->pending_max = pending_max(chars);
    state->pending = emb_ledger_take(ledger, state->pending_max, sizeof(uint32_t));
    return tables;
}

void emb_wordpiece_layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, bool shared,
                          emb_ledger *ledger) {
    emb_wordpiece_tables measured;
    emb_wordpiece_tables *tables = layout_own(tokenizer, &measured, spec, ledger);
    emb_wordpiece_vocabulary *vocabulary = &tables->vocabulary;
    if (shared) return;
    vocabulary->bits = emb_wordpiece_vocabulary_bits(spec->vocabulary);
    vocabulary->records_bytes = (uint32_t)emb_wordpiece_vocabulary_records_bytes(
        spec->vocabulary, spec->own.wordpiece.vocabulary_bytes);
    vocabulary->slots = emb_ledger_take(ledger, (uint64_t)1 << vocabulary->bits, sizeof(uint32_t));
    vocabulary->filter_bits = emb_wordpiece_vocabulary_filter_bits(spec->vocabulary);
    vocabulary->filter =
        emb_ledger_take(ledger, (uint64_t)1 << vocabulary->filter_bits, sizeof(uint64_t));
    vocabulary->records = emb_ledger_take(ledger, vocabulary->records_bytes, 1);
    tables->raw.list = emb_ledger_take(ledger, spec->added_count, sizeof(emb_text_literal));
    tables->normal.list = emb_ledger_take(ledger, spec->added_count, sizeof(emb_text_literal));
}

static void clear_own(emb_tokenizer *tokenizer) {
    emb_wordpiece_tables *tables = tokenizer->tables;
    emb_wordpiece_state *state = tokenizer->state;
    memset(tables->cache, 0, sizeof(emb_wordpiece_set) << EMB_WORDPIECE_CACHE_BITS);
    emb_wordpiece_begin(tokenizer);
    state->ids = NULL;
    state->capacity = state->count = 0;
}

void emb_wordpiece_share(emb_tokenizer *tokenizer, const emb_tokenizer *loaded) {
    emb_wordpiece_tables *tables = tokenizer->tables;
    emb_wordpiece_set *cache = tables->cache;
    *tables = *(const emb_wordpiece_tables *)loaded->tables;
    tables->cache = cache;
    clear_own(tokenizer);
}

static emb_status add_literals(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                               emb_error *error) {
    emb_wordpiece_tables *tables = tokenizer->tables;
    uint32_t counts[2] = {0, 0}; /* raw, normal */
    const char *bad = NULL;
    for (uint32_t i = 0; i < spec->added_count && !bad; i++) {
        const emb_text_added *added = &spec->added[i];
        const uint8_t *bytes = (const uint8_t *)added->bytes;
        emb_text_literals *literals = added->normalized ? &tables->normal : &tables->raw;
        emb_text_literal *literal = &literals->list[counts[added->normalized]++];
        literal->id = added->id;
        literal->single_word = added->single_word;
        literal->length = added->length;
        memcpy(literal->bytes, bytes, literal->length);
        if (added->normalized)
            literal->length = emb_wordpiece_normalize(tables, tokenizer->state, literal->bytes,
                                                      bytes, added->length);
        if (literal->length == 0) bad = added->bytes;
    }
    emb_text_literals_sort(&tables->raw, counts[0]);
    const emb_text_literal *twice = bad ? NULL : emb_text_literals_sort(&tables->normal, counts[1]);
    for (uint32_t i = 0; i < spec->added_count && twice && !bad; i++)
        if (spec->added[i].id == twice->id) bad = spec->added[i].bytes;
    if (bad)
        return emb_error_set(error, EMB_BAD_FILE,
                             "%s: the added token \"%s\" normalizes to nothing, to what another "
                             "one does, or to too much: set \"normalized\": false",
                             spec->path, bad);
    tables->raw.count = counts[0];
    /* only now, so that it does not match while literals are normalised */
    tables->normal.count = counts[1];
    return EMB_OK;
}

/* How the fast path classifies each ASCII byte. */
static void fill_byte_sets(emb_wordpiece_tables *tables) {
    memset(&tables->sets, 0, sizeof tables->sets);
    for (uint32_t b = 0; b < 0x80; b++) {
        uint32_t flags = emb_text_flags(b), normal = b;
        uint8_t bit = (uint8_t)(1 << (b >> 4));
        if (tables->normalizer.clean_text && flags & EMB_TEXT_SPACE) normal = ' ';
        if (tables->normalizer.lowercase && flags & EMB_TEXT_LOWERED) normal = b | 0x20;
        bool stop = b == 0 || (tables->normalizer.clean_text && flags & EMB_TEXT_REMOVED) ||
                    tables->raw.first[b] || tables->normal.first[normal];
        bool mark = flags & EMB_TEXT_PUNCTUATION;
        if (stop) tables->sets.stop[b & 15] |= bit;
        if (mark && !stop) tables->sets.mark[b & 15] |= bit;
        if (stop || mark || flags & EMB_TEXT_WHITE) tables->sets.boundary[b & 15] |= bit;
    }
}

typedef struct load_context {
    emb_wordpiece_vocabulary *vocabulary;
    const emb_text_spec *spec;
    uint32_t entries;
} load_context;

static emb_status load_entry(void *user, const uint8_t *bytes, uint32_t length, uint32_t id,
                             emb_error *error) {
    load_context *context = user;
    bool replaced, beyond = id >= context->spec->ids_end;
    if (context->entries < context->spec->vocabulary && beyond && length == 0) {
        context->entries++; /* it occurs in no text, and may have no row */
        return EMB_OK;
    }
    if (context->entries++ >= context->spec->vocabulary || beyond ||
        !emb_wordpiece_vocabulary_add(context->vocabulary, bytes, length, id, &replaced))
        return emb_error_set(error, EMB_BAD_FILE, "the file changed while it was being read");
    /* in vocab.txt the last of equal lines wins, as in the reference */
    if (replaced && context->spec->is_json)
        return emb_error_set(error, EMB_BAD_FILE, "model.vocab has \"%.*s\" twice: remove one",
                             (int)length, (const char *)bytes);
    return EMB_OK;
}

emb_status emb_wordpiece_load(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                              emb_error *error) {
    emb_wordpiece_tables *tables = tokenizer->tables;
    const emb_wordpiece_spec *own = &spec->own.wordpiece;
    tables->normalizer = own->normalizer;
    tables->word_chars_max = own->word_chars_max;
    tables->unknown_id = own->unknown_id;
    tables->classify = emb_wordpiece_classify_select();
    tables->small_ids = spec->ids_end <= UINT16_MAX;
    tables->raw.count = tables->normal.count = 0;
    memset(tables->raw.first, 0, sizeof tables->raw.first);
    memset(tables->normal.first, 0, sizeof tables->normal.first);
    clear_own(tokenizer);
    EMB_TRY(add_literals(tokenizer, spec, error));
    fill_byte_sets(tables);
    emb_wordpiece_vocabulary_clear(&tables->vocabulary, own->continuing_prefix);
    load_context context = {&tables->vocabulary, spec, 0};
    EMB_TRY(emb_wordpiece_entries(spec, load_entry, &context, error));
    if (context.entries != spec->vocabulary)
        return emb_error_set(error, EMB_BAD_FILE, "%s: the file changed while it was being read",
                             spec->path);
    emb_wordpiece_begin(tokenizer);
    return EMB_OK;
}
