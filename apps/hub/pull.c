/* pull.c - a model from the hub into the cache: list, describe, fetch, and only then link.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"
#include "hub/fetch.h"

static const char *const organisations[] = {"sentence-transformers/", ""};

/* ---- finding --------------------------------------------------------------------------------- */

/* A name without an organisation may be one of sentence-transformers, as there. */
static bool find_cached(emb_hub_pulled *out, const emb_hub_name *name, const char *cache) {
    char folder[PATH_MAX];
    for (size_t i = strchr(name->repo, '/') ? 1 : 0; i < 2; i++) {
        emb_hub_name whole = *name;
        int length = snprintf(whole.repo, sizeof whole.repo, "%s%s", organisations[i], name->repo);
        if (length >= (int)sizeof whole.repo ||
            emb_hub_folder(folder, cache, "", whole.repo, NULL) != EMB_OK ||
            !emb_hub_snapshot(out->path, out->commit, folder, &whole))
            continue;
        snprintf(out->repo, sizeof out->repo, "%s", whole.repo);
        return true;
    }
    return false;
}

emb_status emb_hub_find(char *out, const char *model, emb_error *error) {
    struct stat status;
    char cache[PATH_MAX];
    emb_hub_name name;
    emb_hub_pulled found;
    bool path = stat(model, &status) == 0 || !emb_hub_cache_path(cache) ||
                emb_hub_name_parse(&name, model, NULL, NULL) != EMB_OK;
    if (path) return emb_hub_path(out, error, "%s", model);
    if (find_cached(&found, &name, cache)) return emb_hub_path(out, error, "%s", found.path);
    return emb_app_fail(error, EMB_NOT_FOUND,
                        "%.*s: no such model: neither a path nor in the hub cache; to get it "
                        "from the hub: embound pull %.*s",
                        EMB_APP_CUT(model, 100), EMB_APP_CUT(model, 100));
}

/* ---- pulling --------------------------------------------------------------------------------- */

static emb_status report(emb_hub_pulled *out, const emb_hub_job *job, emb_error *error) {
    snprintf(out->repo, sizeof out->repo, "%s", job->name.repo);
    snprintf(out->commit, sizeof out->commit, "%s", job->commit);
    out->files = job->files_count;
    out->bytes = job->progress.total;
    out->bytes_fetched = job->bytes_fetched;
    return emb_hub_path(out->path, error, "%s/snapshots/%s", job->folder, job->commit);
}

static emb_status offline(emb_hub_pulled *out, const emb_hub_job *job, emb_error *error) {
    if (find_cached(out, &job->name, job->settings.cache)) return EMB_OK;
    return emb_app_fail(error, EMB_NOT_FOUND,
                        "%s@%.*s is not in the hub cache %.*s, and offline (--offline, "
                        "HF_HUB_OFFLINE) it cannot be asked for",
                        job->name.repo, EMB_APP_CUT(job->name.revision, 60),
                        EMB_APP_CUT(job->settings.cache, 60));
}

/* Whether all files of the snapshot are there. */
static emb_status is_complete(const emb_hub_job *job, bool *complete, emb_error *error) {
    char path[PATH_MAX];
    *complete = true;
    for (uint32_t i = 0; i < job->files_count; i++) {
        const emb_hub_file *file = &job->files[i];
        EMB_APP_TRY(
            emb_hub_path(path, error, "%s/snapshots/%s/%s", job->folder, job->commit, file->path));
        if (emb_hub_file_bytes(path) != file->bytes) *complete = false;
    }
    return EMB_OK;
}

/* Refuses what cannot fit before any of it is fetched. */
static emb_status check_room(emb_hub_job *job, emb_error *error) {
    char path[PATH_MAX];
    uint64_t needed = 0, there;
    for (uint32_t i = 0; i < job->files_count; i++) {
        const emb_hub_file *file = &job->files[i];
        EMB_APP_TRY(emb_hub_path(path, error, "%s/blobs/%s", job->folder, file->etag));
        if (emb_hub_file_bytes(path) == file->bytes) continue;
        EMB_APP_TRY(emb_hub_path(path, error, "%s/blobs/%s.incomplete", job->folder, file->etag));
        there = emb_hub_file_bytes(path);
        needed += there < file->bytes ? file->bytes - there : file->bytes;
    }
    uint64_t room = emb_hub_free_bytes(job->folder);
    if (needed <= room) return EMB_OK;
    return emb_app_fail(error, EMB_IO,
                        "%s needs %llu more bytes, and there are %llu free for the hub cache %.*s",
                        job->name.repo, (unsigned long long)needed, (unsigned long long)room,
                        EMB_APP_CUT(job->settings.cache, 80));
}

static emb_status make_places(emb_hub_job *job, emb_error *error) {
    static const char tag[] =
        "Signature: 8a477f597d28d172789f06886806bc55\n"
        "# Backups may leave out this cache: see https://bford.info/cachedir/\n";
    char path[PATH_MAX];
    EMB_APP_TRY(emb_hub_path(path, error, "%s/blobs", job->folder));
    EMB_APP_TRY(emb_hub_make_folders(path, error));
    EMB_APP_TRY(emb_hub_folder(job->locks, job->settings.cache, "/.locks", job->name.repo, error));
    EMB_APP_TRY(emb_hub_make_folders(job->locks, error));
    EMB_APP_TRY(emb_hub_path(path, error, "%s/CACHEDIR.TAG", job->settings.cache));
    if (access(path, F_OK) == 0) return EMB_OK;
    emb_status status = emb_hub_write_file(path, tag, error);
    return access(path, F_OK) == 0 ? EMB_OK : status; /* another process may have been first */
}

/* The configuration last: a snapshot without it is no model. */
static emb_status link_all(emb_hub_job *job, emb_error *error) {
    char link[PATH_MAX], blob[PATH_MAX], folder[PATH_MAX];
    for (uint32_t turn = 0; turn < 2; turn++) {
        for (uint32_t i = 0; i < job->files_count; i++) {
            const emb_hub_file *file = &job->files[i];
            if ((strcmp(file->path, "config.json") == 0) != (turn == 1)) continue;
            EMB_APP_TRY(emb_hub_path(link, error, "%s/snapshots/%s/%s", job->folder, job->commit,
                                     file->path));
            EMB_APP_TRY(emb_hub_path(blob, error, "%s/blobs/%s", job->folder, file->etag));
            if (emb_hub_file_bytes(link) == file->bytes) continue;
            EMB_APP_TRY(
                emb_hub_path(folder, error, "%.*s", (int)(strrchr(link, '/') - link), link));
            EMB_APP_TRY(emb_hub_make_folders(folder, error));
            EMB_APP_TRY(emb_hub_link(link, blob, job->settings.copies, error));
        }
    }
    return EMB_OK;
}

static emb_status write_ref(const emb_hub_job *job, emb_error *error) {
    char path[PATH_MAX], folder[PATH_MAX];
    if (strcmp(job->name.revision, job->commit) == 0) return EMB_OK;
    EMB_APP_TRY(emb_hub_path(path, error, "%s/refs/%s", job->folder, job->name.revision));
    EMB_APP_TRY(emb_hub_path(folder, error, "%.*s", (int)(strrchr(path, '/') - path), path));
    EMB_APP_TRY(emb_hub_make_folders(folder, error));
    return emb_hub_write_file(path, job->commit, error);
}

/* Gives the blobs their names, one process at a time. */
static emb_status name_all(emb_hub_job *job, emb_error *error) {
    char lock[PATH_MAX];
    int held = -1;
    EMB_APP_TRY(emb_hub_path(lock, error, "%s/names.lock", job->locks));
    EMB_APP_TRY(emb_hub_lock(&held, lock, emb_hub_tick, job, error));
    emb_status status = link_all(job, error);
    if (status == EMB_OK) status = write_ref(job, error);
    emb_hub_unlock(held);
    return status;
}

static emb_status fetch_all(emb_hub_job *job, emb_error *error) {
    emb_hub_progress *progress = &job->progress;
    EMB_APP_TRY(make_places(job, error));
    EMB_APP_TRY(check_room(job, error));
    progress->files_count = job->files_count;
    for (uint32_t i = 0; i < job->files_count; i++) {
        const emb_hub_file *file = &job->files[i];
        uint64_t done = progress->bytes;
        char name[PATH_MAX];
        EMB_APP_TRY(
            emb_hub_path(name, error, "%s/snapshots/%s/%s", job->folder, job->commit, file->path));
        progress->file = file->path;
        progress->file_bytes = 0;
        progress->file_total = file->bytes;
        if (emb_hub_file_bytes(name) != file->bytes) EMB_APP_TRY(emb_hub_fetch(job, file, error));
        progress->bytes = done + file->bytes;
        progress->files_done = i + 1;
    }
    return name_all(job, error);
}

/* Lists the model under the names that it may have. */
static emb_status list(emb_hub_job *job, emb_error *error) {
    emb_hub_name stated = job->name;
    emb_status status = EMB_NOT_FOUND;
    for (size_t i = strchr(stated.repo, '/') ? 1 : 0; i < 2 && status == EMB_NOT_FOUND; i++) {
        int length =
            snprintf(job->name.repo, sizeof job->name.repo, "%s%s", organisations[i], stated.repo);
        if (length < (int)sizeof job->name.repo) status = emb_hub_list(job, error);
    }
    return status;
}

static emb_status run(emb_hub_job *job, emb_hub_pulled *out, emb_error *error) {
    job->progress.file = "";
    EMB_APP_TRY(emb_http_open(&job->http, &job->settings, emb_hub_tick, job, error));
    EMB_APP_TRY(list(job, error));
    EMB_APP_TRY(emb_hub_folder(job->folder, job->settings.cache, "", job->name.repo, error));
    for (uint32_t i = 0; i < job->files_count; i++) {
        EMB_APP_TRY(emb_hub_describe(job, &job->files[i], error));
        job->progress.total += job->files[i].bytes;
    }
    bool complete = false;
    EMB_APP_TRY(is_complete(job, &complete, error));
    if (complete)
        write_ref(job, NULL); /* a cache that cannot be written may still be read */
    else
        EMB_APP_TRY(fetch_all(job, error));
    return report(out, job, error);
}

emb_status emb_hub_pull(emb_hub_pulled *out, const char *name, const emb_hub_request *request,
                        emb_error *error) {
    static const emb_hub_request plain = {0};
    memset(out, 0, sizeof *out);
    emb_hub_job *job = calloc(1, sizeof *job);
    if (!job) return emb_app_fail(error, EMB_NO_MEMORY, "the system refused memory");
    job->request = request ? request : &plain;
    emb_status status = emb_hub_settings_read(&job->settings, error);
    if (status == EMB_OK)
        status = emb_hub_name_parse(&job->name, name, job->request->revision, error);
    if (status == EMB_OK && (job->settings.offline || job->request->offline))
        status = offline(out, job, error);
    else if (status == EMB_OK)
        status = run(job, out, error);
    emb_http_close(job->http);
    free(job->files);
    memset(job->settings.token, 0, sizeof job->settings.token);
    free(job);
    return status;
}
