/* device.h - what training needs of a device beside the blocks: memory, copies, and what is done
 * with all parameters and all vectors of a batch.
 *
 * Everything is enqueued in order; read, norm, ranking and finish wait. Pointers are the device's
 * unless said. After a failure nothing more is done, and finish reports it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_DEVICE_H
#define EMB_TRAIN_DEVICE_H

#include "embound_train.h"
#include "train/cpu/kernels.h"
#include "train/ops.h"

/* What a device's state is booked for. */
typedef struct emb_train_device_sizes {
    uint32_t tokens;          /* of a tile */
    uint32_t texts;           /* of a batch */
    uint32_t width;           /* of a vector */
    uint32_t cols_max;        /* of a matrix or its transpose */
    uint64_t matrices_first;  /* in the order of the parameters: where the layers begin */
    uint64_t matrices_values; /* of all layers */
} emb_train_device_sizes;

/* The vectors of a batch on their way through a loss, as in loss/loss.h. */
typedef struct emb_train_vectors {
    uint32_t examples, columns;
    uint32_t first, own; /* the examples whose vectors are here: all, or one device's share */
    float share;         /* of the loss's gradient */
    void *vectors;       /* [columns * examples, width]; overwritten */
    void *d_vectors;     /* of the own examples; the others' rows are undefined */
} emb_train_vectors;

struct emb_train_device {
    const emb_device_calls *calls;
    uint32_t state_bytes; /* of run->state, in host memory, zeroed before attach */
    /* Which device the state is for; before any layout. Fails: EMB_DEVICE. */
    emb_status (*attach)(void *state, uint32_t device, emb_error *error);
    /* Books the 16-bit copies of matrices, a tile's indices, the loss; staging in pinned memory. */
    void (*layout)(emb_train_run *run, const emb_train_device_sizes *sizes, emb_ledger *pinned,
                   emb_ledger *device);
    /* A queue of its own. Fails: EMB_DEVICE. */
    emb_status (*open)(emb_train_run *run, emb_error *error);
    void (*close)(emb_train_run *run);

    /* Host memory `from` may be reused at once; `to` is filled on return. */
    void (*write)(const emb_train_run *run, void *to, const void *from, uint64_t bytes);
    void (*read)(const emb_train_run *run, void *to, const void *from, uint64_t bytes);
    void (*clear)(const emb_train_run *run, void *at, uint64_t bytes);
    /* Activations to f32 of the host, and back. */
    void (*read_vectors)(const emb_train_run *run, float *to, const void *from, uint64_t values);
    void (*write_vectors)(const emb_train_run *run, void *to, const float *from, uint64_t values);

    /* Makes the 16-bit copies of one of the layers' matrices: values is where all parameters
     * begin. */
    void (*narrow)(const emb_train_run *run, const float *values, const float *weight,
                   uint32_t rows, uint32_t cols);
    /* Uploads a tile, and makes it and targets point to the device's copies. */
    void (*begin)(const emb_train_run *run, emb_tile *tile, const uint32_t **targets);

    /* The ranking loss of all devices' examples, and d_vectors. NaN after a failure. */
    double (*ranking)(const emb_train_run *run, const emb_train_loss *loss,
                      const emb_train_vectors *batch);
    /* The length of all gradients together; NaN after a failure. */
    double (*norm)(const emb_train_run *run, const float *gradients, uint64_t values);
    void (*adamw)(const emb_train_run *run, float *values, float *m, float *v,
                  const float *gradients, uint64_t count, const emb_adamw *step);
    void (*adamw8)(const emb_train_run *run, float *values, int8_t *m, uint8_t *v, float *scales,
                   const float *gradients, uint64_t count, const emb_adamw *step);
    /* m: NULL without momentum. */
    void (*sgd)(const emb_train_run *run, float *values, float *m, const float *gradients,
                uint64_t count, const emb_sgd *step);

    /* ---- several devices: each is called by a thread of its own, all for the same at once -----
     */

    /* Connects the devices of these states, and tries what follows; bytes: what that takes of the
     * memory of each. One thread for all; close ends it. Fails: EMB_DEVICE. */
    emb_status (*meet)(void *const *states, uint32_t count, uint64_t *bytes, emb_error *error);
    /* values = the sum of those of all devices: the same bits on each. */
    void (*add_up)(const emb_train_run *run, float *values, uint64_t count);
    /* What the first device has there goes to all. */
    void (*copy_first)(const emb_train_run *run, void *at, uint64_t bytes);

    /* Waits. Fails: EMB_DEVICE. */
    emb_status (*finish)(const emb_train_run *run, emb_error *error);
};

#endif
