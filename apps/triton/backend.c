/* backend.c - what the server calls: libtriton_embound.so's exported functions.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "triton/model.h"
#include "triton/report.h"

#define EXPORT __attribute__((visibility("default")))

/* Models are loaded one at a time: a plan measures what the process holds. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

EXPORT emb_triton_error TRITONBACKEND_Initialize(TRITONBACKEND_Backend *backend) {
    uint32_t major, minor;
    (void)backend;
    EMB_TRITON_TRY(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != TRITONBACKEND_API_VERSION_MAJOR || minor < TRITONBACKEND_API_VERSION_MINOR)
        return emb_triton_fail(TRITONSERVER_ERROR_UNSUPPORTED,
                               "the server's backend interface is %u.%u; this backend needs %d.%d "
                               "or a later minor version",
                               major, minor, TRITONBACKEND_API_VERSION_MAJOR,
                               TRITONBACKEND_API_VERSION_MINOR);
    emb_triton_log(TRITONSERVER_LOG_INFO, "version %s, backend interface %u.%u", emb_version(),
                   major, minor);
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model *handle) {
    emb_triton_model *model;
    pthread_mutex_lock(&loading);
    emb_triton_error failed = emb_triton_model_open(&model, handle);
    pthread_mutex_unlock(&loading);
    if (failed) return failed;
    failed = TRITONBACKEND_ModelSetState(handle, model);
    if (failed) emb_triton_model_close(model);
    return failed;
}

EXPORT emb_triton_error TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model *handle) {
    void *state = NULL;
    EMB_TRITON_TRY(TRITONBACKEND_ModelState(handle, &state));
    pthread_mutex_lock(&loading);
    emb_triton_model_close(state);
    pthread_mutex_unlock(&loading);
    return NULL;
}

EXPORT emb_triton_error TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                           TRITONBACKEND_Request **requests,
                                                           const uint32_t request_count) {
    TRITONBACKEND_Model *handle;
    void *state = NULL;
    EMB_TRITON_TRY(TRITONBACKEND_ModelInstanceModel(instance, &handle));
    EMB_TRITON_TRY(TRITONBACKEND_ModelState(handle, &state));
    if (!state) return emb_triton_fail(TRITONSERVER_ERROR_INTERNAL, "the model is not loaded");
    emb_triton_model *model = state;
    emb_triton_queue_take(&model->queue, instance, requests, request_count);
    return NULL;
}
