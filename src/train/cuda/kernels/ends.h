/* ends.h - the CUDA kernels at both ends of a training step: embedding and pooling, forwards and
 * back; the ranking loss; the optimiser; conversions between f32 and 16 bits.
 *
 * All functions give 0 or a cudaError_t, allocate nothing, and enqueue on `stream`; any thread may
 * call them. All pointers are device pointers unless said, matrices and arrays that are as long as
 * the parameters 16-byte aligned. `type` is EMB_DTYPE_BF16 or EMB_DTYPE_F16. The order of every sum
 * is fixed by shapes and contents alone: the same input gives the same bits, on any number of
 * multiprocessors.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_KERNELS_ENDS_H
#define EMB_TRAIN_CUDA_KERNELS_ENDS_H

#include "backend/cuda/kernels/launch.h"
#include "train/cpu/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- embedding ------------------------------------------------------------------------------- */

/* The tokens of a batch by their id: group g holds tokens[groups[g]] to tokens[groups[g + 1] - 1],
 * in their order, all with ids[g]; an id has one group. */
typedef struct emb_train_cuda_words {
    const uint32_t *tokens;       /* [tokens] */
    const uint32_t *groups;       /* [groups + 1], first is 0 */
    const uint32_t *ids;          /* [groups] */
    const uint32_t *groups_count; /* [1], on the device like the rest */
} emb_train_cuda_words;

/* sum [tokens, hidden] = words[id] + (positions[index in chunk] + token_types[0]), rounded to the
 * type; x [tokens, hidden] = norm(sum as rounded). Tables are f32, `positions` from the chunk's
 * first on, `token_types` may be NULL. Needs batch->positions (emb_cuda_prepare). hidden: a
 * multiple of 8, at most EMB_CUDA_HIDDEN_MAX. */
int emb_cuda_train_embed(void *x, void *sum, const emb_cuda_batch *batch, const float *words,
                         const float *positions, const float *token_types, const float *gain,
                         const float *shift, float epsilon, uint32_t hidden, emb_dtype type,
                         void *stream);

/* Adds the gradient d_sum [tokens, hidden] to those of the tables. No chunk of the batch is longer
 * than positions_max. `d_token_types` may be NULL; if it is not, `partials` is scratch of
 * [positions_max, hidden]. */
int emb_cuda_train_embed_back(float *d_words, float *d_positions, float *d_token_types,
                              float *partials, const void *d_sum, const emb_cuda_batch *batch,
                              const emb_train_cuda_words *order, uint32_t positions_max,
                              uint32_t hidden, emb_dtype type, void *stream);

/* ---- pooling --------------------------------------------------------------------------------- */

/* vectors[targets[c]] [hidden] = the pooled tokens of chunk c, divided by max(length, 1e-12) if
 * `normalize`: the values that emb_cuda_pool has, rounded to the type. */
int emb_cuda_train_pool(void *vectors, const void *in, const emb_cuda_batch *batch, uint32_t hidden,
                        emb_cuda_pooling pooling, int normalize, emb_dtype type, void *stream);

/* d [tokens, hidden] = the gradient of `in`, given d_vectors [rows, hidden]; must not overlap
 * `in`. */
int emb_cuda_train_pool_back(void *d, const void *d_vectors, const void *in,
                             const emb_cuda_batch *batch, uint32_t hidden, emb_cuda_pooling pooling,
                             int normalize, emb_dtype type, void *stream);

/* ---- ranking loss ---------------------------------------------------------------------------- */

/* Widths of vectors that these take: multiples of 64. */
#define EMB_CUDA_TRAIN_WIDTH_MAX 1024

/* In place: divides each row [width] by its length, at least 1e-12, which goes to lengths [rows].
 * width: a multiple of 8, at most EMB_CUDA_HIDDEN_MAX. */
int emb_cuda_train_units(void *vectors, float *lengths, uint32_t rows, uint32_t width,
                         emb_dtype type, void *stream);

/* In place: turns d [rows, width], the gradient of the units, into that of the vectors. */
int emb_cuda_train_units_back(void *d, const void *units, const float *lengths, uint32_t rows,
                              uint32_t width, emb_dtype type, void *stream);

/* Which anchors and candidates a call is of. One that trains alone has them all: anchor i's own
 * candidate is number i. One of several takes some rows of one side, and all of the other. */
typedef struct emb_cuda_train_pairs {
    uint32_t anchors, candidates;
    int32_t first;  /* anchor i's own candidate is number first + i, if that is here */
    uint32_t backs; /* candidates, the first ones, that have back sums */
} emb_cuda_train_pairs;

/* log_sums[i] = log(sum over j of e^(scale * a[i] . b[j])), and losses[i] = log_sums[i] -
 * scale * a[i] . (its own candidate). a [anchors, width], b [candidates, width]; of the symmetric
 * loss the other half is a call with anchors and their own candidates exchanged, whose log sums are
 * `back_sums` below. pairs->backs is not read.
 * scale: above 0.
 * Fails: cudaErrorNotSupported for a width that is no multiple of 64 or above
 * EMB_CUDA_TRAIN_WIDTH_MAX, for BF16 below sm_80, and where shared memory is too small. */
int emb_cuda_train_ranking(float *losses, float *log_sums, const void *a, const void *b,
                           const emb_cuda_train_pairs *pairs, uint32_t width, float scale,
                           emb_dtype type, const emb_cuda_device *device, void *stream);

/* Writes the gradient of weight * (sum of the losses), times `grow` against underflow of F16: of
 * `a` to d [anchors, width], or, if `of_candidates`, of `b` to d [candidates, width].
 * log_sums [anchors]. `back_sums` [backs] is NULL, or those of the symmetric loss: then d is the
 * gradient of weight * (sum of both losses), in one pass.
 * Fails: as emb_cuda_train_ranking. */
int emb_cuda_train_ranking_back(void *d, int of_candidates, const void *a, const void *b,
                                const float *log_sums, const float *back_sums,
                                const emb_cuda_train_pairs *pairs, uint32_t width, float scale,
                                float weight, float grow, emb_dtype type,
                                const emb_cuda_device *device, void *stream);

/* out [1] = sum of values [count]. */
int emb_cuda_train_sum(double *out, const float *values, uint32_t count, void *stream);

/* ---- optimiser ------------------------------------------------------------------------------- */

/* Values of `partials` of the sum of squares. */
#define EMB_CUDA_TRAIN_PARTIALS 1024

/* One step of AdamW as emb_train_kernels.adamw. `step` is in the host's memory. */
int emb_cuda_train_adamw(float *values, float *m, float *v, const float *gradients, uint64_t count,
                         const emb_adamw *step, void *stream);

/* The same with moments of 8 bits, as emb_train_kernels.adamw8 of blocks of EMB_TRAIN_BLOCK:
 * `scales` [2 * count / EMB_TRAIN_BLOCK]. count: a multiple of EMB_TRAIN_BLOCK. */
int emb_cuda_train_adamw8(float *values, int8_t *m, uint8_t *v, float *scales,
                          const float *gradients, uint64_t count, const emb_adamw *step,
                          void *stream);

/* One step as emb_train_kernels.sgd; m NULL: no momentum. `step` is in the host's memory. */
int emb_cuda_train_sgd(float *values, float *m, const float *gradients, uint64_t count,
                       const emb_sgd *step, void *stream);

/* out [1] = sum of squares of values [count]; not finite if one of them is not. `partials`
 * [EMB_CUDA_TRAIN_PARTIALS] is scratch. */
int emb_cuda_train_square_sum(double *out, double *partials, const float *values, uint64_t count,
                              void *stream);

/* ---- conversions ----------------------------------------------------------------------------- */

/* out [rows, cols] = in [rows, cols], rounded; and transposed [cols, rows], unless NULL. rows and
 * cols: multiples of 8. */
int emb_cuda_train_narrow(void *out, void *transposed, const float *in, uint32_t rows,
                          uint32_t cols, emb_dtype type, void *stream);
int emb_cuda_train_narrow_values(void *out, const float *in, uint64_t count, emb_dtype type,
                                 void *stream);
int emb_cuda_train_widen(float *out, const void *in, uint64_t count, emb_dtype type, void *stream);

#ifdef __cplusplus
}
#endif

#endif
