/* options.c - reads the arguments of a command into emb_options; knows which option goes where.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "fail.h"

#define RUNS  (EMB_CLI_ENCODE | EMB_CLI_SEARCH | EMB_CLI_EVAL | EMB_CLI_BENCH)
#define PLANS (RUNS | EMB_CLI_PLAN)
#define READS (EMB_CLI_ENCODE | EMB_CLI_TOKENIZE | EMB_CLI_BENCH)
#define ALL   (PLANS | EMB_CLI_TOKENIZE | EMB_CLI_INFO | EMB_CLI_MONITOR)

typedef enum option_id {
    OPT_INPUT,
    OPT_OUTPUT,
    OPT_INPUT_FORMAT,
    OPT_OUTPUT_FORMAT,
    OPT_WHOLE_FILE,
    OPT_FIELD,
    OPT_COLUMN,
    OPT_NO_HEADER,
    OPT_NO_QUOTES,
    OPT_MEMORY,
    OPT_GPU_MEMORY,
    OPT_DEVICE,
    OPT_DTYPE,
    OPT_THREADS,
    OPT_MAX_LENGTH,
    OPT_LONG,
    OPT_POOLING,
    OPT_NORMALIZE,
    OPT_NO_NORMALIZE,
    OPT_DIM,
    OPT_PROMPT,
    OPT_PROMPT_NAME,
    OPT_PROGRESS,
    OPT_STATS,
    OPT_JSON,
    OPT_QUIET,
    OPT_MACHINE,
    OPT_SAVE_MACHINE,
    OPT_NO_SPECIALS,
    OPT_INDEX,
    OPT_TEXTS,
    OPT_K,
    OPT_SCORE,
    OPT_COLUMNS,
    OPT_AGAINST,
    OPT_REPEAT,
    OPT_STATUS,
    OPT_INTERVAL,
    OPT_COUNT,
    OPT_HELP
} option_id;

typedef struct option_entry {
    const char *name;
    char letter;
    bool takes_value;
    option_id id;
    unsigned commands;
} option_entry;

static const option_entry table[] = {
    {"--input", 'i', true, OPT_INPUT, READS | EMB_CLI_EVAL},
    {"--output", 'o', true, OPT_OUTPUT, EMB_CLI_ENCODE | EMB_CLI_TOKENIZE},
    {"--input-format", 0, true, OPT_INPUT_FORMAT, READS | EMB_CLI_SEARCH},
    {"--output-format", 0, true, OPT_OUTPUT_FORMAT, EMB_CLI_ENCODE},
    {"--whole-file", 0, false, OPT_WHOLE_FILE, READS},
    {"--field", 0, true, OPT_FIELD, READS | EMB_CLI_SEARCH},
    {"--column", 0, true, OPT_COLUMN, READS | EMB_CLI_SEARCH},
    {"--no-header", 0, false, OPT_NO_HEADER, READS | EMB_CLI_SEARCH | EMB_CLI_EVAL},
    {"--no-quotes", 0, false, OPT_NO_QUOTES, READS | EMB_CLI_SEARCH | EMB_CLI_EVAL},
    {"--memory", 'm', true, OPT_MEMORY, PLANS},
    {"--gpu-memory", 0, true, OPT_GPU_MEMORY, PLANS},
    {"--device", 0, true, OPT_DEVICE, PLANS | EMB_CLI_INFO},
    {"--dtype", 0, true, OPT_DTYPE, PLANS},
    {"--threads", 't', true, OPT_THREADS, PLANS},
    {"--max-length", 0, true, OPT_MAX_LENGTH, PLANS},
    {"--chunk-tokens", 0, true, OPT_MAX_LENGTH, PLANS},
    {"--long", 0, true, OPT_LONG, PLANS},
    {"--pooling", 0, true, OPT_POOLING, PLANS},
    {"--normalize", 0, false, OPT_NORMALIZE, PLANS},
    {"--no-normalize", 0, false, OPT_NO_NORMALIZE, PLANS},
    {"--dim", 0, true, OPT_DIM, PLANS},
    {"--prompt", 0, true, OPT_PROMPT, RUNS | EMB_CLI_TOKENIZE},
    {"--prompt-name", 0, true, OPT_PROMPT_NAME, RUNS | EMB_CLI_TOKENIZE},
    {"--progress", 0, true, OPT_PROGRESS, RUNS},
    {"--stats", 0, true, OPT_STATS, RUNS},
    {"--json", 0, false, OPT_JSON, ALL},
    {"--quiet", 'q', false, OPT_QUIET, ALL},
    {"--machine", 0, true, OPT_MACHINE, EMB_CLI_PLAN},
    {"--save-machine", 0, true, OPT_SAVE_MACHINE, EMB_CLI_INFO},
    {"--no-specials", 0, false, OPT_NO_SPECIALS, EMB_CLI_TOKENIZE},
    {"--index", 0, true, OPT_INDEX, EMB_CLI_SEARCH},
    {"--texts", 0, true, OPT_TEXTS, EMB_CLI_SEARCH},
    {"--top", 'k', true, OPT_K, EMB_CLI_SEARCH},
    {"--score", 0, true, OPT_SCORE, EMB_CLI_SEARCH},
    {"--columns", 0, true, OPT_COLUMNS, EMB_CLI_EVAL},
    {"--against", 0, true, OPT_AGAINST, EMB_CLI_EVAL},
    {"--repeat", 0, true, OPT_REPEAT, EMB_CLI_BENCH},
    {"--status", 0, false, OPT_STATUS, EMB_CLI_ENCODE | EMB_CLI_EVAL | EMB_CLI_BENCH},
    {"--interval", 0, true, OPT_INTERVAL, EMB_CLI_MONITOR},
    {"--count", 0, true, OPT_COUNT, EMB_CLI_MONITOR},
    {"--help", 'h', false, OPT_HELP, ALL},
};

static const char *const dtypes[] = {"default", "f32", "bf16", "f16", "int8", "int4", "fp8"};
static const char *const poolings[] = {"model", "mean", "cls", "max"};
static const char *const long_rules[] = {"chunk", "truncate", "error"};
static const char *const progresses[] = {"auto", "always", "never"};
static const char *const inputs[] = {"auto", "txt", "whole", "jsonl", "csv", "tsv"};
static const char *const outputs[] = {"auto", "npy", "jsonl"};
static const char *const scores[] = {"cosine", "dot"};

#define COUNT(names) (sizeof(names) / sizeof(names)[0])

const char *emb_dtype_name(emb_dtype dtype) {
    return (size_t)dtype < COUNT(dtypes) ? dtypes[dtype] : "?";
}

const char *emb_pooling_name(emb_pooling pooling) {
    return (size_t)pooling < COUNT(poolings) ? poolings[pooling] : "?";
}

static emb_status refuse(const char *option, const char *value, const char *advice,
                         emb_error *error) {
    return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%s': %s", option, value, advice);
}

/* Position of a word in a list; `first` leaves out names that only the code uses. */
static emb_status choose(uint32_t *out, const char *option, const char *value,
                         const char *const *names, size_t count, size_t first, emb_error *error) {
    char list[128] = "use ";
    for (size_t i = first; i < count; i++) {
        if (strcmp(value, names[i]) == 0) {
            *out = (uint32_t)i;
            return EMB_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i > first ? ", " : "", names[i]);
    }
    return refuse(option, value, list, error);
}

static emb_status parse_number(uint32_t *out, const char *option, const char *value, uint32_t min,
                               uint32_t max, emb_error *error) {
    uint64_t number = 0;
    bool digits = *value != '\0';
    for (const char *at = value; *at && digits; at++) {
        digits = isdigit((unsigned char)*at) && number <= UINT32_MAX;
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (!digits || number < min || number > max) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%s': a whole number from %u to %u",
                            option, value, min, max);
    }
    *out = (uint32_t)number;
    return EMB_OK;
}

static emb_status parse_seconds(double *out, const char *option, const char *value,
                                emb_error *error) {
    char *end;
    double seconds = isdigit((unsigned char)*value) ? strtod(value, &end) : 0;
    if (seconds < 0.05 || seconds > 86400 || *end != '\0') {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%s': seconds, from 0.05 to 86400",
                            option, value);
    }
    *out = seconds;
    return EMB_OK;
}

/* One more number of cuda:N,N...; several GPUs share the work. */
static emb_status add_gpu(emb_options *options, const char *number, emb_error *error) {
    emb_device_list *list = &options->devices;
    uint32_t index = 0;
    EMB_APP_TRY(parse_number(&index, "--device cuda:", number, 0, 255, error));
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->indices[i] == index) {
            return refuse("--device", number, "state each GPU once", error);
        }
    }
    list->indices[list->count++] = index;
    options->limits.devices_max = list->count;
    return EMB_OK;
}

/* auto | cpu | cuda[:N,N...|:all]; plain cuda is the first GPU, and `info` looks at all */
static emb_status parse_device(emb_options *options, const char *value, emb_error *error) {
    emb_device_list *list = &options->devices;
    list->count = 0;
    list->kind = EMB_DEVICE_CUDA;
    if (strcmp(value, "auto") == 0) list->kind = EMB_DEVICE_AUTO;
    if (strcmp(value, "cpu") == 0) list->kind = EMB_DEVICE_CPU;
    options->limits.device = list->kind;
    options->limits.devices_max = strcmp(value, "cuda:all") == 0 ? EMB_DEVICES_MAX : 1;
    bool named = list->kind != EMB_DEVICE_CUDA;
    if (named || strcmp(value, "cuda") == 0 || strcmp(value, "cuda:all") == 0) return EMB_OK;
    const char *advice = "use auto, cpu, cuda, cuda:N, cuda:N,N or cuda:all";
    if (strncmp(value, "cuda:", 5) != 0) return refuse("--device", value, advice, error);
    for (const char *at = value + 5;; at++) {
        char number[8];
        size_t length = strcspn(at, ",");
        if (length == 0 || length >= sizeof number || list->count == EMB_DEVICES_MAX) {
            return refuse("--device", value, advice, error);
        }
        memcpy(number, at, length);
        number[length] = '\0';
        EMB_APP_TRY(add_gpu(options, number, error));
        at += length;
        if (*at == '\0') return EMB_OK;
    }
}

static emb_status set_input(emb_options *options, const char *value, emb_error *error) {
    for (uint32_t i = 0; i < options->inputs_count; i++) {
        if (strcmp(value, "-") == 0 && strcmp(options->inputs[i], "-") == 0) {
            return refuse("-i", value, "standard input can be read once only", error);
        }
    }
    if (options->inputs_count == EMB_CLI_INPUTS_MAX) {
        return refuse("-i", value, "more than 1024 files; join them, or use -i -", error);
    }
    options->inputs[options->inputs_count++] = value;
    return EMB_OK;
}

static emb_status set_dtype(emb_options *options, const char *value, emb_error *error) {
    options->dtype_auto = strcmp(value, "auto") == 0;
    if (options->dtype_auto) return EMB_OK;
    uint32_t chosen = 0;
    if (choose(&chosen, "--dtype", value, dtypes, COUNT(dtypes), 1, error) != EMB_OK) {
        return refuse("--dtype", value, "use f32, bf16, f16, int8, int4, fp8 or auto", error);
    }
    options->limits.dtype = (emb_dtype)chosen;
    return EMB_OK;
}

static emb_status set_long(emb_options *options, const char *value, emb_error *error) {
    if (strcmp(value, "late") == 0) {
        return refuse("--long", value, "late chunking is not done yet; use chunk", error);
    }
    uint32_t chosen = 0;
    EMB_APP_TRY(choose(&chosen, "--long", value, long_rules, COUNT(long_rules), 0, error));
    options->limits.long_rule = (emb_long_rule)chosen;
    return EMB_OK;
}

/* Options that say where texts come from and where results go. */
static emb_status set_path_option(emb_options *options, option_id id, const char *value) {
    switch (id) {
    case OPT_FIELD:
        options->source.field = value;
        break;
    case OPT_COLUMN:
        options->source.column = value;
        break;
    case OPT_NO_HEADER:
        options->source.no_header = true;
        break;
    case OPT_NO_QUOTES:
        options->source.no_quotes = true;
        break;
    case OPT_WHOLE_FILE:
        options->source.format = EMB_SOURCE_WHOLE;
        break;
    case OPT_PROMPT:
        options->source.prompt = value;
        break;
    case OPT_PROMPT_NAME:
        options->prompt_name = value;
        break;
    case OPT_STATS:
        options->stats_path = value;
        break;
    case OPT_MACHINE:
        options->machine_path = value;
        break;
    case OPT_SAVE_MACHINE:
        options->save_machine_path = value;
        break;
    case OPT_INDEX:
        options->index_path = value;
        break;
    case OPT_TEXTS:
        options->texts_path = value;
        break;
    case OPT_COLUMNS:
        options->columns = value;
        break;
    case OPT_AGAINST:
        options->against = value;
        break;
    case OPT_JSON:
        options->json = true;
        break;
    case OPT_QUIET:
        options->quiet = true;
        break;
    case OPT_NO_SPECIALS:
        options->no_specials = true;
        break;
    case OPT_STATUS:
        options->status = true;
        break;
    case OPT_NORMALIZE:
        options->limits.normalize = EMB_SWITCH_ON;
        break;
    case OPT_NO_NORMALIZE:
        options->limits.normalize = EMB_SWITCH_OFF;
        break;
    default:
        return EMB_INTERNAL;
    }
    return EMB_OK;
}

static emb_status set_option(emb_options *options, const option_entry *which, const char *value,
                             emb_error *error) {
    const char *name = which->name;
    emb_limits *limits = &options->limits;
    uint32_t chosen = 0;
    switch (which->id) {
    case OPT_INPUT:
        return set_input(options, value, error);
    case OPT_OUTPUT:
        if (options->output) return refuse("-o", value, "one output only", error);
        options->output = value;
        return EMB_OK;
    case OPT_MEMORY:
        return emb_size_parse(&limits->host_bytes_max, value, name, error);
    case OPT_GPU_MEMORY:
        return emb_size_parse(&limits->device_bytes_max, value, name, error);
    case OPT_DEVICE:
        return parse_device(options, value, error);
    case OPT_DTYPE:
        return set_dtype(options, value, error);
    case OPT_LONG:
        return set_long(options, value, error);
    case OPT_THREADS:
        return parse_number(&limits->threads, name, value, 1, 1024, error);
    case OPT_DIM:
        return parse_number(&limits->dim, name, value, 1, 65536, error);
    case OPT_K:
        return parse_number(&options->k, name, value, 1, EMB_CLI_K_MAX, error);
    case OPT_REPEAT:
        return parse_number(&options->repeat, name, value, 1, 1000000, error);
    case OPT_INTERVAL:
        return parse_seconds(&options->interval, name, value, error);
    case OPT_COUNT:
        return parse_number(&options->reports_max, name, value, 1, UINT32_MAX, error);
    case OPT_MAX_LENGTH:
        return parse_number(&limits->chunk_tokens_max, name, value, 1, 1u << 20, error);
    case OPT_POOLING:
        EMB_APP_TRY(choose(&chosen, name, value, poolings, COUNT(poolings), 1, error));
        limits->pooling = (emb_pooling)chosen;
        return EMB_OK;
    case OPT_INPUT_FORMAT:
        EMB_APP_TRY(choose(&chosen, name, value, inputs, COUNT(inputs), 1, error));
        options->source.format = (emb_source_format)chosen;
        return EMB_OK;
    case OPT_OUTPUT_FORMAT:
        EMB_APP_TRY(choose(&chosen, name, value, outputs, COUNT(outputs), 1, error));
        options->output_format = (emb_sink_format)chosen;
        return EMB_OK;
    case OPT_PROGRESS:
        EMB_APP_TRY(choose(&chosen, name, value, progresses, COUNT(progresses), 0, error));
        options->progress = (emb_cli_progress)chosen;
        return EMB_OK;
    case OPT_SCORE:
        EMB_APP_TRY(choose(&chosen, name, value, scores, COUNT(scores), 0, error));
        options->score_dot = chosen == 1;
        return EMB_OK;
    default:
        return set_path_option(options, which->id, value);
    }
}

/* Finds --name, --name=value, -x or -xvalue. `attached` is the value in the same word, or NULL. */
static const option_entry *find_option(const char *word, const char **attached) {
    *attached = NULL;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t length = strlen(table[i].name);
        if (strncmp(word, table[i].name, length) == 0 &&
            (word[length] == '\0' || word[length] == '=')) {
            if (word[length] == '=') *attached = word + length + 1;
            return &table[i];
        }
        if (table[i].letter && word[1] == table[i].letter) {
            if (word[2]) *attached = word + 2;
            return &table[i];
        }
    }
    return NULL;
}

static emb_status take_word(emb_options *options, const char *word, emb_error *error) {
    if (options->command == EMB_CLI_MONITOR) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%s': monitor shows every GPU and engine; it takes options alone",
                            word);
    }
    if (!options->model) {
        options->model = word;
        return EMB_OK;
    }
    bool words = (options->command & (EMB_CLI_SEARCH | EMB_CLI_EVAL)) != 0;
    if (!words) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%s': only MODEL stands without an option here; input files go after "
                            "-i",
                            word);
    }
    if (options->words_count == EMB_CLI_QUERIES_MAX) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "more than %d queries; ask in two runs",
                            EMB_CLI_QUERIES_MAX);
    }
    options->words[options->words_count++] = word;
    return EMB_OK;
}

/* Reads the option at arguments[at] and gives how many words it took. */
static emb_status take_option(emb_options *options, int *at, int count, char **arguments,
                              bool *help, emb_error *error) {
    const char *word = arguments[*at], *value;
    const option_entry *which = find_option(word, &value);
    if (!which) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "'%s' is not an option; see embound COMMAND --help", word);
    }
    *help = which->id == OPT_HELP;
    if (*help) return EMB_OK;
    if (!(which->commands & options->command)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s has no meaning for this command; see its --help", which->name);
    }
    if (!which->takes_value && value) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s takes no value", which->name);
    }
    if (which->takes_value && !value) {
        if (*at + 1 == count) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: a value is missing", which->name);
        }
        value = arguments[++*at];
    }
    if (which->takes_value && *value == '\0' && which->id != OPT_PROMPT) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: the value is empty", which->name);
    }
    return set_option(options, which, value, error);
}

emb_cli_parse emb_options_parse(emb_options *options, emb_cli_command command, int count,
                                char **arguments, emb_error *error) {
    memset(options, 0, sizeof *options);
    options->command = command;
    options->limits = emb_limits_default();
    options->devices.struct_bytes = sizeof options->devices;
    options->k = 3;
    options->interval = 1;
    bool only_words = false;
    for (int at = 0; at < count; at++) {
        const char *word = arguments[at];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
        } else if (only_words || word[0] != '-' || word[1] == '\0') {
            if (take_word(options, word, error) != EMB_OK) return EMB_CLI_BAD;
        } else {
            bool help = false;
            emb_status status = take_option(options, &at, count, arguments, &help, error);
            if (help) return EMB_CLI_HELP;
            if (status != EMB_OK) return EMB_CLI_BAD;
        }
    }
    if (!options->model && !(command & (EMB_CLI_INFO | EMB_CLI_MONITOR))) {
        emb_app_fail(error, EMB_INVALID_ARGUMENT, "MODEL is missing: name a model directory");
        return EMB_CLI_BAD;
    }
    return EMB_CLI_RUN;
}
