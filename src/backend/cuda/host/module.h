/* module.h - private to the CUDA module: its host functions that talk to the CUDA runtime, which
 * query.c's tables name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_MODULE_H
#define EMB_BACKEND_CUDA_HOST_MODULE_H

#include <cuda_runtime_api.h>

#include "backend/cuda/host/lane.h"

/* A lane's state, in emb_lane_scratch.state. */
typedef struct emb_cuda_state {
    emb_cuda_queue queue; /* first: it is all that blocks know; its stream is a cudaStream_t */
    uint32_t index;       /* the device's */
    uint32_t recording;   /* tokens of the tile being recorded; 0: none is */
    uint32_t graphs_count;
    struct emb_cuda_recorded {
        uint32_t tokens; /* that the graph's grids are sized for */
        cudaGraphExec_t graph;
    } graphs[EMB_BUCKETS_MAX];
} emb_cuda_state;

_Static_assert(sizeof(emb_cuda_state) <= EMB_CUDA_STATE_BYTES, "layout books too little for state");

/* Creates the context of a device. */
cudaError_t emb_cuda_warm_up(uint32_t device);

emb_status emb_cuda_probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                          emb_error *error);

/* Whether this build has kernels for such a GPU. */
bool emb_cuda_supports(uint32_t compute_capability);

/* ---- as in emb_device_calls and emb_backend -------------------------------------------------- */

emb_status emb_cuda_open_device(uint32_t device, emb_error *error);
emb_status emb_cuda_uploaded(uint32_t device, emb_error *error);
void *emb_cuda_take(uint32_t device, uint64_t bytes);
void emb_cuda_give(void *base);
bool emb_cuda_pin(void *base, uint64_t bytes);
void emb_cuda_unpin(void *base);
emb_status emb_cuda_lane_open(const emb_backend *self, emb_lane_scratch *scratch, uint32_t device,
                              emb_error *error);
void emb_cuda_lane_close(emb_lane_scratch *scratch);
emb_status emb_cuda_tune(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                         uint32_t tokens, const emb_layer *layer, const emb_layer_spec *shape,
                         emb_error *error);
bool emb_cuda_begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
emb_status emb_cuda_finish(emb_lane_scratch *scratch, emb_error *error);
void emb_cuda_record(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch);
emb_status emb_cuda_recorded(emb_lane_scratch *scratch, emb_error *error);

emb_status emb_cuda_copier_open(void **copier, void **events, uint32_t count, uint32_t device,
                                emb_error *error);
void emb_cuda_copier_close(void *copier, void **events, uint32_t count);
emb_status emb_cuda_copy(void *copier, const emb_device_copy *copy, uint32_t device,
                         emb_error *error);
void emb_cuda_lane_wait(emb_lane_scratch *scratch, void *event);
void emb_cuda_lane_mark(emb_lane_scratch *scratch, void *event);
emb_status emb_cuda_event_finish(void *event, uint32_t device, emb_error *error);

/* EMB_CUDA_NO_DEVICE: no device is made current. */
#define EMB_CUDA_NO_DEVICE UINT32_MAX
void emb_cuda_enter(emb_device_thread *before, uint32_t device);
void emb_cuda_leave(const emb_device_thread *before);
void *emb_cuda_rows_take(uint32_t device, uint64_t bytes);
void emb_cuda_rows_give(void *base, uint32_t device);
emb_status emb_cuda_rows_copy(const emb_rows_copy *copy, uint32_t device, emb_error *error);

void emb_cuda_linear_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                          const float *values);
void emb_cuda_linear_pack_quantized(const emb_backend *self, emb_linear *linear, uint32_t row0,
                                    const emb_quantized_rows *rows);
emb_status emb_cuda_layer_finish(const emb_backend *self, emb_layer *layer, uint32_t device,
                                 emb_error *error);
void emb_cuda_convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                      uint64_t rows, uint32_t cols);

/* ---- among themselves ------------------------------------------------------------------------ */

/* Launches the recording for so many tokens; false if there is none. */
bool emb_cuda_replay(emb_cuda_state *state, uint32_t tokens);
void emb_cuda_forget(emb_cuda_state *state);

/* Reports the lane's first failure, or `reason`. */
emb_status emb_cuda_lane_failed(emb_error *error, const emb_cuda_state *state, const char *what,
                                cudaError_t reason);
emb_status emb_cuda_failed(emb_error *error, uint32_t device, const char *what, cudaError_t reason);

/* Opens cuBLASLt for a lane. Fails: EMB_DEVICE, naming what was looked for. */
emb_status emb_cuda_library_open(emb_cuda_blas *blas, uint32_t device, emb_error *error);

/* Opens cuBLASLt, multiplies once, and gives the host bytes that this took. Fails: EMB_DEVICE. */
emb_status emb_cuda_library_probe(uint64_t *host_bytes, uint32_t device, emb_error *error);

#endif
