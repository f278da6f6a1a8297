/* external.c - commands that are programs of their own (embound-serve, ...).
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/external.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void emb_cli_run_external(const char *name, char **arguments) {
    char path[PATH_MAX], program[256];
    if (strchr(name, '/') ||
        snprintf(program, sizeof program, "embound-%s", name) >= (int)sizeof program) {
        return;
    }
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof program - 1);
    if (length > 0) {
        path[length] = '\0';
        char *slash = strrchr(path, '/');
        memcpy(slash ? slash + 1 : path, program, strlen(program) + 1);
        execv(path, arguments);
    }
    execvp(program, arguments);
}
