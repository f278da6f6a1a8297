/* threads.h - a fixed set of threads whose stacks are items of the plan.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_BASE_THREADS_H
#define EMB_BASE_THREADS_H

#include <pthread.h>

#include "base/ledger.h"

#ifndef EMB_STACK_BYTES /* the thread sanitizer keeps 0.9 MB of its own on each stack */
#define EMB_STACK_BYTES (256u << 10)
#endif

typedef void (*emb_thread_main)(void *user, uint32_t index);

typedef struct emb_thread {
    pthread_t handle;
    void *stack; /* lowest byte; the page below is the guard */
    emb_thread_main main;
    void *user;
    uint32_t index;
    bool started;
} emb_thread;

typedef struct emb_thread_set {
    emb_thread *threads; /* [count] */
    uint32_t count;
} emb_thread_set;

/* Books the table and the stacks, each above a page that start makes a guard page, so that an
 * overflow faults instead of overwriting the neighbour. */
void emb_thread_set_layout(emb_thread_set *set, uint32_t count, emb_ledger *ledger);

/* Starts thread `index`; its main runs once. All signals are blocked in it.
 * Fails: EMB_NO_MEMORY. */
emb_status emb_thread_start(emb_thread_set *set, uint32_t index, emb_thread_main main, void *user,
                            emb_error *error);

/* Waits for every started thread to return from its main. */
void emb_thread_set_join(emb_thread_set *set);

/* Starts main(user) on a thread of the caller's, on that stack of `bytes` bytes (whole pages); all
 * signals are blocked in it. Gives 0, or a value of errno. */
int emb_thread_create(pthread_t *out, void *stack, size_t bytes, void *(*main)(void *user),
                      void *user);

/* Runs main(user) on a detached thread, on a stack allocated by the system; false if it cannot be
 * started. For calls into other libraries that may never return. */
bool emb_thread_detach(void *(*main)(void *user), void *user);

#endif
