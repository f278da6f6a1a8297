/* list.c - asks the hub what a revision holds: its commit, its files, their checksums.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "fail.h"
#include "hub/fetch.h"

#define ATTEMPTS_MAX     5
#define UNREACHED_MAX    3 /* no connection at all: say so soon */
#define SILENT_MAX       2 /* each takes the whole deadline */
#define LISTING_BYTES    (32u << 20)
#define FILES_MAX        1024
#define URL_BYTES        2048
#define CHECKSUM_LETTERS "0123456789abcdef"

int emb_hub_tick(void *user) {
    const emb_hub_job *job = user;
    const emb_hub_request *request = job->request;
    return request->progress ? request->progress(request->user, &job->progress) : 0;
}

/* ---- asking patiently ------------------------------------------------------------------------ */

bool emb_hub_again(emb_hub_job *job, const emb_http_answer *answer, uint32_t *attempt,
                   emb_status *status, emb_error *error) {
    uint32_t most = answer->silent ? SILENT_MAX : answer->reached ? ATTEMPTS_MAX : UNREACHED_MAX;
    if (!answer->passing || ++*attempt >= most) return false;
    emb_error waiting;
    emb_status waited = emb_http_wait(job->http, answer, *attempt - 1, &waiting);
    if (waited == EMB_OK) return true;
    *status = waited;
    *error = waiting;
    return false;
}

static emb_status no_access(const emb_hub_job *job, bool gated, emb_error *error) {
    const char *token = job->settings.token[0] ? "the token that was sent does not open it"
                                               : "set HF_TOKEN to a token that may read it";
    if (gated) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s is gated: accept its terms on %.*s/%s; %s",
                            job->name.repo, EMB_APP_CUT(job->settings.endpoint, 80), job->name.repo,
                            token);
    }
    return emb_app_fail(error, EMB_NOT_FOUND, "%s: no such model on %.*s, or it is private: %s",
                        job->name.repo, EMB_APP_CUT(job->settings.endpoint, 80), token);
}

emb_status emb_hub_refusal(const emb_hub_job *job, const emb_http_answer *answer, const char *what,
                           emb_error *error) {
    const char *code = answer->error_code, *repo = job->name.repo;
    long status = answer->status;
    if (strcmp(code, "GatedRepo") == 0) return no_access(job, true, error);
    if (strcmp(code, "RevisionNotFound") == 0) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s has no revision '%.*s'", repo,
                            EMB_APP_CUT(job->name.revision, 100));
    }
    if (status == 401 || strcmp(code, "RepoNotFound") == 0) return no_access(job, false, error);
    if (status == 403) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%.*s refuses access to %s (403)%s",
                            EMB_APP_CUT(job->settings.endpoint, 80), repo,
                            job->settings.token[0] ? ": the token may not read it"
                                                   : ": set HF_TOKEN if it is private");
    }
    if (status == 404 && !what) {
        return emb_app_fail(error, EMB_NOT_FOUND, "%s: no such model or revision '%.*s' on %.*s",
                            repo, EMB_APP_CUT(job->name.revision, 60),
                            EMB_APP_CUT(job->settings.endpoint, 80));
    }
    if (status == 429 || status >= 500) {
        return emb_app_fail(error, EMB_TIMEOUT, "%.*s answers %ld%s; try again later",
                            EMB_APP_CUT(job->settings.endpoint, 80), status,
                            status == 429 ? ", too many requests" : "");
    }
    return emb_app_fail(error, EMB_IO, "%s%s%s: the hub answers %ld", repo, what ? "/" : "",
                        what ? what : "", status);
}

/* ---- the listing ----------------------------------------------------------------------------- */

typedef struct listing {
    char *bytes;
    size_t length, capacity;
    bool too_long;
} listing;

static bool keep(void *user, const emb_http_answer *answer, const void *data, size_t length) {
    listing *list = user;
    (void)answer;
    if (list->length + length > list->capacity) {
        size_t capacity = (list->length + length) * 2;
        char *larger = capacity <= LISTING_BYTES ? realloc(list->bytes, capacity) : NULL;
        list->too_long = !larger;
        if (!larger) return false;
        list->bytes = larger;
        list->capacity = capacity;
    }
    memcpy(list->bytes + list->length, data, length);
    list->length += length;
    return true;
}

/* `text` with % before what is special in an address; / is, too. */
static void escape(char *out, size_t capacity, const char *text) {
    size_t used = 0;
    for (; *text && used + 4 < capacity; text++) {
        bool plain = strchr("/+@%", *text) == NULL;
        used += (size_t)snprintf(out + used, capacity - used, plain ? "%c" : "%%%02X",
                                 (unsigned char)*text);
    }
    out[used] = '\0';
}

static emb_status add_file(emb_hub_job *job, const char *path, uint64_t bytes, emb_error *error) {
    if (!emb_hub_wants_file(path)) return EMB_OK;
    if (job->files_count == FILES_MAX) {
        return emb_app_fail(error, EMB_UNSUPPORTED, "%s: more than %d files", job->name.repo,
                            FILES_MAX);
    }
    emb_hub_file *file = &job->files[job->files_count++];
    memset(file, 0, sizeof *file);
    snprintf(file->path, sizeof file->path, "%.200s", path); /* no longer: it is wanted */
    file->bytes = bytes;
    return EMB_OK;
}

/* A key, cut off where it is longer than any that is known. */
static void read_key(emb_json *json, char *out, size_t capacity) {
    size_t length;
    emb_error longer;
    if (emb_json_string(json, out, capacity, &length, &longer) != EMB_OK) out[0] = '\0';
}

/* {"rfilename": "config.json", "size": 612, ...}, its brace read already. */
static emb_status read_sibling(emb_hub_job *job, emb_json *json, emb_error *error) {
    char key[16], path[1024] = "";
    uint64_t bytes = UINT64_MAX;
    emb_json_event event;
    for (;;) {
        EMB_APP_TRY(emb_json_next(json, &event, error));
        if (event != EMB_JSON_KEY) return add_file(job, path, bytes, error);
        read_key(json, key, sizeof key);
        if (strcmp(key, "rfilename") == 0) {
            EMB_APP_TRY(emb_json_next_string(json, path, sizeof path, key, error));
        } else if (strcmp(key, "size") == 0) {
            EMB_APP_TRY(emb_json_next_u64(json, &bytes, key, error));
        } else {
            EMB_APP_TRY(emb_json_skip(json, error));
        }
    }
}

static emb_status read_siblings(emb_hub_job *job, emb_json *json, emb_error *error) {
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN) return emb_app_fail(error, EMB_BAD_FILE, "no list of files");
    for (;;) {
        EMB_APP_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event != EMB_JSON_OBJECT_BEGIN)
            return emb_app_fail(error, EMB_BAD_FILE, "a file that is no object");
        EMB_APP_TRY(read_sibling(job, json, error));
    }
}

static emb_status parse_listing(emb_hub_job *job, const listing *list, emb_error *error) {
    char buffer[2048], key[32];
    emb_json_memory memory = {list->bytes, list->length};
    emb_json json;
    emb_json_event event;
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    EMB_APP_TRY(emb_json_next(&json, &event, error));
    for (;;) {
        EMB_APP_TRY(emb_json_next(&json, &event, error));
        if (event != EMB_JSON_KEY) break;
        read_key(&json, key, sizeof key);
        if (strcmp(key, "sha") == 0) {
            EMB_APP_TRY(emb_json_next_string(&json, job->commit, sizeof job->commit, key, error));
        } else if (strcmp(key, "siblings") == 0) {
            EMB_APP_TRY(read_siblings(job, &json, error));
        } else {
            EMB_APP_TRY(emb_json_skip(&json, error));
        }
    }
    if (emb_hub_is_commit(job->commit)) return EMB_OK;
    return emb_app_fail(error, EMB_BAD_FILE, "it names no commit");
}

static emb_status read_listing(emb_hub_job *job, const listing *list, emb_error *error) {
    emb_error inner;
    emb_status status = parse_listing(job, list, &inner);
    if (status == EMB_OK) return EMB_OK;
    return emb_app_fail(error, status, "%.*s: its answer about %.*s is malformed: %.*s",
                        EMB_APP_CUT(job->settings.endpoint, 80), EMB_APP_CUT(job->name.repo, 60),
                        EMB_APP_CUT(inner.message, 80));
}

/* The file of that name in the same folder as `path`. */
static bool has_beside(const emb_hub_job *job, const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    for (uint32_t i = 0; i < job->files_count; i++) {
        const char *other = job->files[i].path;
        if (strncmp(other, path, folder) == 0 && strcmp(other + folder, name) == 0) return true;
    }
    return false;
}

/* Leaves out shards beside a whole file, and says what is missing. */
static emb_status choose(emb_hub_job *job, emb_error *error) {
    uint32_t kept = 0;
    bool weights = false, config = false;
    for (uint32_t i = 0; i < job->files_count; i++) {
        emb_hub_file file = job->files[i];
        bool whole = strstr(file.path, "model.safetensors") && !strstr(file.path, ".index.json");
        bool part = !whole && strstr(file.path, ".safetensors");
        if (part && has_beside(job, file.path, "model.safetensors")) continue;
        bool encoder = !strchr(file.path, '/') || strncmp(file.path, "0_", 2) == 0;
        const char *name = strrchr(file.path, '/') ? strrchr(file.path, '/') + 1 : file.path;
        weights = weights || (encoder && (whole || (part && !strstr(name, ".json"))));
        config = config || (encoder && strcmp(name, "config.json") == 0);
        job->files[kept++] = file;
    }
    job->files_count = kept;
    if (weights && config) return EMB_OK;
    return emb_app_fail(error, EMB_UNSUPPORTED,
                        "%s holds no %s: embound reads safetensors beside a config.json; pickled "
                        "weights are refused",
                        job->name.repo, config ? "safetensors" : "config.json");
}

emb_status emb_hub_list(emb_hub_job *job, emb_error *error) {
    char url[URL_BYTES], revision[400];
    emb_http_answer answer;
    listing list = {0};
    escape(revision, sizeof revision, job->name.revision);
    snprintf(url, sizeof url, "%s/api/models/%s/revision/%s?blobs=true", job->settings.endpoint,
             job->name.repo, revision);
    emb_status status;
    uint32_t attempt = 0;
    do {
        list.length = 0;
        status = emb_http_ask(job->http, &answer, url, 0, keep, &list, error);
    } while (emb_hub_again(job, &answer, &attempt, &status, error));
    if (list.too_long) {
        status = emb_app_fail(error, EMB_BAD_FILE, "%.*s: its answer is too long",
                              EMB_APP_CUT(job->settings.endpoint, 80));
    } else if (status == EMB_OK && answer.status != 200) {
        status = emb_hub_refusal(job, &answer, NULL, error);
    } else if (status == EMB_OK) {
        job->files = calloc(FILES_MAX, sizeof *job->files);
        status = job->files ? read_listing(job, &list, error)
                            : emb_app_fail(error, EMB_NO_MEMORY, "the system refused memory");
        if (status == EMB_OK) status = choose(job, error);
    }
    free(list.bytes);
    return status;
}

/* ---- one file -------------------------------------------------------------------------------- */

emb_status emb_hub_describe(emb_hub_job *job, emb_hub_file *file, emb_error *error) {
    char url[URL_BYTES];
    emb_http_answer answer;
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", job->settings.endpoint, job->name.repo,
             job->commit, file->path);
    uint32_t attempt = 0;
    emb_status status;
    do {
        status = emb_http_ask(job->http, &answer, url, 0, NULL, NULL, error);
    } while (emb_hub_again(job, &answer, &attempt, &status, error));
    if (status != EMB_OK) return status;
    if (answer.status != 200 && !answer.elsewhere)
        return emb_hub_refusal(job, &answer, file->path, error);
    const char *etag = answer.linked_etag[0] ? answer.linked_etag : answer.etag;
    uint64_t bytes = answer.linked_size != UINT64_MAX ? answer.linked_size : answer.length;
    if (bytes == UINT64_MAX) bytes = file->bytes; /* of the listing, where that knows */
    size_t letters = strlen(etag);
    bool checksum = (letters == 64 || letters == 40) && strspn(etag, CHECKSUM_LETTERS) == letters;
    if (!checksum || bytes == UINT64_MAX) {
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s: no %s comes with %.*s, so that it could not be checked",
                            EMB_APP_CUT(job->settings.endpoint, 80),
                            checksum ? "length" : "checksum", EMB_APP_CUT(file->path, 60));
    }
    if (answer.commit[0] && strcmp(answer.commit, job->commit) != 0) {
        return emb_app_fail(error, EMB_BAD_FILE, "%.*s gives %.*s of another commit",
                            EMB_APP_CUT(job->settings.endpoint, 80), EMB_APP_CUT(file->path, 60));
    }
    snprintf(file->etag, sizeof file->etag, "%.64s", etag);
    file->bytes = bytes;
    return EMB_OK;
}
