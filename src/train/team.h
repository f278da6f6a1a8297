/* team.h - threads that share each operation: every one takes a part of its rows or heads.
 *
 * Unlike an engine's lanes, which take tiles of their own: a gradient is one sum over all tokens,
 * so threads split what comes out of an operation, never what is summed. The result is the same
 * for any number of threads.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_TEAM_H
#define EMB_TRAIN_TEAM_H

#include <stdatomic.h>

#include "base/threads.h"

/* A thread's part of an operation: number `index` of `count`. */
typedef void (*emb_team_part)(void *user, uint32_t index, uint32_t count);

typedef struct emb_team {
    uint32_t count; /* the caller's thread among them */
    emb_thread_set threads;
    pthread_mutex_t mutex;
    pthread_cond_t begun, ended;
    atomic_uint_least64_t turn;    /* operations so far; changed under the mutex */
    atomic_uint_least32_t running; /* threads that have not ended this one */
    bool open;
    atomic_bool stop;
    emb_team_part part;
    void *user;
} emb_team;

/* Books the stacks of all but the caller's thread. */
void emb_team_layout(emb_team *team, uint32_t count, emb_ledger *ledger);

/* Starts them. On failure none is left. Fails: EMB_NO_MEMORY. */
emb_status emb_team_open(emb_team *team, emb_error *error);
void emb_team_close(emb_team *team);

/* Runs all parts, the first on the caller's thread, and returns when all have ended. One caller at
 * a time. */
void emb_team_run(emb_team *team, emb_team_part part, void *user);

/* Where part `index` of `items` begins, in whole steps; the end of a part is the beginning of the
 * next. */
static inline uint32_t emb_team_begin(uint32_t items, uint32_t step, uint32_t index,
                                      uint32_t count) {
    uint64_t steps = ((uint64_t)items + step - 1) / step, first = steps * index / count * step;
    return first < items ? (uint32_t)first : items;
}

#endif
