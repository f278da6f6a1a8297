/* model.h - a model's files as read-only tensors and a shape; descriptors, never weights in memory.
 *
 * Fed by paths, feeds encoder (weights, shape) and plan (shape). Reads with pread only.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_MODEL_MODEL_H
#define EMB_MODEL_MODEL_H

#include <stdbool.h>

#include "backend/spec.h"
#include "base/dtype.h"
#include "base/quantize.h"
#include "embound.h"

#define EMB_MODEL_PATH_MAX 512

typedef struct emb_family emb_family; /* family/family.h */

/* Everything that decides sizes and arithmetic. */
typedef struct emb_shape {
    const emb_family *family;
    emb_layer_spec spec;   /* of a layer; the fields for whoever runs the layers stay zero */
    uint32_t output_width; /* values of a text's row after the modules that follow the layers; a
                              token's row, and all within the encoder, has spec.hidden */
    uint32_t layers;
    uint32_t vocabulary;       /* rows of the word embedding */
    uint32_t positions;        /* rows of the position embedding */
    uint32_t position_offset;  /* row of the first token */
    uint32_t position_pad;     /* the padding id from which rows are counted, in families that do */
    uint32_t window_tokens;    /* longest sequence: positions - position_offset */
    uint32_t default_tokens;   /* max_seq_length, at most window_tokens */
    uint32_t has_token_types;  /* row 0 of token_type_embeddings is added everywhere */
    uint32_t relative_buckets; /* EMB_POSITION_RELATIVE: rows of its table; else 0 */
    uint32_t relative_distance; /* likewise: the distance from which on all share a bucket */
    emb_pooling pooling;        /* never EMB_POOLING_MODEL */
    uint32_t normalizes;
    uint32_t truncate_dim; /* leading values of a row that the model's files ask to keep; 0: all */
} emb_shape;

/* Values of a row of the engine, before truncation: for a text, or for a token. */
static inline uint32_t emb_row_width(const emb_shape *shape, emb_output_kind output) {
    return output == EMB_OUTPUT_TOKENS ? shape->spec.hidden : shape->output_width;
}

/* Names of the tensors an encoder needs, independent of its family. */
typedef enum emb_tensor_role {
    EMB_TENSOR_WORDS,       /* [vocabulary, hidden] */
    EMB_TENSOR_POSITIONS,   /* [positions, hidden] */
    EMB_TENSOR_TOKEN_TYPES, /* [types, hidden] */
    EMB_TENSOR_EMBED_GAIN,  /* [hidden] */
    EMB_TENSOR_EMBED_SHIFT,
    EMB_TENSOR_RELATIVE,   /* [buckets, heads] */
    EMB_TENSOR_QUERY,      /* per layer from here on; [hidden, hidden] */
    EMB_TENSOR_QUERY_BIAS, /* [hidden] */
    EMB_TENSOR_KEY,
    EMB_TENSOR_KEY_BIAS,
    EMB_TENSOR_VALUE,
    EMB_TENSOR_VALUE_BIAS,
    EMB_TENSOR_ATTENTION_OUT,
    EMB_TENSOR_ATTENTION_OUT_BIAS,
    EMB_TENSOR_ATTENTION_GAIN, /* [hidden] */
    EMB_TENSOR_ATTENTION_SHIFT,
    EMB_TENSOR_FFN_IN,      /* [intermediate, hidden] */
    EMB_TENSOR_FFN_IN_BIAS, /* [intermediate] */
    EMB_TENSOR_FFN_OUT,     /* [hidden, intermediate] */
    EMB_TENSOR_FFN_OUT_BIAS,
    EMB_TENSOR_FFN_GAIN,
    EMB_TENSOR_FFN_SHIFT,
    EMB_TENSOR_ROLES
} emb_tensor_role;

typedef struct emb_model_files emb_model_files; /* metadata: one malloc, exactly accounted */

/* Opens and checks everything: see emb_model_open in embound.h. `*shape` gets its fields; every
 * tensor that the encoder needs is present, has the right shape and is inside its file. */
emb_status emb_model_files_open(emb_model_files **out, emb_shape *shape, const char *path,
                                emb_error *error);
void emb_model_files_close(emb_model_files *files);

/* Fills name, stored_dtype, parameters, file_bytes, description_bytes and, from the shape, the
 * rest. */
void emb_model_files_describe(emb_model_info *out, const emb_model_files *files,
                              const emb_shape *shape);
const char *emb_model_files_prompt(const emb_model_files *files, const char *name);

/* The default class of tokenizer, if the model's files do not state one. */
const char *emb_model_default_tokenizer(const emb_shape *shape);

/* What the tokenizer needs to know: the class that config.json states ("": none), and whether texts
 * are lowercased before it. */
const char *emb_model_files_tokenizer_class(const emb_model_files *files);
bool emb_model_files_lowercase(const emb_model_files *files);

/* The directory that holds config.json and the tokenizer. */
const char *emb_model_files_directory(const emb_model_files *files);

/* The directory that holds modules.json, as EMB_MODEL_PATH_MAX bytes; the same one unless the
 * encoder is in a subfolder. */
void emb_model_files_root(const emb_model_files *files, char *out);

/* That folder, relative to the root; "": the root. */
const char *emb_model_files_transformer(const emb_model_files *files);

/* Calls visit with each existing file of the model other than the weights, relative to the root.
 * Fails: what visit gives, and EMB_BAD_FILE (modules.json). */
typedef emb_status (*emb_model_companion)(void *user, const char *path, emb_error *error);
emb_status emb_model_companions(const emb_model_files *files, emb_model_companion visit, void *user,
                                emb_error *error);

/* The plain name of a tensor: without the prefix that the file may have. */
void emb_model_tensor_name(char *out, size_t capacity, const emb_model_files *files,
                           emb_tensor_role role, uint32_t layer);

/* Gives the shape (a vector: rank 1, one row); false: the family has no such tensor. */
bool emb_model_tensor_shape(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                            uint32_t *rank, uint32_t *rows, uint32_t *cols);

/* The dtype in which the file has it; EMB_DTYPE_DEFAULT: there is no such tensor. */
emb_dtype emb_model_tensor_dtype(const emb_model_files *files, emb_tensor_role role,
                                 uint32_t layer);

/* Whether a role may be quantized: the matrices of a layer, and the word embedding to int8. */
bool emb_model_quantizable(emb_tensor_role role);

/* Reads rows [row0, row0 + rows) of a tensor as f32 into out [rows, cols]. `layer` is ignored for
 * roles without layers. `scratch` holds at least emb_model_scratch_bytes(rows * cols). A vector is
 * one row. F16 and BF16 widen exactly. Allocates nothing.
 * Fails: EMB_IO, EMB_BAD_FILE (cut file; a value that is NaN or infinite, naming tensor and
 * element). Threads: any; each with its own scratch. */
emb_status emb_model_read_rows(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                               uint32_t row0, uint32_t rows, float *out, void *scratch,
                               emb_error *error);
size_t emb_model_scratch_bytes(size_t values);

/* Whether fp8 models keep a matrix in f16: in fp8 it would cause a fifth of fp8's loss in cosine,
 * and on a GPU quantizing its input would take as long as the product saves. */
static inline bool emb_fp8_keeps_f16(emb_tensor_role role) {
    return role == EMB_TENSOR_ATTENTION_OUT;
}

/* The dtype in which a model of that quantized dtype has a matrix. */
static inline emb_dtype emb_quantized_as(emb_dtype dtype, emb_tensor_role role) {
    if (role == EMB_TENSOR_WORDS) return EMB_DTYPE_INT8;
    return dtype == EMB_DTYPE_FP8 && emb_fp8_keeps_f16(role) ? EMB_DTYPE_F16 : dtype;
}

/* Matrices whose rounding to int4 is guided by the norm that feeds them (emb_quantize_balance) if
 * there are no calibration texts: the feed-forward's first, whose input has the largest outliers.
 * Queries, keys and values share one input and gain little. */
static inline bool emb_int4_balances(emb_tensor_role role) {
    return role == EMB_TENSOR_FFN_IN;
}

/* The dtype in which the matrices are stored: f32, f16 or bf16, or int8, int4 or fp8; read_rows
 * gives f32 from any of them. In a quantized model all matrices are quantized, except those that
 * fp8 keeps in f16, and the word embedding is int8. */
emb_dtype emb_model_stored_dtype(const emb_model_files *files);

/* Values that share a scale in an int4 matrix. */
uint32_t emb_model_stored_group(const emb_model_files *files, emb_tensor_role role, uint32_t layer);

/* Reads rows of a matrix (or of the word embedding) stored as int8 or int4 without restoring them.
 * Needs: out's buffers, for `rows` rows; scratch as for read_rows. Gives out's sizes too. For fp8
 * the values are its bytes, and bits is 8.
 * Fails: as read_rows; EMB_BAD_FILE also for a scale that is negative or not finite, a zero above
 * 15, and the int8 value -128. Threads: as read_rows. */
emb_status emb_model_read_quantized(const emb_model_files *files, emb_tensor_role role,
                                    uint32_t layer, uint32_t row0, uint32_t rows,
                                    emb_quantized_rows *out, void *scratch, emb_error *error);

/* Whether the input of this matrix is multiplied by factors before it is quantized; queries, keys
 * and values share an input, and so the factors of the query. */
bool emb_model_has_smooth(const emb_model_files *files, emb_tensor_role role, uint32_t layer);

/* Whether any matrix of the model has such factors. */
bool emb_model_smooths(const emb_model_files *files);

/* Reads those factors into out [cols]. Fails: EMB_IO, EMB_BAD_FILE (not finite, or not above 0). */
emb_status emb_model_read_smooth(const emb_model_files *files, emb_tensor_role role, uint32_t layer,
                                 float *out, emb_error *error);

/* Gives what emb_quantize_balance makes of the norm that feeds a layer's balanced matrix: factors
 * and importance [hidden]. Needs, fails, threads: as read_rows, for one row. */
emb_status emb_model_read_balance(const emb_model_files *files, uint32_t layer, float *factors,
                                  float *importance, void *scratch, emb_error *error);

#endif
