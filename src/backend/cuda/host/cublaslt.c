/* cublaslt.c - opens cuBLASLt for lanes, and tries it when a machine is probed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>

#include "backend/cuda/host/module.h"
#include "backend/cuda/kernels/kernels.h"
#include "base/error.h"
#include "base/process.h"

#define LIBRARY "libcublasLt.so.13"

emb_status emb_cuda_library_open(emb_cuda_blas *blas, uint32_t device, emb_error *error) {
    int status = emb_cuda_blas_open(blas, NULL);
    if (status == 0) return EMB_OK;
    const char *reason = blas->library ? NULL : dlerror();
    if (status > 0 || blas->library)
        return emb_error_set(error, EMB_DEVICE,
                             "CUDA device %u: %s cannot be used (status %d); use another version, "
                             "or own products (--gemm own)",
                             device, LIBRARY, status);
    return emb_error_set(error, EMB_DEVICE,
                         "no cuBLASLt: looked for %s in the library path (%.120s); install it, or "
                         "use own products (--gemm own)",
                         LIBRARY, reason ? reason : "not found");
}

/* One small product of zeros, so that the library loads what it loads on first use. */
static int try_product(const emb_cuda_blas *blas) {
    enum { SIZE = 128 };
    emb_cuda_blas_choice choice;
    unsigned char *memory = NULL;
    size_t bytes = (size_t)SIZE * SIZE * sizeof(float);
    cudaStream_t stream = NULL; /* the device's default */
    int status = cudaMalloc((void **)&memory, 4 * bytes);
    if (!status) status = cudaMemsetAsync(memory, 0, 4 * bytes, stream);
    emb_cuda_linear weights = {memory, (const float *)(void *)(memory + bytes), SIZE, SIZE,
                               EMB_DTYPE_F16};
    if (!status) status = emb_cuda_blas_choose(&choice, blas, &weights, SIZE, 0);
    if (!status)
        status = emb_cuda_blas_run(memory + 2 * bytes, memory + 3 * bytes, &weights, blas, &choice,
                                   SIZE, stream);
    if (!status) status = cudaStreamSynchronize(stream);
    cudaFree(memory);
    return status;
}

emb_status emb_cuda_library_probe(uint64_t *host_bytes, uint32_t device, emb_error *error) {
    emb_cuda_blas blas;
    uint64_t before, after, peak;
    emb_process_memory(&before, &peak);
    EMB_TRY(emb_cuda_library_open(&blas, device, error));
    int status = cudaSetDevice((int)device);
    if (!status) status = try_product(&blas);
    emb_process_memory(&after, &peak);
    emb_cuda_blas_close(&blas);
    if (status)
        return emb_error_set(error, EMB_DEVICE,
                             "CUDA device %u: %s cannot multiply (status %d); use own products "
                             "(--gemm own)",
                             device, LIBRARY, status);
    *host_bytes = after > before ? after - before : 0;
    return EMB_OK;
}
