/* signals.c - handles Ctrl-C and similar signals: the first cancels the work in an orderly way, the
 * second exits at once. Neither leaves temporary files behind.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "common/status.h"
#include "sink/output.h"

static volatile sig_atomic_t received;
static emb_engine *volatile running;
static volatile sig_atomic_t busy;
static int wake_pipe[2] = {-1, -1};

static void on_signal(int number) {
    int saved = errno;
    bool first = received == 0;
    received = number;
    if (!first || (!running && !busy)) {
        emb_output_abort_all();
        emb_status_file_abort();
        _exit(128 + number);
    }
    (void)!write(wake_pipe[1], "!", 1);
    if (running) emb_engine_cancel(running);
    errno = saved;
}

void emb_signals_install(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    (void)!pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK);
    emb_output_set_stop(wake_pipe[0]);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old, action = {.sa_handler = on_signal};
        sigemptyset(&action.sa_mask);
        /* nohup and background jobs of a shell have switched these off on purpose */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN) continue;
        sigaction(numbers[i], &action, NULL);
    }
    /* a write then fails, and the temporary files can be removed */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void emb_signals_set_engine(emb_engine *engine) {
    running = engine;
}
void emb_signals_set_busy(bool works) {
    busy = works;
}
int emb_signals_descriptor(void) {
    return wake_pipe[0];
}
int emb_signals_received(void) {
    return received;
}
