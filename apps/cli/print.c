/* print.c - results on standard output.
 *
 * They go through a buffer of fixed size in static memory, so that it costs nothing later.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"

#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"

#define STDOUT_BYTES (16u << 10)

static char stdout_buffer[STDOUT_BYTES];
static emb_output stdout_output = {.descriptor = 1, .direct = true, .path = "-"};
static emb_writer stdout_writer = {
    .output = &stdout_output, .buffer = stdout_buffer, .capacity = STDOUT_BYTES};

emb_writer *emb_cli_stdout(void) {
    return &stdout_writer;
}

int emb_cli_finish(int code) {
    emb_error error;
    if (emb_writer_flush(&stdout_writer, &error) == EMB_OK) return code;
    /* a reader that closed early (head) is not an error */
    if (!stdout_output.closed_by_reader && !emb_signals_received())
        emb_app_say("%s", error.message);
    return code == EMB_EXIT_OK ? EMB_EXIT_OUTPUT : code;
}
