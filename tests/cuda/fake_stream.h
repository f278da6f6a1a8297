/* fake_stream.h - queues that run beside the caller, and events between them: a device's order of
 * things without a device.
 *
 * As on a device nothing runs before what was enqueued in front of it, and nothing else is
 * promised: EMB_FAKE_JITTER=MICROSECONDS delays each call by a random time up to that.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TESTS_CUDA_FAKE_STREAM_H
#define EMB_TESTS_CUDA_FAKE_STREAM_H

#include <stddef.h>

typedef struct fake_stream fake_stream;
typedef struct fake_event fake_event;
typedef void (*fake_call)(void *arguments);

/* NULL if there is no memory or no thread. Closing waits until all is done. */
fake_stream *fake_stream_open(void);
void fake_stream_close(fake_stream *stream);

/* Enqueues a call with a copy of its arguments; without memory the process ends. */
void fake_stream_run(fake_stream *stream, fake_call call, const void *arguments, size_t bytes);
/* The caller waits until all is done. */
void fake_stream_finish(fake_stream *stream);

fake_event *fake_event_open(void);
void fake_event_close(fake_event *event);
/* Enqueues a mark; enqueues a wait for the event's latest mark, if it has one. */
void fake_event_mark(fake_stream *stream, fake_event *event);
void fake_event_wait(fake_stream *stream, fake_event *event);
/* The caller waits for it. */
void fake_event_finish(fake_event *event);

#endif
