/* print.c - messages on standard error, results on standard output, and the exit codes.
 *
 * Both go through buffers of fixed size in static memory, so that they cost nothing later.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define STDOUT_BYTES (16u << 10)

static char stdout_buffer[STDOUT_BYTES];
static emb_output stdout_output = {.descriptor = 1, .direct = true, .path = "-"};
static emb_writer stdout_writer = {
    .output = &stdout_output, .buffer = stdout_buffer, .capacity = STDOUT_BYTES};

emb_writer *emb_cli_stdout(void) {
    return &stdout_writer;
}

void emb_cli_err(const char *text, size_t length) {
    while (length) {
        ssize_t written = write(2, text, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* there is nowhere left to say so */
        text += written;
        length -= (size_t)written;
    }
}

void emb_cli_say(const char *format, ...) {
    char line[1024] = "embound: ";
    const size_t prefix = 9;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > sizeof line - prefix - 2) used = sizeof line - prefix - 2;
    line[prefix + used] = '\n';
    emb_cli_err(line, prefix + used + 1);
}

const char *emb_cli_plural(uint64_t count) {
    return count == 1 ? "" : "s";
}

int emb_cli_exit_code(emb_status status) {
    switch (status) {
    case EMB_OK:
        return EMB_EXIT_OK;
    case EMB_INVALID_ARGUMENT:
    case EMB_UNSUPPORTED:
        return EMB_EXIT_USAGE;
    case EMB_BUDGET:
        return EMB_EXIT_BUDGET;
    case EMB_BAD_FILE:
    case EMB_BAD_TEXT:
    case EMB_TOO_LONG:
    case EMB_NOT_FINITE:
        return EMB_EXIT_DATA;
    case EMB_NOT_FOUND:
        return EMB_EXIT_NO_INPUT;
    case EMB_NO_MEMORY:
        return EMB_EXIT_SYSTEM;
    case EMB_IO:
        return EMB_EXIT_OUTPUT;
    case EMB_DEVICE:
        return EMB_EXIT_DEVICE;
    case EMB_TIMEOUT:
        return EMB_EXIT_AGAIN;
    case EMB_CANCELLED:
        return EMB_EXIT_INTERRUPTED;
    default:
        return EMB_EXIT_INTERNAL;
    }
}

int emb_cli_fail(emb_status status, const emb_error *error) {
    if (status == EMB_CANCELLED) {
        int signal = emb_signals_received();
        emb_cli_say("interrupted: no output was written");
        return signal ? 128 + signal : EMB_EXIT_INTERRUPTED;
    }
    /* the library names no options */
    static const char library[] = "the device cpu";
    const char *at = strstr(error->message, library);
    if (at)
        emb_cli_say("%.*s--device cpu%s", (int)(at - error->message), error->message,
                    at + sizeof library - 1);
    else
        emb_cli_say("%s", error->message);
    return emb_cli_exit_code(status);
}

int emb_cli_finish(int code) {
    emb_error error;
    if (emb_writer_flush(&stdout_writer, &error) == EMB_OK) return code;
    /* a reader that has seen enough (head) is no news */
    if (!stdout_output.closed_by_reader && !emb_signals_received())
        emb_cli_say("%s", error.message);
    return code == EMB_EXIT_OK ? EMB_EXIT_OUTPUT : code;
}
