/* nvml.c - NVML by its documented calls; the prototypes are declared here, so that no toolkit is
 * needed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/nvml.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

enum { NVML_SUCCESS = 0, NVML_TEMPERATURE_GPU = 0, NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2 };

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef struct nvml_utilization {
    unsigned gpu, memory;
} nvml_utilization;

/* Of nvmlDeviceGetComputeRunningProcesses_v2 and _v3. */
typedef struct nvml_process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef int (*call_void)(void);
typedef int (*call_unsigned)(unsigned *);
typedef int (*call_handle)(unsigned, void **);
typedef int (*call_name)(void *, char *, unsigned);
typedef int (*call_memory)(void *, nvml_memory *);
typedef int (*call_utilization)(void *, nvml_utilization *);
typedef int (*call_value)(void *, unsigned *);
typedef int (*call_kind)(void *, int, unsigned *);
typedef int (*call_bits)(void *, unsigned long long *);
typedef int (*call_processes)(void *, unsigned *, nvml_process *);
typedef const char *(*call_words)(int);

/* Finds a call; older drivers may lack it. */
#define FIND(nvml, call, name) (*(void **)&(call) = dlsym((nvml)->library, name))

static const char *words_of(const emb_nvml *nvml, int result) {
    call_words words;
    FIND(nvml, words, "nvmlErrorString");
    const char *text = words ? words(result) : NULL;
    return text ? text : "no reason was given";
}

emb_status emb_nvml_open(emb_nvml *nvml, emb_error *error) {
    const char *name = getenv("EMB_NVML");
    if (!name || !*name) name = "libnvidia-ml.so.1";
    memset(nvml, 0, sizeof *nvml);
    nvml->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library) {
        const char *reason = dlerror();
        return emb_app_fail(error, EMB_DEVICE, "%.*s", EMB_APP_CUT(reason ? reason : name, 200));
    }
    call_void init;
    call_unsigned count;
    call_handle handle;
    FIND(nvml, init, "nvmlInit_v2");
    FIND(nvml, count, "nvmlDeviceGetCount_v2");
    FIND(nvml, handle, "nvmlDeviceGetHandleByIndex_v2");
    if (!init || !count || !handle) {
        dlclose(nvml->library);
        nvml->library = NULL;
        return emb_app_fail(error, EMB_DEVICE, "%.*s is not NVML, or older than its version 2",
                            EMB_APP_CUT(name, 100));
    }
    unsigned devices = 0;
    int result = init();
    if (result == NVML_SUCCESS) result = count(&devices);
    if (result != NVML_SUCCESS) {
        emb_app_fail(error, EMB_DEVICE, "%.*s: %.120s", EMB_APP_CUT(name, 100),
                     words_of(nvml, result));
        emb_nvml_close(nvml);
        return EMB_DEVICE;
    }
    nvml->devices_count = devices < EMB_NVML_DEVICES_MAX ? devices : EMB_NVML_DEVICES_MAX;
    for (uint32_t i = 0; i < nvml->devices_count; i++) {
        if (handle(i, &nvml->devices[i]) != NVML_SUCCESS) nvml->devices[i] = NULL;
    }
    return EMB_OK;
}

void emb_nvml_close(emb_nvml *nvml) {
    if (!nvml->library) return;
    call_void shutdown;
    FIND(nvml, shutdown, "nvmlShutdown");
    if (shutdown) shutdown();
    dlclose(nvml->library);
    memset(nvml, 0, sizeof *nvml);
}

static uint64_t read_value(const emb_nvml *nvml, void *device, const char *name) {
    call_value call;
    unsigned value = 0;
    FIND(nvml, call, name);
    return call && call(device, &value) == NVML_SUCCESS ? value : EMB_NVML_UNKNOWN;
}

static uint64_t read_kind(const emb_nvml *nvml, void *device, const char *name, int kind) {
    call_kind call;
    unsigned value = 0;
    FIND(nvml, call, name);
    return call && call(device, kind, &value) == NVML_SUCCESS ? value : EMB_NVML_UNKNOWN;
}

static void read_processes(emb_nvml_sample *out, const emb_nvml *nvml, void *device) {
    nvml_process found[EMB_NVML_PROCESSES_MAX];
    unsigned count = EMB_NVML_PROCESSES_MAX;
    call_processes call;
    FIND(nvml, call, "nvmlDeviceGetComputeRunningProcesses_v3");
    if (!call) FIND(nvml, call, "nvmlDeviceGetComputeRunningProcesses_v2");
    out->processes_known = call && call(device, &count, found) == NVML_SUCCESS;
    if (!out->processes_known) return;
    out->processes_count = count < EMB_NVML_PROCESSES_MAX ? count : EMB_NVML_PROCESSES_MAX;
    for (uint32_t i = 0; i < out->processes_count; i++) {
        out->processes[i] = (emb_nvml_process){found[i].pid, found[i].bytes};
    }
}

void emb_nvml_read(emb_nvml_sample *out, const emb_nvml *nvml, uint32_t index) {
    void *device = nvml->devices[index];
    call_name name;
    call_memory memory;
    call_utilization utilization;
    call_bits throttle;
    nvml_memory bytes;
    nvml_utilization share;
    unsigned long long bits;
    memset(out, 0, sizeof *out);
    out->utilization = out->memory_used = out->memory_total = out->power = EMB_NVML_UNKNOWN;
    out->temperature = out->clock_sm = out->clock_memory = out->throttle = EMB_NVML_UNKNOWN;
    if (!device) return;
    FIND(nvml, name, "nvmlDeviceGetName");
    if (!name || name(device, out->name, sizeof out->name) != NVML_SUCCESS) out->name[0] = '\0';
    FIND(nvml, memory, "nvmlDeviceGetMemoryInfo");
    if (memory && memory(device, &bytes) == NVML_SUCCESS) {
        out->memory_used = bytes.used;
        out->memory_total = bytes.total;
    }
    FIND(nvml, utilization, "nvmlDeviceGetUtilizationRates");
    if (utilization && utilization(device, &share) == NVML_SUCCESS) out->utilization = share.gpu;
    FIND(nvml, throttle, "nvmlDeviceGetCurrentClocksThrottleReasons");
    if (throttle && throttle(device, &bits) == NVML_SUCCESS) out->throttle = bits;
    out->power = read_value(nvml, device, "nvmlDeviceGetPowerUsage");
    out->temperature = read_kind(nvml, device, "nvmlDeviceGetTemperature", NVML_TEMPERATURE_GPU);
    out->clock_sm = read_kind(nvml, device, "nvmlDeviceGetClockInfo", NVML_CLOCK_SM);
    out->clock_memory = read_kind(nvml, device, "nvmlDeviceGetClockInfo", NVML_CLOCK_MEM);
    read_processes(out, nvml, device);
}

const char *emb_nvml_throttle_name(uint32_t bit) {
    static const char *const names[] = {
        "idle",          "application clocks", "power cap",   "hardware slowdown", "sync boost",
        "thermal limit", "overheated",         "power brake", "display clocks",
    };
    return bit < sizeof names / sizeof names[0] ? names[bit] : NULL;
}
