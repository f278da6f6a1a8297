/* train.h - private to the CUDA module: the state of a training on a GPU, and its scratch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_HOST_TRAIN_H
#define EMB_TRAIN_CUDA_HOST_TRAIN_H

#include <cuda_runtime_api.h>

#include "backend/cuda/host/module.h"
#include "train/cuda/host/collective.h"
#include "train/cuda/kernels/attention.h"
#include "train/cuda/kernels/ends.h"
#include "train/cuda/kernels/gradients.h"
#include "train/cuda/kernels/rows.h"
#include "train/device.h"
#include "train/team.h"

/* Uploads that may be under way at once. */
enum { EMB_CUDA_TRAIN_SLOTS = 4 };

/* A tile's indices, in 32-bit words from the start of a slot. */
typedef struct emb_cuda_train_places {
    uint64_t starts, ids, targets, order, groups, group_ids, words;
} emb_cuda_train_places;

/* In emb_train_run.state. */
typedef struct emb_cuda_train {
    const emb_cuda_launch *launch;
    emb_cuda_device device;
    uint32_t index;
    emb_dtype type; /* of activations */
    cudaStream_t stream;
    int failure; /* the first, a cudaError_t */
    emb_train_device_sizes sizes;
    /* on the device */
    uint16_t *narrow, *transposed; /* [matrices_values]: at its place of the layers' parameters */
    float *zeros;                  /* [cols_max] a bias that is none */
    uint32_t *indices;             /* a slot's words: of the tile at work */
    uint32_t *positions, *query_tiles;
    float *lengths, *log_sums, *losses; /* [texts] */
    double *sums;                       /* [2 + the partial sums of norm] */
    /* pinned */
    uint32_t *slots[EMB_CUDA_TRAIN_SLOTS];
    double *result; /* [2] */
    cudaEvent_t free[EMB_CUDA_TRAIN_SLOTS];
    uint32_t slot;              /* the next */
    emb_cuda_batch batch;       /* the tile at work */
    emb_train_cuda_words words; /* its tokens by id */
    const float *values;        /* where the parameters begin */
    void *unfinished;           /* NULL, or a gradient that `more` is still to be added to */
    const void *more;
    emb_cuda_meeting meeting; /* with other GPUs */
} emb_cuda_train;

/* A tile's scratch. The attention's and the feed-forward's share their place. */
typedef struct emb_cuda_train_buffers {
    float *partials;           /* of weight gradients, norms, positions */
    void *product, *dropped;   /* [tokens, hidden] of a projection; of a gradient */
    void *qkv, *d_qkv;         /* [tokens, 3 * hidden] */
    void *context, *d_context; /* [tokens, hidden] */
    float *log_sums;           /* [heads, tokens] */
    void *attention;           /* of the attention's way back */
    void *before, *after;      /* [tokens, intermediate] */
    uint64_t bytes;
} emb_cuda_train_buffers;

emb_cuda_train_buffers emb_cuda_train_cut(const emb_cuda_train *train, const emb_layer_spec *spec,
                                          uint32_t tokens, void *memory);

static inline emb_cuda_train *emb_cuda_train_of(const emb_train_run *run) {
    return run->state;
}

/* Keeps the first failure; code 0 is none. Gives whether all is well. */
static inline bool emb_cuda_train_note(emb_cuda_train *t, int code) {
    if (!t->failure) t->failure = code;
    return !t->failure;
}

/* ---- collective.c: with other GPUs ----------------------------------------------------------- */

/* As in emb_train_device. */
emb_status emb_cuda_train_meet(void *const *states, uint32_t count, uint64_t *bytes,
                               emb_error *error);
void emb_cuda_train_add_up(const emb_train_run *run, float *values, uint64_t count);
void emb_cuda_train_copy_first(const emb_train_run *run, void *at, uint64_t bytes);

/* Ends a meeting; before, every GPU has waited. */
void emb_cuda_train_part(emb_cuda_train *t);

/* Fills rows [columns, examples, row_bytes], of which each GPU has its share of the examples, and
 * waits. Nothing for one that trains alone. */
void emb_cuda_train_gather(emb_cuda_train *t, void *rows, uint32_t columns, uint32_t examples,
                           uint64_t row_bytes);

/* Waits for all that was enqueued, and no longer than the other GPUs work. */
void emb_cuda_train_wait(emb_cuda_train *t);

extern const emb_train_device emb_cuda_train_device;

#endif
