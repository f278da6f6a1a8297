/* driver.c - asks the CUDA driver which GPUs this process may use, before any memory is spent on
 * them.
 *
 * The driver's library is opened by name; a machine without one pays nothing. Its calls run on a
 * thread of their own: if one never returns, only that thread and a page are lost. Source: CUDA
 * Driver API, Initialization, Version Management, Device Management.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/ledger.h"
#include "base/threads.h"

#define DRIVER "libcuda.so.1"

/* CUresult and CUdevice_attribute, the values used here. */
enum { CUDA_OK = 0, CUDA_NOT_INITIALIZED = 3, CUDA_NO_DEVICE = 100 };
enum { CUDA_CAPABILITY_MAJOR = 75, CUDA_CAPABILITY_MINOR = 76 };

/* Whether the driver failed to answer. Global, as the driver is: it is waited for once per process,
 * not once per model. A child of fork asks again. */
static struct {
    atomic_int process; /* the process that waited; 0: none */
    atomic_uint timeout_ms;
} silent;

/* Shared by the asking and the answering thread; the last to leave frees it. */
typedef struct question {
    pthread_mutex_t mutex;
    pthread_cond_t answered;
    uint32_t owners;
    bool done;
    int (*init)(unsigned flags);
    int (*version)(int *version);
    int (*device_count)(int *count);
    int (*device)(int *device, int index);
    int (*attribute)(int *value, int which, int device);
    int (*error_name)(int code, const char **name); /* NULL: the driver has none */
    int code;
    emb_cuda_found found;
} question;

static bool open_question(question **out, void *library) {
    question *q = emb_arena_open(sizeof *q);
    if (!q) return false;
    memset(q, 0, sizeof *q);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    q->owners = 1;
    *(void **)&q->init = dlsym(library, "cuInit");
    *(void **)&q->version = dlsym(library, "cuDriverGetVersion");
    *(void **)&q->device_count = dlsym(library, "cuDeviceGetCount");
    *(void **)&q->device = dlsym(library, "cuDeviceGet");
    *(void **)&q->attribute = dlsym(library, "cuDeviceGetAttribute");
    *(void **)&q->error_name = dlsym(library, "cuGetErrorName");
    *out = q;
    return true;
}

/* Holds the mutex. */
static void leave_question(question *q) {
    bool last = --q->owners == 0;
    pthread_mutex_unlock(&q->mutex);
    if (!last) return;
    pthread_cond_destroy(&q->answered);
    pthread_mutex_destroy(&q->mutex);
    emb_arena_close(q, sizeof *q);
}

static int ask_device(emb_cuda_found *out, const question *q, int index) {
    int device, major = 0, minor = 0;
    int code = q->device(&device, index);
    if (code == CUDA_OK) code = q->attribute(&major, CUDA_CAPABILITY_MAJOR, device);
    if (code == CUDA_OK) code = q->attribute(&minor, CUDA_CAPABILITY_MINOR, device);
    if (code == CUDA_OK) out->capabilities[out->count++] = (uint32_t)(10 * major + minor);
    return code;
}

static int ask_driver(emb_cuda_found *out, const question *q) {
    int version = 0, count = 0;
    int code = q->init(0);
    if (code == CUDA_OK) code = q->version(&version);
    if (code == CUDA_OK) code = q->device_count(&count);
    out->driver_version = (uint32_t)version;
    for (int i = 0; code == CUDA_OK && i < count && i < EMB_DEVICES_MAX; i++)
        code = ask_device(out, q, i);
    return code == CUDA_OK && count == 0 ? CUDA_NO_DEVICE : code;
}

static void *answer(void *user) {
    question *q = user;
    emb_cuda_found found = {0};
    int code = ask_driver(&found, q);
    pthread_mutex_lock(&q->mutex);
    q->found = found;
    q->code = code;
    q->done = true;
    pthread_cond_signal(&q->answered);
    leave_question(q);
    return NULL;
}

/* Gives whether the driver answered in time. */
static bool ask(question *q, uint32_t timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int status = 0;
    while (!q->done && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&q->answered, &q->mutex, &until);
    return q->done;
}

static emb_status refuse(const question *q, emb_error *error) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES"), *name = NULL;
    if (q->code == CUDA_NOT_INITIALIZED)
        return emb_error_set(error, EMB_DEVICE,
                             "this process was forked from one that had used the GPU, which CUDA "
                             "does not allow: start workers with the method 'spawn'");
    if (q->code == CUDA_NO_DEVICE && visible)
        return emb_error_set(error, EMB_DEVICE, "CUDA_VISIBLE_DEVICES=%.60s leaves no GPU",
                             visible);
    if (q->code == CUDA_NO_DEVICE)
        return emb_error_set(error, EMB_DEVICE, "the NVIDIA driver finds no GPU");
    if (!q->error_name || q->error_name(q->code, &name) != CUDA_OK) name = NULL;
    return emb_error_set(error, EMB_DEVICE, "the NVIDIA driver does not start: %.60s (%d)",
                         name ? name : "CUDA error", q->code);
}

static emb_status no_answer(uint32_t timeout_ms, emb_error *error) {
    return emb_error_set(error, EMB_DEVICE, "the NVIDIA driver did not answer within %g s",
                         timeout_ms / 1000.0);
}

static emb_status look(emb_cuda_found *out, void *library, uint32_t timeout_ms, emb_error *error) {
    question *q;
    if (!open_question(&q, library))
        return emb_error_set(error, EMB_NO_MEMORY, "the system refused a page of memory");
    pthread_mutex_lock(&q->mutex);
    bool whole = q->init && q->version && q->device_count && q->device && q->attribute;
    q->owners += whole;
    bool started = whole && emb_thread_detach(answer, q);
    q->owners -= whole && !started;
    emb_status status = EMB_OK;
    if (!whole)
        status = emb_error_set(error, EMB_DEVICE, "%s is not a CUDA driver's", DRIVER);
    else if (!started)
        status = emb_error_set(error, EMB_NO_MEMORY, "the system refused a thread");
    else if (!ask(q, timeout_ms)) {
        silent.timeout_ms = timeout_ms;
        silent.process = getpid();
        status = no_answer(timeout_ms, error);
    } else if (q->code != CUDA_OK)
        status = refuse(q, error);
    *out = q->found;
    leave_question(q);
    return status;
}

/* Whether CUDA_VISIBLE_DEVICES says that no GPU is to be used. */
static bool hidden_on_purpose(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && (!*visible || strcmp(visible, "-1") == 0);
}

static emb_status no_driver(const char *reason, bool *notice, emb_error *error) {
    *notice = access("/dev/nvidiactl", F_OK) == 0 || access("/dev/nvidia0", F_OK) == 0;
    if (*notice)
        return emb_error_set(error, EMB_DEVICE,
                             "there is an NVIDIA GPU, but its driver cannot be opened (%.90s)",
                             reason ? reason : DRIVER);
    return emb_error_set(error, EMB_DEVICE, "no NVIDIA driver: %s is not here", DRIVER);
}

emb_status emb_cuda_look(emb_cuda_found *out, bool *notice, uint32_t timeout_ms, emb_error *error) {
    *notice = false;
    memset(out, 0, sizeof *out);
    if (hidden_on_purpose())
        return emb_error_set(error, EMB_DEVICE,
                             "CUDA_VISIBLE_DEVICES is empty or -1: no GPU is to be used");
    /* never closed: an initialised driver cannot be shut down */
    void *library = dlopen(DRIVER, RTLD_NOW | RTLD_LOCAL);
    if (!library) return no_driver(dlerror(), notice, error);
    *notice = true;
    if (silent.process == getpid()) return no_answer(silent.timeout_ms, error);
    return look(out, library, timeout_ms, error);
}
