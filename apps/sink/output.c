/* output.c - temporary file, lock, sync, rename.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "sink/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "fail.h"

#define OPEN_MAX_OUTPUTS 4
#define PIPE_BYTES       4096 /* a pipe that is writable takes as much without waiting */

/* Names of the temporary files that exist now, for emb_output_abort_all. */
static const char *volatile temporaries[OPEN_MAX_OUTPUTS];

static int stop_descriptor = -1;

void emb_output_set_stop(int descriptor) {
    stop_descriptor = descriptor;
}

void emb_output_abort_all(void) {
    for (int i = 0; i < OPEN_MAX_OUTPUTS; i++) {
        if (temporaries[i]) unlink(temporaries[i]);
    }
}

static bool stat_output(const char *path, struct stat *status) {
    return (strcmp(path, "-") == 0 ? fstat(1, status) : stat(path, status)) == 0;
}

static bool is_one_file(const struct stat *first, const struct stat *second) {
    return first->st_dev == second->st_dev && first->st_ino == second->st_ino;
}

bool emb_output_is_input(const char *path, const char *const *inputs, uint32_t count,
                         uint32_t *which) {
    struct stat output, input;
    if (!stat_output(path, &output) || !S_ISREG(output.st_mode)) return false;
    for (uint32_t i = 0; i < count; i++) {
        int outcome = strcmp(inputs[i], "-") == 0 ? fstat(0, &input) : stat(inputs[i], &input);
        if (outcome == 0 && is_one_file(&input, &output)) {
            *which = i;
            return true;
        }
    }
    return false;
}

/* Gives the directory of a path and the name in it. */
static const char *stat_directory(const char *path, struct stat *status) {
    const char *slash = strrchr(path, '/');
    char directory[PATH_MAX] = ".";
    if (slash) snprintf(directory, sizeof directory, "%.*s", (int)(slash - path) + 1, path);
    return stat(directory, status) == 0 ? (slash ? slash + 1 : path) : NULL;
}

bool emb_output_is_same(const char *first, const char *second) {
    struct stat a, b;
    bool equal = strcmp(first, second) == 0;
    if (equal && strcmp(first, "-") == 0) return true;
    bool first_exists = stat_output(first, &a), second_exists = stat_output(second, &b);
    if (first_exists && second_exists) return S_ISREG(a.st_mode) && is_one_file(&a, &b);
    if (equal || first_exists || second_exists) return equal;
    const char *name = stat_directory(first, &a), *other = stat_directory(second, &b);
    return name && other && strcmp(name, other) == 0 && is_one_file(&a, &b);
}

static emb_status open_direct(emb_output *output, const char *path, emb_error *error) {
    output->direct = true;
    output->descriptor = strcmp(path, "-") == 0 ? 1 : open(path, O_WRONLY | O_CLOEXEC);
    if (output->descriptor >= 0) return EMB_OK;
    return emb_app_fail(error, EMB_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* out/a.npy -> out/.a.npy.part: in the same directory, or rename could not be atomic. */
static emb_status name_temporary(emb_output *output, emb_error *error) {
    const char *slash = strrchr(output->path, '/');
    int directory = slash ? (int)(slash - output->path) + 1 : 0;
    int length = snprintf(output->temporary, sizeof output->temporary, "%.*s.%s.part", directory,
                          output->path, output->path + directory);
    if (length < (int)sizeof output->temporary && output->path[directory]) return EMB_OK;
    return emb_app_fail(error, EMB_IO, "%.*s: not the name of a file",
                        EMB_APP_CUT(output->path, 200));
}

/* Opens and locks the temporary file. Between open and lock another job may have finished and
 * renamed it away; then the lock is on a file without that name, and it must be made anew. */
static emb_status open_locked(emb_output *output, emb_error *error) {
    for (;;) {
        int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
        int descriptor = open(output->temporary, flags, 0666);
        if (descriptor < 0 && errno == ELOOP) {
            return emb_app_fail(error, EMB_IO,
                                "%.*s: is a symbolic link, where the output is to be written "
                                "first; remove it",
                                EMB_APP_CUT(output->temporary, 200));
        }
        if (descriptor < 0) {
            return emb_app_fail(error, EMB_IO, "%.*s: cannot be created: %s",
                                EMB_APP_CUT(output->path, 200), strerror(errno));
        }
        if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
            bool busy = errno == EWOULDBLOCK;
            close(descriptor);
            if (!busy)
                return emb_app_fail(error, EMB_IO, "%.*s: cannot be locked: %s",
                                    EMB_APP_CUT(output->temporary, 200), strerror(errno));
            return emb_app_fail(error, EMB_TIMEOUT,
                                "%.*s: another job is writing it; wait, or choose another -o",
                                EMB_APP_CUT(output->path, 180));
        }
        struct stat locked, named;
        if (fstat(descriptor, &locked) == 0 && stat(output->temporary, &named) == 0 &&
            locked.st_ino == named.st_ino && locked.st_dev == named.st_dev) {
            output->descriptor = descriptor;
            return EMB_OK;
        }
        close(descriptor);
    }
}

static void remember(emb_output *output) {
    output->slot = OPEN_MAX_OUTPUTS;
    for (uint32_t i = 0; i < OPEN_MAX_OUTPUTS && output->slot == OPEN_MAX_OUTPUTS; i++) {
        if (!temporaries[i]) {
            temporaries[i] = output->temporary;
            output->slot = i;
        }
    }
}

emb_status emb_output_open(emb_output *output, const char *path, emb_error *error) {
    *output = (emb_output){.descriptor = -1, .slot = OPEN_MAX_OUTPUTS};
    struct stat status;
    bool exists = stat(path, &status) == 0;
    if (strcmp(path, "-") == 0 ||
        (exists && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) {
        snprintf(output->path, sizeof output->path, "%s", path);
        return open_direct(output, path, error);
    }
    if (exists && S_ISDIR(status.st_mode)) {
        return emb_app_fail(error, EMB_IO, "%s: is a directory; name a file in it", path);
    }
    /* of a symbolic link the target is replaced, not the link */
    if (!exists || !realpath(path, output->path)) {
        if (strlen(path) >= sizeof output->path) {
            return emb_app_fail(error, EMB_IO, "%.*s...: the path is too long",
                                EMB_APP_CUT(path, 200));
        }
        snprintf(output->path, sizeof output->path, "%s", path);
    }
    EMB_APP_TRY(name_temporary(output, error));
    EMB_APP_TRY(open_locked(output, error));
    remember(output);
    if (ftruncate(output->descriptor, 0) != 0) {
        emb_app_fail(error, EMB_IO, "%.*s: %s", EMB_APP_CUT(output->temporary, 200),
                     strerror(errno));
        emb_output_abort(output);
        return EMB_IO;
    }
    if (exists) (void)!fchmod(output->descriptor, status.st_mode & 0777);
    return EMB_OK;
}

static emb_status write_failed(emb_output *output, emb_error *error) {
    output->closed_by_reader = errno == EPIPE;
    const char *path = strcmp(output->path, "-") == 0 ? "standard output" : output->path;
    return emb_app_fail(error, EMB_IO, "%.*s: cannot be written: %s", EMB_APP_CUT(path, 200),
                        strerror(errno));
}

/* Waits until a reader takes more or the job is to stop: a write to a pipe that nobody reads would
 * otherwise hold an interrupted job for ever. */
static bool wait_writable(const emb_output *output) {
    struct pollfd polls[2] = {{.fd = output->descriptor, .events = POLLOUT},
                              {.fd = stop_descriptor, .events = POLLIN}};
    while (poll(polls, 2, -1) < 0 && errno == EINTR) {
    }
    return (polls[1].revents & POLLIN) == 0;
}

static void count_lines(emb_output *output, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) output->lines += bytes[i] == '\n';
}

emb_status emb_output_write(emb_output *output, const void *data, size_t length, emb_error *error) {
    for (const char *bytes = data; length;) {
        if (output->direct && !wait_writable(output)) {
            return emb_app_fail(error, EMB_CANCELLED, "%.*s: interrupted",
                                EMB_APP_CUT(output->path, 200));
        }
        size_t some = output->direct && length > PIPE_BYTES ? PIPE_BYTES : length;
        ssize_t written = write(output->descriptor, bytes, some);
        if (written < 0 && (errno == EINTR || (errno == EAGAIN && output->direct))) continue;
        if (written <= 0) return write_failed(output, error);
        if (output->direct) count_lines(output, bytes, (size_t)written);
        bytes += written;
        length -= (size_t)written;
    }
    return EMB_OK;
}

emb_status emb_output_write_at(emb_output *output, const void *data, size_t length, uint64_t offset,
                               emb_error *error) {
    errno = emb_file_write(output->descriptor, data, length, offset, NULL);
    return errno ? write_failed(output, error) : EMB_OK;
}

static void forget(emb_output *output) {
    if (output->slot < OPEN_MAX_OUTPUTS) temporaries[output->slot] = NULL;
    output->slot = OPEN_MAX_OUTPUTS;
    output->descriptor = -1;
}

void emb_output_abort(emb_output *output) {
    if (output->descriptor < 0) return;
    if (!output->direct) {
        unlink(output->temporary);
        close(output->descriptor);
    }
    forget(output);
}

emb_status emb_output_commit(emb_output *output, emb_error *error) {
    if (output->direct) {
        if (output->descriptor != 1 && close(output->descriptor) != 0) {
            forget(output);
            return write_failed(output, error);
        }
        forget(output);
        return EMB_OK;
    }
    errno = emb_file_publish(AT_FDCWD, output->descriptor, output->temporary, output->path);
    if (errno) {
        emb_status status = write_failed(output, error);
        emb_output_abort(output);
        return status;
    }
    int closed = close(output->descriptor);
    forget(output);
    return closed != 0 ? write_failed(output, error) : EMB_OK;
}
