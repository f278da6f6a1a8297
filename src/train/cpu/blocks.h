/* blocks.h - what the CPU's training operations share: their scratch, and products by a team.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CPU_BLOCKS_H
#define EMB_TRAIN_CPU_BLOCKS_H

#include "train/cpu/kernels.h"
#include "train/cpu/random.h"
#include "train/ops.h"

/* Queries of a head that are worked on at once. */
enum { EMB_TRAIN_QUERIES = 64 };

/* The inside of attention, which its way back needs. */
typedef struct emb_train_attended {
    float *qkv;      /* [tokens, 3 * context] */
    float *context;  /* [tokens, context] */
    float *log_sums; /* [heads, tokens] of the softmax */
    uint64_t bytes;
} emb_train_attended;

/* What a tile's operations work in. The attention's and the feed-forward's lie in the same place:
 * they are never at work together. */
typedef struct emb_train_buffers {
    float *moments; /* [tokens, 2] of a norm */
    float *dropped; /* [tokens, hidden] of a gradient */
    /* attention */
    emb_train_attended attended; /* if nothing keeps it */
    float *d_qkv;                /* [tokens, 3 * context] */
    float *d_context;            /* [tokens, context] */
    /* feed-forward */
    float *before, *after; /* [tokens, intermediate]: of the activation, and its gradient */
    /* each thread's own */
    float *work;                               /* [threads, EMB_TRAIN_WORK] */
    float *scores, *d_scores, *dropped_scores; /* [threads, EMB_TRAIN_QUERIES, longest] */
    float *row;                                /* [threads, 2 * hidden] */
    uint32_t longest;                          /* chunk, rounded up to whole cache lines */
    uint64_t bytes;
} emb_train_buffers;

/* Cut for so many tokens from memory; the same bytes for NULL. */
emb_train_attended emb_train_cut_attended(const emb_layer_spec *spec, uint32_t tokens,
                                          const void *memory);
emb_train_buffers emb_train_cut(const emb_layer_spec *spec, uint32_t tokens, uint32_t threads,
                                void *memory);

static inline emb_train_buffers emb_train_buffers_of(const emb_train_run *run) {
    return emb_train_cut(run->spec, run->scratch.tokens_max, run->scratch.threads,
                         run->scratch.memory);
}

static inline const emb_train_kernels *emb_train_kernels_in(const emb_train_run *run) {
    return run->kernels;
}

/* out [tokens, rows] = in [tokens, cols] * weight [rows, cols]^T + bias */
void emb_train_linear(const emb_train_run *run, float *out, const float *in, const float *weight,
                      const float *bias, uint32_t tokens, uint32_t rows, uint32_t cols);

/* d_in [tokens, cols] = d_out [tokens, rows] * weight, or plus that. */
void emb_train_linear_back(const emb_train_run *run, float *d_in, const float *d_out,
                           const float *weight, uint32_t tokens, uint32_t rows, uint32_t cols,
                           bool add);

/* d_weight [rows, cols] += d_out^T * in; d_bias [rows] += the sum of d_out's tokens. Either
 * may be NULL. */
void emb_train_linear_gradients(const emb_train_run *run, float *d_weight, float *d_bias,
                                const float *d_out, const float *in, uint32_t tokens, uint32_t rows,
                                uint32_t cols);

/* out [tokens, hidden] = in, of which dropout leaves out its share at that site; in itself where
 * that is nothing. Gives where the result is: out, or in. */
const float *emb_train_drop(const emb_train_run *run, float *out, const float *in,
                            const emb_tile *tile, emb_drop_site site);

/* The end of a block: sum, of which dropout leaves out its share at that site, += x; x = norm(sum).
 */
void emb_train_end_block(const emb_train_run *run, float *x, float *sum, const emb_tile *tile,
                         emb_drop_site site, const float *gain, const float *shift);

/* ---- as in ops.h ----------------------------------------------------------------------------- */

void emb_train_cpu_norm(const emb_train_run *run, void *out, const void *sum, uint32_t tokens,
                        const float *gain, const float *shift);
void emb_train_cpu_attention(const emb_train_run *run, void *x, void *sum, void *kept,
                             const emb_tile *tile, const emb_layer_params *weights);
void emb_train_cpu_attention_back(const emb_train_run *run, const emb_layer_params *gradients,
                                  void *d, const void *in, const void *kept, const emb_tile *tile,
                                  const emb_layer_params *weights);
void emb_train_cpu_ffn(const emb_train_run *run, void *x, void *sum, void *kept,
                       const emb_tile *tile, const emb_layer_params *weights);
void emb_train_cpu_ffn_back(const emb_train_run *run, const emb_layer_params *gradients, void *d,
                            const void *in, const void *kept, const emb_tile *tile,
                            const emb_layer_params *weights);

#endif
