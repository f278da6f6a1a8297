/* test_driver_calls.c - driver_calls.so over a fake driver: results untouched, calls counted, the
 * one asked for failed. Run with LD_PRELOAD; FAKE_DRIVER is the library's path.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/driver_calls.h"

static int passed, failed;

static void expect(int holds, const char *what) {
    holds ? passed++ : failed++;
    if (!holds) printf("FAILED: %s\n", what);
}

typedef int (*get_call)(const char *, void **, int, uint64_t, int *);
typedef int (*alloc_call)(uint64_t *, size_t);
typedef int (*scale_call)(double, float, double *);
typedef int (*launch_call)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                           unsigned, void *, void **, void **);

/* Three calls: an allocation, a launch, a product. */
static void use(get_call get, uint64_t fails) {
    alloc_call alloc = NULL;
    launch_call launch = NULL;
    scale_call scale = NULL;
    expect(get("cuMemAlloc", (void **)&alloc, 12000, 0, NULL) == 0, "an address");
    expect(get("cuLaunchKernel", (void **)&launch, 12000, 0, NULL) == 0, "an address");
    expect(get("cuScale", (void **)&scale, 12000, 0, NULL) == 0, "an address");
    if (!alloc || !launch || !scale) return;
    uint64_t bytes = 0, sum = 0;
    double product = 0;
    expect(alloc(&bytes, 21) == (fails == 1 ? 2 : 0) && bytes == (fails == 1 ? 0 : 42), "alloc");
    driver_calls_mark(1);
    int code =
        launch(&sum, 1, 2, 3, 4, 5, 6, 7, (void *)10000000, (void *)20000000, (void *)30000000);
    expect(code == (fails == 2 ? 999 : 0) && sum == (fails == 2 ? 0 : 67654321), "launch");
    driver_calls_mark(0);
    expect(scale(1.5, 4.0f, &product) == 0 && product == 6.0, "floating-point arguments");
}

static void check_counts(void) {
    const char *name;
    uint64_t before = 0, after = 0, launched = 0;
    for (uint32_t i = 0; driver_calls_counted(&name, i, 0), name; i++) {
        before += driver_calls_counted(&name, i, 0);
        after += driver_calls_counted(&name, i, 1);
        if (strcmp(name, "cuLaunchKernel") == 0) launched = driver_calls_counted(&name, i, 1);
    }
    expect(before == 2 && after == 1 && launched == 1, "calls before and after the mark");
}

int main(void) {
    const char *fail = getenv("DRIVER_FAIL");
    void *driver = dlopen(FAKE_DRIVER, RTLD_NOW | RTLD_LOCAL);
    get_call get = NULL, again = NULL;
    alloc_call direct = NULL;
    expect(driver != NULL, "the driver opens");
    if (!driver) return 1;
    *(void **)&get = dlsym(driver, "cuGetProcAddress_v2");
    expect(get && get("cuGetProcAddress", (void **)&again, 12000, 0, NULL) == 0 && again == get,
           "asked for itself");
    use(get, fail ? strtoull(fail, NULL, 10) : 0);
    check_counts();
    *(void **)&direct = dlsym(driver, "cuMemAlloc_v2");
    alloc_call same = NULL;
    get("cuMemAlloc", (void **)&same, 12000, 0, NULL);
    expect(direct && direct == same, "both ways lead to the same stub");
    expect(dlsym(driver, "strlen") != NULL && dlsym(driver, "cuNothing") == NULL, "the rest");
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}
