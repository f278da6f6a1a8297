/* params.h - all parameters of a model as one array of f32, and where each tensor lies in it.
 *
 * Gradients and an optimiser's moments have the same order, so that one table serves all. Fed by
 * model; feeds pass.c and the optimiser.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_PARAMS_H
#define EMB_TRAIN_PARAMS_H

#include "model/model.h"
#include "train/ops.h"

typedef struct emb_param {
    emb_tensor_role role;
    uint32_t layer; /* 0 outside the layers */
    uint32_t rank, rows, cols;
    emb_dtype dtype; /* f32, or what stored.h keeps it in */
    uint64_t first;  /* value; of another dtype the first byte in `stored` */
} emb_param;

/* Tensors side by side that are updated alike: whole blocks of EMB_PARAM_BLOCK. */
typedef struct emb_param_range {
    uint64_t first, values; /* values: with what fills the last block, which is always 0 */
    uint32_t depth;         /* 0: outside the layers; else 1 + its layer */
    bool matrix;            /* or a table; else biases or norms */
} emb_param_range;

/* Values that an 8-bit optimiser keeps one scale for, and that ranges begin at a multiple of. */
enum { EMB_PARAM_BLOCK = 256 };

/* Rows of a tensor that are read at once, at most. */
enum { EMB_PARAM_ROWS = 64 };

/* The tensors in the order of their place: those outside the layers, then layer by layer. */
typedef struct emb_params {
    const emb_shape *shape;
    const emb_model_files *files;
    emb_param *tensors; /* [count] */
    uint32_t count;
    emb_param_range *ranges; /* [ranges_count] */
    uint32_t ranges_count;
    uint64_t ranges_end;   /* of the last range */
    uint64_t layers_first; /* value of the first layer */
    uint64_t values;       /* of all, with what fills the blocks */
    uint64_t stored;       /* bytes of those that are not f32 */
} emb_params;

/* Books the table and fills it where it is bound; `values` is known either way. */
void emb_params_layout(emb_params *params, const emb_shape *shape, const emb_model_files *files,
                       emb_ledger *ledger);

/* The same for parameters that training leaves as they are: matrices and the table of words stay
 * in the dtype that the files have, and take no place among the values. */
void emb_params_layout_frozen(emb_params *params, const emb_shape *shape,
                              const emb_model_files *files, emb_ledger *ledger);

/* Reads all f32 tensors into values [params->values]. Needs scratch of emb_params_scratch_bytes.
 * Fails: as emb_model_read_rows. */
emb_status emb_params_load(float *values, const emb_params *params, void *scratch,
                           emb_error *error);

size_t emb_params_scratch_bytes(const emb_params *params);

/* The tensor, or NULL if the family has none such. */
const emb_param *emb_params_find(const emb_params *params, emb_tensor_role role, uint32_t layer);

/* Where they lie in an array of that order; NULL: not there, or not f32. */
emb_embed_params emb_params_embed(const emb_params *params, float *values);
emb_layer_params emb_params_layer(const emb_params *params, float *values, uint32_t layer);

/* The same in a part of such an array, which begins with value `first`; NULL: before it. */
emb_embed_params emb_params_embed_from(const emb_params *params, float *part, uint64_t first);
emb_layer_params emb_params_layer_from(const emb_params *params, float *part, uint64_t first,
                                       uint32_t layer);

/* Fills relative [heads, 2 * chunk_tokens_max - 1] from the buckets [buckets, heads], and adds its
 * gradient to theirs. */
void emb_params_spread_relative(float *relative, const float *buckets, const emb_shape *shape,
                                uint32_t chunk_tokens_max);
void emb_params_gather_relative(float *d_buckets, const float *d_relative, const emb_shape *shape,
                                uint32_t chunk_tokens_max);

#endif
