/* ops.h - the blocks of an encoder, forwards and back, over plain f32 weights.
 *
 * A block is cut at its norm. `sum` is what goes into the norm: the block's input plus what the
 * block adds to it. The sums of all blocks are all that a backward pass needs: a block's input is
 * the norm of the sum before, and the inside is computed again unless it was kept. Tokens of a tile
 * are packed; legend as in backend/ops.h. void *: activation_bytes a value. Gradients are added to
 * what is there; those of a layer, of a norm and of words that are NULL are not wanted. Operations
 * allocate nothing, never fail; scratch is booked by layout. SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_OPS_H
#define EMB_TRAIN_OPS_H

#include "backend/backend.h"
#include "train/team.h"

/* The weights of a layer, or their gradients. */
typedef struct emb_layer_params {
    float *qkv, *qkv_bias;                     /* [3 * hidden, hidden]: queries, keys, values */
    float *attention_out, *attention_out_bias; /* [hidden, hidden] */
    float *attention_gain, *attention_shift;   /* [hidden] */
    float *ffn_in, *ffn_in_bias;               /* [intermediate, hidden] */
    float *ffn_out, *ffn_out_bias;             /* [hidden, intermediate] */
    float *ffn_gain, *ffn_shift;               /* [hidden] */
} emb_layer_params;

/* The weights outside the layers, or their gradients. */
typedef struct emb_embed_params {
    float *words;        /* [vocabulary, hidden] */
    float *positions;    /* [positions, hidden] */
    float *token_types;  /* NULL, or [types, hidden], of which row 0 is added everywhere */
    float *gain, *shift; /* [hidden] */
    float *relative;     /* NULL, or [buckets, heads] */
} emb_embed_params;

/* What one tile needs between the operations: cut from a training lane's memory. */
typedef struct emb_train_scratch {
    void *memory;
    uint32_t tokens_max, threads;
} emb_train_scratch;

/* What is left out at random in a forward pass; all 0: nothing is. */
typedef struct emb_dropout {
    float hidden;    /* share of a block's output, and of the embedding */
    float attention; /* of the weights of the softmax */
    uint64_t key;    /* of this step */
} emb_dropout;

typedef struct emb_train_ops emb_train_ops;
typedef struct emb_train_device emb_train_device; /* train/device.h */

/* What every operation is given. */
typedef struct emb_train_run {
    const emb_train_ops *ops;
    const void *kernels; /* a CPU's */
    void *state;         /* a device's own; NULL on a CPU */
    emb_team *team;
    const emb_layer_spec *spec; /* `relative`: of the longest chunk, as for a backend */
    float *d_relative;          /* NULL, or the gradient of spec->relative, of the same shape */
    uint32_t position_offset;
    emb_dropout dropout;
    bool forgets;         /* sums and what is kept: nothing comes back over them */
    uint32_t layer;       /* at work */
    const uint32_t *rows; /* [chunks of the tile]: a text's number in the batch */
    emb_train_scratch scratch;
} emb_train_run;

struct emb_train_ops {
    const char *name;
    uint32_t activation_bytes;      /* of one value */
    const emb_train_device *device; /* NULL on a CPU */
    /* Books run->scratch. */
    void (*layout)(emb_train_run *run, const emb_layer_spec *spec, uint32_t tokens,
                   uint32_t threads, emb_ledger *ledger);

    /* Bytes of what attention, or ffn, can keep for its way back, of so many tokens. */
    uint64_t (*attention_kept)(const emb_layer_spec *spec, uint32_t tokens);
    uint64_t (*ffn_kept)(const emb_layer_spec *spec, uint32_t tokens);

    /* sum [tokens, hidden] = words[id] + positions[offset + place in chunk] + token_types[0];
     * x = norm(sum), less what dropout leaves out. */
    void (*embed)(const emb_train_run *run, void *x, void *sum, const emb_tile *tile,
                  const emb_embed_params *weights);
    void (*embed_back)(const emb_train_run *run, const emb_embed_params *gradients,
                       const void *d_sum, const emb_tile *tile);

    /* In place: leaves out what dropout says of the embedding; of a gradient, the same places. */
    void (*drop_embedding)(const emb_train_run *run, void *x, const emb_tile *tile);

    /* out [tokens, hidden] = norm(sum). */
    void (*norm)(const emb_train_run *run, void *out, const void *sum, uint32_t tokens,
                 const float *gain, const float *shift);
    /* Turns d, the gradient of norm(sum), into that of sum. */
    void (*norm_back)(const emb_train_run *run, float *d_gain, float *d_shift, void *d,
                      const void *sum, uint32_t tokens, const float *gain);

    /* sum = x + attention_out(attention(qkv(x))); x = norm(sum). kept: NULL, or where it keeps what
     * its way back would compute again. */
    void (*attention)(const emb_train_run *run, void *x, void *sum, void *kept,
                      const emb_tile *tile, const emb_layer_params *weights);
    /* Turns d, the gradient of sum, into that of the input `in`. */
    void (*attention_back)(const emb_train_run *run, const emb_layer_params *gradients, void *d,
                           const void *in, const void *kept, const emb_tile *tile,
                           const emb_layer_params *weights);

    /* sum = x + ffn_out(gelu(ffn_in(x))); x = norm(sum) */
    void (*ffn)(const emb_train_run *run, void *x, void *sum, void *kept, const emb_tile *tile,
                const emb_layer_params *weights);
    void (*ffn_back)(const emb_train_run *run, const emb_layer_params *gradients, void *d,
                     const void *in, const void *kept, const emb_tile *tile,
                     const emb_layer_params *weights);

    /* vectors[targets[c]] [hidden] = the pooled tokens of chunk c, of the length one if so asked.
     */
    void (*pool)(const emb_train_run *run, void *vectors, const uint32_t *targets, const void *in,
                 const emb_tile *tile, const emb_pool_rule *rule);
    /* d [tokens, hidden] = the gradient of `in`, given d_vectors. */
    void (*pool_back)(const emb_train_run *run, void *d, const void *d_vectors,
                      const uint32_t *targets, const void *in, const emb_tile *tile,
                      const emb_pool_rule *rule);
};

extern const emb_train_ops emb_train_cpu_ops;

#endif
