/* device.h - what a device beside the CPU needs: regions, streams, copies, recordings.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_DEVICE_H
#define EMB_BACKEND_DEVICE_H

#include "backend/lane.h"
#include "backend/linear.h"

typedef struct emb_backend emb_backend; /* backend/ops.h */

/* What is current on a thread of the caller's, who may use devices too: NULL restore, nothing is.
 */
typedef struct emb_device_thread {
    int (*restore)(void *context);
    void *context;
    void *library; /* that `restore` is in, held until leave */
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

/* What a device beside the CPU needs; a CPU backend has none. Operations of a device are enqueued
 * and run in order; lanes are independent of one another. */
typedef struct emb_device_calls {
    /* The calls below change which device is current on their thread. Around them on a caller's:
     * enter keeps what was, and makes the device current; leave restores it. */
    void (*enter)(emb_device_thread *before, uint32_t device);
    void (*leave)(const emb_device_thread *before);
    /* Makes the device's context, if it is not there yet. Fails: EMB_DEVICE. */
    emb_status (*open)(uint32_t device, emb_error *error);
    /* Waits until everything that linear_pack and convert wrote has arrived; tells their failures.
     * Lanes may read it only then. Fails: EMB_DEVICE. Threads: any. */
    emb_status (*uploaded)(uint32_t device, emb_error *error);
    /* The region of the device: one allocation, NULL if refused. */
    void *(*take)(uint32_t device, uint64_t bytes);
    void (*give)(void *base);
    /* Lets the device read and write host memory; false if refused. */
    bool (*pin)(void *base, uint64_t bytes);
    void (*unpin)(void *base);
    /* Creates, and ends, what a lane needs beside memory (a stream). */
    emb_status (*lane_open)(const emb_backend *self, emb_lane_scratch *lane, uint32_t device,
                            emb_error *error);
    void (*lane_close)(emb_lane_scratch *scratch);
    /* States which of the kernels that give the same bits the lane uses from now on. */
    void (*tuned)(emb_lane_scratch *scratch, const emb_tuning *tuning);
    /* Times them for tiles of up to `tokens` tokens and sets the table's row. Overwrites the lane's
     * scratch; for open alone, after a tile of as many tokens. Fails: EMB_DEVICE. */
    emb_status (*tune)(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                       uint32_t tokens, const emb_layer *layer, const emb_layer_spec *shape,
                       emb_error *error);
    /* Records what is enqueued for a tile of up to `tokens` tokens, from here to `recorded`,
     * instead of running it: embed and every layer, with resident weights. Makes *tile; for open
     * alone. */
    void (*record)(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch);
    /* Ends the recording and readies it. A failure (EMB_DEVICE) leaves the lane as it was before
     * `record`: tiles of that size are enqueued operation by operation, with the same bits. */
    emb_status (*recorded)(emb_lane_scratch *scratch, emb_error *error);
    /* Uploads ids, starts and targets (pinned); makes them the device's in *tile and *targets.
     * True: a recording that fits the tile was replayed as well, and pool alone is left. */
    bool (*begin)(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
    /* Waits until everything enqueued is done. Fails: EMB_DEVICE (sticky). */
    emb_status (*finish)(emb_lane_scratch *scratch, emb_error *error);

    /* A copier is a queue beside the lanes'; events order it and them without the host. A mark
     * stands for everything enqueued before it; who waits for an event waits for its latest mark,
     * and not at all if it has none. copier_close waits until the copier has nothing left to do.
     * Fails: EMB_DEVICE. */
    emb_status (*copier_open)(void **copier, void **events, uint32_t count, uint32_t device,
                              emb_error *error);
    void (*copier_close)(void *copier, void **events, uint32_t count);
    /* Enqueues a copy from pinned memory to the device's, behind the marks of `after`; marks `done`
     * behind it. Fails: EMB_DEVICE, if it cannot be enqueued; a later failure is finish's. */
    emb_status (*copy)(void *copier, const emb_device_copy *copy, uint32_t device,
                       emb_error *error);
    /* What the lane enqueues from now on waits for the event. */
    void (*lane_wait)(emb_lane_scratch *scratch, void *event);
    void (*lane_mark)(emb_lane_scratch *scratch, void *event);
    /* The host waits. Fails: EMB_DEVICE (sticky). */
    emb_status (*event_finish)(void *event, uint32_t device, emb_error *error);

    /* Memory of the caller's beside the region. These enter and leave themselves. */
    void *(*rows_take)(uint32_t device, uint64_t bytes);
    void (*rows_give)(void *base, uint32_t device);
    /* Waits until they are there. Fails: EMB_DEVICE. */
    emb_status (*rows_copy)(const emb_rows_copy *copy, uint32_t device, emb_error *error);
} emb_device_calls;

#endif
