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
#define PATH_BYTES  512

/* Whether `name` is beside the file `of`; its path in `out`. */
static bool is_beside(char *out, size_t capacity, const char *of, const char *name) {
    const char *slash = strrchr(of, '/');
    if (!slash) return false;
    int length = snprintf(out, capacity, "%.*s/%s", (int)(slash - of), of, name);
    return length > 0 && (size_t)length < capacity && access(out, R_OK) == 0;
}

/* The running program's path; "" if it is not known. */
static void program_path(char *out, size_t capacity) {
    ssize_t length = readlink("/proc/self/exe", out, capacity - 1);
    out[length > 0 ? length : 0] = '\0';
}

/* Whether this code is in an installed Python package, whose module pip builds: the extension is
 * next to the library, or, for the program, in the folder above. */
static bool in_python_package(void) {
    char program[PATH_BYTES], path[PATH_BYTES];
    Dl_info own;
    program_path(program, sizeof program);
    return is_beside(path, sizeof path, program, "../_core.abi3.so") ||
           (dladdr((void *)(uintptr_t)emb_cuda_open, &own) && own.dli_fname &&
            is_beside(path, sizeof path, own.dli_fname, "_core.abi3.so"));
}

static emb_status no_module(const char *name, const char *reason, bool asked, emb_error *error) {
    size_t length = strlen(name);
    bool missing = reason && strncmp(reason, name, length) == 0 && strstr(reason, "No such file");
    if (!missing)
        return emb_error_set(error, EMB_DEVICE, "the CUDA module cannot be opened: %.150s",
                             reason ? reason : name);
    if (asked)
        return emb_error_set(error, EMB_DEVICE,
                             "there is no CUDA module %.130s, which EMB_CUDA_MODULE names", name);
    return emb_error_set(
        error, EMB_DEVICE, "the CUDA module, %s, is not installed: build it with %s", name,
        in_python_package() ? "`EMB_CUDA=ON pip install .` in a checkout, where nvcc is"
                            : "`make cuda`");
}

emb_status emb_cuda_open(const emb_cuda_module **out, emb_error *error) {
    char program[PATH_BYTES], path[PATH_BYTES];
    const char *name = getenv("EMB_CUDA_MODULE");
    bool asked = name && *name;
    if (!asked) {
        program_path(program, sizeof program);
        name = is_beside(path, sizeof path, program, MODULE_NAME) ? path : MODULE_NAME;
    }
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) return no_module(name, dlerror(), asked, error);
    emb_cuda_query_call query;
    *(void **)&query = dlsym(library, "emb_cuda_query");
    const emb_cuda_module *module = query ? query() : NULL;
    if (!module || module->abi != EMB_CUDA_ABI)
        return emb_error_set(error, EMB_DEVICE,
                             "%s belongs to another version of embound: build both together", name);
    *out = module;
    return EMB_OK;
}
