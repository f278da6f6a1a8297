/* peak.c - runs a command and writes its exact VmHWM, read from outside: it stops the command at
 * its exit (PTRACE_O_TRACEEXIT), when its memory is still there, and reads /proc/PID/status.
 *
 *   peak FILE COMMAND [ARGUMENT...]
 *
 * FILE gets "bytes N" and "exact 1", or "exact 0" where tracing is refused and the peak had to be
 * taken from wait4 (which counts the memory of this launcher before exec too). Exits as the command
 * did, 128 + the signal if it was killed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long read_peak(pid_t child) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    long kilobytes = -1;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "VmHWM: %ld kB", &kilobytes) == 1) break;
    }
    fclose(file);
    return kilobytes < 0 ? -1 : kilobytes * 1024;
}

static pid_t start(char **command, bool trace) {
    pid_t child = fork();
    if (child != 0) return child;
    if (trace && ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(126);
    execvp(command[0], command);
    fprintf(stderr, "peak: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

/* Follows the leader through its stops; other threads are not traced, they share its memory. */
static int follow(pid_t child, long *bytes) {
    int status;
    bool begun = false;
    while (waitpid(child, &status, 0) == child) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) return status;
        long deliver = 0;
        if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_EXIT << 8))) {
            *bytes = read_peak(child);
        } else if (!begun && WSTOPSIG(status) == SIGTRAP) {
            begun = true;
            ptrace(PTRACE_SETOPTIONS, child, NULL,
                   (void *)(long)(PTRACE_O_TRACEEXIT | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL));
        } else if (status >> 8 != (SIGTRAP | (PTRACE_EVENT_EXEC << 8))) {
            deliver = WSTOPSIG(status);
        }
        ptrace(PTRACE_CONT, child, NULL, (void *)deliver);
    }
    return -1;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: peak FILE COMMAND [ARGUMENT...]\n");
        return 64;
    }
    long bytes = -1;
    bool exact = true;
    pid_t child = start(arguments + 2, true);
    int status = child < 0 ? -1 : follow(child, &bytes);
    if (bytes < 0 && WIFEXITED(status) && WEXITSTATUS(status) == 126) {
        exact = false;
        child = start(arguments + 2, false);
        struct rusage usage;
        if (child < 0 || wait4(child, &status, 0, &usage) != child) return 71;
        bytes = usage.ru_maxrss * 1024L;
    }
    FILE *file = fopen(arguments[1], "w");
    if (!file) return 73;
    fprintf(file, "bytes %ld\nexact %d\n", bytes, exact);
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
