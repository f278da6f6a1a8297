/* nvml.h - what NVIDIA's management library says of the GPUs, opened at run time.
 *
 * Monitoring creates no context on a GPU and uses none of its memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_NVML_H
#define EMB_COMMON_NVML_H

#include <stdbool.h>

#include "embound.h"

#define EMB_NVML_DEVICES_MAX   32
#define EMB_NVML_PROCESSES_MAX 256
#define EMB_NVML_UNKNOWN       UINT64_MAX /* the card or its driver does not say */

typedef struct emb_nvml_process {
    uint32_t pid;
    uint64_t bytes;
} emb_nvml_process;

typedef struct emb_nvml_sample {
    char name[96];
    uint64_t utilization; /* percent */
    uint64_t memory_used, memory_total;
    uint64_t power; /* milliwatts */
    uint64_t temperature;
    uint64_t clock_sm, clock_memory; /* MHz */
    uint64_t throttle;               /* bits, see emb_nvml_throttle_name */
    bool processes_known;
    uint32_t processes_count;
    emb_nvml_process processes[EMB_NVML_PROCESSES_MAX];
} emb_nvml_sample;

typedef struct emb_nvml {
    void *library;
    void *devices[EMB_NVML_DEVICES_MAX]; /* NVML's handles; NULL: that one cannot be queried */
    uint32_t devices_count;
} emb_nvml;

/* Opens libnvidia-ml.so.1, or what EMB_NVML names. Fails: EMB_DEVICE. */
emb_status emb_nvml_open(emb_nvml *nvml, emb_error *error);
void emb_nvml_close(emb_nvml *nvml);

/* Queries one GPU. Values that it does not report are EMB_NVML_UNKNOWN. */
void emb_nvml_read(emb_nvml_sample *out, const emb_nvml *nvml, uint32_t device);

/* The words for bit `bit` of throttle, or NULL. */
const char *emb_nvml_throttle_name(uint32_t bit);

#endif
