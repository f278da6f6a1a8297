/* module.c - opens the CUDA module at run time, so that one program runs with and without a GPU.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/error.h"

#define MODULE_NAME "libembound_cuda.so"

/* The module beside the running program; false if its path cannot be had. */
static bool beside_program(char *out, size_t capacity) {
    ssize_t length = readlink("/proc/self/exe", out, capacity - 1);
    if (length <= 0) return false;
    out[length] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash || (size_t)(slash + 1 - out) + sizeof MODULE_NAME > capacity) return false;
    memcpy(slash + 1, MODULE_NAME, sizeof MODULE_NAME);
    return access(out, R_OK) == 0;
}

emb_status emb_cuda_open(const emb_cuda_module **out, emb_error *error) {
    char path[512];
    const char *asked = getenv("EMB_CUDA_MODULE");
    const char *name = asked && *asked                     ? asked
                       : beside_program(path, sizeof path) ? path
                                                           : MODULE_NAME;
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        return emb_error_set(error, EMB_DEVICE, "no CUDA module: %s; build it with `make cuda`",
                             reason ? reason : name);
    }
    emb_cuda_query_call query;
    *(void **)&query = dlsym(library, "emb_cuda_query");
    const emb_cuda_module *module = query ? query() : NULL;
    if (!module || module->abi != EMB_CUDA_ABI)
        return emb_error_set(error, EMB_DEVICE,
                             "%s belongs to another version of embound: build both together", name);
    *out = module;
    return EMB_OK;
}
