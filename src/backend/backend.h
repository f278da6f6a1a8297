/* backend.h - which backends there are: the CPU's kernels, and the CUDA module's where it is
 * installed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_BACKEND_H
#define EMB_BACKEND_BACKEND_H

#include "backend/features.h"
#include "backend/ops.h"

/* The fastest kernels for that dtype that run with these features (a set of emb_cpu_feature) and
 * compute such layers (spec NULL: BERT's); if none do, the fastest, whose `supports` says why. NULL
 * if there are none for the dtype. Threads: any. */
const emb_backend *emb_cpu_backend(uint32_t features, emb_dtype dtype, const emb_layer_spec *spec);

/* The instruction set of these kernels: "ref", "avx2", "avx512". Any thread. */
const char *emb_cpu_isa(uint32_t features);

/* ---- CUDA ------------------------------------------------------------------------------------ */

#define EMB_CUDA_ABI 14

/* What the module, a shared object of its own, gives under the name emb_cuda_query. */
typedef struct emb_cuda_module {
    uint32_t abi;
    uint32_t driver_version; /* the oldest driver that will do, as CUDA numbers them: 13000 */
    /* Whether it has kernels for such a GPU. */
    bool (*supports)(uint32_t compute_capability);
    /* Measures up to EMB_DEVICES_MAX devices: name, memory, what this process holds there, and what
     * a context adds to that. Creates their contexts. Fails: EMB_DEVICE; EMB_NO_MEMORY (no room for
     * a context): then devices[*count] has index, name, memory_bytes, and free_bytes as far as
     * known.
     */
    emb_status (*probe)(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                        emb_error *error);
    /* The operations for a device, or NULL if it lacks the dtype. */
    const emb_backend *(*backend)(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm);
    const struct emb_train_ops *train; /* train/ops.h: its blocks of training, or NULL */
} emb_cuda_module;
typedef const emb_cuda_module *(*emb_cuda_query_call)(void);

/* Opens the module: EMB_CUDA_MODULE if set, else libembound_cuda.so beside the program or in the
 * library path. It is never closed. Fails: EMB_DEVICE, saying what was looked for and what to
 * do. */
emb_status emb_cuda_open(const emb_cuda_module **out, emb_error *error);

/* What the driver reports of the GPUs that this process may use. */
typedef struct emb_cuda_found {
    uint32_t driver_version; /* of CUDA, 13000 */
    uint32_t count;
    uint32_t capabilities[EMB_DEVICES_MAX]; /* 90 for 9.0 */
} emb_cuda_found;

/* Asks the driver, without the module and without contexts, and waits up to timeout_ms for the
 * answer; a driver that did not answer is not asked again in this process. Gives in *notice whether
 * there is a driver or a GPU, so that a failure is worth reporting.
 * Fails: EMB_DEVICE (no driver, no GPU, all hidden, a child of fork, no answer), EMB_NO_MEMORY; the
 * message is only the reason. Threads: any. */
emb_status emb_cuda_look(emb_cuda_found *out, bool *notice, uint32_t timeout_ms, emb_error *error);

#define EMB_CUDA_CAPABILITY     75 /* the lowest that has kernels */
#define EMB_CUDA_FP8_CAPABILITY 89 /* the lowest that multiplies fp8 */

/* Whether a device has kernels for a dtype and a model of this shape (hidden, head_dim and
 * intermediate are read). Fails: EMB_UNSUPPORTED; the message is only the reason. Threads: any. */
emb_status emb_cuda_supports_shape(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm,
                                   const emb_layer_spec *shape, emb_error *error);

/* For planning where neither device nor module is present: a table with only the layouts, which
 * books what a device's backend will. NULL if that is not supported. Threads: any. */
const emb_backend *emb_cuda_sizes(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm,
                                  const emb_layer_spec *shape);

#endif
