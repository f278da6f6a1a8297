/* quantizer.h - writes a new directory of a model with its matrices in 8 or 4 bits.
 *
 * Fed by model (rows of f32) and, to calibrate, by text and encoder; feeds files. Memory is one
 * arena, booked before any work; rows go through it a few at a time. Not part of an engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_QUANTIZER_QUANTIZER_H
#define EMB_QUANTIZER_QUANTIZER_H

#include "encoder/encoder.h"
#include "package/directory.h"
#include "plan/plan.h"

#define EMB_QUANTIZER_ROWS 64 /* rows of a matrix processed at once */

/* ---- compensate.c ---------------------------------------------------------------------------- */

/* Turns second moments H [cols, cols] (upper triangle) into M, in place. */
void emb_compensate_factor(float *moments, uint32_t cols);

/* Turns M into the share of an error in column j that column k > j takes over, [j, k]; importance
 * [cols] becomes the weight of the error that remains. */
void emb_compensate_shares(float *factors, float *importance, uint32_t cols);

/* Quantizes rows of values as emb_quantize_rows does, carrying errors onwards. targets: room for
 * 2 * rows * cols. Adds to *lost the squared error of the outputs, to *all their squares. */
void emb_compensate_rows(emb_quantized_rows *out, const float *values, const float *shares,
                         const float *importance, float *targets, double *lost, double *all);

/* ---- calibrate.c: what goes into each matrix on some texts ----------------------------------- */

/* The inputs that a layer's matrices read: queries, keys and values share theirs. */
enum { EMB_INPUT_QKV, EMB_INPUT_ATTENTION_OUT, EMB_INPUT_FFN_IN, EMB_INPUT_FFN_OUT, EMB_INPUTS };

typedef struct emb_calibration {
    const emb_model *model;
    const emb_backend *backend; /* f32, of this CPU */
    emb_weights weights;        /* embeddings except the words, and one layer */
    emb_layer_spec blocks;
    emb_lane_scratch scratch;
    emb_tokenizer tokenizer;
    uint32_t tokens_max, chunks_max, tile_tokens;
    uint32_t tokens, chunks;
    uint32_t *ids, *starts;     /* [tokens_max], [chunks_max + 1] of all texts */
    uint32_t *tile_starts;      /* [tile_tokens + 1] */
    uint32_t *tile_ids;         /* [tile_tokens] */
    float *words;               /* [tile_tokens, hidden] */
    float *row;                 /* [hidden] */
    int8_t *codes;              /* [hidden] */
    void *scratch_bytes;        /* of reading a row */
    float *x, *y;               /* [tokens_max, hidden] into and out of the layer */
    float *moments[EMB_INPUTS]; /* [cols, cols], upper triangle */
    float *peaks[EMB_INPUTS];   /* [cols] largest magnitude */
} emb_calibration;

void emb_calibration_layout(emb_calibration *c, const emb_model *model, const emb_backend *backend,
                            uint32_t tokens_max, const emb_books *books);

/* After binding; paired with end. */
void emb_calibration_init(emb_calibration *c);

/* Tokenises texts while there is room, and embeds them: x is the first layer's input.
 * Fails: EMB_INVALID_ARGUMENT (no tokens), EMB_IO, EMB_BAD_FILE. */
emb_status emb_calibration_begin(emb_calibration *c, const emb_text *texts, uint32_t count,
                                 emb_error *error);
void emb_calibration_end(emb_calibration *c);

/* Loads layer n in f32 and runs x through it into y, gathering moments and peaks. */
emb_status emb_calibration_observe(emb_calibration *c, uint32_t n, emb_error *error);

/* Runs x through the layer as it is packed now (quantized), in place: the next layer's input. Gives
 * its difference from y, relative RMS; not finite if either is not. */
double emb_calibration_advance(emb_calibration *c);

/* The layer's linear that reads an input. */
emb_linear *emb_calibration_linear(emb_calibration *c, uint32_t input);

/* ---- package.c: the directory that comes out --------------------------------------------------
 */

/* The parts of a tensor in the file. */
enum {
    EMB_PACKAGE_VALUES,
    EMB_PACKAGE_SCALES,
    EMB_PACKAGE_ZEROS,
    EMB_PACKAGE_SMOOTH,
    EMB_PACKAGE_PARTS
};

typedef struct emb_package {
    const emb_model *model;
    emb_dtype dtype;
    uint32_t group;
    bool smooth, overwrite;
    bool balanced;         /* matrices of emb_int4_balances have factors */
    uint64_t *offsets;     /* [slots, EMB_PACKAGE_PARTS] of the file */
    uint64_t bytes;        /* of the weights' file */
    int descriptor;        /* -1: none */
    unsigned char *packed; /* [EMB_QUANTIZER_ROWS * cols / 2] */
    emb_directory directory;
    char weights[EMB_DIRECTORY_PATH];
} emb_package;

void emb_package_layout(emb_package *out, const emb_shape *shape, uint32_t cols_max,
                        emb_ledger *ledger);

/* Makes the temporary folder next to `directory`, and the weights' file with its header.
 * Fails: EMB_INVALID_ARGUMENT (exists), EMB_IO. */
emb_status emb_package_open(emb_package *out, const char *directory, emb_error *error);

emb_status emb_package_write(emb_package *out, emb_tensor_role role, uint32_t layer, uint32_t part,
                             uint64_t first_byte, const void *bytes, size_t count,
                             emb_error *error);

/* Writes rows of a matrix with their scales and zeros. */
emb_status emb_package_write_rows(emb_package *out, emb_tensor_role role, uint32_t layer,
                                  uint32_t row0, const emb_quantized_rows *rows, emb_error *error);

/* Copies the other files of the model, writes the marker, renames the folder to its final name. */
emb_status emb_package_commit(emb_package *out, const char *marker, emb_error *error);

/* Removes what was written, unless it was committed. */
void emb_package_abort(emb_package *out);

#endif
