/* nvml.h - what the CUDA module asks NVML, which it opens at run time; no CUDA here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BACKEND_CUDA_HOST_NVML_H
#define EMB_BACKEND_CUDA_HOST_NVML_H

#include <stdbool.h>
#include <stdint.h>

#define EMB_CUDA_NVML "libnvidia-ml.so.1"

/* One card in NVML; all zero if NVML is absent or does not know it. */
typedef struct emb_cuda_nvml {
    void *device;
    int (*processes)(void *device, unsigned *count, void *processes);
    int (*memory)(void *device, void *memory);
} emb_cuda_nvml;

/* Opens the library and finds the card at a PCI address such as "0000:65:00.0". */
emb_cuda_nvml emb_cuda_nvml_open(const char *library, const char *bus);

/* Gives the device bytes of this process; false if NVML does not report them, as in a container
 * whose process ids are not the driver's. */
bool emb_cuda_nvml_own(uint64_t *bytes, const emb_cuda_nvml *nvml);

/* Gives the bytes of the card used by all processes together; false if NVML does not report
 * them. */
bool emb_cuda_nvml_used(uint64_t *bytes, const emb_cuda_nvml *nvml);

/* Gives the bytes of the card that are free; false likewise. */
bool emb_cuda_nvml_free(uint64_t *bytes, const emb_cuda_nvml *nvml);

/* What is known of a card before this process's context is warmed up there. */
typedef struct emb_cuda_before {
    uint64_t own, used; /* by this process, by all; 0: not reported */
    bool active;        /* it has a context there already */
} emb_cuda_before;

void emb_cuda_nvml_before(emb_cuda_before *out, const emb_cuda_nvml *nvml, bool active);

/* Divides the process's bytes on the card into what it held before and what the context added.
 * taken: in use on the card now, by all. used_first: in use by all before this process's first
 * context here, 0 if unknown. Uses NVML's figures for the process if it reports them; else all
 * bytes added on the card meanwhile, by any process: never too few unless others free some. */
void emb_cuda_nvml_share(uint64_t *held, uint64_t *context, const emb_cuda_nvml *nvml,
                         const emb_cuda_before *before, uint64_t used_first, uint64_t taken);

/* The driver's version, "" if NVML does not report it. */
void emb_cuda_driver_version(char *out, uint32_t capacity);

#endif
