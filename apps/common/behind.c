/* behind.c - rows are written by a thread of their own while the caller reads the next texts.
 *
 * For a GPU, whose rows come faster than one thread can write them and read texts too. Rows stay
 * valid until the next collect, so settle before collecting.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/behind.h"

#include <string.h>

#include "base/threads.h"
#include "fail.h"

#define PAGE_BYTES 4096u

uint64_t emb_behind_bytes(void) {
    return EMB_BEHIND_STACK_BYTES + PAGE_BYTES;
}

static void *write_behind(void *user) {
    emb_behind *behind = user;
    pthread_mutex_lock(&behind->mutex);
    for (;;) {
        while (!behind->count && !behind->stop) pthread_cond_wait(&behind->work, &behind->mutex);
        if (!behind->count) break;
        pthread_mutex_unlock(&behind->mutex);
        emb_error error = {0};
        emb_status status = emb_sink_rows(behind->sink, behind->rows, behind->count, &error);
        pthread_mutex_lock(&behind->mutex);
        behind->count = 0;
        behind->status = status;
        behind->error = error;
        pthread_cond_signal(&behind->done);
    }
    pthread_mutex_unlock(&behind->mutex);
    return NULL;
}

emb_status emb_behind_open(emb_behind *behind, emb_sink *sink, void *memory, emb_error *error) {
    uintptr_t stack = ((uintptr_t)memory + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    memset(behind, 0, sizeof *behind);
    behind->sink = sink;
    pthread_mutex_init(&behind->mutex, NULL);
    pthread_cond_init(&behind->work, NULL);
    pthread_cond_init(&behind->done, NULL);
    int failed = emb_thread_create(&behind->thread, (void *)stack, EMB_BEHIND_STACK_BYTES,
                                   write_behind, behind);
    if (failed) {
        return emb_app_fail(error, EMB_NO_MEMORY, "cannot start a thread that writes: %s",
                            strerror(failed));
    }
    behind->open = true;
    return EMB_OK;
}

emb_status emb_behind_settle(emb_behind *behind, emb_error *error) {
    if (!behind->open) return EMB_OK;
    pthread_mutex_lock(&behind->mutex);
    while (behind->count) pthread_cond_wait(&behind->done, &behind->mutex);
    emb_status status = behind->status;
    if (status != EMB_OK) *error = behind->error;
    pthread_mutex_unlock(&behind->mutex);
    return status;
}

emb_status emb_behind_rows(emb_behind *behind, const emb_row *rows, uint32_t count,
                           emb_error *error) {
    EMB_APP_TRY(emb_behind_settle(behind, error));
    pthread_mutex_lock(&behind->mutex);
    behind->rows = rows;
    behind->count = count;
    pthread_cond_signal(&behind->work);
    pthread_mutex_unlock(&behind->mutex);
    return EMB_OK;
}

void emb_behind_close(emb_behind *behind) {
    if (!behind->open) return;
    pthread_mutex_lock(&behind->mutex);
    behind->stop = true;
    pthread_cond_signal(&behind->work);
    pthread_mutex_unlock(&behind->mutex);
    pthread_join(behind->thread, NULL);
    behind->open = false;
}
