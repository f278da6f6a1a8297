/* settings.c - reads the environment variables of the hub, and the token's file.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fail.h"
#include "hub/hub.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define DEFAULT_SECONDS  10

static const char *value_of(const char *variable) {
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

bool emb_hub_is_set(const char *variable) {
    static const char *const words[] = {"1", "on", "yes", "true"};
    const char *value = value_of(variable);
    for (size_t i = 0; value && i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(value, words[i]) == 0) return true;
    }
    return false;
}

bool emb_hub_wants_silence(void) {
    return emb_hub_is_set("HF_HUB_DISABLE_PROGRESS_BARS");
}

/* `value` and `below`, with HOME for a ~ at the front. */
static bool expand(char *out, const char *value, const char *below) {
    const char *home = "";
    if (value[0] == '~' && (value[1] == '/' || value[1] == '\0')) {
        home = value_of("HOME");
        if (!home) return false;
        value++;
    }
    return snprintf(out, PATH_MAX, "%s%s%s", home, value, below) < PATH_MAX;
}

/* Below HF_HOME, or where that is by default. */
static bool home_path(char *out, const char *below) {
    const char *home = value_of("HF_HOME"), *cache = value_of("XDG_CACHE_HOME");
    if (home) return expand(out, home, below);
    char folder[PATH_MAX];
    if (!expand(folder, cache ? cache : "~/.cache", "/huggingface")) return false;
    return expand(out, folder, below);
}

bool emb_hub_cache_path(char *out) {
    const char *cache = value_of("HF_HUB_CACHE");
    if (!cache) cache = value_of("HUGGINGFACE_HUB_CACHE");
    return cache ? expand(out, cache, "") : home_path(out, "/hub");
}

/* The first line of the token's file, if there is one. */
static void read_token_file(char *out, size_t capacity) {
    char path[PATH_MAX];
    const char *stated = value_of("HF_TOKEN_PATH");
    if (!(stated ? expand(path, stated, "") : home_path(path, "/token"))) return;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return;
    ssize_t length = read(descriptor, out, capacity - 1);
    close(descriptor);
    out[length > 0 ? length : 0] = '\0';
}

static emb_status read_token(emb_hub_settings *out, emb_error *error) {
    const char *token = value_of("HF_TOKEN");
    if (!token) token = value_of("HUGGING_FACE_HUB_TOKEN");
    if (emb_hub_is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return EMB_OK;
    if (token)
        snprintf(out->token, sizeof out->token, "%s", token);
    else
        read_token_file(out->token, sizeof out->token);
    char *begin = out->token + strspn(out->token, " \t\r\n");
    size_t length = strcspn(begin, " \t\r\n");
    bool ends = begin[length + strspn(begin + length, " \t\r\n")] == '\0';
    if (!ends || (token && strlen(token) >= sizeof out->token)) {
        out->token[0] = '\0';
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s holds something else than one token: log in anew, or unset it",
                            token ? "HF_TOKEN" : "the file of the hub's token");
    }
    memmove(out->token, begin, length);
    out->token[length] = '\0';
    return EMB_OK;
}

static uint32_t seconds_of(const char *variable) {
    const char *value = value_of(variable);
    long seconds = value ? strtol(value, NULL, 10) : 0;
    return seconds > 0 && seconds < 86400 ? (uint32_t)seconds : DEFAULT_SECONDS;
}

emb_status emb_hub_settings_read(emb_hub_settings *out, emb_error *error) {
    memset(out, 0, sizeof *out);
    if (!emb_hub_cache_path(out->cache)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "there is no place for the hub cache: set HF_HUB_CACHE to a folder");
    }
    const char *endpoint = value_of("HF_ENDPOINT");
    if (!endpoint) endpoint = DEFAULT_ENDPOINT;
    size_t length = strlen(endpoint);
    while (length && endpoint[length - 1] == '/') length--;
    bool web = strncmp(endpoint, "https://", 8) == 0 || strncmp(endpoint, "http://", 7) == 0;
    if (!web || length >= sizeof out->endpoint) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "HF_ENDPOINT '%.*s': an address that begins with https://",
                            EMB_APP_CUT(endpoint, 100));
    }
    memcpy(out->endpoint, endpoint, length);
    out->authorities = value_of("SSL_CERT_FILE");
    if (!out->authorities) out->authorities = value_of("REQUESTS_CA_BUNDLE");
    if (!out->authorities) out->authorities = value_of("CURL_CA_BUNDLE");
    out->offline = emb_hub_is_set("HF_HUB_OFFLINE") || emb_hub_is_set("TRANSFORMERS_OFFLINE");
    out->copies = emb_hub_is_set("HF_HUB_DISABLE_SYMLINKS");
    out->ask_seconds = seconds_of("HF_HUB_ETAG_TIMEOUT");
    out->data_seconds = seconds_of("HF_HUB_DOWNLOAD_TIMEOUT");
    return read_token(out, error);
}
