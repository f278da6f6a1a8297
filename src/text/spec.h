/* spec.h - inside src/text/: how a tokenizer's files become one spec.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TEXT_SPEC_H
#define EMB_TEXT_SPEC_H

#include "text/source.h"

#define EMB_TEXT_ID_NONE UINT32_MAX

/* Which class of the reference reads the files. */
typedef enum emb_text_kind {
    EMB_TEXT_KIND_BERT,
    EMB_TEXT_KIND_MPNET,
    EMB_TEXT_KIND_FILE /* tokenizer.json as it stands */
} emb_text_kind;

/* Special tokens with a name of their own, in the reference's order. */
typedef enum emb_text_named {
    EMB_TEXT_BOS,
    EMB_TEXT_EOS,
    EMB_TEXT_UNK,
    EMB_TEXT_SEP,
    EMB_TEXT_PAD,
    EMB_TEXT_CLS,
    EMB_TEXT_MASK,
    EMB_TEXT_NAMED
} emb_text_named;

/* A description under way. */
typedef struct emb_text_reading {
    emb_text_spec *spec;
    bool counts;       /* tokens are only counted */
    uint32_t capacity; /* of spec->added */
    uint32_t seen;     /* tokens added so far, also beyond the capacity */
    emb_text_kind kind;
    /* of tokenizer_config.json and special_tokens_map.json */
    int lowercase, strip_accents, chinese_chars; /* strip_accents -2: as lowercase */
    bool has_decoder, has_extra;
    emb_text_added named[EMB_TEXT_NAMED]; /* no bytes: none */
    /* of spec->specials, what a class that builds itself takes by name */
    emb_text_named around[EMB_SPECIALS_MAX];
    /* of tokenizer.json's model and post_processor, which a FILE tokenizer takes */
    char unknown[EMB_TEXT_ADDED_BYTES_MAX];
} emb_text_reading;

/* Adds a token; an empty one is dropped. Fails: EMB_UNSUPPORTED. */
emb_status emb_text_reading_add(emb_text_reading *reading, const emb_text_added *token,
                                emb_text_rank rank, uint32_t order, emb_error *error);

/* The value that comes next, if it is a token: "[CLS]", or {"content": "[CLS]", ...}, whose flags
 * are those of the reference where they are not stated. `special`: it is special whatever it says.
 * Any other value is passed over: no bytes. */
emb_status emb_text_read_token(emb_text_source *source, emb_text_added *out, bool *flags,
                               bool special, emb_error *error);

/* The same for an object whose beginning was read; `id` is set where the object states one. */
emb_status emb_text_read_token_object(emb_text_source *source, emb_text_added *out, bool special,
                                      emb_error *error);

/* config.c: reads tokenizer_config.json, special_tokens_map.json and added_tokens.json, and adds
 * what they list. */
emb_status emb_text_read_config(emb_text_reading *reading, const char *directory,
                                const emb_text_hints *hints, emb_error *error);

/* config.c: adds the special tokens that have a name, once the lists have been read. */
emb_status emb_text_add_named(emb_text_reading *reading, emb_error *error);

/* describe.c: reads all of tokenizer.json but the vocabulary. */
emb_status emb_text_describe_json(emb_text_reading *reading, emb_error *error);

#endif
