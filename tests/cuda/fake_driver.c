/* fake_driver.c - a few functions shaped like the CUDA driver's, to try driver_calls.c without one,
 * and what asks a driver for its GPUs; built as libcuda.so.1.
 *
 * EMB_FAKE_DRIVER: "none" finds no GPU, "hangs" never answers, "old" is of CUDA 11.4, a number is
 * what cuInit fails with; else there are EMB_FAKE_DEVICES (1) of EMB_FAKE_CAPABILITY (90). As the
 * real one, it heeds CUDA_VISIBLE_DEVICES and does not start in a child of a process that used it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN int cuMemAlloc_v2(uint64_t *out, size_t bytes);
SHOWN int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                         unsigned bz, unsigned shared, void *stream, void **arguments, void **more);
SHOWN int cuScale(double a, float b, double *out);
SHOWN int cuInit(unsigned flags);
SHOWN int cuDriverGetVersion(int *version);
SHOWN int cuDeviceGetCount(int *count);
SHOWN int cuDeviceGet(int *device, int index);
SHOWN int cuDeviceGetAttribute(int *value, int which, int device);
SHOWN int cuGetErrorName(int code, const char **name);
SHOWN int cuCtxGetCurrent(void **context);
SHOWN int cuCtxSetCurrent(void *context);
SHOWN int cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags,
                              int *found);

int cuMemAlloc_v2(uint64_t *out, size_t bytes) {
    *out = bytes * 2;
    return 0;
}

/* Eleven arguments, five of them on the stack. */
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **arguments, void **more) {
    *(uint64_t *)f = gx + 10 * gy + 100 * gz + 1000 * bx + 10000 * by + 100000 * bz +
                     1000000 * shared + (uint64_t)(uintptr_t)stream +
                     (uint64_t)(uintptr_t)arguments + (uint64_t)(uintptr_t)more;
    return 0;
}

int cuScale(double a, float b, double *out) {
    *out = a * b;
    return 0;
}

static const char *mode(void) {
    const char *text = getenv("EMB_FAKE_DRIVER");
    return text ? text : "";
}

static long number_of(const char *variable, long otherwise) {
    const char *text = getenv(variable);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static int visible(void) {
    long present = strcmp(mode(), "none") == 0 ? 0 : number_of("EMB_FAKE_DEVICES", 1);
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (!list) return (int)present;
    int count = 0;
    for (char *end; *list; list = end + (*end == ',')) {
        long index = strtol(list, &end, 10);
        if (end == list || index < 0 || index >= present) break;
        count++;
    }
    return count;
}

static pid_t user; /* the first process that started it */

int cuInit(unsigned flags) {
    (void)flags;
    while (strcmp(mode(), "hangs") == 0) sleep(1);
    if (mode()[0] >= '0' && mode()[0] <= '9') return (int)number_of("EMB_FAKE_DRIVER", 0);
    if (!user) user = getpid();
    if (user != getpid()) return 3; /* not initialised, and never will be */
    return visible() ? 0 : 100;     /* no device */
}

int cuDriverGetVersion(int *version) {
    *version = strcmp(mode(), "old") == 0 ? 11040 : 13000;
    return 0;
}

int cuDeviceGetCount(int *count) {
    *count = visible();
    return 0;
}

int cuDeviceGet(int *device, int index) {
    *device = index;
    return 0;
}

int cuDeviceGetAttribute(int *value, int which, int device) {
    (void)device;
    long capability = number_of("EMB_FAKE_CAPABILITY", 90);
    *value = (int)(which == 75 ? capability / 10 : capability % 10);
    return 0;
}

int cuGetErrorName(int code, const char **name) {
    *name = code == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : NULL;
    return *name ? 0 : 1;
}

int cuCtxGetCurrent(void **context) {
    *context = NULL;
    return 3; /* not initialised */
}

int cuCtxSetCurrent(void *context) {
    return context ? 1 : 0;
}

int cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *found) {
    (void)flags, (void)found;
    *out = strcmp(name, "cuMemAlloc") == 0         ? (void *)(uintptr_t)cuMemAlloc_v2
           : strcmp(name, "cuLaunchKernel") == 0   ? (void *)(uintptr_t)cuLaunchKernel
           : strcmp(name, "cuScale") == 0          ? (void *)(uintptr_t)cuScale
           : strcmp(name, "cuGetProcAddress") == 0 ? (void *)(uintptr_t)cuGetProcAddress_v2
                                                   : NULL;
    return *out && version >= 12000 ? 0 : 500;
}
