/* train_teacher.c - the vectors that a model gives the texts of all examples: encoded by a child
 * process under the budget of the training, which begins when the child and its memory are gone. Or
 * `encode` has written them before.
 *
 * The child's lie in a file beside the output that lost its name at once, so that nothing is left.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/line.h"
#include "cli/train.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/npy.h"
#include "suffix.h"

enum { AT_ONCE = 256 }; /* texts */

/* What the child tells its parent. */
typedef struct report {
    emb_status status;
    emb_error error;
} report;

/* ---- the file -------------------------------------------------------------------------------- */

static emb_status open_file(emb_train_teacher *teacher, const char *output, emb_error *error) {
    char path[1024];
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/') length--;
    int used = snprintf(path, sizeof path, "%.*s.teacher-XXXXXX", (int)length, output);
    teacher->descriptor = used > 0 && (size_t)used < sizeof path ? mkstemp(path) : -1;
    if (teacher->descriptor < 0)
        return emb_app_fail(error, EMB_IO, "%.*s: no file for the teacher's vectors beside it: %s",
                            EMB_APP_CUT(output, 150), strerror(errno));
    unlink(path);
    return EMB_OK;
}

emb_status emb_train_teacher_read(const emb_train_job *job, float *vectors, uint32_t row,
                                  emb_error *error) {
    size_t bytes = (size_t)job->examples.texts * job->teacher.width * sizeof(float);
    return emb_file_read_at(job->teacher.descriptor, vectors, bytes,
                            job->teacher.offset + (uint64_t)row * bytes, "the teacher's vectors",
                            error);
}

static bool is_file(const emb_train_job *job) {
    return emb_app_has_suffix(job->options->train.teacher, ".npy");
}

static emb_status open_vectors(emb_train_job *job, emb_error *error) {
    const char *path = job->options->train.teacher;
    uint64_t texts = (uint64_t)job->examples.count * job->examples.texts;
    emb_npy npy;
    emb_status status = emb_npy_open(&npy, path, error);
    job->teacher = (emb_train_teacher){npy.descriptor, npy.dim, npy.data_offset};
    if (status != EMB_OK || npy.rows == texts) return status;
    return emb_app_fail(error, EMB_BAD_FILE,
                        "--teacher %.*s: it has %llu vectors, the examples %llu texts: encode the "
                        "same texts in the same order",
                        EMB_APP_CUT(path, 120), (unsigned long long)npy.rows,
                        (unsigned long long)texts);
}

emb_status emb_train_teacher_measure(emb_train_job *job, emb_session *session, emb_error *error) {
    const emb_model_info *info = &session->info;
    if (!job->options->train.teacher) return EMB_OK;
    if (is_file(job)) {
        EMB_APP_TRY(open_vectors(job, error));
    } else {
        EMB_APP_TRY(emb_session_open_model(session, job->options->train.teacher, error));
        job->teacher.width = info->truncate_dim ? info->truncate_dim : info->dim;
        emb_session_close_model(session);
    }
    job->loss.teacher_width = job->teacher.width;
    return EMB_OK;
}

/* ---- the child ------------------------------------------------------------------------------- */

typedef struct encoder {
    emb_examples examples; /* a copy: the parent reads them again */
    emb_text *texts;       /* [AT_ONCE] */
    float *vectors;        /* [AT_ONCE, width] */
    uint32_t width;        /* of a vector */
} encoder;

static emb_status open_encoder(encoder *e, const emb_train_job *job, emb_session *session,
                               emb_error *error) {
    emb_session_settings settings = job->options->settings;
    uint64_t examples = emb_session_round(emb_examples_bytes(&e->examples));
    EMB_APP_TRY(emb_session_open_model(session, job->options->train.teacher, error));
    settings.limits.device = EMB_DEVICE_CPU;
    settings.limits.dtype = EMB_DTYPE_DEFAULT;
    settings.limits.chunk_tokens_max = 0; /* that of --max-length is of the model that learns */
    settings.limits.long_rule = EMB_LONG_TRUNCATE;
    uint64_t vectors = (uint64_t)AT_ONCE * e->width * sizeof(float);
    EMB_APP_TRY(emb_session_plan(session, &settings,
                                 emb_session_round(EMB_SOURCE_BYTES) + examples +
                                     emb_session_round(AT_ONCE * sizeof *e->texts) +
                                     emb_session_round(vectors),
                                 error));
    EMB_APP_TRY(emb_session_open_block(session, error));
    void *buffer = emb_session_take(session, EMB_SOURCE_BYTES);
    void *memory = emb_session_take(session, examples);
    e->texts = emb_session_take(session, AT_ONCE * sizeof *e->texts);
    e->vectors = emb_session_take(session, vectors);
    EMB_APP_TRY(emb_examples_read(&e->examples, memory, buffer, error));
    return emb_session_open_engine(session, error);
}

static emb_status encode_some(const encoder *e, const emb_session *session, uint64_t first,
                              uint32_t count, int descriptor, emb_error *error) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t text = first + i;
        e->texts[i] = emb_examples_text(&e->examples, (uint32_t)(text / e->examples.texts),
                                        (uint32_t)(text % e->examples.texts));
    }
    EMB_APP_TRY(emb_engine_embed(e->vectors, session->engine, e->texts, count, error));
    size_t row = e->width * sizeof(float);
    int failed = emb_file_write(descriptor, e->vectors, count * row, first * row, NULL);
    if (!failed) return EMB_OK;
    return emb_app_fail(error, EMB_IO, "the teacher's vectors, %llu bytes, beside -o: %s",
                        (unsigned long long)(row * e->examples.count * e->examples.texts),
                        strerror(failed));
}

static emb_status encode_all(const emb_train_job *job, emb_session *session, emb_error *error) {
    encoder e = {.examples = job->examples, .width = job->teacher.width};
    uint64_t texts = (uint64_t)e.examples.count * e.examples.texts;
    EMB_APP_TRY(open_encoder(&e, job, session, error));
    if (!job->options->settings.quiet)
        emb_app_say("teacher: %llu texts, %.2f MiB planned; its vectors take %.2f MiB on disk",
                    (unsigned long long)texts, (double)session->plan.host_bytes / 1048576,
                    (double)(texts * e.width * sizeof(float)) / 1048576);
    for (uint64_t first = 0; first < texts; first += AT_ONCE) {
        uint32_t count = texts - first < AT_ONCE ? (uint32_t)(texts - first) : AT_ONCE;
        char line[64];
        if (emb_signals_received()) return EMB_CANCELLED;
        EMB_APP_TRY(encode_some(&e, session, first, count, job->teacher.descriptor, error));
        snprintf(line, sizeof line, "teacher %3.0f%%", 100.0 * (double)first / (double)texts);
        if (job->progress) emb_line_show(line);
    }
    if (job->progress) emb_line_show("");
    return EMB_OK;
}

/* ---- the parent ------------------------------------------------------------------------------ */

/* Waits for the child; a signal that only the parent got is passed on. */
static emb_status wait_for(pid_t child, const report *said, emb_error *error) {
    int how = 0;
    bool passed_on = false;
    while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
        if (emb_signals_received() && !passed_on) kill(child, SIGTERM);
        passed_on = emb_signals_received() != 0;
    }
    if (emb_signals_received()) return EMB_CANCELLED;
    if (WIFSIGNALED(how))
        return emb_app_fail(error, EMB_NO_MEMORY,
                            "the teacher's process was ended by signal %d: give it less to do with "
                            "--memory",
                            WTERMSIG(how));
    if (error) *error = said->error;
    return said->status;
}

static emb_status fork_encoder(emb_train_job *job, emb_session *session, report *said,
                               emb_error *error) {
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        return emb_app_fail(error, EMB_NO_MEMORY, "no process for the teacher: %s",
                            strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0); /* it is gone already */
        said->status = encode_all(job, session, &said->error);
        _exit(0);
    }
    return wait_for(child, said, error);
}

emb_status emb_train_teacher_run(emb_train_job *job, emb_session *session, emb_error *error) {
    if (is_file(job)) return EMB_OK;
    EMB_APP_TRY(open_file(&job->teacher, job->options->output, error));
    report *said =
        mmap(NULL, sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (said == MAP_FAILED)
        return emb_app_fail(error, EMB_NO_MEMORY, "no page for the teacher's report");
    said->status = EMB_INTERNAL;
    emb_signals_set_busy(true);
    emb_status status = fork_encoder(job, session, said, error);
    emb_signals_set_busy(false);
    munmap(said, sizeof *said);
    return status;
}
