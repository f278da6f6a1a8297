/* suggest.c - options of other programs and their equivalents here; else the nearest name.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/suggest.h"

#include <ctype.h>
#include <string.h>

#include "cli/command.h"
#include "cli/option_list.h"
#include "fail.h"

#define NAME_MAX_BYTES 32

/* Names without dashes before them, blanks between. */
static const struct {
    const char *names, *advice;
} elsewhere[] = {
    {"batch-size batch per-device-batch-size batch-tokens",
     "there is no batch size: the plan decides how many tokens go through together; see --memory"},
    {"mem max-memory memory-limit ram budget", "the budget is stated with --memory"},
    {"gpu-mem vram max-gpu-memory gpu-memory-utilization", "use --gpu-memory"},
    {"model model-name model-path model-id model-name-or-path",
     "MODEL is the word after the command, without an option"},
    {"max-seq-length max-seq-len max-tokens ctx-size context-length", "use --max-length"},
    {"fp16 float16 half f16", "use --dtype f16"},
    {"bf16 bfloat16", "use --dtype bf16"},
    {"int8 load-in-8bit", "use --dtype int8"},
    {"int4 load-in-4bit", "use --dtype int4"},
    {"precision torch-dtype quantization", "use --dtype"},
    {"gpu cuda", "use --device cuda"},
    {"gpus", "use --device cuda:all, or cuda:0,1"},
    {"cpu", "use --device cpu"},
    {"truncate truncation", "use --long truncate"},
    {"truncate-dim dimensions dims", "use --dim"},
    {"normalize-embeddings normalise", "use --normalize"},
    {"workers num-workers jobs num-threads nproc", "use --threads"},
    {"out output-file output-path", "use --output"},
    {"in file files input-file", "use --input"},
    {"format", "use --input-format or --output-format"},
    {"sep separator", "use --delimiter"},
    {"text-column text-field", "use --column for csv and tsv, --field for jsonl"},
    {"encoding", "input is UTF-8; of others make that with iconv"},
    {"show-progress-bar progress-bar", "use --progress"},
    {"top-k limit", "use --top"},
    {"query", "queries stand after MODEL, without an option"},
    {"verbose", "use --stats FILE"},
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

/* Lower case, dashes for underscores, nothing from '=' on. */
static void plain_name(char out[NAME_MAX_BYTES], const char *word) {
    size_t length = 0;
    for (; word[length] && word[length] != '=' && length + 1 < NAME_MAX_BYTES; length++)
        out[length] = (char)(word[length] == '_' ? '-' : tolower((unsigned char)word[length]));
    out[length] = '\0';
}

static bool has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += length) {
        bool begins = at == words || at[-1] == ' ';
        if (begins && (at[length] == ' ' || at[length] == '\0')) return true;
    }
    return false;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* The edit distance (insertions, deletions, substitutions, transpositions) between two names. */
static uint32_t distance(const char *a, const char *b) {
    uint32_t rows[3][NAME_MAX_BYTES + 1], length = (uint32_t)strlen(b);
    uint32_t *before = rows[0], *last = rows[1], *row = rows[2];
    if (length > NAME_MAX_BYTES) return UINT32_MAX;
    for (uint32_t j = 0; j <= length; j++) last[j] = before[j] = j;
    for (uint32_t i = 0; a[i]; i++) {
        row[0] = i + 1;
        for (uint32_t j = 0; j < length; j++) {
            row[j + 1] = least(least(row[j], last[j + 1]) + 1, last[j] + (a[i] != b[j]));
            bool swapped = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
            if (swapped) row[j + 1] = least(row[j + 1], before[j - 1] + 1);
        }
        uint32_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[length];
}

/* Whether `name` is nearer to `wanted` than `best`, and near enough. A prefix counts as nearest. */
static bool is_nearer(const char *wanted, const char *name, uint32_t *best) {
    size_t length = strlen(wanted);
    bool begins = length >= 3 && strncmp(name, wanted, length) == 0;
    uint32_t found = begins ? 0 : distance(wanted, name);
    if (found >= *best || found > (length < 6 ? 1 : length < 10 ? 2 : 3)) return false;
    *best = found;
    return true;
}

const char *emb_suggest_command_name(emb_cli_command command) {
    for (size_t i = 0; i < emb_command_list_count; i++) {
        if (emb_command_list[i].id == command) return emb_command_list[i].name;
    }
    return "COMMAND";
}

const char *emb_suggest_command(const char *name) {
    char wanted[NAME_MAX_BYTES];
    const char *nearest = NULL;
    uint32_t best = UINT32_MAX;
    plain_name(wanted, name);
    for (size_t i = 0; i < emb_command_list_count; i++) {
        if (is_nearer(wanted, emb_command_list[i].name, &best)) nearest = emb_command_list[i].name;
    }
    return nearest;
}

static const char *nearest_option(const char *wanted, emb_cli_command command) {
    const char *nearest = NULL;
    uint32_t best = UINT32_MAX;
    for (size_t i = 0; i < emb_option_list_count; i++) {
        const emb_option_entry *entry = &emb_option_list[i];
        if (!(entry->commands & command)) continue;
        if (is_nearer(wanted, entry->name + 2, &best)) nearest = entry->name;
    }
    return nearest;
}

emb_status emb_suggest_option(const char *word, emb_cli_command command, emb_error *error) {
    char wanted[NAME_MAX_BYTES];
    const char *name = emb_suggest_command_name(command), *nearest = NULL;
    bool is_long = word[0] == '-' && word[1] == '-';
    plain_name(wanted, word + (is_long ? 2 : 0));
    for (size_t i = 0; is_long && *wanted && i < COUNT(elsewhere); i++) {
        if (!has_word(elsewhere[i].names, wanted)) continue;
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%.*s' is not an option: %s (embound %s --help lists all)",
                            EMB_APP_CUT(word, 40), elsewhere[i].advice, name);
    }
    if (is_long) nearest = nearest_option(wanted, command);
    if (nearest) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%.*s' is not an option; did you mean %s? See embound %s --help",
                            EMB_APP_CUT(word, 60), nearest, name);
    }
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "'%.*s' is not an option; see embound %s --help", EMB_APP_CUT(word, 100),
                        name);
}
