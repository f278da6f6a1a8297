/* http.c - HTTP through libcurl, which only `pull` needs: linked, it would add megabytes to the
 * base of every process.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/http.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

#ifdef EMB_WITH_CURL

#include <curl/curl.h>
#include <dlfcn.h>
#include <strings.h>
#include <time.h>

#define REDIRECTS_MAX    10
#define WAIT_SECONDS_MAX 60
#define ORIGIN_BYTES     600

/* the checking macros of the header take the functions' own names */
#undef curl_easy_setopt
#undef curl_easy_getinfo

typedef struct curl_functions {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *easy);
    void (*easy_reset)(CURL *easy);
    CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
    CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
    CURLcode (*easy_perform)(CURL *easy);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
    CURLU *(*url)(void);
    void (*url_cleanup)(CURLU *url);
    CURLUcode (*url_set)(CURLU *url, CURLUPart part, const char *text, unsigned flags);
    CURLUcode (*url_get)(const CURLU *url, CURLUPart part, char **text, unsigned flags);
    void (*free)(void *block);
} curl_functions;

struct emb_http {
    curl_functions curl;
    CURL *easy;
    CURLU *url;         /* of the request that is made, */
    char address[8192]; /* and as text */
    const emb_hub_settings *settings;
    char origin[ORIGIN_BYTES]; /* of the hub: its scheme, host and port */
    int (*tick)(void *user);
    void *tick_user;
    /* the request that is made */
    emb_http_answer *answer;
    emb_http_sink sink;
    void *sink_user;
    bool answered; /* a line of an answer has come */
    char location[4096];
    char reason[CURL_ERROR_SIZE];
};

/* ---- opening --------------------------------------------------------------------------------- */

static bool load(curl_functions *out, void *library) {
    const struct {
        void *place;
        const char *name;
    } wanted[] = {{&out->global_init, "curl_global_init"},
                  {&out->easy_init, "curl_easy_init"},
                  {&out->easy_cleanup, "curl_easy_cleanup"},
                  {&out->easy_reset, "curl_easy_reset"},
                  {&out->easy_setopt, "curl_easy_setopt"},
                  {&out->easy_getinfo, "curl_easy_getinfo"},
                  {&out->easy_perform, "curl_easy_perform"},
                  {&out->easy_strerror, "curl_easy_strerror"},
                  {&out->slist_append, "curl_slist_append"},
                  {&out->slist_free_all, "curl_slist_free_all"},
                  {&out->url, "curl_url"},
                  {&out->url_cleanup, "curl_url_cleanup"},
                  {&out->url_set, "curl_url_set"},
                  {&out->url_get, "curl_url_get"},
                  {&out->free, "curl_free"}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *symbol = dlsym(library, wanted[i].name);
        if (!symbol) return false;
        memcpy(wanted[i].place, &symbol, sizeof symbol);
    }
    return true;
}

static emb_status open_library(curl_functions *out, emb_error *error) {
    const char *names[] = {getenv("EMB_CURL"), "libcurl.so.4", "libcurl-gnutls.so.4"};
    bool stated = names[0] && *names[0];
    for (size_t i = stated ? 0 : 1; i < (stated ? 1 : 3); i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library && load(out, library)) return EMB_OK;
    }
    return emb_app_fail(error, EMB_UNSUPPORTED,
                        "%s cannot be opened, and pull needs it: apt-get install libcurl4",
                        stated ? names[0] : "libcurl.so.4");
}

/* "https://host:443" of the address that http->url holds. */
static bool origin_of(emb_http *http, char out[ORIGIN_BYTES]) {
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    size_t used = 0;
    for (size_t i = 0; i < 3; i++) {
        char *text = NULL;
        if (http->curl.url_get(http->url, parts[i], &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
            return false;
        int wrote = snprintf(out + used, ORIGIN_BYTES - used, "%s%s",
                             i == 0   ? ""
                             : i == 1 ? "://"
                                      : ":",
                             text);
        http->curl.free(text);
        if (wrote < 0 || (used += (size_t)wrote) >= ORIGIN_BYTES) return false;
    }
    return true;
}

emb_status emb_http_open(emb_http **out, const emb_hub_settings *settings, int (*tick)(void *user),
                         void *user, emb_error *error) {
    emb_http *http = calloc(1, sizeof *http);
    if (!http) return emb_app_fail(error, EMB_NO_MEMORY, "the system refused memory");
    http->settings = settings;
    http->tick = tick;
    http->tick_user = user;
    emb_status status = open_library(&http->curl, error);
    if (status != EMB_OK) {
        free(http);
        return status;
    }
    bool begun = http->curl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    if (begun) http->easy = http->curl.easy_init();
    if (begun) http->url = http->curl.url();
    if (!http->easy || !http->url) {
        status = emb_app_fail(error, EMB_NO_MEMORY, "libcurl could not be started");
    } else if (http->curl.url_set(http->url, CURLUPART_URL, settings->endpoint, 0) != CURLUE_OK ||
               !origin_of(http, http->origin)) {
        status = emb_app_fail(error, EMB_INVALID_ARGUMENT,
                              "HF_ENDPOINT '%.*s' is not an address of the web",
                              EMB_APP_CUT(settings->endpoint, 100));
    }
    *out = http;
    if (status == EMB_OK) return EMB_OK;
    emb_http_close(http);
    *out = NULL;
    return status;
}

void emb_http_close(emb_http *http) {
    if (!http) return;
    if (http->easy) http->curl.easy_cleanup(http->easy);
    if (http->url) http->curl.url_cleanup(http->url);
    free(http);
}

/* ---- what comes back ------------------------------------------------------------------------- */

/* Copies a header's value if the line is that header; without W/ and quotes around it. */
static void take_header(const char *line, size_t length, const char *name, char *out,
                        size_t capacity) {
    size_t width = strlen(name);
    if (length <= width || line[width] != ':' || strncasecmp(line, name, width) != 0) return;
    const char *from = line + width + 1, *to = line + length;
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (to > from && (to[-1] == '\r' || to[-1] == '\n' || to[-1] == ' ')) to--;
    if (to - from >= 2 && from[0] == 'W' && from[1] == '/') from += 2;
    if (to - from >= 2 && from[0] == '"' && to[-1] == '"') from++, to--;
    snprintf(out, capacity, "%.*s", (int)(to - from), from);
}

static void take_number(const char *line, size_t length, const char *name, const char *before,
                        uint64_t *out) {
    char text[64] = "";
    take_header(line, length, name, text, sizeof text);
    size_t skip = strlen(before);
    if (strncmp(text, before, skip) != 0) return;
    if (text[skip] >= '0' && text[skip] <= '9') *out = strtoull(text + skip, NULL, 10);
}

static size_t on_header(char *line, size_t one, size_t length, void *user) {
    emb_http *http = user;
    emb_http_answer *answer = http->answer;
    http->answered = true;
    take_header(line, length, "ETag", answer->etag, sizeof answer->etag);
    take_header(line, length, "X-Linked-Etag", answer->linked_etag, sizeof answer->linked_etag);
    take_header(line, length, "X-Repo-Commit", answer->commit, sizeof answer->commit);
    take_header(line, length, "X-Error-Code", answer->error_code, sizeof answer->error_code);
    take_header(line, length, "Location", http->location, sizeof http->location);
    take_number(line, length, "Content-Length", "", &answer->length);
    take_number(line, length, "X-Linked-Size", "", &answer->linked_size);
    take_number(line, length, "Content-Range", "bytes ", &answer->range_begin);
    return one * length;
}

static size_t on_data(char *data, size_t one, size_t length, void *user) {
    emb_http *http = user;
    emb_http_answer *answer = http->answer;
    http->curl.easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &answer->status);
    bool wanted = answer->status == 200 || answer->status == 206;
    if (!wanted) return one * length; /* the text of an error page */
    return http->sink && http->sink(http->sink_user, answer, data, length) ? one * length : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    emb_http *http = user;
    (void)a, (void)b, (void)c, (void)d;
    return http->tick && http->tick(http->tick_user) ? 1 : 0;
}

/* ---- one request ----------------------------------------------------------------------------- */

static struct curl_slist *make_headers(emb_http *http, bool own_host) {
    char line[600];
    struct curl_slist *list = http->curl.slist_append(NULL, "Accept-Encoding: identity");
    if (list && own_host && http->settings->token[0]) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", http->settings->token);
        struct curl_slist *longer = http->curl.slist_append(list, line);
        memset(line, 0, sizeof line);
        if (!longer) http->curl.slist_free_all(list);
        list = longer;
    }
    return list;
}

static CURLcode perform(emb_http *http, const char *url, uint64_t begin, bool own_host) {
    CURL *easy = http->easy;
    CURLcode (*set)(CURL *, CURLoption, ...) = http->curl.easy_setopt;
    struct curl_slist *headers = make_headers(http, own_host);
    if (!headers) return CURLE_OUT_OF_MEMORY;
    http->curl.easy_reset(easy); /* connections stay */
    http->reason[0] = '\0';
    http->answered = false;
    char agent[32];
    snprintf(agent, sizeof agent, "embound/%s", emb_version());
    set(easy, CURLOPT_URL, url);
    set(easy, CURLOPT_USERAGENT, agent);
    set(easy, CURLOPT_HTTPHEADER, headers);
    set(easy, CURLOPT_ERRORBUFFER, http->reason);
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy, CURLOPT_CONNECTTIMEOUT, (long)http->settings->ask_seconds);
    set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(easy, CURLOPT_LOW_SPEED_TIME, (long)http->settings->data_seconds);
    set(easy, CURLOPT_HEADERFUNCTION, on_header);
    set(easy, CURLOPT_HEADERDATA, (void *)http);
    set(easy, CURLOPT_WRITEFUNCTION, on_data);
    set(easy, CURLOPT_WRITEDATA, (void *)http);
    set(easy, CURLOPT_NOPROGRESS, 0L);
    set(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    set(easy, CURLOPT_XFERINFODATA, (void *)http);
    if (http->settings->authorities) set(easy, CURLOPT_CAINFO, http->settings->authorities);
    set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(easy, CURLOPT_NOBODY, http->sink ? 0L : 1L);
    if (set(easy, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK) {
        http->curl.slist_free_all(headers);
        return CURLE_UNSUPPORTED_PROTOCOL;
    }
    char range[32];
    snprintf(range, sizeof range, "%llu-", (unsigned long long)begin);
    if (begin) set(easy, CURLOPT_RANGE, range);
    CURLcode code = http->curl.easy_perform(easy);
    http->curl.slist_free_all(headers);
    return code;
}

/* Whether no_proxy lists the host of this request: its name, a domain that it is in, or "*". */
static bool passes_proxy(const emb_http *http) {
    const char *at = getenv("no_proxy");
    char *host = NULL;
    if (!at) at = getenv("NO_PROXY");
    if (!at || http->curl.url_get(http->url, CURLUPART_HOST, &host, 0) != CURLUE_OK) return false;
    size_t length = strlen(host);
    bool listed = strcmp(at, "*") == 0;
    while (*at && !listed) {
        at += strspn(at, ", .");
        size_t name = strcspn(at, ", ");
        listed = name && name <= length && strncasecmp(host + length - name, at, name) == 0 &&
                 (name == length || host[length - name - 1] == '.');
        at += name;
    }
    http->curl.free(host);
    return listed;
}

/* The variable that names a proxy for this request, and the proxy without what it may hold of a
 * password; NULL: none is named. */
static const char *proxy_of(const emb_http *http, const char **host) {
    static const char *const names[2][5] = {
        {"http_proxy", "all_proxy", "ALL_PROXY", NULL, NULL}, /* HTTP_PROXY: curl reads it not */
        {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL}};
    bool secure = strncmp(http->address, "https:", 6) == 0;
    if (passes_proxy(http)) return NULL;
    for (const char *const *name = names[secure]; *name; name++) {
        const char *value = getenv(*name);
        if (!value || !*value) continue;
        const char *at = strrchr(value, '@'), *slashes = strstr(value, "://");
        *host = at ? at + 1 : slashes ? slashes + 3 : value;
        return *name;
    }
    return NULL;
}

/* A request that failed while a proxy is named: most often that is why. */
static emb_status blame_proxy(emb_http *http, const char *why, emb_error *error) {
    const char *host = "", *name = proxy_of(http, &host);
    if (!name) return EMB_OK;
    return emb_app_fail(error, EMB_TIMEOUT,
                        "the hub cannot be reached through the proxy %.*s (%.*s): check it, "
                        "unset %s, or name the hub's host in no_proxy",
                        EMB_APP_CUT(host, 60), EMB_APP_CUT(why, 60), name);
}

/* The transfer broke off, or nothing came before the deadline. */
static emb_status explain_broken(emb_http *http, CURLcode code, const char *why, emb_error *error) {
    emb_http_answer *answer = http->answer;
    long connect_code = 0; /* of a proxy that does not let the request through */
    http->curl.easy_getinfo(http->easy, CURLINFO_HTTP_CONNECTCODE, &connect_code);
    bool refused = connect_code >= 300;
    answer->silent = code == CURLE_OPERATION_TIMEDOUT && !http->answered;
    answer->reached = true;
    answer->passing = !refused || connect_code >= 500;
    if ((answer->silent || refused) && blame_proxy(http, why, error) != EMB_OK) return EMB_TIMEOUT;
    return emb_app_fail(error, EMB_TIMEOUT, "the connection broke off (%.*s)%s",
                        EMB_APP_CUT(why, 150),
                        answer->silent ? ": check the network, and HF_ENDPOINT if it is set" : "");
}

static emb_status explain(emb_http *http, CURLcode code, emb_error *error) {
    emb_http_answer *answer = http->answer;
    const char *why = http->reason[0] ? http->reason : http->curl.easy_strerror(code);
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        return emb_app_fail(error, EMB_CANCELLED, "cancelled");
    case CURLE_WRITE_ERROR:
        return emb_app_fail(error, EMB_IO, "what came could not be used");
    case CURLE_OUT_OF_MEMORY:
        return emb_app_fail(error, EMB_NO_MEMORY, "the system refused memory");
    case CURLE_UNSUPPORTED_PROTOCOL:
        return emb_app_fail(error, EMB_UNSUPPORTED, "this libcurl is older than 7.85");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return emb_app_fail(error, EMB_IO,
                            "the certificate of the host cannot be verified (%.*s): "
                            "apt-get install ca-certificates, or set SSL_CERT_FILE",
                            EMB_APP_CUT(why, 100));
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        answer->passing = true;
        if (blame_proxy(http, why, error) != EMB_OK) return EMB_TIMEOUT;
        return emb_app_fail(error, EMB_TIMEOUT,
                            "no connection (%.*s): check the network, and HF_ENDPOINT if it is set",
                            EMB_APP_CUT(why, 150));
    default:
        return explain_broken(http, code, why, error);
    }
}

/* Puts the address that http->url holds into `out`. */
static bool url_text(emb_http *http, char *out, size_t capacity) {
    char *text = NULL;
    if (http->curl.url_get(http->url, CURLUPART_URL, &text, 0) != CURLUE_OK) return false;
    bool fits = snprintf(out, capacity, "%s", text) < (int)capacity;
    http->curl.free(text);
    return fits;
}

static void begin_answer(emb_http *http, emb_http_answer *answer) {
    http->answer = answer;
    http->location[0] = '\0';
    answer->status = 0;
    answer->etag[0] = answer->error_code[0] = '\0';
    answer->length = answer->range_begin = UINT64_MAX;
}

emb_status emb_http_ask(emb_http *http, emb_http_answer *answer, const char *url, uint64_t begin,
                        emb_http_sink sink, void *user, emb_error *error) {
    char origin[ORIGIN_BYTES];
    memset(answer, 0, sizeof *answer);
    answer->linked_size = UINT64_MAX;
    http->sink = sink;
    http->sink_user = user;
    bool good = http->curl.url_set(http->url, CURLUPART_URL, url, 0) == CURLUE_OK;
    bool secure = strncmp(http->origin, "https:", 6) == 0;
    for (uint32_t hop = 0; good && hop < REDIRECTS_MAX; hop++) {
        if (!origin_of(http, origin) || !url_text(http, http->address, sizeof http->address)) break;
        bool own_host = strcmp(origin, http->origin) == 0;
        if (!own_host && !sink) {
            answer->elsewhere = true; /* the length is that of the redirect */
            answer->length = UINT64_MAX;
            return EMB_OK;
        }
        if (secure && strncmp(origin, "https:", 6) != 0) {
            return emb_app_fail(error, EMB_IO, "the hub leads from https to %.*s: refused",
                                EMB_APP_CUT(origin, 100));
        }
        begin_answer(http, answer);
        CURLcode code = perform(http, http->address, begin, own_host);
        if (code != CURLE_OK) return explain(http, code, error);
        curl_off_t wait = 0;
        http->curl.easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &answer->status);
        http->curl.easy_getinfo(http->easy, CURLINFO_RETRY_AFTER, &wait);
        answer->wait_seconds = wait > 0 ? (uint64_t)wait : 0;
        answer->reached = true;
        answer->passing = answer->status == 408 || answer->status == 429 || answer->status >= 500;
        if (answer->status < 300 || answer->status >= 400 || !http->location[0]) return EMB_OK;
        /* an address without a host belongs to the one that sent it */
        good = http->curl.url_set(http->url, CURLUPART_URL, http->location, 0) == CURLUE_OK;
    }
    return emb_app_fail(error, EMB_IO, "%.*s: redirected too often, or to no address",
                        EMB_APP_CUT(url, 150));
}

emb_status emb_http_wait(emb_http *http, const emb_http_answer *answer, uint32_t attempt,
                         emb_error *error) {
    if (answer->wait_seconds > WAIT_SECONDS_MAX) {
        return emb_app_fail(error, EMB_TIMEOUT,
                            "the hub asks to wait for %llu seconds; try again "
                            "then",
                            (unsigned long long)answer->wait_seconds);
    }
    uint64_t tenths = answer->wait_seconds * 10;
    if (tenths == 0) tenths = 2ull << (attempt < 5 ? attempt : 5);
    for (uint64_t i = 0; i < tenths; i++) {
        const struct timespec tenth = {.tv_nsec = 100000000};
        nanosleep(&tenth, NULL);
        if (http->tick && http->tick(http->tick_user))
            return emb_app_fail(error, EMB_CANCELLED, "cancelled");
    }
    return EMB_OK;
}

#else

emb_status emb_http_open(emb_http **out, const emb_hub_settings *settings, int (*tick)(void *user),
                         void *user, emb_error *error) {
    (void)settings, (void)tick, (void)user;
    *out = NULL;
    return emb_app_fail(error, EMB_UNSUPPORTED,
                        "this embound was built without pull: its build needs the headers of "
                        "libcurl (apt-get install libcurl4-openssl-dev)");
}

void emb_http_close(emb_http *http) {
    (void)http;
}

emb_status emb_http_ask(emb_http *http, emb_http_answer *answer, const char *url, uint64_t begin,
                        emb_http_sink sink, void *user, emb_error *error) {
    (void)http, (void)answer, (void)url, (void)begin, (void)sink, (void)user;
    return emb_app_fail(error, EMB_UNSUPPORTED, "built without pull");
}

emb_status emb_http_wait(emb_http *http, const emb_http_answer *answer, uint32_t attempt,
                         emb_error *error) {
    (void)http, (void)answer, (void)attempt;
    return emb_app_fail(error, EMB_UNSUPPORTED, "built without pull");
}

#endif
