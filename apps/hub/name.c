/* name.c - checks names of models, revisions and files before they become URLs and paths.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "hub/name.h"

#include <ctype.h>
#include <string.h>

#include "fail.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"
#define PLAIN   LETTERS DIGITS "._-"

#define NAME_MAX_BYTES 96 /* the hub's own limit, for each part */

/* One part of a repository's name: no "--", which separates parts in the cache, and no "..". */
static bool is_part(const char *text, size_t length) {
    if (length == 0 || length > NAME_MAX_BYTES || strspn(text, PLAIN) < length) return false;
    if (strchr("-.", text[0]) || strchr("-.", text[length - 1])) return false;
    for (size_t i = 1; i < length; i++) {
        if (text[i] == text[i - 1] && (text[i] == '-' || text[i] == '.')) return false;
    }
    return true;
}

static bool is_repo(const char *text) {
    size_t first = strcspn(text, "/");
    if (!is_part(text, first)) return false;
    return text[first] == '\0' || is_part(text + first + 1, strlen(text + first + 1));
}

/* Like "main", "v1.0", "refs/pr/3": a path of plain names that does not climb. */
static bool is_revision(const char *text) {
    if (strspn(text, PLAIN "/+@") < strlen(text)) return false;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, "/");
        if (length == 0 || at[0] == '.' || at[0] == '-') return false;
        at += length;
        if (*at == '\0') return true;
    }
}

emb_status emb_hub_name_parse(emb_hub_name *out, const char *text, const char *revision,
                              emb_error *error) {
    size_t length = strcspn(text, "@");
    const char *after = text[length] ? text + length + 1 : NULL;
    if (!revision) revision = after ? after : "main";
    snprintf(out->repo, sizeof out->repo, "%.*s", (int)length, text);
    if (length >= sizeof out->repo || !is_repo(out->repo)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%.*s' is not the name of a model on the hub, as "
                            "sentence-transformers/all-MiniLM-L6-v2",
                            EMB_APP_CUT(text, 100));
    }
    if (strlen(revision) >= sizeof out->revision || !is_revision(revision)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%.*s' is not the name of a revision: state a branch, a tag or a "
                            "commit",
                            EMB_APP_CUT(revision, 60));
    }
    snprintf(out->revision, sizeof out->revision, "%s", revision);
    return EMB_OK;
}

bool emb_hub_is_commit(const char *revision) {
    return strlen(revision) == 40 && strspn(revision, "0123456789abcdef") == 40;
}

/* model-00001-of-00003.safetensors */
static bool is_shard(const char *name) {
    static const char pattern[] = "model-#####-of-#####.safetensors";
    if (strlen(name) != sizeof pattern - 1) return false;
    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        bool same = pattern[i] == '#' ? isdigit((unsigned char)name[i]) : name[i] == pattern[i];
        if (!same) return false;
    }
    return true;
}

bool emb_hub_wants_file(const char *path) {
    static const char *const names[] = {"config.json",
                                        "config_sentence_transformers.json",
                                        "modules.json",
                                        "sentence_bert_config.json",
                                        "sentence_roberta_config.json",
                                        "sentence_distilbert_config.json",
                                        "sentence_camembert_config.json",
                                        "sentence_albert_config.json",
                                        "sentence_xlm-roberta_config.json",
                                        "sentence_xlnet_config.json",
                                        "adapter_config.json", /* so that they are refused */
                                        "chat_template.jinja",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.txt",
                                        "vocab.json",
                                        "merges.txt",
                                        "model.safetensors",
                                        "model.safetensors.index.json"};
    if (strlen(path) > 200 || strspn(path, PLAIN "/") < strlen(path)) return false;
    const char *name = path, *slash = strchr(path, '/');
    if (slash) { /* of a module: 1_Pooling/config.json */
        size_t digits = strspn(path, DIGITS);
        if (digits == 0 || path[digits] != '_') return false;
        name = slash + 1;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return is_shard(name);
}
