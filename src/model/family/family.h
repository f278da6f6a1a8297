/* family.h - what distinguishes one family of encoders from another, as data: the keys of its
 * config.json, its tensors' names, its layers, where its positions begin.
 *
 * A new family is a file of this folder and a row in list.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_MODEL_FAMILY_FAMILY_H
#define EMB_MODEL_FAMILY_FAMILY_H

#include "model/model.h"

/* Larger than any encoder of these families; small enough that no product of them overflows. */
#define EMB_LAYERS_MAX     256
#define EMB_WIDTH_MAX      16384
#define EMB_FFN_MAX        65536
#define EMB_HEAD_MAX       256
#define EMB_VOCABULARY_MAX (1u << 22)
#define EMB_POSITIONS_MAX  (1u << 20)

/* A number of config.json and the uint32_t of emb_shape that it fills. */
typedef struct emb_family_count {
    const char *key;
    size_t offset;
    uint32_t low, high; /* bounds, both included */
    bool optional;      /* if absent it is `fallback`, the reference's default */
    uint32_t fallback;
} emb_family_count;

#define EMB_FAMILY_NEEDS(name, member, least, most)                                                \
    { .key = name, .offset = offsetof(emb_shape, member), .low = least, .high = most }
#define EMB_FAMILY_TAKES(name, member, least, most, otherwise)                                     \
    {                                                                                              \
        .key = name, .offset = offsetof(emb_shape, member), .low = least, .high = most,            \
        .optional = true, .fallback = otherwise                                                    \
    }

#define EMB_FAMILY_COUNTS_MAX 16

struct emb_family {
    const char *name;               /* config.json's "model_type" */
    const emb_family_count *counts; /* [counts_count], in the order in which errors are reported */
    uint32_t counts_count;          /* at most EMB_FAMILY_COUNTS_MAX */
    const char *epsilon;            /* key of the norms' epsilon */
    double epsilon_fallback;
    /* [EMB_TENSOR_ROLES] without prefixes; NULL: the family has no such tensor */
    const char *const *tensors;
    const char *layer;           /* precedes a layer's number, such as "encoder.layer." */
    const char *const *prefixes; /* under which the encoder may be saved; ends with NULL */
    const char *const *parts;    /* prefixes of the encoder's own names: unknown ones there are
                                    refused, others (heads) ignored; ends with NULL */
    const char *const *derived;  /* tensors that are not learned, and ignored; ends with NULL */
    emb_layer_spec layers;       /* all but the fields that counts and epsilon fill in */
    uint32_t position_offset;    /* row of the first token's position */
    bool token_types;            /* row 0 of a table of types is added to every token */
    const char *tokenizer;       /* the default class, if the files do not state one */
    /* Completes and checks a shape whose counts are read; NULL: nothing to do. Fails: EMB_BAD_FILE,
     * EMB_UNSUPPORTED, naming the key. */
    emb_status (*finish)(emb_shape *shape, emb_error *error);
};

/* What BERT's descendants have in common with it, as Hugging Face saves them. */
#define EMB_FAMILY_BERT_SIZES                                                                      \
    EMB_FAMILY_NEEDS("hidden_size", spec.hidden, 1, EMB_WIDTH_MAX),                                \
        EMB_FAMILY_NEEDS("num_hidden_layers", layers, 1, EMB_LAYERS_MAX),                          \
        EMB_FAMILY_NEEDS("num_attention_heads", spec.heads, 1, EMB_WIDTH_MAX),                     \
        EMB_FAMILY_NEEDS("intermediate_size", spec.intermediate, 1, EMB_FFN_MAX),                  \
        EMB_FAMILY_NEEDS("vocab_size", vocabulary, 1, EMB_VOCABULARY_MAX)
#define EMB_FAMILY_BERT_TENSORS                                                                    \
    [EMB_TENSOR_WORDS] = "embeddings.word_embeddings.weight",                                      \
    [EMB_TENSOR_POSITIONS] = "embeddings.position_embeddings.weight",                              \
    [EMB_TENSOR_EMBED_GAIN] = "embeddings.LayerNorm.weight",                                       \
    [EMB_TENSOR_EMBED_SHIFT] = "embeddings.LayerNorm.bias",                                        \
    [EMB_TENSOR_FFN_IN] = "intermediate.dense.weight",                                             \
    [EMB_TENSOR_FFN_IN_BIAS] = "intermediate.dense.bias",                                          \
    [EMB_TENSOR_FFN_OUT] = "output.dense.weight", [EMB_TENSOR_FFN_OUT_BIAS] = "output.dense.bias", \
    [EMB_TENSOR_FFN_GAIN] = "output.LayerNorm.weight",                                             \
    [EMB_TENSOR_FFN_SHIFT] = "output.LayerNorm.bias"
extern const char *const emb_family_bert_parts[], *const emb_family_bert_derived[];

extern const emb_family emb_family_bert, emb_family_mpnet;

/* All of them; ends with NULL. */
extern const emb_family *const emb_families[];

/* The family of that name, or NULL. */
const emb_family *emb_family_find(const char *name);

#endif
