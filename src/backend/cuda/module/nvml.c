/* nvml.c - asks NVML, opened at run time, for the device bytes of this process.
 *
 * Its few prototypes are written out here: the toolkit ships no header for it.
 * Source: NVML API reference, nvmlDeviceGetComputeRunningProcesses_v3.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <unistd.h>

#include "backend/cuda/module/module.h"

enum { NVML_OK = 0, PROCESSES_MAX = 64 };

typedef struct nvml_process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef int (*init_call)(void);
typedef int (*handle_call)(const char *bus, void **device);
typedef int (*processes_call)(void *device, unsigned *count, nvml_process *processes);

uint64_t emb_cuda_process_bytes(uint32_t device, uint64_t otherwise) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return otherwise;
    init_call init;
    handle_call by_bus;
    processes_call processes;
    *(void **)&init = dlsym(library, "nvmlInit_v2");
    *(void **)&by_bus = dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2");
    *(void **)&processes = dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    char bus[32];
    void *handle;
    nvml_process all[PROCESSES_MAX];
    unsigned count = PROCESSES_MAX;
    if (!init || !by_bus || !processes || init() != NVML_OK ||
        cudaDeviceGetPCIBusId(bus, sizeof bus, (int)device) != cudaSuccess ||
        by_bus(bus, &handle) != NVML_OK || processes(handle, &count, all) != NVML_OK)
        return otherwise;
    for (unsigned i = 0; i < count; i++)
        if (all[i].pid == (unsigned)getpid() && all[i].bytes != ~0ull) return all[i].bytes;
    return otherwise;
}
