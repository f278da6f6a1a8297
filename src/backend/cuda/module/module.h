/* module.h - private to the CUDA module: its host functions, which module.c's tables name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_MODULE_MODULE_H
#define EMB_BACKEND_CUDA_MODULE_MODULE_H

#include <cuda_runtime_api.h>

#include "backend/cuda/layout.h"

/* Makes the context of a device. */
cudaError_t emb_cuda_warm_up(uint32_t device);

/* Device bytes of this process as NVML counts them; `otherwise` where NVML does not tell. */
uint64_t emb_cuda_process_bytes(uint32_t device, uint64_t otherwise);

emb_status emb_cuda_probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                          emb_error *error);
emb_status emb_cuda_open_device(uint32_t device, emb_error *error);
emb_status emb_cuda_uploaded(uint32_t device, emb_error *error);
void *emb_cuda_take(uint32_t device, uint64_t bytes);
void emb_cuda_give(void *base);
bool emb_cuda_pin(void *base, uint64_t bytes);
void emb_cuda_unpin(void *base);
emb_status emb_cuda_lane_open(emb_lane_scratch *scratch, uint32_t device, emb_error *error);
void emb_cuda_lane_close(emb_lane_scratch *scratch);
void emb_cuda_begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch);
emb_status emb_cuda_finish(emb_lane_scratch *scratch, emb_error *error);

/* Keeps the lane's first failure (a cudaError_t); 0 is none. */
void emb_cuda_note(emb_lane_scratch *scratch, int code);

#endif
