/* fetch.h - one pull under way, and what is done for each of its files.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_FETCH_H
#define EMB_HUB_FETCH_H

#include "hub/cache.h"
#include "hub/http.h"

typedef struct emb_hub_file {
    char path[208]; /* in the repository */
    char etag[65];  /* its SHA-256, or git's SHA-1: the name of its blob */
    uint64_t bytes; /* UINT64_MAX: not known yet */
} emb_hub_file;

typedef struct emb_hub_job {
    emb_hub_settings settings;
    const emb_hub_request *request;
    emb_hub_name name;
    emb_http *http;
    char commit[41];
    char folder[PATH_MAX]; /* of the model, in the cache */
    char locks[PATH_MAX];
    emb_hub_file *files;
    uint32_t files_count;
    emb_hub_progress progress;
    uint64_t bytes_fetched;
} emb_hub_job;

/* Reports progress; anything but 0 cancels. user: the job. */
int emb_hub_tick(void *user);

/* Asks which commit the revision is and which files it has; fills job->commit and job->files (the
 * caller frees them). Fails: as emb_hub_pull. */
emb_status emb_hub_list(emb_hub_job *job, emb_error *error);

/* Asks for the checksum and the length of a file. */
emb_status emb_hub_describe(emb_hub_job *job, emb_hub_file *file, emb_error *error);

/* Makes the blob of a file, unless it is there: under its lock, resumed, checked. */
emb_status emb_hub_fetch(emb_hub_job *job, const emb_hub_file *file, emb_error *error);

/* What an HTTP status means that is not 200. what: a file, or NULL for the model itself. */
emb_status emb_hub_refusal(const emb_hub_job *job, const emb_http_answer *answer, const char *what,
                           emb_error *error);

/* Whether another attempt is due after that one; if so, waits for it. `error` keeps what went wrong
 * unless waiting itself fails. */
bool emb_hub_again(emb_hub_job *job, const emb_http_answer *answer, uint32_t *attempt,
                   emb_status *status, emb_error *error);

#endif
