/* fake_driver.c - a few functions shaped like the CUDA driver's, to try driver_calls.c without one,
 * and a driver that finds no device, to try the module; built as libcuda.so.1.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN int cuMemAlloc_v2(uint64_t *out, size_t bytes);
SHOWN int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                         unsigned bz, unsigned shared, void *stream, void **arguments, void **more);
SHOWN int cuScale(double a, float b, double *out);
SHOWN int cuInit(unsigned flags);
SHOWN int cuDriverGetVersion(int *version);
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

int cuInit(unsigned flags) {
    (void)flags;
    return 100; /* no device */
}

int cuDriverGetVersion(int *version) {
    *version = 13000;
    return 0;
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
