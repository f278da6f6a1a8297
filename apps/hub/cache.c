/* cache.c - reads and writes the hub cache. Whatever appears under a final name is complete: files
 * and links are made under another name and renamed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "fail.h"

emb_status emb_hub_path(char *out, emb_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(out, PATH_MAX, format, arguments);
    va_end(arguments);
    if (length >= 0 && length < PATH_MAX) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "the path of the hub cache is too long: set HF_HUB_CACHE to a shorter one");
}

emb_status emb_hub_io_error(const char *what, const char *path, emb_error *error) {
    const char *why = strerror(errno), *remedy = "";
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        remedy = "; make room, and pull again: what has come is kept";
    else if (errno == EACCES || errno == EROFS || errno == EPERM)
        remedy = "; set HF_HUB_CACHE to a folder that you may write";
    size_t length = strlen(path); /* the end of a path says more */
    return emb_app_fail(error, EMB_IO, "%s %s%s: %s%s", what, length > 110 ? "..." : "",
                        path + (length > 110 ? length - 110 : 0), why, remedy);
}

emb_status emb_hub_folder(char *out, const char *cache, const char *above, const char *repo,
                          emb_error *error) {
    const char *slash = strchr(repo, '/');
    int first = (int)strcspn(repo, "/");
    return emb_hub_path(out, error, "%s%s/models--%.*s%s%s", cache, above, first, repo,
                        slash ? "--" : "", slash ? slash + 1 : "");
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The commit in refs/REVISION. */
static bool read_ref(const char *path, char *commit) {
    char text[64];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    ssize_t length = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (length <= 0) return false;
    text[length] = '\0';
    text[strcspn(text, " \r\n\t")] = '\0';
    if (strlen(text) > 40 || text[0] == '.' || strchr(text, '/')) return false;
    snprintf(commit, 41, "%.40s", text);
    return true;
}

bool emb_hub_snapshot(char *out, char *commit, const char *folder, const emb_hub_name *name) {
    char ref[PATH_MAX];
    if (emb_hub_is_commit(name->revision))
        snprintf(commit, 41, "%.40s", name->revision);
    else if (emb_hub_path(ref, NULL, "%s/refs/%s", folder, name->revision) != EMB_OK ||
             !read_ref(ref, commit))
        return false;
    return emb_hub_path(out, NULL, "%s/snapshots/%s", folder, commit) == EMB_OK && is_folder(out);
}

emb_status emb_hub_make_folders(const char *path, emb_error *error) {
    char folder[PATH_MAX];
    EMB_APP_TRY(emb_hub_path(folder, error, "%s", path));
    errno = emb_file_make_folders(folder, 0777);
    return errno ? emb_hub_io_error("cannot make the folder", folder, error) : EMB_OK;
}

static bool holds(const char *path, const char *text) {
    char there[256];
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    ssize_t length = read(descriptor, there, sizeof there);
    close(descriptor);
    return length >= 0 && (size_t)length == strlen(text) && memcmp(there, text, strlen(text)) == 0;
}

emb_status emb_hub_write_file(const char *path, const char *text, emb_error *error) {
    char temporary[PATH_MAX];
    if (holds(path, text)) return EMB_OK;
    EMB_APP_TRY(emb_hub_path(temporary, error, "%s.tmp", path));
    errno = emb_file_replace(AT_FDCWD, temporary, path, 0666, text, strlen(text), true);
    return errno ? emb_hub_io_error("cannot write", path, error) : EMB_OK;
}

/* The relative path from the folder of `link` to `blob`; both begin with the model's folder. */
static emb_status relative(char *out, const char *link, const char *blob, emb_error *error) {
    size_t common = 0;
    for (size_t i = 0; link[i] && link[i] == blob[i]; i++) {
        if (link[i] == '/') common = i + 1;
    }
    size_t used = 0;
    for (const char *at = link + common; (at = strchr(at, '/')); at++) {
        if (used + 3 < PATH_MAX) memcpy(out + used, "../", 3);
        used += 3;
    }
    if (used + strlen(blob + common) >= PATH_MAX)
        return emb_hub_path(out, error, "%s/%s", link, blob); /* says that it is too long */
    memcpy(out + used, blob + common, strlen(blob + common) + 1);
    return EMB_OK;
}

emb_status emb_hub_link(const char *name, const char *blob, bool copies, emb_error *error) {
    char target[PATH_MAX], temporary[PATH_MAX];
    EMB_APP_TRY(relative(target, name, blob, error));
    EMB_APP_TRY(emb_hub_path(temporary, error, "%s.tmp", name));
    unlink(temporary);
    if (!copies && symlink(target, temporary) == 0) {
        if (rename(temporary, name) == 0) return EMB_OK;
    } else if (copies || errno == EPERM || errno == EOPNOTSUPP) {
        /* two names of one file take no more room; where there are none of these either, it moves
         */
        const char *from = link(blob, temporary) == 0 ? temporary : blob;
        if (rename(from, name) == 0) return EMB_OK;
    }
    emb_status status = emb_hub_io_error("cannot write", name, error);
    unlink(temporary);
    return status;
}

uint64_t emb_hub_file_bytes(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return UINT64_MAX;
    return (uint64_t)status.st_size;
}

uint64_t emb_hub_free_bytes(const char *folder) {
    struct statvfs about;
    if (statvfs(folder, &about) != 0 || about.f_blocks == 0) return UINT64_MAX;
    return (uint64_t)about.f_bavail * about.f_frsize;
}

/* Whether the locked file still has that name: a cleaner may have removed it. */
static bool still_there(int descriptor, const char *path) {
    struct stat held, named;
    return fstat(descriptor, &held) == 0 && stat(path, &named) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

emb_status emb_hub_lock(int *descriptor, const char *path, int (*tick)(void *user), void *user,
                        emb_error *error) {
    const struct timespec tenth = {.tv_nsec = 100000000};
    for (;;) {
        int held = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
        if (held < 0) return emb_hub_io_error("cannot lock", path, error);
        while (flock(held, LOCK_EX | LOCK_NB) != 0) {
            bool taken = errno == EWOULDBLOCK || errno == EINTR || errno == EACCES;
            emb_status status = EMB_OK;
            if (!taken)
                status = emb_hub_io_error("cannot lock", path, error);
            else if (tick && tick(user))
                status = emb_app_fail(error, EMB_CANCELLED, "cancelled");
            if (status != EMB_OK) {
                close(held);
                return status;
            }
            nanosleep(&tenth, NULL);
        }
        if (still_there(held, path)) {
            *descriptor = held;
            return EMB_OK;
        }
        close(held);
    }
}

void emb_hub_unlock(int descriptor) {
    if (descriptor >= 0) close(descriptor);
}
