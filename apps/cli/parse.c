/* options.c - reads the arguments of a command into emb_options, as option_list.c says.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/option_list.h"
#include "cli/suggest.h"
#include "common/size.h"
#include "fail.h"

/* Spellings that Python accepts too. */
static const struct {
    const char *spelling, *name;
} dtype_spellings[] = {
    {"float32", "f32"}, {"fp32", "f32"}, {"float", "f32"}, {"bfloat16", "bf16"},
    {"float16", "f16"}, {"fp16", "f16"}, {"half", "f16"},
};

#define COUNT(names) (sizeof(names) / sizeof(names)[0])

_Static_assert(sizeof(emb_pooling) == sizeof(uint32_t), "set_option stores enums as numbers");

static emb_status refuse(const char *option, const char *value, const char *advice,
                         emb_error *error) {
    return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%s': %s", option, value, advice);
}

/* Place of a value in a list of words with blanks between. */
static emb_status choose(uint32_t *out, const char *option, const char *value, const char *words,
                         emb_error *error) {
    char list[128] = "use ";
    size_t length = strlen(value), used = 4;
    uint32_t place = 0;
    for (const char *word = words; *word; place++) {
        size_t width = strcspn(word, " ");
        if (width == length && memcmp(word, value, length) == 0) {
            *out = place;
            return EMB_OK;
        }
        int wrote = snprintf(list + used, sizeof list - used, "%s%.*s", place ? ", " : "",
                             (int)width, word);
        used = used + (size_t)wrote < sizeof list ? used + (size_t)wrote : sizeof list - 1;
        word += width + (word[width] == ' ');
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

static emb_status parse_real(double *out, const char *option, const char *value, uint32_t max,
                             emb_error *error) {
    char *end = NULL;
    bool begins = isdigit((unsigned char)*value) || *value == '.';
    double number = begins ? strtod(value, &end) : -1;
    if (!begins || *end != '\0' || !(number >= 0 && number <= max)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s '%s': a number from 0 to %u", option,
                            value, max);
    }
    *out = number;
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
static emb_status add_gpu(emb_options *options, const char *option, const char *number,
                          emb_error *error) {
    emb_device_list *list = &options->settings.devices;
    uint32_t index = 0;
    EMB_APP_TRY(parse_number(&index, "--device cuda:", number, 0, 255, error));
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->indices[i] == index) {
            return refuse(option, number, "state each GPU once", error);
        }
    }
    list->indices[list->count++] = index;
    options->settings.limits.devices_max = list->count;
    return EMB_OK;
}

/* auto | cpu | cuda[:N,N...|:all]; plain cuda is the first GPU, and `info` looks at all */
static emb_status parse_device(emb_options *options, const char *option, const char *value,
                               emb_error *error) {
    emb_device_list *list = &options->settings.devices;
    list->count = 0;
    list->kind = EMB_DEVICE_CUDA;
    if (strcmp(value, "auto") == 0) list->kind = EMB_DEVICE_AUTO;
    if (strcmp(value, "cpu") == 0) list->kind = EMB_DEVICE_CPU;
    options->settings.limits.device = list->kind;
    options->settings.limits.devices_max = strcmp(value, "cuda:all") == 0 ? EMB_DEVICES_MAX : 1;
    bool named = list->kind != EMB_DEVICE_CUDA;
    if (named || strcmp(value, "cuda") == 0 || strcmp(value, "cuda:all") == 0) return EMB_OK;
    const char *advice = "use auto, cpu, cuda, cuda:N, cuda:N,N or cuda:all";
    if (strncmp(value, "cuda:", 5) != 0) return refuse(option, value, advice, error);
    for (const char *at = value + 5;; at++) {
        char number[8];
        size_t length = strcspn(at, ",");
        if (length == 0 || length >= sizeof number || list->count == EMB_DEVICES_MAX) {
            return refuse(option, value, advice, error);
        }
        memcpy(number, at, length);
        number[length] = '\0';
        EMB_APP_TRY(add_gpu(options, option, number, error));
        at += length;
        if (*at == '\0') return EMB_OK;
    }
}

/* EMB_DEVICE, for programs and scripts that do not state a device. `info` reports it, valid or
 * not. */
static emb_status default_device(emb_options *options, emb_error *error) {
    const char *value = getenv("EMB_DEVICE");
    const emb_option_entry *entry = emb_option_list;
    while (entry->kind != EMB_OPTION_DEVICE || !(entry->commands & options->command))
        if (++entry == emb_option_list + emb_option_list_count) return EMB_OK; /* it has none */
    emb_session_settings *settings = &options->settings;
    if (settings->device_stated || !value || !*value) return EMB_OK;
    emb_status status = parse_device(options, "EMB_DEVICE", value, error);
    if (status == EMB_OK && settings->devices.kind != EMB_DEVICE_AUTO)
        snprintf(settings->device_by, sizeof settings->device_by, "EMB_DEVICE=%s", value);
    if (status == EMB_OK || options->command != EMB_CLI_INFO) return status;
    snprintf(options->device_problem, sizeof options->device_problem, "%s", error->message);
    return parse_device(options, "EMB_DEVICE", "auto", error);
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

static emb_status set_dtype(emb_options *options, const emb_option_entry *which, const char *value,
                            emb_error *error) {
    uint32_t chosen = 0;
    for (size_t i = 0; i < COUNT(dtype_spellings); i++) {
        if (strcmp(value, dtype_spellings[i].spelling) == 0) value = dtype_spellings[i].name;
    }
    EMB_APP_TRY(choose(&chosen, which->name, value, which->words, error));
    options->settings.dtype_auto = strcmp(value, "auto") == 0;
    if (!options->settings.dtype_auto)
        options->settings.limits.dtype = (emb_dtype)(chosen + EMB_DTYPE_F32);
    return EMB_OK;
}

static emb_status set_delimiter(emb_options *options, const char *value, emb_error *error) {
    bool tab = strcmp(value, "tab") == 0 || strcmp(value, "\\t") == 0;
    if (!tab && (value[1] != '\0' || strchr("\"\r\n", value[0]))) {
        return refuse("--delimiter", value, "one character of ASCII, no quote, or: tab", error);
    }
    options->source.delimiter = tab ? '\t' : value[0];
    return EMB_OK;
}

static emb_status set_long(emb_options *options, const emb_option_entry *which, const char *value,
                           emb_error *error) {
    if (strcmp(value, "late") == 0) {
        return refuse(which->name, value, "late chunking is not done yet; use chunk", error);
    }
    uint32_t chosen = 0;
    EMB_APP_TRY(choose(&chosen, which->name, value, which->words, error));
    options->settings.limits.long_rule = (emb_long_rule)chosen;
    return EMB_OK;
}

/* Options that need more than storing their value. */
static emb_status set_special(emb_options *options, const emb_option_entry *which,
                              const char *value, emb_error *error) {
    switch (which->kind) {
    case EMB_OPTION_INPUT:
        return set_input(options, value, error);
    case EMB_OPTION_OUTPUT:
        if (options->output) return refuse("-o", value, "one output only", error);
        options->output = value;
        return EMB_OK;
    case EMB_OPTION_DEVICE:
        options->settings.device_stated = true;
        return parse_device(options, which->name, value, error);
    case EMB_OPTION_DTYPE:
        return set_dtype(options, which, value, error);
    case EMB_OPTION_DELIMITER:
        return set_delimiter(options, value, error);
    case EMB_OPTION_LONG:
        return set_long(options, which, value, error);
    case EMB_OPTION_SECONDS:
        return parse_seconds(&options->interval, which->name, value, error);
    default:
        return emb_app_fail(error, EMB_INTERNAL, "%s: nothing reads it", which->name);
    }
}

static emb_status set_option(emb_options *options, const emb_option_entry *which, const char *value,
                             emb_error *error) {
    const char *name = which->name;
    void *place = (char *)options + which->offset;
    uint32_t number = which->min;
    uint64_t bytes = 0;
    switch (which->kind) {
    case EMB_OPTION_FLAG:
        *(bool *)place = true;
        return EMB_OK;
    case EMB_OPTION_TEXT:
        memcpy(place, &value, sizeof value);
        return EMB_OK;
    case EMB_OPTION_SIZE:
        EMB_APP_TRY(emb_size_parse(&bytes, value, name, error));
        memcpy(place, &bytes, sizeof bytes);
        return EMB_OK;
    case EMB_OPTION_REAL:
        return parse_real(place, name, value, which->max, error);
    case EMB_OPTION_NUMBER:
        EMB_APP_TRY(parse_number(&number, name, value, which->min, which->max, error));
        break;
    case EMB_OPTION_CHOICE:
        EMB_APP_TRY(choose(&number, name, value, which->words, error));
        number += which->min;
        break;
    case EMB_OPTION_CONSTANT:
        break;
    default:
        return set_special(options, which, value, error);
    }
    memcpy(place, &number, sizeof number); /* an enum is as wide: asserted above */
    return EMB_OK;
}

/* --name, --name=value, -x or -xvalue; `attached` is the value in the same word, or NULL. */
static bool is_option(const emb_option_entry *entry, const char *word, const char **attached) {
    size_t length = strlen(entry->name);
    *attached = NULL;
    if (strncmp(word, entry->name, length) == 0 && (word[length] == '\0' || word[length] == '=')) {
        if (word[length] == '=') *attached = word + length + 1;
        return true;
    }
    if (!entry->letter || word[1] != entry->letter) return false;
    if (word[2]) *attached = word + 2;
    return true;
}

/* The entry for this command; else one for another, so that the message can say so. */
static const emb_option_entry *find_option(const char *word, unsigned command,
                                           const char **attached) {
    const emb_option_entry *other = NULL;
    for (size_t i = 0; i < emb_option_list_count; i++) {
        const emb_option_entry *entry = &emb_option_list[i];
        if (!is_option(entry, word, attached)) continue;
        if (entry->commands & command) return entry;
        other = entry;
    }
    return other;
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
    const emb_option_entry *which = find_option(word, options->command, &value);
    if (!which) return emb_suggest_option(word, options->command, error);
    *help = which->kind == EMB_OPTION_HELP;
    if (*help) return EMB_OK;
    if (!(which->commands & options->command)) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s has no meaning for this command; see embound %s --help",
                            which->name, emb_suggest_command_name(options->command));
    }
    if (!which->value && value) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s takes no value", which->name);
    }
    if (which->value && !value) {
        if (*at + 1 == count) {
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: a value is missing", which->name);
        }
        value = arguments[++*at];
    }
    if (which->value && *value == '\0' && !which->may_be_empty) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%s: the value is empty", which->name);
    }
    return set_option(options, which, value, error);
}

emb_cli_parse emb_options_parse(emb_options *options, emb_cli_command command, int count,
                                char **arguments, emb_error *error) {
    memset(options, 0, sizeof *options);
    options->command = command;
    options->settings.limits = emb_limits_default();
    options->settings.devices.struct_bytes = sizeof options->settings.devices;
    options->k = 3;
    options->interval = 1;
    options->train.batch_size = 32;
    options->train.scale = options->train.margin = options->train.dropout = -1;
    options->train.lora_alpha = -1;
    options->train.learning_rate = 2e-5;
    options->train.max_grad_norm = 1;
    options->train.layer_decay = 1;
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
    if (default_device(options, error) != EMB_OK) return EMB_CLI_BAD;
    if (!options->model && !(command & (EMB_CLI_INFO | EMB_CLI_MONITOR))) {
        emb_app_fail(error, EMB_INVALID_ARGUMENT, "MODEL is missing: name a model directory");
        return EMB_CLI_BAD;
    }
    return EMB_CLI_RUN;
}
