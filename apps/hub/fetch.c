/* fetch.c - brings one file into the cache. It has its final name only once its checksum is right;
 * what arrived before a connection broke stays in BLOB.incomplete, and the next attempt resumes it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "fail.h"
#include "hub/digest.h"

#define CHUNK_BYTES (64u << 10)
#define URL_BYTES   2048

/* A file that is being written; what the sink is given. */
typedef struct partial {
    emb_hub_job *job;
    const emb_hub_file *file;
    const char *path;
    int descriptor;
    uint64_t have; /* bytes that are there */
    bool begun;    /* this answer has given bytes */
    bool stale;    /* the hub no longer has what the bytes there are a part of */
    emb_status status;
    emb_error error;
} partial;

static void show(partial *part) {
    emb_hub_progress *progress = &part->job->progress;
    progress->bytes += part->have - progress->file_bytes;
    progress->file_bytes = part->have;
}

static bool refuse(partial *part, emb_status status, const char *what) {
    part->status = emb_app_fail(&part->error, status, "%s/%s: the hub sends %s",
                                part->job->name.repo, part->file->path, what);
    return false;
}

static bool take(void *user, const emb_http_answer *answer, const void *data, size_t length) {
    partial *part = user;
    if (!part->begun && answer->status == 200) part->have = 0; /* it ignored the range */
    if (!part->begun && answer->status == 206 && answer->range_begin != part->have)
        return refuse(part, EMB_BAD_FILE, "another part than the one asked for");
    part->begun = true;
    if (length > part->file->bytes - part->have)
        return refuse(part, EMB_BAD_FILE, "more bytes than it stated");
    errno = emb_file_write(part->descriptor, data, length, part->have, NULL);
    if (errno) {
        part->status = emb_hub_io_error("cannot write", part->path, &part->error);
        return false;
    }
    part->have += length;
    part->job->bytes_fetched += length;
    show(part);
    return true;
}

/* Opens BLOB.incomplete; what is there counts if it is no longer than the file. */
static emb_status open_partial(partial *part, emb_error *error) {
    struct stat status;
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    part->descriptor = open(part->path, flags, 0666);
    if (part->descriptor < 0 || fstat(part->descriptor, &status) != 0)
        return emb_hub_io_error("cannot write", part->path, error);
    part->have = (uint64_t)status.st_size;
    show(part);
    return EMB_OK;
}

/* Starts again in a new file: where locks do not work another process may have the old one open. */
static emb_status discard(partial *part, emb_error *error) {
    close(part->descriptor);
    part->descriptor = -1;
    if (unlink(part->path) != 0 && errno != ENOENT)
        return emb_hub_io_error("cannot remove", part->path, error);
    return open_partial(part, error);
}

/* Until all bytes are there. */
static emb_status download(partial *part, emb_error *error) {
    char url[URL_BYTES];
    emb_hub_job *job = part->job;
    emb_http_answer answer;
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", job->settings.endpoint, job->name.repo,
             job->commit, part->file->path);
    uint32_t attempt = 0;
    while (part->have < part->file->bytes) {
        uint64_t before = part->have;
        part->begun = false;
        part->status = EMB_OK;
        emb_status status = emb_http_ask(job->http, &answer, url, before, take, part, error);
        if (part->status != EMB_OK) {
            *error = part->error;
            return part->status;
        }
        if (part->have == part->file->bytes) break;
        bool good = answer.status == 200 || answer.status == 206;
        if (status == EMB_OK && answer.status == 416 && before > 0) {
            EMB_APP_TRY(discard(part, error));
            continue;
        }
        if (status == EMB_OK && good) { /* it ended before its end, with no word of it */
            answer.passing = true;
            status = emb_app_fail(error, EMB_TIMEOUT, "the connection broke off");
        } else if (status == EMB_OK) {
            status = emb_hub_refusal(job, &answer, part->file->path, error);
        }
        if (part->have > before) attempt = 0;
        if (emb_hub_again(job, &answer, &attempt, &status, error)) continue;
        if (status != EMB_TIMEOUT) return status;
        emb_error why = *error;
        return emb_app_fail(error, EMB_TIMEOUT, "%.*s: %.*s; pull again, and it goes on from there",
                            EMB_APP_CUT(part->file->path, 60), EMB_APP_CUT(why.message, 140));
    }
    return EMB_OK;
}

/* Reads back what is on the disk. Git's SHA-1 begins with the kind and the length. */
static emb_status check(partial *part, bool *right, emb_error *error) {
    unsigned char chunk[CHUNK_BYTES];
    char found[65];
    emb_digest digest;
    bool sha1 = strlen(part->file->etag) == 40;
    emb_digest_init(&digest, sha1);
    if (sha1) {
        int length =
            snprintf(found, sizeof found, "blob %llu", (unsigned long long)part->file->bytes);
        emb_digest_add(&digest, found, (size_t)length + 1);
    }
    for (uint64_t offset = 0; offset < part->file->bytes;) {
        ssize_t got = pread(part->descriptor, chunk, sizeof chunk, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return emb_hub_io_error("cannot read", part->path, error);
        emb_digest_add(&digest, chunk, (size_t)got);
        offset += (uint64_t)got;
        if (emb_hub_tick(part->job)) return emb_app_fail(error, EMB_CANCELLED, "cancelled");
    }
    emb_digest_finish(&digest, found);
    *right = strcmp(found, part->file->etag) == 0;
    return EMB_OK;
}

/* Downloads and checks; a resumed file that is wrong gets one more chance, from its beginning. */
static emb_status complete(partial *part, emb_error *error) {
    EMB_APP_TRY(open_partial(part, error));
    if (part->have > part->file->bytes) EMB_APP_TRY(discard(part, error));
    for (bool resumed = part->have > 0;; resumed = false) {
        bool right = false;
        EMB_APP_TRY(download(part, error));
        EMB_APP_TRY(check(part, &right, error));
        if (right) return EMB_OK;
        if (!resumed) break;
        EMB_APP_TRY(discard(part, error));
    }
    unlink(part->path);
    return emb_app_fail(error, EMB_BAD_FILE,
                        "%s/%.*s: what came has another checksum than the hub states; it was "
                        "thrown away: try again",
                        part->job->name.repo, EMB_APP_CUT(part->file->path, 60));
}

static emb_status give_name(partial *part, const char *blob, emb_error *error) {
    errno = emb_file_publish(AT_FDCWD, part->descriptor, part->path, blob);
    return errno ? emb_hub_io_error("cannot write", blob, error) : EMB_OK;
}

emb_status emb_hub_fetch(emb_hub_job *job, const emb_hub_file *file, emb_error *error) {
    char blob[PATH_MAX], path[PATH_MAX], lock[PATH_MAX];
    int held = -1;
    EMB_APP_TRY(emb_hub_path(blob, error, "%s/blobs/%s", job->folder, file->etag));
    EMB_APP_TRY(emb_hub_path(path, error, "%s.incomplete", blob));
    EMB_APP_TRY(emb_hub_path(lock, error, "%s/%s.lock", job->locks, file->etag));
    partial part = {.job = job, .file = file, .path = path, .descriptor = -1};
    if (emb_hub_file_bytes(blob) == file->bytes) return EMB_OK;
    EMB_APP_TRY(emb_hub_lock(&held, lock, emb_hub_tick, job, error));
    emb_status status = EMB_OK;
    if (emb_hub_file_bytes(blob) != file->bytes) { /* else another process has just made it */
        status = complete(&part, error);
        if (status == EMB_OK) status = give_name(&part, blob, error);
    }
    if (part.descriptor >= 0) close(part.descriptor);
    emb_hub_unlock(held);
    return status;
}
