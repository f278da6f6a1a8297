/* text.c - text.h's calls: passes each to the tokenizer's family.
 *
 * One indirect call fills an array of ids; there is none per token.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "text/text.h"

#include "base/assert.h"
#include "text/family.h"

static void layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, bool shared,
                   emb_ledger *ledger) {
    emb_ledger_item(ledger, "tokenizer");
    EMB_ASSERT(spec->family);
    tokenizer->family = spec->family;
    spec->family->layout(tokenizer, spec, shared, ledger);
}

void emb_text_layout(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_ledger *ledger) {
    layout(tokenizer, spec, false, ledger);
}

void emb_text_layout_shared(emb_tokenizer *tokenizer, const emb_text_spec *spec,
                            emb_ledger *ledger) {
    layout(tokenizer, spec, true, ledger);
}

void emb_text_share(emb_tokenizer *tokenizer, const emb_tokenizer *loaded) {
    EMB_ASSERT(tokenizer->family == loaded->family);
    tokenizer->family->share(tokenizer, loaded);
}

emb_status emb_text_load(emb_tokenizer *tokenizer, const emb_text_spec *spec, emb_error *error) {
    return tokenizer->family->load(tokenizer, spec, error);
}

void emb_text_begin(emb_tokenizer *tokenizer) {
    tokenizer->family->begin(tokenizer);
}

void emb_text_feed(emb_tokenizer *tokenizer, const char *bytes, size_t length, bool last,
                   uint32_t *ids, size_t capacity, size_t *used, size_t *count, bool *done) {
    tokenizer->family->feed(tokenizer, bytes, length, last, ids, capacity, used, count, done);
    EMB_ASSERT(*used <= length && *count <= capacity);
}
