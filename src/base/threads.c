/* threads.c - threads on stacks booked by the plan and made resident with the arena.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/threads.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

void emb_thread_set_layout(emb_thread_set *set, uint32_t count, emb_ledger *ledger) {
    uint64_t guard = (uint64_t)sysconf(_SC_PAGESIZE);
    emb_ledger_item(ledger, "thread stacks");
    set->count = count;
    set->threads = emb_ledger_take(ledger, count, sizeof *set->threads);
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *lowest = emb_ledger_take_pages(ledger, guard + EMB_STACK_BYTES);
        if (!set->threads) continue;
        memset(&set->threads[i], 0, sizeof set->threads[i]);
        set->threads[i].stack = lowest ? lowest + guard : NULL;
    }
}

/* Signals are left to the caller's own threads. */
static int create(pthread_t *out, const pthread_attr_t *attributes, void *(*main)(void *user),
                  void *user) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(out, attributes, main, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int emb_thread_create(pthread_t *out, void *stack, size_t bytes, void *(*main)(void *user),
                      void *user) {
    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes);
    if (failed) return failed;
    failed = pthread_attr_setstack(&attributes, stack, bytes);
    if (!failed) failed = create(out, &attributes, main, user);
    pthread_attr_destroy(&attributes);
    return failed;
}

static void *run_thread(void *argument) {
    emb_thread *thread = argument;
    thread->main(thread->user, thread->index);
    return NULL;
}

emb_status emb_thread_start(emb_thread_set *set, uint32_t index, emb_thread_main main, void *user,
                            emb_error *error) {
    emb_thread *thread = &set->threads[index];
    thread->main = main;
    thread->user = user;
    thread->index = index;
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    if (mprotect((unsigned char *)thread->stack - guard, guard, PROT_NONE) != 0)
        return emb_error_set(error, EMB_NO_MEMORY,
                             "cannot guard the stack of thread %u of %u: %s; allow more memory "
                             "mappings (vm.max_map_count) or ask for fewer threads",
                             index + 1, set->count, strerror(errno));
    int failed =
        emb_thread_create(&thread->handle, thread->stack, EMB_STACK_BYTES, run_thread, thread);
    if (failed)
        return emb_error_set(error, EMB_NO_MEMORY,
                             "cannot start thread %u of %u: %s; allow more threads or ask for "
                             "fewer",
                             index + 1, set->count, strerror(failed));
    thread->started = true;
    return EMB_OK;
}

void emb_thread_set_join(emb_thread_set *set) {
    for (uint32_t i = 0; i < set->count && set->threads; i++) {
        if (!set->threads[i].started) continue;
        pthread_join(set->threads[i].handle, NULL);
        set->threads[i].started = false;
    }
}

bool emb_thread_detach(void *(*main)(void *user), void *user) {
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = create(&thread, &attributes, main, user);
    pthread_attr_destroy(&attributes);
    return !failed;
}
