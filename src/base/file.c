/* file.c - complete ranges of regular files, despite interruptions and short reads.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define POINTER_BYTES_MAX 1024 /* git-lfs takes no larger file for a pointer */

emb_status emb_file_open(int *descriptor, uint64_t *bytes, const char *path, emb_error *error) {
    *descriptor = -1;
    *bytes = 0;
    int opened;
    do { /* O_NONBLOCK: a FIFO must be refused, not waited for */
        opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (opened < 0 && errno == EINTR);
    if (opened < 0) {
        emb_status status = errno == ENOENT || errno == ENOTDIR ? EMB_NOT_FOUND : EMB_IO;
        return emb_error_set(error, status, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat about;
    if (fstat(opened, &about) != 0) {
        int reason = errno;
        close(opened);
        return emb_error_set(error, EMB_IO, "%s: cannot be examined: %s", path, strerror(reason));
    }
    if (!S_ISREG(about.st_mode)) {
        close(opened);
        return emb_error_set(error, EMB_BAD_FILE, "%s: not a regular file", path);
    }
    *descriptor = opened;
    *bytes = (uint64_t)about.st_size;
    return EMB_OK;
}

emb_status emb_file_open_model(int *descriptor, uint64_t *bytes, const char *path,
                               emb_error *error) {
    static const char pointer[] = "version https://git-lfs.github.com/spec/";
    char head[sizeof pointer - 1];
    EMB_TRY(emb_file_open(descriptor, bytes, path, error));
    if (*bytes < sizeof head || *bytes > POINTER_BYTES_MAX) return EMB_OK;
    emb_status status = emb_file_read_at(*descriptor, head, sizeof head, 0, path, error);
    if (status == EMB_OK && memcmp(head, pointer, sizeof head) == 0)
        status = emb_error_set(error, EMB_BAD_FILE,
                               "%s: this is a git-lfs pointer, not the file itself: fetch it "
                               "(git lfs pull, or embound pull)",
                               path);
    if (status == EMB_OK) return EMB_OK;
    emb_file_close(*descriptor);
    *descriptor = -1;
    return status;
}

void emb_file_close(int descriptor) {
    if (descriptor >= 0) close(descriptor);
}

emb_status emb_file_create(int *descriptor, const char *path, emb_error *error) {
    do {
        *descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (*descriptor < 0 && errno == EINTR);
    if (*descriptor >= 0) return EMB_OK;
    return emb_error_set(error, EMB_IO, "%s: cannot be made: %s", path, strerror(errno));
}

int emb_file_write(int descriptor, const void *bytes, size_t length, uint64_t offset,
                   size_t *written) {
    const unsigned char *from = bytes;
    size_t done = 0;
    int failed = 0;
    while (done < length && !failed) {
        ssize_t put = pwrite(descriptor, from + done, length - done, (off_t)(offset + done));
        if (put > 0)
            done += (size_t)put;
        else if (put == 0)
            failed = EIO; /* nothing was written */
        else if (errno != EINTR)
            failed = errno;
    }
    if (written) *written = done;
    return failed;
}

emb_status emb_file_write_at(int descriptor, const void *buffer, size_t length, uint64_t offset,
                             const char *path, emb_error *error) {
    size_t done;
    int failed = emb_file_write(descriptor, buffer, length, offset, &done);
    if (!failed) return EMB_OK;
    return emb_error_set(error, EMB_IO, "%s: write failed at byte %llu: %s", path,
                         (unsigned long long)(offset + done), strerror(failed));
}

static int sync_bytes(int descriptor) {
    int failed;
    do {
        failed = fsync(descriptor) != 0 ? errno : 0;
    } while (failed == EINTR);
    return failed;
}

emb_status emb_file_finish(int descriptor, const char *path, emb_error *error) {
    int failed = sync_bytes(descriptor);
    if (close(descriptor) != 0 && !failed && errno != EINTR) failed = errno;
    if (!failed) return EMB_OK;
    return emb_error_set(error, EMB_IO, "%s: write failed: %s", path, strerror(failed));
}

emb_status emb_file_read_at(int descriptor, void *buffer, size_t length, uint64_t offset,
                            const char *path, emb_error *error) {
    unsigned char *to = buffer;
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(descriptor, to + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return emb_error_set(error, EMB_IO, "%s: read failed at byte %llu: %s", path,
                                 (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return emb_error_set(error, EMB_BAD_FILE,
                                 "%s: ends at byte %llu, %zu bytes early: it was cut after it was "
                                 "opened",
                                 path, (unsigned long long)(offset + done), length - done);
        done += (size_t)got;
    }
    return EMB_OK;
}

/* ---- folders and names ----------------------------------------------------------------------- */

static bool is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

int emb_file_make_folders(char *path, unsigned permissions) {
    for (char *at = path + (*path != 0);; at++) {
        if (*at != '/' && *at) continue;
        char kept = *at;
        *at = 0;
        int failed = mkdir(path, permissions) != 0 ? errno : 0;
        if (failed && !is_folder(path)) return failed;
        *at = kept;
        if (!kept) return 0;
    }
}

/* A new name is durable only once its folder is synced. Some file systems refuse that for folders,
 * and some folders can be written but not read. */
static int sync_folder_of(int folder, const char *path) {
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length >= sizeof above) return ENAMETOOLONG;
    memcpy(above, path, length);
    above[length] = 0;
    int opened = openat(folder, length ? above : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0) return errno == EACCES ? 0 : errno;
    int failed = sync_bytes(opened);
    close(opened);
    return failed == EINVAL || failed == ENOTSUP ? 0 : failed;
}

int emb_file_publish(int folder, int descriptor, const char *temporary, const char *path) {
    int failed = sync_bytes(descriptor);
    if (!failed && renameat(folder, temporary, folder, path) != 0) failed = errno;
    return failed ? failed : sync_folder_of(folder, path);
}

int emb_file_replace(int folder, const char *temporary, const char *path, unsigned permissions,
                     const void *bytes, size_t length, bool lasts) {
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int descriptor = openat(folder, temporary, flags, permissions);
    if (descriptor < 0) return errno;
    int failed = emb_file_write(descriptor, bytes, length, 0, NULL);
    if (!failed && lasts) failed = sync_bytes(descriptor);
    if (close(descriptor) != 0 && !failed && errno != EINTR) failed = errno;
    if (!failed && renameat(folder, temporary, folder, path) != 0) failed = errno;
    if (failed) unlinkat(folder, temporary, 0);
    return !failed && lasts ? sync_folder_of(folder, path) : failed;
}

/* ---- streams --------------------------------------------------------------------------------- */

ptrdiff_t emb_file_stream_read(void *user, void *buffer, size_t capacity) {
    emb_file_stream *stream = user;
    uint64_t left = stream->end - stream->offset;
    if (capacity > left) capacity = (size_t)left;
    if (capacity == 0) return 0;
    ssize_t got;
    do {
        got = pread(stream->descriptor, buffer, capacity, (off_t)stream->offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    stream->offset += (uint64_t)got;
    return got;
}
