/* train.h - private to the CUDA module: the state of a training on a GPU, and its scratch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_HOST_TRAIN_H
#define EMB_TRAIN_CUDA_HOST_TRAIN_H

#include <cuda_runtime_api.h>

#include "backend/cuda/host/module.h"
#include "train/cuda/kernels/attention.h"
#include "train/cuda/kernels/ends.h"
#include "train/cuda/kernels/gradients.h"
#include "train/cuda/kernels/rows.h"
#include "train/device.h"

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

extern const emb_train_device emb_cuda_train_device;

#endif
