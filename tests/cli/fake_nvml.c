/* fake_nvml.c - two GPUs that are not there, for tests/cli/test_monitor.py through EMB_NVML.
 *
 * EMB_FAKE_NVML: "none" no GPU, "broken" refuses to start, a folder (its path begins with /) that
 * tests/cuda/fake_module.c writes to, else the number of the process that is shown on GPU 0 beside
 * a foreign one. GPU 1 answers to nothing but its name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };

typedef struct memory {
    unsigned long long total, free, used;
} memory;

typedef struct utilization {
    unsigned gpu, memory;
} utilization;

typedef struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} process;

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int result);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device);
int nvmlDeviceGetName(void *device, char *name, unsigned capacity);
int nvmlDeviceGetMemoryInfo(void *device, memory *out);
int nvmlDeviceGetUtilizationRates(void *device, utilization *out);
int nvmlDeviceGetPowerUsage(void *device, unsigned *out);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out);
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *out);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *out);

static int devices[2];

static const char *mode(void) {
    const char *text = getenv("EMB_FAKE_NVML");
    return text ? text : "";
}

static int answers(const void *device) {
    return device == &devices[0];
}

int nvmlInit_v2(void) {
    return strcmp(mode(), "broken") == 0 ? DRIVER_NOT_LOADED : OK;
}

int nvmlShutdown(void) {
    return OK;
}

const char *nvmlErrorString(int result) {
    return result == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "?";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = strcmp(mode(), "none") == 0 ? 0 : 2;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
    *device = &devices[strcmp(bus, "0000:01:00.0") != 0];
    return OK;
}

int nvmlDeviceGetName(void *device, char *name, unsigned capacity) {
    const char *text = answers(device) ? "Fake \"A\" 4000" : "Fake B";
    if (strlen(text) >= capacity) return INSUFFICIENT_SIZE;
    memcpy(name, text, strlen(text) + 1);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *out) {
    if (!answers(device)) return NOT_SUPPORTED;
    *out = (memory){4096ull << 20, 3000ull << 20, 1096ull << 20};
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization *out) {
    if (!answers(device)) return NOT_SUPPORTED;
    *out = (utilization){97, 41};
    return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *out) {
    *out = 123456;
    return answers(device) ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out) {
    *out = sensor == 0 ? 61 : 0;
    return answers(device) ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *out) {
    static const unsigned clocks[] = {1100, 1200, 2600, 1300};
    *out = clocks[kind];
    return answers(device) ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *out) {
    *out = 0x4 | 0x20 | 1ull << 40;
    return answers(device) ? OK : NOT_SUPPORTED;
}

/* The living processes of the folder, with the bytes that each has entered. */
static int read_folder(const char *folder, unsigned *count, process *out) {
    unsigned capacity = *count;
    DIR *entries = opendir(folder);
    if (!entries) return NOT_SUPPORTED;
    *count = 0;
    for (struct dirent *entry; *count < capacity && (entry = readdir(entries)) != NULL;) {
        int pid = (int)strtol(entry->d_name, NULL, 10);
        char path[512];
        snprintf(path, sizeof path, "%s/%d", folder, pid);
        FILE *file = pid > 0 && kill(pid, 0) == 0 ? fopen(path, "r") : NULL;
        unsigned long long bytes;
        if (file && fscanf(file, "%llu", &bytes) == 1)
            out[(*count)++] = (process){(unsigned)pid, bytes, ~0u, ~0u};
        if (file) fclose(file);
    }
    closedir(entries);
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *out) {
    if (!answers(device)) return NOT_SUPPORTED;
    if (mode()[0] == '/') return read_folder(mode(), count, out);
    if (*count < 2) return INSUFFICIENT_SIZE;
    out[0] = (process){(unsigned)strtoul(mode(), NULL, 10), 540ull << 20, ~0u, ~0u};
    out[1] = (process){4000000000u, ~0ull, ~0u, ~0u};
    *count = 2;
    return OK;
}
