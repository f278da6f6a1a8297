/* queue.c - hands requests to the engine and answers them.
 *
 * Two threads meet here: the Execute whose turn it is submits texts and appends to the ring of
 * pending requests; the answering thread collects rows, which come in the order of the ring, and
 * takes from it. The engine wants its submit, flush and withdraw one at a time: the lock is held
 * for each single call.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/queue.h"

#include <string.h>

#include "base/threads.h"
#include "fail.h"
#include "triton/report.h"

enum { CANCEL_MS = 20 }; /* how often a wait is left to look for cancelled requests */

static emb_triton_pending *at(emb_triton_queue *q, uint64_t index) {
    return &q->pending[index % EMB_TRITON_PENDING];
}

/* ---- handing in ------------------------------------------------------------------------------ */

/* Has the lock. */
static void kick(emb_triton_queue *q) {
    q->kicked = true;
    pthread_cond_signal(&q->work);
}

/* Hands over the window being filled. Has the lock. */
static void flush(emb_triton_queue *q) {
    (void)emb_engine_flush(q->engine);
    q->flushed = q->submitted;
}

/* Has the lock. */
static void stop(emb_triton_queue *q, emb_status status, const emb_error *error) {
    if (q->stopped) return;
    q->stopped = true;
    q->status = status;
    q->failure = *error;
    emb_triton_log(TRITONSERVER_LOG_ERROR, "the engine has stopped, unload and load the model: %s",
                   error->message);
    kick(q);
}

/* Waits until the answering thread has made room. Has the lock, which is free meanwhile. */
static void wait_for_room(emb_triton_queue *q) {
    q->waiting = true;
    flush(q);
    kick(q);
    pthread_cond_wait(&q->room, &q->lock);
    q->waiting = false;
}

/* Submits a piece, however long that takes; nothing if the engine has stopped. */
static void submit(emb_triton_queue *q, const emb_piece *piece, emb_triton_pending *p) {
    pthread_mutex_lock(&q->lock);
    if (piece->flags & EMB_PIECE_FIRST && !q->stopped) {
        q->submitted++;
        p->submitted++;
    }
    while (!q->stopped) {
        uint32_t taken = 0;
        emb_error error;
        emb_status status = emb_engine_submit(q->engine, piece, 1, &taken, &error);
        if (status != EMB_OK) stop(q, status, &error);
        if (taken) break;
        if (!q->stopped) wait_for_room(q);
    }
    pthread_mutex_unlock(&q->lock);
}

/* Submits the texts of a request that was checked. */
static emb_triton_error submit_texts(emb_triton_queue *q, emb_triton_pending *p, uint32_t texts) {
    for (uint32_t i = 0; i < texts; i++) {
        emb_piece piece = {.flags = 0};
        pthread_mutex_lock(&q->lock);
        bool ends = p->cancelled || q->stopped;
        pthread_mutex_unlock(&q->lock);
        if (ends) return NULL;
        EMB_TRITON_TRY(emb_triton_request_next(&q->request));
        while (!(piece.flags & EMB_PIECE_LAST)) {
            emb_triton_error failed = emb_triton_request_piece(&piece, &q->request);
            if (failed) { /* the text that was begun is ended, empty from here on */
                bool begun = !q->request.first;
                piece = (emb_piece){"", 0, EMB_PIECE_LAST, 0};
                if (begun) submit(q, &piece, p);
                return failed;
            }
            submit(q, &piece, p);
        }
    }
    return NULL;
}

/* Answers at once what never reaches the engine; `error` is taken. */
static void refuse(TRITONBACKEND_Request *request, TRITONBACKEND_ModelInstance *instance,
                   uint64_t started, emb_triton_error error) {
    emb_triton_answer answer = {.request = request};
    emb_triton_times times = {started, emb_triton_now(), emb_triton_now()};
    (void)emb_triton_answer_send(&answer, instance, &times, error);
}

/* A place at the end of the ring, once there is one. */
static emb_triton_pending *append(emb_triton_queue *q) {
    pthread_mutex_lock(&q->lock);
    while (q->tail - q->head == EMB_TRITON_PENDING) wait_for_room(q);
    emb_triton_pending *p = at(q, q->tail);
    memset(p, 0, sizeof *p);
    p->first = q->submitted;
    pthread_mutex_unlock(&q->lock);
    return p;
}

static emb_triton_error is_refused(emb_triton_queue *q, TRITONBACKEND_Request *request) {
    bool cancelled = false;
    pthread_mutex_lock(&q->lock);
    bool stopped = q->stopped;
    pthread_mutex_unlock(&q->lock);
    if (stopped) /* failure does not change again */
        return emb_triton_fail(TRITONSERVER_ERROR_UNAVAILABLE,
                               "the engine has stopped, unload and load the model: %s",
                               q->failure.message);
    EMB_TRITON_TRY(TRITONBACKEND_RequestIsCancelled(request, &cancelled));
    if (cancelled)
        return emb_triton_fail(TRITONSERVER_ERROR_CANCELLED, "the request was cancelled");
    return emb_triton_request_open(&q->request, request, q->config, q->model);
}

static void take(emb_triton_queue *q, TRITONBACKEND_ModelInstance *instance,
                 TRITONBACKEND_Request *request, uint64_t started) {
    emb_triton_error refused = is_refused(q, request);
    if (refused) {
        emb_triton_metrics_add(q->metrics, EMB_TRITON_FAILED, 1);
        refuse(request, instance, started, refused);
        return;
    }
    emb_triton_pending *p = append(q);
    p->answer.request = request;
    p->instance = instance;
    p->started = started;
    p->texts = q->request.texts;
    pthread_mutex_lock(&q->lock);
    q->tail++;
    pthread_mutex_unlock(&q->lock);
    emb_triton_error failed = submit_texts(q, p, q->request.texts);
    pthread_mutex_lock(&q->lock);
    p->failed = failed;
    p->handed = emb_triton_now();
    p->whole = true;
    if (p->answered == p->submitted || q->stopped) kick(q);
    pthread_mutex_unlock(&q->lock);
}

void emb_triton_queue_take(emb_triton_queue *q, TRITONBACKEND_ModelInstance *instance,
                           TRITONBACKEND_Request **requests, uint32_t count) {
    uint64_t started = emb_triton_now();
    pthread_mutex_lock(&q->turn);
    pthread_mutex_lock(&q->lock);
    q->handing = true;
    pthread_mutex_unlock(&q->lock);
    for (uint32_t i = 0; i < count; i++) take(q, instance, requests[i], started);
    pthread_mutex_lock(&q->lock);
    q->handing = false;
    if (q->collected >= q->flushed && q->submitted > q->collected) flush(q);
    kick(q);
    pthread_mutex_unlock(&q->lock);
    pthread_mutex_unlock(&q->turn);
}

/* ---- answering ------------------------------------------------------------------------------- */

/* Whether nothing more comes for the request at the head of the ring. Has the lock. */
static bool is_complete(emb_triton_queue *q) {
    const emb_triton_pending *p = at(q, q->head);
    return q->head < q->tail && p->whole && (p->answered == p->submitted || q->stopped);
}

/* What stands in place of a request's vectors, or NULL. */
static emb_triton_error reason(const emb_triton_queue *q, const emb_triton_pending *p) {
    if (p->failed) return p->failed;
    if (p->answered == p->texts) return NULL;
    if (p->cancelled)
        return emb_triton_fail(TRITONSERVER_ERROR_CANCELLED, "the request was cancelled");
    return emb_triton_refuse(q->status, "the engine has stopped", &q->failure);
}

/* Sends the answers at the head of the ring that are complete. */
static void send_complete(emb_triton_queue *q, uint64_t computed) {
    for (;;) {
        pthread_mutex_lock(&q->lock);
        bool complete = is_complete(q);
        pthread_mutex_unlock(&q->lock);
        if (!complete) return;
        emb_triton_pending *p = at(q, q->head); /* complete: no other thread's any more */
        emb_triton_error error = reason(q, p);
        if (p->texts == 0 && !error)
            emb_triton_answer_row(&p->answer, q->config, q->plan, 0, 0, NULL);
        emb_triton_times times = {p->started, p->handed, computed};
        (void)emb_triton_answer_send(&p->answer, p->instance, &times, error);
        pthread_mutex_lock(&q->lock);
        q->head++;
        pthread_cond_broadcast(&q->room);
        pthread_mutex_unlock(&q->lock);
    }
}

/* The request whose row comes next; those before it are sent. */
static emb_triton_pending *owner(emb_triton_queue *q, uint64_t computed) {
    for (;;) {
        pthread_mutex_lock(&q->lock);
        bool complete = is_complete(q);
        emb_triton_pending *p = at(q, q->head);
        pthread_mutex_unlock(&q->lock);
        if (!complete) return p;
        send_complete(q, computed);
    }
}

/* What a batch of rows adds to the books; before its answers, since an instance lives as long as
 * its requests do. */
static void count_rows(emb_triton_queue *q, uint32_t count, uint64_t began, uint64_t computed) {
    uint64_t counts[EMB_TRITON_COUNTERS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        const emb_row *row = &q->rows[i];
        counts[row->status == EMB_OK ? EMB_TRITON_TEXTS : EMB_TRITON_FAILED]++;
        counts[EMB_TRITON_TOKENS] += row->tokens;
        counts[EMB_TRITON_DROPPED] += row->tokens_dropped;
    }
    emb_triton_drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(
        owner(q, computed)->instance, count, began, began, computed, computed));
    for (uint32_t i = 0; i < EMB_TRITON_COUNTERS; i++)
        emb_triton_metrics_add(q->metrics, (emb_triton_counter)i, counts[i]);
}

/* Gives each row to its request; rows come in the order of the texts. */
static void give_rows(emb_triton_queue *q, uint32_t count, uint64_t began) {
    uint64_t computed = emb_triton_now();
    count_rows(q, count, began, computed);
    for (uint32_t i = 0; i < count; i++) {
        emb_triton_pending *p = owner(q, computed);
        const emb_row *row = &q->rows[i];
        emb_triton_answer_row(&p->answer, q->config, q->plan, p->texts,
                              (uint32_t)(row->text - p->first), row);
        pthread_mutex_lock(&q->lock);
        p->answered++;
        pthread_mutex_unlock(&q->lock);
    }
}

/* Takes back the texts of requests that were cancelled. Has the lock. */
static void withdraw_cancelled(emb_triton_queue *q) {
    for (uint64_t i = q->head; i < q->tail; i++) {
        emb_triton_pending *p = at(q, i);
        bool cancelled = false;
        if (p->cancelled) continue;
        emb_triton_drop(TRITONBACKEND_RequestIsCancelled(p->answer.request, &cancelled));
        if (!cancelled) continue;
        p->cancelled = true;
        for (uint32_t k = p->answered; k < p->submitted; k++)
            (void)emb_engine_withdraw(q->engine, p->first + k, NULL);
    }
}

/* What follows from a collect. Has the lock. Gives whether rows came. */
static bool settle(emb_triton_queue *q, emb_status status, uint32_t count, const emb_error *error) {
    if (status != EMB_OK && status != EMB_TIMEOUT) stop(q, status, error);
    if (q->stopped) count = 0;
    q->collected += count;
    bool idle = status == EMB_OK && count == 0;
    bool open = q->submitted > q->collected && !q->handing;
    /* what came meanwhile goes in before the answers go out */
    if (!q->stopped && open && (idle || q->collected >= q->flushed)) flush(q);
    q->kicked = !idle || open;
    if (q->stopped) q->kicked = false;
    if (!q->stopped) withdraw_cancelled(q);
    pthread_cond_broadcast(&q->room);
    return count > 0;
}

static void *answer(void *user) {
    emb_triton_queue *q = user;
    uint64_t began = emb_triton_now();
    pthread_mutex_lock(&q->lock);
    while (!q->stopping || q->head < q->tail) {
        if (!q->kicked) {
            pthread_cond_wait(&q->work, &q->lock);
            began = emb_triton_now();
            continue;
        }
        bool stopped = q->stopped;
        uint32_t count = 0;
        emb_error error;
        emb_status status = EMB_OK;
        pthread_mutex_unlock(&q->lock);
        if (!stopped)
            status =
                emb_engine_collect(q->engine, q->rows, EMB_TRITON_ROWS, &count, CANCEL_MS, &error);
        pthread_mutex_lock(&q->lock);
        bool rows = settle(q, status, count, &error);
        pthread_mutex_unlock(&q->lock);
        if (rows) give_rows(q, count, began);
        send_complete(q, emb_triton_now());
        if (rows) began = emb_triton_now();
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

emb_status emb_triton_queue_open(emb_triton_queue *q, void *stack, emb_error *error) {
    pthread_mutex_init(&q->turn, NULL);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    pthread_cond_init(&q->room, NULL);
    int failed = emb_thread_create(&q->thread, stack, EMB_TRITON_STACK, answer, q);
    if (!failed) return EMB_OK;
    return emb_app_fail(error, EMB_NO_MEMORY, "the system refused a thread: %s", strerror(failed));
}

void emb_triton_queue_close(emb_triton_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->stopping = true;
    kick(q);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->thread, NULL);
    pthread_cond_destroy(&q->room);
    pthread_cond_destroy(&q->work);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->turn);
}
