/* exit.h - how the programs end: exit codes (sysexits), and the line that says why.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_EXIT_H
#define EMB_COMMON_EXIT_H

#include "embound.h"

enum {
    EMB_EXIT_OK = 0,
    EMB_EXIT_USAGE = 64,
    EMB_EXIT_DATA = 65, /* malformed file, or rows that failed */
    EMB_EXIT_NO_INPUT = 66,
    EMB_EXIT_DEVICE = 69,
    EMB_EXIT_INTERNAL = 70,
    EMB_EXIT_SYSTEM = 71, /* the system refused memory or threads */
    EMB_EXIT_CREATE = 73, /* the output cannot be created */
    EMB_EXIT_OUTPUT = 74, /* reading or writing failed half way */
    EMB_EXIT_AGAIN = 75,  /* another job holds the output */
    EMB_EXIT_BUDGET = 78,
    EMB_EXIT_INTERRUPTED = 130
};

/* The exit code that a status means by itself. */
int emb_exit_code(emb_status status);

/* Says what is in error and gives the exit code of the status. */
int emb_exit_say(emb_status status, const emb_error *error);

/* The same if something other than an option may have chosen the device: `chosen_by` (empty:
 * nothing) is put before a message about that device. */
int emb_exit_say_device(const char *chosen_by, emb_status status, const emb_error *error);

#endif
