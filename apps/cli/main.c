/* main.c - `embound COMMAND MODEL [options]`: finds the command and runs it.
 *
 * The machine is measured before anything else uses memory, so that the process base is exact.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/external.h"
#include "cli/help.h"
#include "cli/info.h"
#include "cli/parse.h"
#include "cli/paths.h"
#include "cli/print.h"
#include "cli/suggest.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"

#define STACK_BYTES_MIN (1u << 20)

/* Programs of their own, and what is planned but not there yet. */
static const char *const programs[] = {"serve"};

static const emb_command_entry *find_command(const char *name) {
    for (size_t i = 0; i < emb_command_list_count; i++) {
        if (strcmp(emb_command_list[i].name, name) == 0) return &emb_command_list[i];
    }
    return NULL;
}

/* If one of 0, 1, 2 is closed, the next file opened would take its place, and messages would be
 * written into it. What stands in for it refuses to be read or written, so that the loss is seen.
 */
static void hold_standard_descriptors(void) {
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
        (void)!open("/dev/null", descriptor == 1 ? O_RDONLY : O_WRONLY);
    }
}

static int run_other(const char *name, char **arguments) {
    emb_cli_run_external(name, arguments);
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (strcmp(programs[i], name) != 0) continue;
        emb_app_say("'%s' is a program of its own, embound-%s, and it is not installed beside "
                    "embound nor on PATH",
                    name, name);
        return EMB_EXIT_USAGE;
    }
    const char *nearest = emb_suggest_command(name);
    emb_app_say("'%s' is not a command, and there is no program embound-%s%s%s; see embound --help",
                name, name, nearest ? ": did you mean embound " : "", nearest ? nearest : "");
    return EMB_EXIT_USAGE;
}

/* The planned stack lies within this; less would end in a fault, with no word about why. */
static bool stack_is_too_small(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_BYTES_MIN) return false;
    emb_app_say("the system allows a stack of %llu KiB, and 1 MiB is needed: raise it with "
                "ulimit -s 1024",
                (unsigned long long)limit.rlim_cur / 1024);
    return true;
}

static emb_status check_outputs(const emb_options *options, emb_error *error) {
    const char *outputs[] = {options->output, options->stats_path, options->save_machine_path,
                             options->train.log_path};
    emb_status status = EMB_OK;
    for (size_t i = 0; i < 4 && status == EMB_OK; i++) {
        status = emb_cli_check_model(outputs[i], options->model, error);
    }
    return status;
}

static emb_status probe(emb_session *session, emb_options *options, emb_error *error) {
    const unsigned without = EMB_CLI_TOKENIZE | EMB_CLI_QUANTIZE;
    if (options->command == EMB_CLI_INFO) return emb_info_probe(&session->machine, options, error);
    /* a plan for another machine does not ask what this one has */
    bool looks = !options->machine_path && !(options->command & without);
    return emb_session_probe(session, &options->settings, looks, error);
}

static int run_command(const emb_command_entry *which, int count, char **arguments) {
    static emb_options options;
    static emb_session session;
    emb_error error = {0};
    emb_cli_parse parse = emb_options_parse(&options, which->id, count, arguments, &error);
    if (parse == EMB_CLI_HELP) {
        emb_help_print(emb_cli_stdout(), which);
        return emb_cli_finish(EMB_EXIT_OK);
    }
    if (parse == EMB_CLI_BAD || check_outputs(&options, &error) != EMB_OK) {
        emb_app_say("%s", error.message);
        return EMB_EXIT_USAGE;
    }
    if (stack_is_too_small()) return EMB_EXIT_SYSTEM;
    emb_signals_install();
    emb_status status = EMB_OK;
    /* who only watches takes nothing on a GPU, and a pull plans nothing */
    bool plans = which->id != EMB_CLI_MONITOR && which->id != EMB_CLI_PULL;
    if (plans) status = probe(&session, &options, &error);
    int code = status == EMB_OK ? which->run(&session, &options)
                                : emb_session_fail(&session, &options.settings, status, &error);
    emb_session_close(&session);
    return emb_cli_finish(code);
}

static void print_usage_error(void) {
    static char buffer[4096];
    emb_output output = {.descriptor = 2, .direct = true, .path = "standard error"};
    emb_writer writer = {.output = &output, .buffer = buffer, .capacity = sizeof buffer};
    emb_error error;
    emb_help_print_usage(&writer);
    (void)emb_writer_flush(&writer, &error); /* there is nowhere left to say so */
}

/* help, help COMMAND, help --completion SHELL */
static int run_help(int count, char **arguments) {
    const char *about = count > 0 ? arguments[0] : NULL;
    const emb_command_entry *which = about ? find_command(about) : NULL;
    if (which) {
        emb_help_print(emb_cli_stdout(), which);
    } else if (about && strcmp(about, "--completion") == 0) {
        if (count < 2 || !emb_completion_print(emb_cli_stdout(), arguments[1])) {
            emb_app_say("help --completion: state bash, zsh or fish");
            return EMB_EXIT_USAGE;
        }
    } else if (about) {
        emb_app_say("'%s' is not a command; see embound --help", about);
        return EMB_EXIT_USAGE;
    } else {
        emb_help_print_usage(emb_cli_stdout());
    }
    return emb_cli_finish(EMB_EXIT_OK);
}

int main(int count, char **arguments) {
    hold_standard_descriptors();
    const char *name = count > 1 ? arguments[1] : "";
    if (count < 2) {
        print_usage_error();
        return EMB_EXIT_USAGE;
    }
    if (strcmp(name, "--version") == 0) {
        emb_writer_format(emb_cli_stdout(), "embound %s\n", emb_version());
        return emb_cli_finish(EMB_EXIT_OK);
    }
    bool help = strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (help) return run_help(count - 2, arguments + 2);
    const emb_command_entry *which = find_command(name);
    if (which) return run_command(which, count - 2, arguments + 2);
    if (name[0] == '-') {
        emb_app_say("'%s': the command comes first; see embound --help", name);
        return EMB_EXIT_USAGE;
    }
    return run_other(name, arguments + 1);
}
