/* fake_stream.c - a thread and a list for each queue; an event counts its marks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_stream.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct node {
    struct node *next;
    fake_call call;
    max_align_t arguments[];
} node;

struct fake_stream {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    node *first, **last;
    uint64_t enqueued, done;
    uint64_t random; /* state; 0: no jitter */
    uint64_t jitter_us;
    bool stop;
};

struct fake_event {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t marked, reached; /* marks enqueued, marks passed */
};

/* ---- queues ---------------------------------------------------------------------------------- */

static void dawdle(fake_stream *stream) {
    if (!stream->jitter_us) return;
    stream->random = stream->random * 6364136223846793005u + 1442695040888963407u;
    long us = (long)((stream->random >> 33) % stream->jitter_us);
    nanosleep(&(struct timespec){0, us * 1000}, NULL);
}

static void *run(void *user) {
    fake_stream *stream = user;
    pthread_mutex_lock(&stream->mutex);
    for (;;) {
        node *next = stream->first;
        if (!next) {
            if (stream->stop) break;
            pthread_cond_wait(&stream->changed, &stream->mutex);
            continue;
        }
        stream->first = next->next;
        if (!stream->first) stream->last = &stream->first;
        pthread_mutex_unlock(&stream->mutex);
        dawdle(stream);
        next->call(next->arguments);
        free(next);
        pthread_mutex_lock(&stream->mutex);
        stream->done++;
        pthread_cond_broadcast(&stream->changed);
    }
    pthread_mutex_unlock(&stream->mutex);
    return NULL;
}

fake_stream *fake_stream_open(void) {
    fake_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    const char *jitter = getenv("EMB_FAKE_JITTER");
    stream->jitter_us = jitter ? strtoul(jitter, NULL, 10) : 0;
    stream->random = (uintptr_t)stream;
    stream->last = &stream->first;
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->changed, NULL);
    if (pthread_create(&stream->thread, NULL, run, stream) != 0) {
        free(stream);
        return NULL;
    }
    return stream;
}

void fake_stream_close(fake_stream *stream) {
    if (!stream) return;
    pthread_mutex_lock(&stream->mutex);
    stream->stop = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
    pthread_join(stream->thread, NULL);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
}

void fake_stream_run(fake_stream *stream, fake_call call, const void *arguments, size_t bytes) {
    node *last = malloc(sizeof *last + bytes);
    if (!last) abort();
    last->next = NULL;
    last->call = call;
    memcpy(last->arguments, arguments, bytes);
    pthread_mutex_lock(&stream->mutex);
    *stream->last = last;
    stream->last = &last->next;
    stream->enqueued++;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
}

void fake_stream_finish(fake_stream *stream) {
    pthread_mutex_lock(&stream->mutex);
    uint64_t until = stream->enqueued;
    while (stream->done < until) pthread_cond_wait(&stream->changed, &stream->mutex);
    pthread_mutex_unlock(&stream->mutex);
}

/* ---- events ---------------------------------------------------------------------------------- */

typedef struct mark {
    fake_event *event;
    uint64_t number;
} mark;

fake_event *fake_event_open(void) {
    fake_event *event = calloc(1, sizeof *event);
    if (!event) return NULL;
    pthread_mutex_init(&event->mutex, NULL);
    pthread_cond_init(&event->changed, NULL);
    return event;
}

void fake_event_close(fake_event *event) {
    if (!event) return;
    pthread_cond_destroy(&event->changed);
    pthread_mutex_destroy(&event->mutex);
    free(event);
}

static void reach(void *arguments) {
    const mark *at = arguments;
    pthread_mutex_lock(&at->event->mutex);
    if (at->event->reached < at->number) at->event->reached = at->number;
    pthread_cond_broadcast(&at->event->changed);
    pthread_mutex_unlock(&at->event->mutex);
}

static void await(void *arguments) {
    const mark *at = arguments;
    pthread_mutex_lock(&at->event->mutex);
    while (at->event->reached < at->number)
        pthread_cond_wait(&at->event->changed, &at->event->mutex);
    pthread_mutex_unlock(&at->event->mutex);
}

/* The latest mark, after `more` have been added. */
static mark mark_of(fake_event *event, uint64_t more) {
    pthread_mutex_lock(&event->mutex);
    event->marked += more;
    mark latest = {event, event->marked};
    pthread_mutex_unlock(&event->mutex);
    return latest;
}

void fake_event_mark(fake_stream *stream, fake_event *event) {
    mark latest = mark_of(event, 1);
    fake_stream_run(stream, reach, &latest, sizeof latest);
}

void fake_event_wait(fake_stream *stream, fake_event *event) {
    mark latest = mark_of(event, 0);
    fake_stream_run(stream, await, &latest, sizeof latest);
}

void fake_event_finish(fake_event *event) {
    mark latest = mark_of(event, 0);
    await(&latest);
}
