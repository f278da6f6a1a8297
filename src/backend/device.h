/* device.h - what a device other than the CPU needs: regions, streams, copies, recordings.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_DEVICE_H
#define EMB_BACKEND_DEVICE_H

#include "backend/lane.h"
#include "backend/linear.h"

typedef struct emb_backend emb_backend; /* backend/ops.h */

/* The context that was current on a caller's thread, which may use devices itself; restore NULL:
 * none.
 */
typedef struct emb_device_thread {
    int (*restore)(void *context);
    void *context;
    void *library; /* that `restore` belongs to, kept open until leave */
} emb_device_thread;

/* Rows between the host's memory and a device's. */
typedef struct emb_rows_copy {
    void *to;
    const void *from;
    uint64_t to_stride, from_stride, row_bytes, rows;
    bool to_host;
} emb_rows_copy;

typedef struct emb_device_copy {
    void *to;         /* the device's memory */
    const void *from; /* pinned host memory */
    uint64_t bytes;
    void *const *after; /* [after_count] events */
    uint32_t after_count;
    void *done; /* event */
} emb_device_copy;

/* What a device other than the CPU needs; a CPU backend has none. A lane's operations are enqueued
 * and run in order; lanes are independent of one another. */
typedef struct emb_device_calls {
    /* The calls below change which device is current on their thread. On a caller's thread they go
     * between enter, which saves what was current and makes the device current, and leave, which
     * restores it. */
    void (*enter)(emb_device_thread *before, uint32_t device);
    void (*leave)(const emb_device_thread *before);
    /* Creates the device's context unless it exists. Fails: EMB_DEVICE. */
    emb_status (*open)(uint32_t device, emb_error *error);
    /* Waits until everything that linear_pack and convert wrote has arrived, and reports their
     * failures. Only then may lanes read it. Fails: EMB_DEVICE. Threads: any. */
    emb_status (*uploaded)(uint32_t device, emb_error *error);
    /* Allocates the device's region in one piece; NULL if refused. */
    void *(*take)(uint32_t device, uint64_t bytes);
    void (*give)(void *base);
    /* Lets the device read and write host memory; false if refused. */
    bool (*pin)(void *base, uint64_t bytes);
    void (*unpin)(void *base);
    /* Creates and destroys what a lane needs besides memory (a stream). */
    emb_status (*lane_open)(const emb_backend *self, emb_lane_scratch *lane, uint32_t device,
                            emb_error *error);
    void (*lane_close)(emb_lane_scratch *scratch);
    /* Sets which of the kernels with the same bits the lane uses from now on. */
    void (*tuned)(emb_lane_scratch *scratch, const emb_tuning *tuning);
    /* Times them for tiles of up to `tokens` tokens and sets the table's row. Overwrites the lane's
     * scratch; only during open, after a tile of as many tokens has run. Fails: EMB_DEVICE. */
    emb_status (*tune)(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                       uint32_t tokens, const emb_layer *layer, const emb_layer_spec *shape,
                       emb_error *error);
    /* Records what is enqueued for a tile of up to `tokens` tokens, from here to `recorded`,
     * instead of running it: embed and every layer, with resident weights. Fills *tile. Only during
     * open. */
    void (*record)(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch);
    /* Ends the recording and instantiates it. A failure (EMB_DEVICE) leaves the lane as it was
     * before `record`: tiles of that size are enqueued operation by operation, with the same
     * bits. */
    emb_status (*recorded)(emb_lane_scratch *scratch, emb_error *error);
    /* Uploads ids, starts and targets (pinned), and makes *tile and *targets point to the device's
     * copies. Gives true if it also replayed a recording that fits the tile: then only pool is
     * left. */
    bool (*begin)(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
    /* Waits until everything enqueued is done. Fails: EMB_DEVICE (sticky). */
    emb_status (*finish)(emb_lane_scratch *scratch, emb_error *error);

    /* A copier is a queue besides the lanes'; events order it and them without the host. A mark
     * covers everything enqueued before it; waiting for an event waits for its latest mark, or not
     * at all if it has none. copier_close waits until the copier is idle.
     * Fails: EMB_DEVICE. */
    emb_status (*copier_open)(void **copier, void **events, uint32_t count, uint32_t device,
                              emb_error *error);
    void (*copier_close)(void *copier, void **events, uint32_t count);
    /* Enqueues a copy from pinned memory to the device, after the marks of `after`, and a mark of
     * `done` after it. Fails: EMB_DEVICE, if it cannot be enqueued; later failures are reported by
     * finish. */
    emb_status (*copy)(void *copier, const emb_device_copy *copy, uint32_t device,
                       emb_error *error);
    /* Makes what the lane enqueues from now on wait for the event. */
    void (*lane_wait)(emb_lane_scratch *scratch, void *event);
    void (*lane_mark)(emb_lane_scratch *scratch, void *event);
    /* Makes the host wait for the event. Fails: EMB_DEVICE (sticky). */
    emb_status (*event_finish)(void *event, uint32_t device, emb_error *error);

    /* Memory for the caller's rows, apart from the region. These calls enter and leave by
     * themselves. */
    void *(*rows_take)(uint32_t device, uint64_t bytes);
    void (*rows_give)(void *base, uint32_t device);
    /* Copies, and waits for the copy. Fails: EMB_DEVICE. */
    emb_status (*rows_copy)(const emb_rows_copy *copy, uint32_t device, emb_error *error);
} emb_device_calls;

#endif
