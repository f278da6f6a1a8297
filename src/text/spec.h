/* spec.h - inside src/text/: how the two kinds of tokenizer file become one spec.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_SPEC_H
#define EMB_TEXT_SPEC_H

#include "text/source.h"

/* Tokens that the files name but whose ids are in the vocabulary. An empty `before` and `after`
 * mean that the spec has those ids already. */
typedef struct emb_text_names {
    char unknown[EMB_TEXT_ADDED_BYTES_MAX];
    char before[EMB_TEXT_ADDED_BYTES_MAX];
    char after[EMB_TEXT_ADDED_BYTES_MAX];
} emb_text_names;

/* Adds a literal token without its id; the last of equal ones counts, an empty one is dropped.
 * Fails: EMB_UNSUPPORTED. */
emb_status emb_text_spec_add(emb_text_spec *spec, const char *content, int left_strip,
                             int right_strip, int single_word, int normalized, emb_error *error);

/* Fill everything but what the vocabulary says. The path is in the spec. */
emb_status emb_text_describe_json(emb_text_spec *spec, emb_text_names *names, emb_error *error);
emb_status emb_text_describe_lines(emb_text_spec *spec, emb_text_names *names,
                                   const char *directory, emb_error *error);

#endif
