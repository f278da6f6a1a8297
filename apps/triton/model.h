/* model.h - a loaded model: its plan, its engine, its queue.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_MODEL_H
#define EMB_TRITON_MODEL_H

#include "common/own_plan.h"
#include "embound.h"
#include "triton/config.h"
#include "triton/metrics.h"
#include "triton/queue.h"
#include "triton/triton_api.h"

typedef struct emb_triton_model {
    unsigned char stack[EMB_TRITON_STACK]; /* of the answering thread; on whole pages */
    const char *name;                      /* the server's */
    uint64_t version;
    emb_triton_config config;
    emb_machine machine;
    emb_model *model;
    emb_own_plan own;
    emb_engine *engine;
    bool queue_open;
    emb_triton_metrics *metrics;
    emb_triton_queue queue;
} emb_triton_model;

/* Reads the configuration, makes the plan, opens the engine and the queue; logs the plan, reports
 * the memory to the server. Fails with what is to be changed; nothing is kept then.
 * Threads: one at a time in the process, since it measures what the process holds. */
emb_triton_error emb_triton_model_open(emb_triton_model **out, TRITONBACKEND_Model *handle);

/* Waits for the answers under way, and frees all. model may be NULL. */
void emb_triton_model_close(emb_triton_model *model);

#endif
