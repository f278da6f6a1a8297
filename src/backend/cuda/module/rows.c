/* rows.c - memory of the caller's on a device, and rows between it and the host.
 *
 * Called from threads of a program that may use CUDA for itself, by another runtime too: the
 * device's primary context is pushed in front of what is current there, and popped again.
 * Source: CUDA Driver API, Context Management and Primary Context Management.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "backend/cuda/module/module.h"

/* The driver's few calls that the runtime does not offer. */
typedef struct driver {
    int (*device)(int *out, int index);
    int (*retain)(void **context, int device);
    int (*release)(int device);
    int (*push)(void *context);
    int (*pop)(void **context);
    int handle;
} driver;

static bool find(driver *d) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    *(void **)&d->device = dlsym(library, "cuDeviceGet");
    *(void **)&d->retain = dlsym(library, "cuDevicePrimaryCtxRetain");
    *(void **)&d->release = dlsym(library, "cuDevicePrimaryCtxRelease_v2");
    *(void **)&d->push = dlsym(library, "cuCtxPushCurrent_v2");
    *(void **)&d->pop = dlsym(library, "cuCtxPopCurrent_v2");
    dlclose(library); /* the runtime holds it open */
    return d->device && d->retain && d->release && d->push && d->pop;
}

static bool enter(driver *d, uint32_t device) {
    void *context = NULL;
    if (!find(d) || d->device(&d->handle, (int)device) != 0 || d->retain(&context, d->handle) != 0)
        return false;
    if (d->push(context) == 0) return true;
    d->release(d->handle);
    return false;
}

static void leave(const driver *d) {
    void *context;
    d->pop(&context);
    d->release(d->handle);
}

void *emb_cuda_rows_take(uint32_t device, uint64_t bytes) {
    driver d;
    void *base = NULL;
    if (!enter(&d, device)) return NULL;
    if (cudaMalloc(&base, bytes) != cudaSuccess) {
        cudaGetLastError(); /* refused, and told by NULL: not an error of later calls */
        base = NULL;
    }
    leave(&d);
    return base;
}

void emb_cuda_rows_give(void *base, uint32_t device) {
    driver d;
    if (!enter(&d, device)) return;
    cudaDeviceSynchronize(); /* what another library enqueued may still read them */
    cudaFree(base);
    cudaGetLastError();
    leave(&d);
}

/* On a stream of its own: the default one would wait for the program's work. */
static cudaError_t copy_rows(const emb_rows_copy *copy) {
    cudaStream_t stream;
    cudaError_t reason = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (reason != cudaSuccess) return reason;
    reason = cudaMemcpy2DAsync(
        copy->to, copy->to_stride, copy->from, copy->from_stride, copy->row_bytes, copy->rows,
        copy->to_host ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, stream);
    cudaError_t done = cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
    return reason != cudaSuccess ? reason : done;
}

emb_status emb_cuda_rows_copy(const emb_rows_copy *copy, uint32_t device, emb_error *error) {
    driver d;
    if (!enter(&d, device))
        return emb_cuda_failed(error, device, "copying rows failed", cudaErrorDeviceUninitialized);
    cudaError_t reason = copy_rows(copy);
    if (reason != cudaSuccess) cudaGetLastError();
    leave(&d);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "copying rows failed", reason);
    return EMB_OK;
}
