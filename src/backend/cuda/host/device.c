/* device.c - the host side of the CUDA module: contexts, the device's region, lanes, errors.
 *
 * Everything is allocated at open; operations only enqueue. A lane's first failure is kept and
 * reported by finish. CUDA errors are sticky: after one the engine stops.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/host/module.h"
#include "backend/cuda/host/nvml.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/sizes/support.h"
#include "base/error.h"
#include "base/process.h"

emb_status emb_cuda_failed(emb_error *error, uint32_t device, const char *what,
                           cudaError_t reason) {
    return emb_error_set(error, EMB_DEVICE, "CUDA device %u: %s: %s", device, what,
                         cudaGetErrorString(reason));
}

/* ---- probe ----------------------------------------------------------------------------------- */

/* What this process has done in its contexts: global, as contexts are. */
static struct {
    _Atomic uint64_t used_first;   /* bytes in use on the card before this process's first context
                                      there; 0: unknown */
    atomic_uint lanes, lanes_most; /* open now; most open at once so far */
} contexts[EMB_DEVICES_MAX];

/* Whether something in this process, such as torch, has created the device's context. */
static bool has_context(uint32_t index) {
    int (*state)(int device, unsigned *flags, int *active) = NULL;
    int (*device_of)(int *device, int index) = NULL;
    int device, active = 0;
    unsigned flags;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    *(void **)&device_of = dlsym(library, "cuDeviceGet");
    *(void **)&state = dlsym(library, "cuDevicePrimaryCtxGetState");
    bool told = device_of && state && device_of(&device, (int)index) == 0 &&
                state(device, &flags, &active) == 0;
    dlclose(library);
    return told && active;
}

/* No context fits on a card that others fill: reports what is known without one. */
static emb_status no_room(emb_device_info *out, const emb_cuda_nvml *nvml, emb_error *error) {
    cudaGetLastError();
    emb_cuda_nvml_free(&out->free_bytes, nvml);
    return emb_error_set(error, EMB_NO_MEMORY, "no room for a context");
}

/* Exclusive compute mode, a limit of MPS, memory errors: a user of auto must be told how to
 * continue without this GPU. */
static emb_status no_context(uint32_t index, cudaError_t reason, emb_error *error) {
    cudaGetLastError();
    return emb_error_set(error, EMB_DEVICE,
                         "CUDA device %u: cannot run kernels: %.90s; nvidia-smi shows its compute "
                         "mode, its processes and errors: clear them, or use " EMB_ADVICE_CPU,
                         index, cudaGetErrorString(reason));
}

static void share_bytes(emb_device_info *out, const emb_cuda_nvml *nvml,
                        const emb_cuda_before *before, uint64_t free_bytes) {
    uint64_t taken = out->memory_bytes - free_bytes;
    bool known = out->index < EMB_DEVICES_MAX;
    if (known && !before->active) contexts[out->index].used_first = before->used;
    emb_cuda_nvml_share(&out->held_bytes, &out->context_bytes, nvml, before,
                        known ? contexts[out->index].used_first : 0, taken);
    /* in this order: a lane opened in between must not count as one no longer open */
    unsigned open = known ? contexts[out->index].lanes : 0;
    unsigned most = known ? contexts[out->index].lanes_most : 0;
    out->grown = most > 0;
    out->grown_lanes = most > open ? most - open : 0;
    out->free_bytes = free_bytes ? free_bytes : 1; /* 0 means not known */
}

static emb_status probe_one(emb_device_info *out, uint32_t index, emb_error *error) {
    struct cudaDeviceProp properties;
    uint64_t host_before, host_after, peak;
    size_t free_bytes, total_bytes;
    char bus[32];
    cudaError_t reason = cudaGetDeviceProperties(&properties, (int)index);
    if (reason == cudaSuccess) reason = cudaDeviceGetPCIBusId(bus, sizeof bus, (int)index);
    if (reason != cudaSuccess) return emb_cuda_failed(error, index, "cannot be examined", reason);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%.63s", properties.name);
    emb_cuda_driver_version(out->driver, sizeof out->driver);
    out->index = index;
    out->compute_capability = (uint32_t)(properties.major * 10 + properties.minor);
    out->memory_bytes = properties.totalGlobalMem;
    emb_cuda_nvml nvml = emb_cuda_nvml_open(EMB_CUDA_NVML, bus);
    emb_cuda_before before;
    emb_cuda_nvml_before(&before, &nvml, has_context(index));
    emb_process_memory(&host_before, &peak);
    reason = emb_cuda_warm_up(index);
    if (reason == cudaErrorMemoryAllocation) return no_room(out, &nvml, error);
    if (reason != cudaSuccess) return no_context(index, reason, error);
    emb_process_memory(&host_after, &peak);
    reason = cudaMemGetInfo(&free_bytes, &total_bytes);
    if (reason != cudaSuccess)
        return emb_cuda_failed(error, index, "does not tell its memory", reason);
    out->memory_bytes = total_bytes;
    out->host_bytes = host_after > host_before ? host_after - host_before : 0;
    share_bytes(out, &nvml, &before, free_bytes);
    return EMB_OK;
}

static emb_status probe_all(emb_device_info *devices, uint32_t *count,
                            const emb_device_list *wanted, emb_error *error) {
    int present = 0;
    *count = 0;
    cudaError_t reason = cudaGetDeviceCount(&present);
    if (reason != cudaSuccess)
        return emb_error_set(error, EMB_DEVICE, "no usable CUDA device: %s",
                             cudaGetErrorString(reason));
    uint32_t asked = wanted ? wanted->count : 0;
    if (asked > EMB_DEVICES_MAX) asked = EMB_DEVICES_MAX;
    uint32_t many = asked ? asked : (uint32_t)present;
    if (many > EMB_DEVICES_MAX) many = EMB_DEVICES_MAX;
    for (uint32_t i = 0; i < many; i++) {
        uint32_t index = asked ? wanted->indices[i] : i;
        if (index >= (uint32_t)present)
            return emb_error_set(error, EMB_DEVICE,
                                 "there is no CUDA device %u: this machine has "
                                 "%d",
                                 index, present);
        EMB_TRY(probe_one(&devices[i], index, error));
        *count = i + 1;
    }
    /* once per process, so reported for the first device only */
    if (*count && wanted && wanted->gemm == EMB_GEMM_CUBLASLT)
        EMB_TRY(emb_cuda_library_probe(&devices[0].cublaslt_bytes, devices[0].index, error));
    return EMB_OK;
}

emb_status emb_cuda_probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                          emb_error *error) {
    emb_device_thread before;
    emb_cuda_enter(&before, EMB_CUDA_NO_DEVICE);
    emb_status status = probe_all(devices, count, wanted, error);
    emb_cuda_leave(&before);
    return status;
}

cudaError_t emb_cuda_warm_up(uint32_t device) {
    cudaError_t reason = cudaSetDevice((int)device);
    return reason == cudaSuccess ? cudaFree(NULL) : reason;
}

bool emb_cuda_supports(uint32_t compute_capability) {
    return emb_cuda_built_for(EMB_CUDA_ARCHITECTURES, compute_capability);
}

/* ---- memory ---------------------------------------------------------------------------------- */

emb_status emb_cuda_open_device(uint32_t device, emb_error *error) {
    cudaError_t reason = emb_cuda_warm_up(device);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "cannot run kernels", reason);
    return EMB_OK;
}

emb_status emb_cuda_uploaded(uint32_t device, emb_error *error) {
    cudaError_t reason = cudaSetDevice((int)device);
    if (reason == cudaSuccess) reason = cudaStreamSynchronize(0);
    if (reason == cudaSuccess) reason = cudaGetLastError();
    if (reason != cudaSuccess)
        return emb_cuda_failed(error, device, "uploading weights failed", reason);
    return EMB_OK;
}

void *emb_cuda_take(uint32_t device, uint64_t bytes) {
    void *base = NULL;
    if (cudaSetDevice((int)device) != cudaSuccess) return NULL;
    if (cudaMalloc(&base, bytes) == cudaSuccess) return base;
    cudaGetLastError(); /* NULL reports it: clear it, so that it is not an error of later calls */
    return NULL;
}

void emb_cuda_give(void *base) {
    cudaFree(base);
}

bool emb_cuda_pin(void *base, uint64_t bytes) {
    if (cudaHostRegister(base, bytes, cudaHostRegisterPortable) == cudaSuccess) return true;
    cudaGetLastError();
    return false;
}

void emb_cuda_unpin(void *base) {
    cudaHostUnregister(base);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static void count_lane(uint32_t device, bool opens) {
    if (device >= EMB_DEVICES_MAX) return;
    if (!opens) {
        contexts[device].lanes--;
        return;
    }
    unsigned lanes = ++contexts[device].lanes, most = contexts[device].lanes_most;
    while (lanes > most &&
           !atomic_compare_exchange_weak(&contexts[device].lanes_most, &most, lanes)) {
    }
}

emb_status emb_cuda_lane_open(const emb_backend *self, emb_lane_scratch *scratch, uint32_t device,
                              emb_error *error) {
    emb_cuda_state *state = scratch->state;
    cudaStream_t stream = NULL;
    memset(state, 0, sizeof *state);
    state->index = device;
    state->queue.launch = &emb_cuda_kernels;
    cudaError_t reason = cudaSetDevice((int)device);
    if (reason == cudaSuccess) reason = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "no stream", reason);
    state->queue.stream = stream;
    count_lane(device, true);
    reason = (cudaError_t)emb_cuda_device_read(&state->queue.device);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "cannot be examined", reason);
    if (emb_cuda_gemm_of(self) == EMB_GEMM_OWN) return EMB_OK;
    return emb_cuda_library_open(&state->queue.blas, device, error);
}

emb_status emb_cuda_lane_failed(emb_error *error, const emb_cuda_state *state, const char *what,
                                cudaError_t reason) {
    const emb_cuda_queue *queue = &state->queue;
    if (queue->failure && !queue->blas_status) reason = (cudaError_t)queue->failure;
    if (!queue->blas_status) return emb_cuda_failed(error, state->index, what, reason);
    return emb_error_set(error, EMB_DEVICE,
                         "CUDA device %u: %s: cuBLASLt %s (status %d); own products may work "
                         "(--gemm own)",
                         state->index, what,
                         queue->blas_status < 0 ? "has no algorithm without a workspace" : "failed",
                         queue->blas_status);
}

void emb_cuda_lane_close(emb_lane_scratch *scratch) {
    emb_cuda_state *state = scratch->state;
    emb_cuda_queue *queue = &state->queue;
    /* a cancelled lane may still be working in memory that is freed next */
    if (queue->stream) cudaStreamSynchronize(queue->stream);
    emb_cuda_forget(state);
    emb_cuda_blas_close(&queue->blas);
    if (queue->stream) {
        cudaStreamDestroy(queue->stream);
        count_lane(state->index, false);
    }
    queue->stream = NULL;
}

bool emb_cuda_begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch) {
    emb_cuda_state *state = scratch->state;
    emb_cuda_queue *queue = &state->queue;
    emb_cuda_view v = emb_cuda_view_indices(scratch, tile);
    emb_cuda_upload indices = emb_cuda_upload_of(&v, tile, targets);
    emb_cuda_note(queue, cudaSetDevice((int)state->index));
    emb_cuda_note(queue, cudaMemcpyAsync(indices.to, indices.from, indices.bytes,
                                         cudaMemcpyHostToDevice, queue->stream));
    if (emb_cuda_replay(state, tile->tokens)) return true;
    emb_cuda_note(queue, queue->launch->prepare(&v.batch, queue->stream));
    return false;
}

emb_status emb_cuda_finish(emb_lane_scratch *scratch, emb_error *error) {
    emb_cuda_state *state = scratch->state;
    cudaError_t reason = cudaStreamSynchronize(state->queue.stream);
    if (reason == cudaSuccess && !state->queue.failure) return EMB_OK;
    return emb_cuda_lane_failed(
        error, state, "a kernel failed; rows delivered so far are valid, start again", reason);
}
