/* answer.h - the response to one request: its tensor, filled row by row, and how it ends.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_ANSWER_H
#define EMB_TRITON_ANSWER_H

#include "embound.h"
#include "triton/config.h"
#include "triton/triton_api.h"

typedef struct emb_triton_answer {
    TRITONBACKEND_Request *request;
    TRITONBACKEND_Response *response; /* from its first row on */
    unsigned char *values;            /* [texts, dim], the response's */
    emb_triton_error error;           /* the first one; then no more rows are written */
} emb_triton_answer;

/* Times of an execution, in ns of the monotonic clock. */
typedef struct emb_triton_times {
    uint64_t started, handed, computed;
} emb_triton_times;

/* Now, in ns of the monotonic clock. */
uint64_t emb_triton_now(void);

/* Writes row `index` of `texts`; the tensor is made with the first one. What fails is kept for the
 * answer's end. Threads: one for each answer. */
void emb_triton_answer_row(emb_triton_answer *answer, const emb_triton_config *config,
                           const emb_plan *plan, uint32_t texts, uint32_t index,
                           const emb_row *row);

/* Sends the response, or its error, reports the times and releases the request. `error`: NULL, or
 * one that stands in place of all; it is taken. Gives whether the request has its vectors. */
bool emb_triton_answer_send(emb_triton_answer *answer, TRITONBACKEND_ModelInstance *instance,
                            const emb_triton_times *times, emb_triton_error error);

#endif
