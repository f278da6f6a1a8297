/* config.h - what a model's config.pbtxt states, as the server hands it over in JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_CONFIG_H
#define EMB_TRITON_CONFIG_H

#include <limits.h>
#include <stdbool.h>

#include "embound.h"
#include "triton/triton_api.h"

/* Names of tensors. */
#define EMB_TRITON_TEXT   "TEXT"
#define EMB_TRITON_IDS    "INPUT_IDS"
#define EMB_TRITON_PROMPT "PROMPT_NAME"
#define EMB_TRITON_OUTPUT "EMBEDDING"

/* Upper bound of the tokens of one batch where the parameter tokens_per_batch is not stated. */
#define EMB_TRITON_TOKENS_PER_BATCH 16384

typedef struct emb_triton_config {
    uint32_t max_batch_size;      /* 0: tensors have no batch dimension */
    TRITONSERVER_DataType output; /* FP32, FP16 or INT8 */
    int64_t output_dim;           /* as stated; -1: any */
    double int8_range;            /* 0: not stated */
    uint64_t memory, gpu_memory;  /* of the model's own, in bytes; 0: not stated */
    uint64_t tokens_per_batch;
    char model[PATH_MAX]; /* where its files lie; "": in the version's folder */
    emb_limits limits;    /* device, dtype, long_rule, dim, threads */
    emb_device_list devices;
} emb_triton_config;

/* Reads the JSON of a configuration.
 * Fails: EMB_INVALID_ARGUMENT, naming the field and what it may be; EMB_BAD_FILE (no JSON). */
emb_status emb_triton_config_read(emb_triton_config *out, const char *json, size_t bytes,
                                  emb_error *error);

/* The same for a model of the server. */
emb_triton_error emb_triton_config_get(emb_triton_config *out, TRITONBACKEND_Model *model);

#endif
