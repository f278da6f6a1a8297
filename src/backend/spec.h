/* spec.h - what a layer is, as data: the same for every layer of a model.
 *
 * A family of models (model/family/) says what its layers are; a backend says which of these it
 * computes (emb_backend.supports). Plain values, so that model and backend need not know each
 * other. With all but sizes and epsilon zero: BERT's layer.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_SPEC_H
#define EMB_BACKEND_SPEC_H

#include <stdbool.h>
#include <stdint.h>

typedef enum emb_norm_kind {
    EMB_NORM_LAYER = 0, /* over mean and variance; with a shift unless norm_plain */
    EMB_NORM_RMS = 1    /* over the root of the mean square; no shift */
} emb_norm_kind;

/* Where a norm is applied: x is a block's input, f the block. */
typedef enum emb_norm_place {
    EMB_NORM_POST = 0, /* norm(x + f(x)) */
    EMB_NORM_PRE = 1,  /* x + f(norm(x)) */
    EMB_NORM_BOTH = 2  /* x + norm(f(norm(x))) */
} emb_norm_place;

typedef enum emb_activation {
    EMB_ACTIVATION_GELU = 0, /* the erf form */
    EMB_ACTIVATION_GELU_TANH = 1,
    EMB_ACTIVATION_SILU = 2,
    EMB_ACTIVATION_RELU = 3
} emb_activation;

/* How attention encodes positions, besides the rows that embed adds. */
typedef enum emb_position_kind {
    EMB_POSITION_NONE = 0,
    EMB_POSITION_RELATIVE = 1, /* a learned bias per head and bucket of distances, added */
    EMB_POSITION_ROTARY = 2,   /* queries and keys rotated by angles (RoFormer, Su et al. 2021) */
    EMB_POSITION_SLOPES = 3 /* distance times a slope per head, added (ALiBi, Press et al. 2022) */
} emb_position_kind;

/* Which keys a query sees. */
typedef enum emb_mask_kind {
    EMB_MASK_FULL = 0,
    EMB_MASK_CAUSAL = 1, /* those up to its own position */
    EMB_MASK_WINDOW = 2  /* those up to mask_window positions away, on both sides */
} emb_mask_kind;

typedef struct emb_layer_spec {
    uint32_t hidden;                    /* width of the activations between blocks */
    uint32_t heads, kv_heads, head_dim; /* heads * head_dim need not equal hidden */
    uint32_t intermediate;              /* width inside the feed-forward */
    emb_norm_kind norm;
    emb_norm_place norm_place;
    bool norm_plain; /* no shift */
    bool norm_final; /* one more after the last layer, as PRE needs it */
    float norm_epsilon;
    emb_activation activation;
    bool gated; /* the feed-forward's first matrix has twice the rows: act(gate) * up */
    emb_position_kind positions;
    float rotary_base;
    emb_mask_kind mask;
    uint32_t mask_window;
    bool attention_plain, ffn_plain; /* their matrices have no biases */
    /* filled in by whoever runs the layers; zero in a model's shape */
    uint32_t chunk_tokens_min; /* shortest chunk in any tile, at least 1 */
    uint32_t chunk_tokens_max; /* longest */
    float *relative; /* NULL, or [heads, 2 * chunk_tokens_max - 1]: added to the scaled score of
                        query i and key j at [j - i + chunk_tokens_max - 1] */
} emb_layer_spec;

/* Rows of the matrix that gives queries, keys and values side by side. */
static inline uint32_t emb_spec_qkv_rows(const emb_layer_spec *spec) {
    return (spec->heads + 2 * spec->kv_heads) * spec->head_dim;
}

/* Values per token in attention's context: cols of its output matrix. */
static inline uint32_t emb_spec_context(const emb_layer_spec *spec) {
    return spec->heads * spec->head_dim;
}

/* NULL if this is BERT's or MPNet's layer, which every backend computes; else what is different,
 * worded to follow "does not compute". Threads: any. */
const char *emb_spec_beyond_bert(const emb_layer_spec *spec);

/* Rows of the feed-forward's first matrix. */
static inline uint32_t emb_spec_ffn_rows(const emb_layer_spec *spec) {
    return spec->gated ? 2 * spec->intermediate : spec->intermediate;
}

#endif
