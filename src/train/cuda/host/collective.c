/* collective.c - what GPUs that train together give one another: sums of gradients, rows of all,
 * and copies of what the first one has.
 *
 * A GPU that fails never comes to the next exchange: who waits there looks whether another has
 * failed, and then gives up as well. Nothing else is asked of the driver while one is at an
 * exchange and waits for another: it may hold up a kernel's first call, or memory, until the
 * exchange is over. So threads come together before each, and wait behind it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <sched.h>

#include "base/error.h"
#include "train/cuda/host/train.h"

#define LIBRARY "libnccl.so.2"

/* Bytes of the largest exchange that is tried: from there on NCCL has taken its memory. */
#define TRIED_BYTES (32u << 20)

static emb_status open_library(emb_nccl *nccl, emb_error *error) {
    const struct {
        void **place;
        const char *name;
    } functions[] = {{(void **)&nccl->open, "ncclCommInitAll"},
                     {(void **)&nccl->close, "ncclCommDestroy"},
                     {(void **)&nccl->abort, "ncclCommAbort"},
                     {(void **)&nccl->error, "ncclCommGetAsyncError"},
                     {(void **)&nccl->begin, "ncclGroupStart"},
                     {(void **)&nccl->end, "ncclGroupEnd"},
                     {(void **)&nccl->all_reduce, "ncclAllReduce"},
                     {(void **)&nccl->broadcast, "ncclBroadcast"},
                     {(void **)&nccl->text, "ncclGetErrorString"}};
    /* never closed: it has threads and state of its own */
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const char *reason = library ? NULL : dlerror();
    if (!library)
        return emb_error_set(error, EMB_DEVICE,
                             "several GPUs train through NCCL: looked for %s in the library path "
                             "(%.120s); install it (libnccl2), or state one GPU (cuda:0)",
                             LIBRARY, reason ? reason : "not found");
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        *functions[i].place = dlsym(library, functions[i].name);
        if (*functions[i].place) continue;
        return emb_error_set(error, EMB_DEVICE,
                             "%s has no %s: install NCCL 2.4 or newer, or state one GPU (cuda:0)",
                             LIBRARY, functions[i].name);
    }
    return EMB_OK;
}

/* One exchange of each kind among all, from this one thread. Gives a ncclResult_t. */
static int try_exchange(void *const *states, uint32_t count, void *const *memory, size_t bytes) {
    const emb_nccl *nccl = &((emb_cuda_train *)states[0])->meeting.nccl;
    for (int kind = 0; kind < 2; kind++) {
        int result = nccl->begin();
        for (uint32_t i = 0; i < count && !result; i++) {
            emb_cuda_train *t = states[i];
            cudaSetDevice((int)t->index);
            result = kind ? nccl->all_reduce(memory[i], memory[i], bytes / sizeof(float),
                                             EMB_NCCL_F32, EMB_NCCL_SUM, t->meeting.comm, NULL)
                          : nccl->broadcast(memory[i], memory[i], bytes, EMB_NCCL_BYTES, 0,
                                            t->meeting.comm, NULL);
        }
        int ended = nccl->end();
        if (result || ended) return result ? result : ended;
    }
    return 0;
}

/* NCCL takes memory when it first does a thing. */
static emb_status try_exchanges(void *const *states, uint32_t count, emb_error *error) {
    void *memory[EMB_DEVICES_MAX] = {0};
    cudaError_t reason = cudaSuccess;
    int result = 0;
    for (uint32_t i = 0; i < count && reason == cudaSuccess; i++) {
        reason = cudaSetDevice((int)((emb_cuda_train *)states[i])->index);
        if (reason == cudaSuccess) reason = cudaMalloc(&memory[i], TRIED_BYTES);
        if (reason == cudaSuccess) reason = cudaMemset(memory[i], 0, TRIED_BYTES);
    }
    for (size_t bytes = 64; bytes <= TRIED_BYTES && reason == cudaSuccess && !result; bytes *= 8)
        result = try_exchange(states, count, memory, bytes);
    for (uint32_t i = 0; i < count; i++) {
        cudaSetDevice((int)((emb_cuda_train *)states[i])->index);
        cudaError_t ended = cudaDeviceSynchronize();
        if (reason == cudaSuccess) reason = ended;
        cudaFree(memory[i]);
    }
    if (result)
        return emb_error_set(error, EMB_DEVICE,
                             "NCCL: a first exchange between the GPUs failed: %.120s; state one "
                             "GPU (cuda:0)",
                             ((emb_cuda_train *)states[0])->meeting.nccl.text(result));
    if (reason != cudaSuccess)
        return emb_cuda_failed(error, ((emb_cuda_train *)states[0])->index,
                               "a first exchange with the other GPUs", reason);
    return EMB_OK;
}

static uint64_t free_bytes(const emb_cuda_train *t) {
    size_t left = 0, total;
    cudaSetDevice((int)t->index);
    return cudaMemGetInfo(&left, &total) == cudaSuccess ? left : 0;
}

emb_status emb_cuda_train_meet(void *const *states, uint32_t count, uint64_t *bytes,
                               emb_error *error) {
    emb_nccl nccl;
    emb_nccl_comm comms[EMB_DEVICES_MAX] = {0};
    int devices[EMB_DEVICES_MAX];
    uint64_t before[EMB_DEVICES_MAX];
    emb_cuda_train *first = states[0];
    *bytes = 0;
    EMB_TRY(open_library(&nccl, error));
    for (uint32_t i = 0; i < count; i++) {
        devices[i] = (int)((emb_cuda_train *)states[i])->index;
        before[i] = free_bytes(states[i]);
    }
    int result = nccl.open(comms, (int)count, devices);
    if (result)
        return emb_error_set(error, EMB_DEVICE,
                             "NCCL cannot connect %u GPUs: %.120s (NCCL_DEBUG=WARN says more); "
                             "state one GPU (cuda:0)",
                             count, nccl.text(result));
    for (uint32_t i = 0; i < count; i++) {
        emb_cuda_meeting *meeting = &((emb_cuda_train *)states[i])->meeting;
        meeting->index = i;
        meeting->count = count;
        meeting->nccl = nccl;
        meeting->comm = comms[i];
        meeting->any_broken = &first->meeting.broken;
        meeting->all_come = &first->meeting.come;
    }
    EMB_TRY(try_exchanges(states, count, error));
    for (uint32_t i = 0; i < count; i++) {
        uint64_t left = free_bytes(states[i]), taken = before[i] > left ? before[i] - left : 0;
        if (taken > *bytes) *bytes = taken;
    }
    return EMB_OK;
}

void emb_cuda_train_part(emb_cuda_train *t) {
    emb_cuda_meeting *m = &t->meeting;
    if (m->comm && atomic_load(m->any_broken))
        m->nccl.abort(m->comm);
    else if (m->comm)
        m->nccl.close(m->comm);
    m->comm = NULL;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Ends this GPU's part, so that nothing waits for the others any longer. */
static void give_up(emb_cuda_train *t, int code) {
    emb_cuda_meeting *m = &t->meeting;
    emb_cuda_train_note(t, code);
    atomic_store(m->any_broken, true);
    if (m->comm) m->nccl.abort(m->comm);
    m->comm = NULL;
}

/* Notes what an exchange came to: a ncclResult_t. */
static void note_result(emb_cuda_train *t, int result) {
    if (result) give_up(t, cudaErrorUnknown);
}

void emb_cuda_train_wait(emb_cuda_train *t) {
    emb_cuda_meeting *m = &t->meeting;
    int error;
    while (m->comm) {
        cudaError_t state = cudaStreamQuery(t->stream);
        if (state == cudaSuccess) break;
        if (state != cudaErrorNotReady) {
            give_up(t, (int)state);
            break;
        }
        error = 0;
        bool lost = m->nccl.error(m->comm, &error) || (error && error != EMB_NCCL_IN_PROGRESS);
        if (lost || atomic_load(m->any_broken)) give_up(t, cudaErrorUnknown);
        sched_yield();
    }
    emb_cuda_train_note(t, cudaStreamSynchronize(t->stream));
    if (t->failure && m->count) atomic_store(m->any_broken, true);
}

/* Waits until all have enqueued what comes before. Gives whether all can: one that cannot says so.
 */
static bool come_together(emb_cuda_train *t) {
    emb_cuda_meeting *m = &t->meeting;
    if (t->failure || !m->comm) {
        give_up(t, cudaErrorUnknown);
        return false;
    }
    uint64_t all = ++m->turn * m->count;
    atomic_fetch_add(m->all_come, 1);
    while (atomic_load(m->all_come) < all && !atomic_load(m->any_broken)) sched_yield();
    if (!atomic_load(m->any_broken)) return true;
    give_up(t, cudaErrorUnknown);
    return false;
}

/* ---- exchanges ------------------------------------------------------------------------------- */

void emb_cuda_train_add_up(const emb_train_run *run, float *values, uint64_t count) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_meeting *m = &t->meeting;
    if (!come_together(t)) return;
    note_result(t, m->nccl.all_reduce(values, values, count, EMB_NCCL_F32, EMB_NCCL_SUM, m->comm,
                                      t->stream));
    emb_cuda_train_wait(t);
}

void emb_cuda_train_copy_first(const emb_train_run *run, void *at, uint64_t bytes) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_meeting *m = &t->meeting;
    if (!come_together(t)) return;
    note_result(t, m->nccl.broadcast(at, at, bytes, EMB_NCCL_BYTES, 0, m->comm, t->stream));
    emb_cuda_train_wait(t);
}

/* Shares may be of different sizes, so each is sent by whom it belongs to. */
void emb_cuda_train_gather(emb_cuda_train *t, void *rows, uint32_t columns, uint32_t examples,
                           uint64_t row_bytes) {
    emb_cuda_meeting *m = &t->meeting;
    if (!m->count || !come_together(t)) return;
    int result = m->nccl.begin();
    for (uint32_t i = 0; i < columns * m->count && !result; i++) {
        uint32_t from = i % m->count;
        uint64_t begin = emb_team_begin(examples, 1, from, m->count);
        uint64_t end = emb_team_begin(examples, 1, from + 1, m->count);
        uint64_t row = (uint64_t)(i / m->count) * examples + begin;
        unsigned char *at = (unsigned char *)rows + row * row_bytes;
        if (end == begin) continue;
        result = m->nccl.broadcast(at, at, (end - begin) * row_bytes, EMB_NCCL_BYTES, (int)from,
                                   m->comm, t->stream);
    }
    int ended = m->nccl.end();
    note_result(t, result ? result : ended);
    emb_cuda_train_wait(t);
}
