/* nvml.c - asks NVML, opened at run time, for the device bytes of this process.
 *
 * Its few prototypes are declared here: the toolkit ships no header for it. Source: NVML API
 * reference, nvmlDeviceGetComputeRunningProcesses_v3, nvmlDeviceGetMemoryInfo.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/nvml.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

enum { NVML_OK = 0, PROCESSES_MAX = 64 };

typedef struct nvml_process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef int (*init_call)(void);
typedef int (*handle_call)(const char *bus, void **device);
typedef int (*version_call)(char *version, unsigned capacity);

emb_cuda_nvml emb_cuda_nvml_open(const char *library, const char *bus) {
    emb_cuda_nvml nvml = {0};
    void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!opened) return nvml;
    init_call init;
    handle_call by_bus;
    *(void **)&init = dlsym(opened, "nvmlInit_v2");
    *(void **)&by_bus = dlsym(opened, "nvmlDeviceGetHandleByPciBusId_v2");
    if (!init || !by_bus || init() != NVML_OK || by_bus(bus, &nvml.device) != NVML_OK)
        return (emb_cuda_nvml){0};
    *(void **)&nvml.processes = dlsym(opened, "nvmlDeviceGetComputeRunningProcesses_v3");
    *(void **)&nvml.memory = dlsym(opened, "nvmlDeviceGetMemoryInfo");
    return nvml;
}

bool emb_cuda_nvml_own(uint64_t *bytes, const emb_cuda_nvml *nvml) {
    nvml_process all[PROCESSES_MAX];
    unsigned count = PROCESSES_MAX;
    if (!nvml->processes || nvml->processes(nvml->device, &count, all) != NVML_OK) return false;
    for (unsigned i = 0; i < count && i < PROCESSES_MAX; i++) {
        if (all[i].pid != (unsigned)getpid() || all[i].bytes == ~0ull) continue;
        *bytes = all[i].bytes;
        return true;
    }
    return false;
}

bool emb_cuda_nvml_used(uint64_t *bytes, const emb_cuda_nvml *nvml) {
    nvml_memory memory;
    if (!nvml->memory || nvml->memory(nvml->device, &memory) != NVML_OK) return false;
    *bytes = memory.used;
    return true;
}

bool emb_cuda_nvml_free(uint64_t *bytes, const emb_cuda_nvml *nvml) {
    nvml_memory memory;
    if (!nvml->memory || nvml->memory(nvml->device, &memory) != NVML_OK) return false;
    *bytes = memory.free;
    return true;
}

void emb_cuda_nvml_before(emb_cuda_before *out, const emb_cuda_nvml *nvml, bool active) {
    *out = (emb_cuda_before){.active = active};
    if (!emb_cuda_nvml_own(&out->own, nvml)) out->own = 0;
    if (!emb_cuda_nvml_used(&out->used, nvml)) out->used = 0;
}

/* The bytes added on the card; if that is unknown or impossible, all that is in use. */
static uint64_t added(uint64_t before, uint64_t now, uint64_t taken) {
    return before && now > before && now - before < taken ? now - before : taken;
}

void emb_cuda_nvml_share(uint64_t *held, uint64_t *context, const emb_cuda_nvml *nvml,
                         const emb_cuda_before *before, uint64_t used_first, uint64_t taken) {
    uint64_t own, used = 0;
    if (emb_cuda_nvml_own(&own, nvml)) {
        *held = before->own < own ? before->own : own;
        *context = own - *held;
        return;
    }
    if (!emb_cuda_nvml_used(&used, nvml)) used = taken;
    *held = before->active ? added(used_first, used, taken) : 0;
    *context = before->active ? 0 : added(before->used, used, taken);
}

void emb_cuda_driver_version(char *out, uint32_t capacity) {
    void *library = dlopen(EMB_CUDA_NVML, RTLD_NOW | RTLD_LOCAL);
    init_call init = NULL;
    version_call version = NULL;
    out[0] = '\0';
    if (!library) return;
    *(void **)&init = dlsym(library, "nvmlInit_v2");
    *(void **)&version = dlsym(library, "nvmlSystemGetDriverVersion");
    if (!init || !version || init() != NVML_OK || version(out, capacity) != NVML_OK) out[0] = '\0';
}
