/* query.c - the module's interface: its calls, and a backend for each dtype.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"
#include "backend/cuda/host/blocks.h"
#include "backend/cuda/host/module.h"
#include "backend/cuda/sizes/support.h"

static const emb_device_calls calls = {
    .enter = emb_cuda_enter,
    .leave = emb_cuda_leave,
    .open = emb_cuda_open_device,
    .uploaded = emb_cuda_uploaded,
    .take = emb_cuda_take,
    .give = emb_cuda_give,
    .pin = emb_cuda_pin,
    .unpin = emb_cuda_unpin,
    .lane_open = emb_cuda_lane_open,
    .lane_close = emb_cuda_lane_close,
    .tuned = emb_cuda_tuned,
    .tune = emb_cuda_tune,
    .record = emb_cuda_record,
    .recorded = emb_cuda_recorded,
    .begin = emb_cuda_begin,
    .finish = emb_cuda_finish,
    .copier_open = emb_cuda_copier_open,
    .copier_close = emb_cuda_copier_close,
    .copy = emb_cuda_copy,
    .lane_wait = emb_cuda_lane_wait,
    .lane_mark = emb_cuda_lane_mark,
    .event_finish = emb_cuda_event_finish,
    .rows_take = emb_cuda_rows_take,
    .rows_give = emb_cuda_rows_give,
    .rows_copy = emb_cuda_rows_copy,
};

#define BACKEND(numerics, dtype, gemm)                                                             \
    {EMB_CUDA_SIZES(numerics, dtype, gemm),                                                        \
     .device = &calls,                                                                             \
     .linear_pack = emb_cuda_linear_pack,                                                          \
     .linear_pack_quantized = emb_cuda_linear_pack_quantized,                                      \
     .layer_finish = emb_cuda_layer_finish,                                                        \
     .convert = emb_cuda_convert,                                                                  \
     EMB_CUDA_BLOCKS},
static const emb_backend backends[] = {EMB_CUDA_ROWS(BACKEND)};

static const emb_backend *backend_of(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm) {
    return emb_cuda_find(backends, sizeof backends / sizeof backends[0], compute_capability, dtype,
                         gemm);
}

/* The module's blocks of training: src/train/cuda/. */
extern const struct emb_train_ops emb_cuda_train_ops;

/* Any driver of the toolkit's major version runs what it built, whatever the minor version. */
static const emb_cuda_module module_table = {EMB_CUDA_ABI,      CUDART_VERSION / 1000 * 1000,
                                             emb_cuda_supports, emb_cuda_probe,
                                             backend_of,        &emb_cuda_train_ops};

EMB_API const emb_cuda_module *emb_cuda_query(void);
const emb_cuda_module *emb_cuda_query(void) {
    return &module_table;
}
