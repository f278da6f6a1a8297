/* queue.h - requests on their way through one engine: handed in by any of the model's instances,
 * answered by one thread, in the order they came.
 *
 * Texts of many requests, and of many calls of Execute, share the engine's windows. A window is
 * flushed as soon as nothing is being encoded: what comes meanwhile waits for it together.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_QUEUE_H
#define EMB_TRITON_QUEUE_H

#include <pthread.h>

#include "embound.h"
#include "triton/answer.h"
#include "triton/config.h"
#include "triton/metrics.h"
#include "triton/request.h"
#include "triton/triton_api.h"

#define EMB_TRITON_PENDING 4096 /* requests inside the engine at once */
#define EMB_TRITON_ROWS    256  /* collected at once */
#define EMB_TRITON_STACK   (256u << 10)

/* A request inside the engine. */
typedef struct emb_triton_pending {
    emb_triton_answer answer;
    TRITONBACKEND_ModelInstance *instance;
    emb_triton_error failed; /* while it was handed in */
    uint64_t first;          /* number of its first text */
    uint32_t texts;          /* that it has */
    uint32_t submitted;      /* of them, so far; fewer in the end if it was cancelled or failed */
    uint32_t answered;       /* rows that came */
    bool whole;              /* no more will be submitted */
    bool cancelled;
    uint64_t started, handed; /* times in ns: Execute began; its last text was submitted */
} emb_triton_pending;

typedef struct emb_triton_queue {
    const emb_triton_config *config;
    const emb_model *model;
    const emb_plan *plan;
    emb_engine *engine;
    emb_triton_metrics *metrics;
    pthread_mutex_t turn;      /* held by the Execute that hands in */
    pthread_mutex_t lock;      /* of what follows, and of the engine's submit, flush, withdraw */
    pthread_cond_t work, room; /* for the answering thread; for the Execute that waits */
    pthread_t thread;
    bool kicked;   /* there may be something to collect */
    bool handing;  /* an Execute is between its first text and its last */
    bool waiting;  /* and waits for room */
    bool stopping; /* the model is being unloaded */
    bool stopped;  /* the engine has failed; failure says why */
    emb_status status;
    emb_error failure;
    uint64_t submitted, flushed, collected; /* texts so far; flushed: when flush was last called */
    uint64_t head, tail;                    /* of the ring: answered, taken */
    emb_triton_pending pending[EMB_TRITON_PENDING];
    emb_triton_request request; /* being handed in */
    emb_row rows[EMB_TRITON_ROWS];
} emb_triton_queue;

/* Starts the answering thread on `stack` (EMB_TRITON_STACK bytes, the caller's). All that the queue
 * points to is set before, and outlives it. Fails: EMB_NO_MEMORY. */
emb_status emb_triton_queue_open(emb_triton_queue *queue, void *stack, emb_error *error);

/* Takes requests: each is answered and released exactly once, now or later. Returns when all their
 * texts are inside the engine, which bounds what is there at once. Threads: any. */
void emb_triton_queue_take(emb_triton_queue *queue, TRITONBACKEND_ModelInstance *instance,
                           TRITONBACKEND_Request **requests, uint32_t count);

/* Waits until every request taken is answered, then ends the thread. */
void emb_triton_queue_close(emb_triton_queue *queue);

#endif
