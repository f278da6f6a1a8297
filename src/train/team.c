/* team.c - wakes the threads of a team for each operation, and waits for the last.
 *
 * Operations are short and follow one another: who waits looks a while before it sleeps.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/team.h"

#include <string.h>

#include "base/error.h"

void emb_team_layout(emb_team *team, uint32_t count, emb_ledger *ledger) {
    memset(team, 0, sizeof *team);
    team->count = count;
    emb_thread_set_layout(&team->threads, count - 1, ledger);
}

/* Looks before sleeping: some ten microseconds, what sleeping and waking costs. */
enum { LOOKS = 500 };

static void pause_briefly(void) {
#ifdef EMB_X86
    __builtin_ia32_pause();
#endif
}

static bool has_begun(emb_team *team, uint64_t turn) {
    return atomic_load(&team->turn) != turn || atomic_load(&team->stop);
}

/* Until operation number `turn` is no longer the last. Gives whether there is another. */
static bool wait_begun(emb_team *team, uint64_t turn) {
    for (uint32_t i = 0; i < LOOKS && !has_begun(team, turn); i++) pause_briefly();
    if (!has_begun(team, turn)) {
        pthread_mutex_lock(&team->mutex);
        while (!has_begun(team, turn)) pthread_cond_wait(&team->begun, &team->mutex);
        pthread_mutex_unlock(&team->mutex);
    }
    return !atomic_load(&team->stop);
}

static void serve(void *user, uint32_t index) {
    emb_team *team = user;
    for (uint64_t turn = 0; wait_begun(team, turn);) {
        turn++;
        team->part(team->user, index + 1, team->count);
        if (atomic_fetch_sub(&team->running, 1) > 1) continue;
        pthread_mutex_lock(&team->mutex);
        pthread_cond_signal(&team->ended);
        pthread_mutex_unlock(&team->mutex);
    }
}

emb_status emb_team_open(emb_team *team, emb_error *error) {
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->begun, NULL);
    pthread_cond_init(&team->ended, NULL);
    team->open = true;
    for (uint32_t i = 0; i + 1 < team->count; i++) {
        emb_status status = emb_thread_start(&team->threads, i, serve, team, error);
        if (status == EMB_OK) continue;
        emb_team_close(team);
        return status;
    }
    return EMB_OK;
}

void emb_team_close(emb_team *team) {
    if (!team->open) return;
    pthread_mutex_lock(&team->mutex);
    atomic_store(&team->stop, true);
    pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->mutex);
    emb_thread_set_join(&team->threads);
    pthread_cond_destroy(&team->begun);
    pthread_cond_destroy(&team->ended);
    pthread_mutex_destroy(&team->mutex);
    team->open = false;
}

void emb_team_run(emb_team *team, emb_team_part part, void *user) {
    if (team->count > 1) {
        pthread_mutex_lock(&team->mutex);
        team->part = part;
        team->user = user;
        atomic_store(&team->running, team->count - 1);
        atomic_fetch_add(&team->turn, 1);
        pthread_cond_broadcast(&team->begun);
        pthread_mutex_unlock(&team->mutex);
    }
    part(user, 0, team->count);
    if (team->count == 1) return;
    for (uint32_t i = 0; i < LOOKS && atomic_load(&team->running); i++) pause_briefly();
    if (!atomic_load(&team->running)) return;
    pthread_mutex_lock(&team->mutex);
    while (atomic_load(&team->running)) pthread_cond_wait(&team->ended, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}
