/* rows.c - memory for the caller's rows on a device, and copies to and from it; and saving what the
 * caller's own CUDA code made current on its threads.
 *
 * Source: CUDA Driver API, Context Management.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "backend/cuda/host/module.h"

/* Asks the driver, as the runtime's call would initialise a device that nobody asked for.
 */
void emb_cuda_enter(emb_device_thread *before, uint32_t device) {
    *before = (emb_device_thread){0};
    before->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (before->library) {
        int (*current)(void **context);
        *(void **)&current = dlsym(before->library, "cuCtxGetCurrent");
        *(void **)&before->restore = dlsym(before->library, "cuCtxSetCurrent");
        /* it fails if the driver is not initialised yet: then nothing is current */
        if (!current || current(&before->context) != 0) before->context = NULL;
    }
    if (device != EMB_CUDA_NO_DEVICE) cudaSetDevice((int)device);
}

void emb_cuda_leave(const emb_device_thread *before) {
    if (before->restore) before->restore(before->context);
    if (before->library) dlclose(before->library);
}

void *emb_cuda_rows_take(uint32_t device, uint64_t bytes) {
    emb_device_thread before;
    emb_cuda_enter(&before, device);
    void *base = emb_cuda_take(device, bytes);
    emb_cuda_leave(&before);
    return base;
}

void emb_cuda_rows_give(void *base, uint32_t device) {
    emb_device_thread before;
    emb_cuda_enter(&before, device);
    cudaDeviceSynchronize(); /* what another library enqueued may still read them */
    cudaFree(base);
    cudaGetLastError();
    emb_cuda_leave(&before);
}

/* On a stream of its own: the default stream would wait for the program's work. */
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
    emb_device_thread before;
    emb_cuda_enter(&before, device);
    cudaError_t reason = copy_rows(copy);
    if (reason != cudaSuccess) cudaGetLastError();
    emb_cuda_leave(&before);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "copying rows failed", reason);
    return EMB_OK;
}
