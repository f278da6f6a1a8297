/* echo_backend.c - a backend that computes nothing: it answers at once with vectors of zeros, so
 * that what a server costs by itself can be measured.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "triton/triton_api.h"

#define EXPORT __attribute__((visibility("default")))

enum { DIM = 384 };

static uint64_t time_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void drop(emb_triton_error error) {
    if (error) TRITONSERVER_ErrorDelete(error);
}

static emb_triton_error fill(TRITONBACKEND_Request *request, TRITONBACKEND_Response *response) {
    TRITONBACKEND_Input *input;
    TRITONBACKEND_Output *output;
    TRITONSERVER_MemoryType kind = TRITONSERVER_MEMORY_CPU;
    const int64_t *shape = NULL;
    int64_t device = 0;
    uint32_t dims = 0;
    void *buffer = NULL;
    emb_triton_error error = TRITONBACKEND_RequestInputByIndex(request, 0, &input);
    if (!error) error = TRITONBACKEND_InputProperties(input, NULL, NULL, &shape, &dims, NULL, NULL);
    if (error) return error;
    const int64_t rows[2] = {dims ? shape[0] : 0, DIM};
    uint64_t bytes = (uint64_t)rows[0] * DIM * sizeof(float);
    error = TRITONBACKEND_ResponseOutput(response, &output, "EMBEDDING", TRITONSERVER_TYPE_FP32,
                                         rows, 2);
    if (!error) error = TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &kind, &device);
    if (!error) memset(buffer, 0, bytes);
    return error;
}

EXPORT emb_triton_error TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                           TRITONBACKEND_Request **requests,
                                                           const uint32_t request_count) {
    for (uint32_t i = 0; i < request_count; i++) {
        TRITONBACKEND_Response *response;
        emb_triton_error error = TRITONBACKEND_ResponseNew(&response, requests[i]);
        bool right = false;
        if (!error) {
            error = fill(requests[i], response);
            right = !error;
            drop(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
        }
        drop(error);
        uint64_t now = time_ns();
        drop(TRITONBACKEND_ModelInstanceReportStatistics(instance, requests[i], right, now, now,
                                                         now, now));
        drop(TRITONBACKEND_RequestRelease(requests[i], TRITONSERVER_REQUEST_RELEASE_ALL));
    }
    uint64_t now = time_ns();
    drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, request_count, now, now, now,
                                                          now));
    return NULL;
}
