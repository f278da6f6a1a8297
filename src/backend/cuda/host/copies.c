/* copies.c - copies layers from pinned memory: a copy stream, and events between it and the lanes'
 * streams.
 *
 * Only event_finish and copier_close wait. A failure while a copy runs is sticky: the lanes' next
 * finish reports it, before any row is delivered.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>
#include <string.h>

#include "backend/cuda/host/module.h"

/* Uploads of the lanes' indices share the copy engine: they get in between pieces of a layer. */
#define PIECE_BYTES (2u << 20)

emb_status emb_cuda_copier_open(void **copier, void **events, uint32_t count, uint32_t device,
                                emb_error *error) {
    cudaStream_t stream = NULL;
    memset(events, 0, count * sizeof *events);
    cudaError_t reason = cudaSetDevice((int)device);
    if (reason == cudaSuccess) reason = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    for (uint32_t i = 0; reason == cudaSuccess && i < count; i++) {
        cudaEvent_t event = NULL;
        reason = cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync);
        if (reason == cudaSuccess) events[i] = event;
    }
    if (reason != cudaSuccess) {
        emb_cuda_copier_close(stream, events, count);
        return emb_cuda_failed(error, device, "no stream for copies", reason);
    }
    *copier = stream;
    return EMB_OK;
}

void emb_cuda_copier_close(void *copier, void **events, uint32_t count) {
    if (copier) {
        cudaStreamSynchronize(copier);
        cudaStreamDestroy(copier);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (events[i]) cudaEventDestroy(events[i]);
        events[i] = NULL;
    }
}

emb_status emb_cuda_copy(void *copier, const emb_device_copy *copy, uint32_t device,
                         emb_error *error) {
    cudaError_t reason = cudaSetDevice((int)device);
    for (uint32_t i = 0; reason == cudaSuccess && i < copy->after_count; i++)
        reason = cudaStreamWaitEvent(copier, copy->after[i], 0);
    for (uint64_t at = 0; reason == cudaSuccess && at < copy->bytes; at += PIECE_BYTES) {
        uint64_t left = copy->bytes - at;
        reason = cudaMemcpyAsync((char *)copy->to + at, (const char *)copy->from + at,
                                 left < PIECE_BYTES ? left : PIECE_BYTES, cudaMemcpyHostToDevice,
                                 copier);
    }
    if (reason == cudaSuccess) reason = cudaEventRecord(copy->done, copier);
    if (reason != cudaSuccess)
        return emb_cuda_failed(error, device, "copying a layer failed", reason);
    return EMB_OK;
}

void emb_cuda_lane_wait(emb_lane_scratch *scratch, void *event) {
    emb_cuda_queue *queue = scratch->state;
    emb_cuda_note(queue, cudaStreamWaitEvent(queue->stream, event, 0));
}

void emb_cuda_lane_mark(emb_lane_scratch *scratch, void *event) {
    emb_cuda_queue *queue = scratch->state;
    emb_cuda_note(queue, cudaEventRecord(event, queue->stream));
}

emb_status emb_cuda_event_finish(void *event, uint32_t device, emb_error *error) {
    cudaError_t reason = cudaEventSynchronize(event);
    if (reason != cudaSuccess)
        return emb_cuda_failed(
            error, device, "a kernel failed; rows delivered so far are valid, start again", reason);
    return EMB_OK;
}
