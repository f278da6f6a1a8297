/* embound_experimental.h - what embound.h leaves out because it may still change from one minor
 * version to the next: a GPU's tuning, graphs and fp8, rows on a GPU, the quantizer.
 *
 * Fields of emb_limits and emb_plan that belong here (tune, tuning, graphs, device_caller_bytes),
 * and EMB_DTYPE_FP8, are in embound.h; their meaning is as little promised.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMBOUND_EXPERIMENTAL_H
#define EMBOUND_EXPERIMENTAL_H

#include "embound.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- tuning -------------------------------------------------------------------------------------
 */

/* Gives the kernels in use, for the limits (or the plan) of a later engine.
 * Threads: any. */
EMB_API void emb_engine_tuning(emb_tuning *out, const emb_engine *engine);

/* ---- rows on a GPU ------------------------------------------------------------------------------
 */

/* Rows in the memory of an engine's first GPU. The caller's struct, filled by open. */
typedef struct emb_device_rows {
    uint32_t struct_bytes;
    uint32_t device; /* CUDA's device index */
    uint32_t dim;
    uint64_t count;
    uint64_t bytes;         /* taken on the GPU: whole pages if there are many rows */
    float *values;          /* [count, dim], contiguous; a GPU address; NULL if empty */
    uint32_t row_bytes_max; /* the rest is the library's own */
    int64_t process;
    const void *calls;
} emb_device_rows;

/* Allocates memory for `count` rows of the first `dim` values (0: the plan's dim) besides the
 * engine's, once, before the work. `held_bytes`: the bytes of other such rows within the same
 * budget that are open now and were not when the machine was probed. Uninitialised until put. They
 * may outlive the engine. On failure nothing is open.
 * Fails: EMB_BUDGET (a budget was stated for the GPU, and the plan leaves less: bytes_min is the
 * smallest that works, with held_bytes and `bytes` of *out stated as device_caller_bytes of the
 * limits), EMB_NO_MEMORY, EMB_UNSUPPORTED (the engine is on a CPU), EMB_INVALID_ARGUMENT.
 * Threads: as for submit. */
EMB_API emb_status emb_device_rows_open(emb_device_rows *out, const emb_engine *engine,
                                        uint64_t count, uint32_t dim, uint64_t held_bytes,
                                        emb_error *error);

/* Copies the first dim values of each of `rows` (as collect gave them, or with `values` elsewhere
 * in the host's memory) to row `first` and those after it. When it returns they are there, for
 * every stream. Fails: EMB_INVALID_ARGUMENT, EMB_DEVICE. Threads: any, on different rows. */
EMB_API emb_status emb_device_rows_put(const emb_device_rows *out, uint64_t first,
                                       const emb_row *rows, uint32_t count, emb_error *error);

/* Copies `count` rows, starting with `first`, to the host: values is [count, dim].
 * Fails: EMB_INVALID_ARGUMENT, EMB_DEVICE. Threads: any. */
EMB_API emb_status emb_device_rows_get(float *values, const emb_device_rows *rows, uint64_t first,
                                       uint64_t count, emb_error *error);

/* Frees the memory once the GPU is idle, and empties the struct; in a child of fork it only empties
 * the struct. Threads: any, also after the engine was closed. */
EMB_API void emb_device_rows_close(emb_device_rows *rows);

/* ---- quantizing ------------------------------------------------------------------------------ */

typedef struct emb_quantize_options {
    uint32_t struct_bytes;
    emb_dtype dtype;     /* int8, int4 or fp8 */
    uint32_t group;      /* int4: values that share a scale: 32 (the default for 0) or 64 */
    uint32_t smooth;     /* 1: scale the matrices' inputs, and the matrices inversely (smoothing) */
    uint32_t overwrite;  /* 1: replace a directory that this function wrote */
    uint32_t tokens_max; /* of the calibration texts; 0: 8192 */
    uint32_t texts_count;    /* 0: no calibration, round to nearest */
    const emb_text *texts;   /* for calibration: rounding then reduces the error of the products */
    uint64_t host_bytes_max; /* of the whole process; 0: as much as the work takes */
} emb_quantize_options;

/* One matrix is done or, if tensor is "", a layer has been run with its quantized matrices. */
typedef struct emb_quantize_step {
    char tensor[128];
    uint32_t layer, rows, cols;
    uint32_t done, total; /* matrices */
    double error;         /* of the matrix: relative RMS */
    double output_error;  /* of its products with the texts' activations, or of the layer's output;
                             NaN without texts */
} emb_quantize_step;

/* Called after each step; a result other than 0 stops the work. */
typedef int (*emb_quantize_progress)(void *user, const emb_quantize_step *step);

typedef struct emb_quantize_result {
    uint32_t struct_bytes;
    uint32_t matrices;
    uint32_t texts, tokens;       /* calibrated with */
    uint64_t source_bytes, bytes; /* of the weights' files, before and after */
    uint64_t memory_bytes;        /* taken by the work, in one allocation */
} emb_quantize_result;

/* Writes the model into a new directory with its matrices quantized: weights, configuration and
 * tokenizer, as docs/quantized_format.md says. The directory is built under a temporary name next
 * to its place and renamed once complete; on failure nothing is left. progress may be NULL.
 * Fails: EMB_INVALID_ARGUMENT (options; the directory exists), EMB_UNSUPPORTED (the model is
 * quantized already), EMB_IO, EMB_BAD_FILE, EMB_NOT_FINITE (the calibration texts' activations),
 * EMB_BUDGET, EMB_NO_MEMORY, EMB_CANCELLED.
 * Threads: any; one at a time for the same directory. */
EMB_API emb_status emb_model_quantize(emb_quantize_result *out, const emb_model *model,
                                      const char *directory, const emb_quantize_options *options,
                                      emb_quantize_progress progress, void *user, emb_error *error);

#ifdef __cplusplus
}
#endif

#endif
