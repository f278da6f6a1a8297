/* http.h - asks the hub over HTTP, through a libcurl that is opened at run time.
 *
 * Redirects are followed here, so that the token goes to the hub's own host alone.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_HUB_HTTP_H
#define EMB_HUB_HTTP_H

#include "hub/hub.h"
#include "hub/settings.h"

typedef struct emb_http emb_http;

/* Opens libcurl.so.4, or what EMB_CURL names. tick: called several times a second; anything but 0
 * cancels. The settings stay the caller's. Fails: EMB_UNSUPPORTED (no libcurl), EMB_NO_MEMORY. */
emb_status emb_http_open(emb_http **out, const emb_hub_settings *settings, int (*tick)(void *user),
                         void *user, emb_error *error);
void emb_http_close(emb_http *http);

typedef struct emb_http_answer {
    long status; /* of HTTP; 0: none came */
    char etag[128], linked_etag[128], commit[64], error_code[64];
    uint64_t length, linked_size; /* UINT64_MAX: not said */
    uint64_t range_begin;         /* of a part (206) */
    bool elsewhere;               /* HEAD ended at a redirect to another host */
    bool passing;                 /* it failed, and might succeed another time */
    bool reached;                 /* a connection came about */
    bool silent;                  /* nothing at all came before the deadline */
    uint64_t wait_seconds;        /* that the hub asks for; 0: none */
} emb_http_answer;

/* Takes bytes of a body with the status 200 or 206; false ends the transfer (and the sink knows
 * why). */
typedef bool (*emb_http_sink)(void *user, const emb_http_answer *answer, const void *data,
                              size_t length);

/* One request, redirects included. sink NULL: HEAD, which does not go to another host. begin: the
 * first byte that is wanted. Fails: EMB_TIMEOUT (answer->passing), EMB_IO (TLS, the sink),
 * EMB_CANCELLED. An HTTP status that tells of an error is no failure here. */
emb_status emb_http_ask(emb_http *http, emb_http_answer *answer, const char *url, uint64_t begin,
                        emb_http_sink sink, void *user, emb_error *error);

/* Waits before the next attempt: the longer the later, or as long as the hub asks.
 * Fails: EMB_TIMEOUT (too long to wait for), EMB_CANCELLED. */
emb_status emb_http_wait(emb_http *http, const emb_http_answer *answer, uint32_t attempt,
                         emb_error *error);

#endif
