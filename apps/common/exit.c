/* exit.c - the exit codes of statuses, and their messages.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/exit.h"

#include <string.h>

#include "common/say.h"
#include "common/signals.h"

int emb_exit_code(emb_status status) {
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

int emb_exit_say(emb_status status, const emb_error *error) {
    return emb_exit_say_device("", status, error);
}

int emb_exit_say_device(const char *chosen_by, emb_status status, const emb_error *error) {
    if (status == EMB_CANCELLED) {
        int signal = emb_signals_received();
        emb_app_say("interrupted: no output was written");
        return signal ? 128 + signal : EMB_EXIT_INTERRUPTED;
    }
    const char *at = strstr(error->message, EMB_ADVICE_CPU), *cpu = "--device cpu", *colon = ": ";
    if (at && strcmp(chosen_by, "EMB_DEVICE=cpu") == 0) {
        cpu = chosen_by; /* here the words name the subject and are not advice */
        chosen_by = "";
    }
    if (!*chosen_by || (!at && status != EMB_DEVICE)) chosen_by = colon = "";
    if (at)
        emb_app_say("%s%s%.*s%s%s", chosen_by, colon, (int)(at - error->message), error->message,
                    cpu, at + sizeof EMB_ADVICE_CPU - 1);
    else
        emb_app_say("%s%s%s", chosen_by, colon, error->message);
    return emb_exit_code(status);
}
