/* input.c - opens, checks and reads the input files of a job, one after another.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"

static bool is_standard(const char *path) {
    return strcmp(path, "-") == 0;
}

const char *emb_input_name(const emb_input *input, uint32_t index) {
    if (index >= input->count) return "input";
    return is_standard(input->paths[index]) ? "standard input" : input->paths[index];
}

/* A FIFO must not be opened and closed again only to look: its writer would see the end. */
static emb_status check_file(const char *path, uint64_t *bytes, bool *sized, emb_error *error) {
    struct stat status;
    int outcome = is_standard(path) ? fstat(0, &status) : stat(path, &status);
    if (outcome == 0 && S_ISDIR(status.st_mode)) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s: is a directory; name the files in it", path);
    }
    if (outcome == 0 && !is_standard(path)) outcome = access(path, R_OK);
    if (outcome != 0) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s: %s", path, strerror(errno));
    }
    *sized = S_ISREG(status.st_mode);
    *bytes = *sized ? (uint64_t)status.st_size : 0;
    return EMB_OK;
}

emb_status emb_input_open(emb_input *input, const char *const *paths, uint32_t count,
                          int stop_descriptor, emb_error *error) {
    *input = (emb_input){
        .paths = paths, .count = count, .descriptor = -1, .stop_descriptor = stop_descriptor};
    bool all_sized = true;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes;
        bool sized;
        EMB_APP_TRY(check_file(paths[i], &bytes, &sized, error));
        all_sized = all_sized && sized;
        input->bytes_total += bytes;
    }
    if (!all_sized) input->bytes_total = 0;
    return EMB_OK;
}

void emb_input_close(emb_input *input) {
    if (input->descriptor > 0) close(input->descriptor);
    input->descriptor = -1;
}

emb_status emb_input_advance(emb_input *input, bool *more, emb_error *error) {
    emb_input_close(input);
    *more = input->next < input->count;
    if (!*more) return EMB_OK;
    const char *path = input->paths[input->next];
    input->descriptor = is_standard(path) ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    if (input->descriptor < 0) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s: %s", path, strerror(errno));
    }
    input->next++;
    input->at_start = true;
    return EMB_OK;
}

/* Waits until there is something to read or the job is to stop: a read from a terminal or a pipe
 * would otherwise hold an interrupted job for ever. */
static bool wait_readable(emb_input *input) {
    struct pollfd polls[2] = {{.fd = input->descriptor, .events = POLLIN},
                              {.fd = input->stop_descriptor, .events = POLLIN}};
    while (poll(polls, 2, -1) < 0 && errno == EINTR) {
    }
    input->stopped = (polls[1].revents & POLLIN) != 0;
    return !input->stopped;
}

static ptrdiff_t read_some(emb_input *input, void *buffer, size_t capacity) {
    for (;;) {
        if (!wait_readable(input)) return -EINTR;
        ssize_t got = read(input->descriptor, buffer, capacity);
        if (got >= 0) {
            input->bytes_read += (uint64_t)got;
            return got;
        }
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

ptrdiff_t emb_input_read(void *user, void *buffer, size_t capacity) {
    emb_input *input = user;
    if (!input->at_start || capacity < 3) return read_some(input, buffer, capacity);
    unsigned char *bytes = buffer;
    size_t length = 0;
    while (length < 3) {
        ptrdiff_t got = read_some(input, bytes + length, capacity - length);
        if (got < 0) return got;
        if (got == 0) break;
        length += (size_t)got;
    }
    input->at_start = false;
    if (length >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) {
        length -= 3;
        memmove(bytes, bytes + 3, length);
        if (length == 0) return read_some(input, buffer, capacity);
    }
    return (ptrdiff_t)length;
}

emb_status emb_input_fail(const emb_input *input, ptrdiff_t result, emb_error *error) {
    const char *name = emb_input_name(input, input->next - 1);
    if (input->stopped) return emb_app_fail(error, EMB_CANCELLED, "%s: interrupted", name);
    return emb_app_fail(error, EMB_NOT_FOUND, "%s: cannot be read: %s", name,
                        strerror((int)-result));
}
