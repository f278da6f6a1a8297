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
#include "source/content.h"
#include "suffix.h"

#define PAUSE_MS          5           /* a pipe that somebody fills is readable again sooner */
#define RETURNS_BYTES_MAX (64u << 10) /* no line feed among so many: there are none */

static bool is_standard(const char *path) {
    return strcmp(path, "-") == 0;
}

const char *emb_input_name(const emb_input *input, uint32_t index) {
    if (index >= input->count) return "input";
    return is_standard(input->paths[index]) ? "standard input" : input->paths[index];
}

const char *emb_input_shown(const emb_input *input) {
    return emb_app_path_tail(emb_input_name(input, input->next - 1));
}

/* A look at the beginning of a regular file; where that fails, reading it will say so. */
static emb_status check_content(const char *path, emb_error *error) {
    unsigned char bytes[EMB_CONTENT_BYTES];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return EMB_OK;
    ssize_t got = read(descriptor, bytes, sizeof bytes);
    close(descriptor);
    return got > 0 ? emb_content_check(path, bytes, (size_t)got, error) : EMB_OK;
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
    return *sized && !is_standard(path) ? check_content(path, error) : EMB_OK;
}

emb_status emb_input_open(emb_input *input, const char *const *paths, uint32_t count,
                          int stop_descriptor, emb_error *error) {
    *input = (emb_input){
        .paths = paths, .count = count, .descriptor = -1, .stop_descriptor = stop_descriptor};
    bool all_sized = true;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = 0;
        bool sized = false;
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
    input->feed_seen = input->return_alone = input->return_last = false;
    input->file_bytes = 0;
    return EMB_OK;
}

bool emb_input_readable(const emb_input *input, int timeout_ms) {
    struct pollfd poll_input = {.fd = input->descriptor, .events = POLLIN};
    return poll(&poll_input, 1, timeout_ms) != 0;
}

/* Waits until there is something to read or the job is to stop: a read from a terminal or a pipe
 * would otherwise hold an interrupted job for ever. */
static bool wait_readable(emb_input *input) {
    if (input->idle && !emb_input_readable(input, PAUSE_MS) && !input->idle(input->idle_user)) {
        input->stopped = true;
        return false;
    }
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
            input->file_bytes += (uint64_t)got;
            return got;
        }
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
}

/* Could more bytes make this a byte order mark? */
static bool may_become_mark(const unsigned char *bytes, size_t length) {
    return length == 0 || (length < 4 && (bytes[0] == 0xEF || bytes[0] >= 0xFE || bytes[0] == 0));
}

static void keep_beginning(emb_input *input, const unsigned char *bytes, size_t length) {
    size_t kept = 0;
    while (kept < length && kept + 1 < sizeof input->beginning && bytes[kept] >= ' ' &&
           bytes[kept] < 0x7F) {
        input->beginning[kept] = (char)bytes[kept];
        kept++;
    }
    input->beginning[kept] = '\0';
}

/* The first bytes of a file: looks whether they are text, and passes over a mark of UTF-8. */
static ptrdiff_t read_start(emb_input *input, unsigned char *bytes, size_t capacity) {
    size_t length = 0;
    while (may_become_mark(bytes, length)) {
        ptrdiff_t got = read_some(input, bytes + length, capacity - length);
        if (got < 0) return got;
        if (got == 0) break;
        length += (size_t)got;
    }
    input->at_start = false;
    const char *name = emb_input_name(input, input->next - 1);
    if (emb_content_check(name, bytes, length, &input->refusal) != EMB_OK) return -EILSEQ;
    bool mark = length >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0;
    if (mark) {
        length -= 3;
        memmove(bytes, bytes + 3, length);
    }
    keep_beginning(input, bytes, length);
    if (mark && length == 0) return read_some(input, bytes, capacity);
    return (ptrdiff_t)length;
}

/* Are there carriage returns, and no line feed? `length` 0: the file has ended. */
static bool ends_in_returns(emb_input *input, const unsigned char *bytes, size_t length) {
    if (input->feed_seen || input->whole) return false;
    if (length && input->return_last && bytes[0] != '\n') input->return_alone = true;
    input->feed_seen = length && memchr(bytes, '\n', length) != NULL;
    if (input->feed_seen) return false;
    if (length) {
        input->return_last = bytes[length - 1] == '\r';
        if (memchr(bytes, '\r', length - 1)) input->return_alone = true;
    }
    return input->return_alone && (length == 0 || input->file_bytes >= RETURNS_BYTES_MAX);
}

ptrdiff_t emb_input_read(void *user, void *buffer, size_t capacity) {
    emb_input *input = user;
    bool start = input->at_start && capacity >= 4;
    ptrdiff_t got =
        start ? read_start(input, buffer, capacity) : read_some(input, buffer, capacity);
    if (got >= 0 && ends_in_returns(input, buffer, (size_t)got)) {
        emb_app_fail(&input->refusal, EMB_BAD_FILE,
                     "%s line 1: \"%s\" ends in a CR alone, as all its lines do; make line "
                     "feeds of them: tr '\\r' '\\n' < FILE (or read it as one text: --whole-file)",
                     emb_input_shown(input), input->beginning);
        got = -EILSEQ;
    }
    if (got < 0) input->failed = got;
    return got;
}

ptrdiff_t emb_input_peek(const emb_input *input, uint64_t ahead, void *buffer, size_t capacity) {
    struct pollfd stop = {.fd = input->stop_descriptor, .events = POLLIN};
    struct stat status;
    if (fstat(input->descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return -ESPIPE;
    if (poll(&stop, 1, 0) > 0) return -EINTR;
    off_t read_so_far = lseek(input->descriptor, 0, SEEK_CUR);
    if (read_so_far < 0) return -errno;
    ssize_t got = pread(input->descriptor, buffer, capacity, read_so_far + (off_t)ahead);
    return got < 0 ? -errno : got;
}

emb_status emb_input_fail(const emb_input *input, emb_error *error) {
    const char *name = emb_input_shown(input);
    if (input->stopped) return emb_app_fail(error, EMB_CANCELLED, "%s: interrupted", name);
    if (input->refusal.message[0])
        return emb_app_fail(error, EMB_BAD_FILE, "%s", input->refusal.message);
    return emb_app_fail(error, EMB_NOT_FOUND, "%s: cannot be read: %s", name,
                        strerror((int)-input->failed));
}
