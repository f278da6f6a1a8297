/* answer.c - makes a response's tensor, writes vectors in the output's datatype, sends it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/answer.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/quantize.h"
#include "triton/report.h"

uint64_t emb_triton_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- a row ----------------------------------------------------------------------------------- */

static uint64_t value_bytes(TRITONSERVER_DataType type) {
    return type == TRITONSERVER_TYPE_FP32 ? 4 : type == TRITONSERVER_TYPE_FP16 ? 2 : 1;
}

/* Rounded to nearest, cut at 127. A range of 0: the row's own, its largest value. */
static void write_int8(int8_t *out, const float *values, uint32_t dim, double range) {
    if (range <= 0)
        for (uint32_t i = 0; i < dim; i++) range = fmax(range, fabs(values[i]));
    double scale = range > 0 ? 127 / range : 0;
    for (uint32_t i = 0; i < dim; i++) {
        double code = nearbyint(values[i] * scale);
        out[i] = (int8_t)fmin(fmax(code, -127), 127);
    }
}

static void write_values(unsigned char *out, const emb_triton_config *config, const float *values,
                         uint32_t dim) {
    uint16_t half;
    switch (config->output) {
    case TRITONSERVER_TYPE_FP32:
        memcpy(out, values, (size_t)dim * 4);
        return;
    case TRITONSERVER_TYPE_INT8:
        write_int8((int8_t *)out, values, dim, config->int8_range);
        return;
    default:
        break;
    }
    for (uint32_t i = 0; i < dim; i++) {
        half = emb_quantize_f16(values[i]);
        memcpy(out + (size_t)i * 2, &half, 2);
    }
}

/* Why a text has no vector. */
static emb_triton_error refuse_row(const emb_row *row, const emb_plan *plan, uint32_t index) {
    TRITONSERVER_Error_Code code = emb_triton_code(row->status);
    switch (row->status) {
    case EMB_TOO_LONG:
        return emb_triton_fail(code,
                               "text %u of the request is longer than %u tokens; shorten it, or "
                               "state the parameter long as chunk or truncate",
                               index, plan->chunk_tokens_max);
    case EMB_BAD_TEXT:
        return emb_triton_fail(code, EMB_TRITON_IDS " %u: an id is outside the model's vocabulary",
                               index);
    case EMB_NOT_FINITE:
        return emb_triton_fail(code, "text %u of the request: its vector is not finite", index);
    case EMB_WITHDRAWN:
        return emb_triton_fail(code, "the request was cancelled");
    default:
        return emb_triton_fail(code, "text %u of the request: %s", index,
                               emb_status_name(row->status));
    }
}

/* ---- the response ---------------------------------------------------------------------------- */

static emb_triton_error make_tensor(emb_triton_answer *answer, const emb_triton_config *config,
                                    const emb_plan *plan, uint32_t texts) {
    const int64_t shape[2] = {texts, plan->dim};
    TRITONSERVER_MemoryType kind = TRITONSERVER_MEMORY_CPU;
    TRITONBACKEND_Output *output;
    int64_t device = 0;
    void *buffer = NULL;
    uint64_t bytes = (uint64_t)texts * plan->dim * value_bytes(config->output);
    EMB_TRITON_TRY(TRITONBACKEND_ResponseOutput(answer->response, &output, EMB_TRITON_OUTPUT,
                                                config->output, shape, 2));
    EMB_TRITON_TRY(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &kind, &device));
    if (kind == TRITONSERVER_MEMORY_GPU)
        return emb_triton_fail(TRITONSERVER_ERROR_UNSUPPORTED, EMB_TRITON_OUTPUT
                               " is asked for in a GPU's memory; ask for the host's");
    answer->values = buffer;
    return NULL;
}

static emb_triton_error open_response(emb_triton_answer *answer, const emb_triton_config *config,
                                      const emb_plan *plan, uint32_t texts) {
    EMB_TRITON_TRY(TRITONBACKEND_ResponseNew(&answer->response, answer->request));
    return make_tensor(answer, config, plan, texts);
}

void emb_triton_answer_row(emb_triton_answer *answer, const emb_triton_config *config,
                           const emb_plan *plan, uint32_t texts, uint32_t index,
                           const emb_row *row) {
    if (answer->error) return;
    if (row && row->status != EMB_OK) answer->error = refuse_row(row, plan, index);
    if (!answer->error && !answer->response)
        answer->error = open_response(answer, config, plan, texts);
    if (answer->error || !row) return;
    uint64_t row_bytes = plan->dim * value_bytes(config->output);
    write_values(answer->values + index * row_bytes, config, row->values, plan->dim);
}

bool emb_triton_answer_send(emb_triton_answer *answer, TRITONBACKEND_ModelInstance *instance,
                            const emb_triton_times *times, emb_triton_error error) {
    if (error && answer->error) TRITONSERVER_ErrorDelete(answer->error);
    if (error) answer->error = error;
    emb_triton_error no_response = NULL;
    if (!answer->response)
        no_response = TRITONBACKEND_ResponseNew(&answer->response, answer->request);
    bool right = !answer->error && !no_response;
    emb_triton_drop(no_response);
    if (!no_response)
        emb_triton_drop(TRITONBACKEND_ResponseSend(
            answer->response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, answer->error));
    if (answer->error) TRITONSERVER_ErrorDelete(answer->error);
    emb_triton_drop(TRITONBACKEND_ModelInstanceReportStatistics(instance, answer->request, right,
                                                                times->started, times->handed,
                                                                times->computed, emb_triton_now()));
    emb_triton_drop(
        TRITONBACKEND_RequestRelease(answer->request, TRITONSERVER_REQUEST_RELEASE_ALL));
    *answer = (emb_triton_answer){0};
    return right;
}
