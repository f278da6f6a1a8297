/* lane.h - a lane as the blocks see it: its queue, its memory cut for a tile, the tile's batch; no
 * CUDA here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_LANE_H
#define EMB_BACKEND_CUDA_HOST_LANE_H

#include "backend/cuda/kernels/launch.h"
#include "backend/cuda/sizes/layout.h"

/* The products of a layer. */
typedef enum emb_cuda_product {
    EMB_CUDA_QKV,
    EMB_CUDA_ATTENTION_OUT,
    EMB_CUDA_FFN_IN, /* followed by GELU */
    EMB_CUDA_FFN_OUT,
    EMB_CUDA_PRODUCTS
} emb_cuda_product;

_Static_assert(EMB_CUDA_PRODUCTS == EMB_TUNING_PRODUCTS, "the table has a column for each");

/* What a lane launches with. emb_lane_scratch.state begins with it; the module, or the fake device,
 * fills it in when a lane opens. */
typedef struct emb_cuda_queue {
    const emb_cuda_launch *launch;
    void *stream;
    int failure;     /* the first since open, a cudaError_t; 0: none */
    int blas_status; /* the cause, if cuBLASLt failed */
    bool replayed;   /* the current tile runs from a recording */
    emb_cuda_device device;
    emb_tuning tuning;
    emb_cuda_blas blas; /* handle not NULL: cuBLASLt multiplies */
    emb_cuda_blas_choice choices[EMB_CUDA_PRODUCTS];
} emb_cuda_queue;

/* Keeps the first failure; code 0 is none. */
static inline void emb_cuda_note(emb_cuda_queue *queue, int code) {
    if (!queue->failure) queue->failure = code;
}

/* The lane's device memory, its queue, and the current tile's batch. */
typedef struct emb_cuda_view {
    emb_cuda_lane lane;
    emb_cuda_batch batch;
    emb_cuda_queue *queue;
    emb_dtype type; /* of activations */
} emb_cuda_view;

emb_cuda_view emb_cuda_view_of(const emb_backend *self, const emb_lane_scratch *lane,
                               const emb_tile *tile, const emb_layer_spec *shape);

/* The same where shape and dtype are not known: of the lane's buffers only the index buffers are
 * valid. */
emb_cuda_view emb_cuda_view_indices(const emb_lane_scratch *lane, const emb_tile *tile);

/* One copy from pinned memory to the device's. */
typedef struct emb_cuda_upload {
    void *to;
    const void *from;
    uint64_t bytes;
} emb_cuda_upload;

/* Gives the copy that uploads a tile's indices, and makes ids, starts and targets point to the
 * device's copies. `v` is the tile's view. */
emb_cuda_upload emb_cuda_upload_of(const emb_cuda_view *v, emb_tile *tile,
                                   const uint32_t **targets);

/* The tuning table's row for a tile of so many tokens. */
uint32_t emb_cuda_tuning_row(uint32_t tokens);

/* As emb_device_calls.tuned: keeps the table's entries that this card has kernels for. */
void emb_cuda_tuned(emb_lane_scratch *scratch, const emb_tuning *tuning);

#endif
