/* run.c - the loop that every encoding command shares: source -> submit, collect -> rows.
 *
 * A row that the source could not read goes through the engine as the text it was so far, so that
 * the numbering stays whole; it is marked failed here, when it comes back.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"
#include "fail.h"

#define WAIT_MS          200 /* the bar moves and a signal is seen meanwhile */
#define FAILURES_PRINTED 10

uint64_t emb_run_bytes(void) {
    return emb_session_round(EMB_RUN_PIECES * sizeof(emb_piece)) +
           emb_session_round(EMB_RUN_ROWS * sizeof(emb_row)) +
           emb_session_round(EMB_RUN_IN_FLIGHT / 8) + emb_session_round(EMB_STATUS_BYTES);
}

void emb_run_bind(emb_run *run, emb_session *session) {
    memset(run, 0, sizeof *run);
    run->pieces = emb_session_take(session, EMB_RUN_PIECES * sizeof(emb_piece));
    run->rows = emb_session_take(session, EMB_RUN_ROWS * sizeof(emb_row));
    run->failed_bits = emb_session_take(session, EMB_RUN_IN_FLIGHT / 8);
    run->status_file.buffer = emb_session_take(session, EMB_STATUS_BYTES);
    run->status_file.folder = -1;
    run->session = session;
    run->engine = session->engine;
    run->started = emb_cli_seconds();
}

static emb_status log_failure(emb_run *run, uint64_t index, uint64_t user, emb_status status,
                              const char *message, emb_error *error) {
    uint32_t file;
    uint64_t line;
    emb_source_place(user, &file, &line);
    run->failed++;
    if (!run->quiet && run->failed <= FAILURES_PRINTED) {
        emb_progress_clear(run);
        emb_cli_say("row %llu failed: %s", (unsigned long long)index, message);
        if (run->failed == FAILURES_PRINTED) emb_cli_say("further failed rows are not shown here");
    }
    if (!run->log) return EMB_OK;
    return emb_error_log_add(run->log, index, emb_input_name(&run->source->input, file), line,
                             status, message, error);
}

static void describe_failure(char *out, size_t capacity, const emb_run *run, const emb_row *row) {
    uint32_t file;
    uint64_t line;
    emb_source_place(row->user, &file, &line);
    const char *what = "cannot be encoded";
    if (row->status == EMB_TOO_LONG) {
        what = "is longer than the model's window; use --long chunk or --long truncate";
    } else if (row->status == EMB_NOT_FINITE) {
        what = "gives a vector that is not finite; check the model's weights";
    }
    snprintf(out, capacity, "%.120s line %llu: the text %s (%s)",
             emb_input_name(&run->source->input, file), (unsigned long long)line, what,
             emb_status_name(row->status));
}

static bool take_failed_bit(emb_run *run, uint64_t index) {
    uint8_t *byte = &run->failed_bits[index % EMB_RUN_IN_FLIGHT / 8];
    uint8_t bit = (uint8_t)(1u << index % 8);
    bool failed = (*byte & bit) != 0;
    *byte &= (uint8_t)~bit;
    return failed;
}

/* Collects what is ready (or waits for it) and hands it on. */
static emb_status deliver(emb_run *run, int timeout_ms, uint32_t *count, emb_error *error) {
    *count = 0;
    if (run->settle_callback) EMB_APP_TRY(run->settle_callback(run->user, error));
    emb_status status =
        emb_engine_collect(run->engine, run->rows, EMB_RUN_ROWS, count, timeout_ms, error);
    if (status == EMB_TIMEOUT) {
        *count = 0;
        status = EMB_OK;
        if (timeout_ms) *count = UINT32_MAX; /* work is under way, none is ready */
    }
    if (run->progress) emb_progress_draw(run, false);
    emb_status_file_write(&run->status_file);
    if (status != EMB_OK || *count == 0 || *count == UINT32_MAX) return status;
    for (uint32_t i = 0; i < *count; i++) {
        emb_row *row = &run->rows[i];
        uint64_t index = run->collected + i;
        if (take_failed_bit(run, index)) {
            row->status = EMB_BAD_TEXT; /* logged when the source found it */
        } else if (row->status != EMB_OK) {
            char message[224];
            describe_failure(message, sizeof message, run, row);
            EMB_APP_TRY(log_failure(run, index, row->user, row->status, message, error));
        }
    }
    run->collected += *count;
    return run->rows_callback(run->user, run->rows, *count, error);
}

/* Gives all pieces to the engine, taking rows out whenever it is full. */
static emb_status submit_all(emb_run *run, uint32_t count, emb_error *error) {
    for (uint32_t done = 0; done < count;) {
        uint32_t taken = 0, delivered = 0;
        EMB_APP_TRY(
            emb_engine_submit(run->engine, run->pieces + done, count - done, &taken, error));
        done += taken;
        EMB_APP_TRY(deliver(run, done < count ? WAIT_MS : 0, &delivered, error));
    }
    return EMB_OK;
}

/* Asks the source for pieces; marks and logs the row that fails with them. */
static emb_status read_pieces(emb_run *run, uint32_t *count, emb_error *error) {
    emb_status status = run->source->next(run->source, run->pieces, EMB_RUN_PIECES, count, error);
    for (uint32_t i = 0; i < *count; i++) {
        run->submitted += (run->pieces[i].flags & EMB_PIECE_LAST) != 0;
    }
    if (status != EMB_BAD_TEXT) return status;
    uint64_t index = run->submitted - 1;
    run->failed_bits[index % EMB_RUN_IN_FLIGHT / 8] |= (uint8_t)(1u << index % 8);
    emb_error reason = *error;
    return log_failure(run, index, run->pieces[*count - 1].user, EMB_BAD_TEXT, reason.message,
                       error);
}

static emb_status drain(emb_run *run, uint64_t in_flight_max, emb_error *error) {
    EMB_APP_TRY(emb_engine_flush(run->engine));
    while (run->submitted - run->collected > in_flight_max) {
        uint32_t delivered;
        EMB_APP_TRY(deliver(run, WAIT_MS, &delivered, error));
        if (delivered == 0) {
            return emb_app_fail(error, EMB_INTERNAL, "%llu texts never came back: please report",
                                (unsigned long long)(run->submitted - run->collected));
        }
    }
    return EMB_OK;
}

static emb_status run_loop(emb_run *run, emb_error *error) {
    for (;;) {
        uint32_t count = 0;
        if (run->submitted - run->collected + EMB_RUN_PIECES > EMB_RUN_IN_FLIGHT) {
            EMB_APP_TRY(drain(run, EMB_RUN_IN_FLIGHT / 2, error));
        }
        EMB_APP_TRY(read_pieces(run, &count, error));
        if (count == 0) return drain(run, 0, error);
        EMB_APP_TRY(submit_all(run, count, error));
    }
}

emb_status emb_run_all(emb_run *run, emb_error *error) {
    if (run->status) {
        EMB_APP_TRY(emb_status_file_open(&run->status_file, run->session, error));
    }
    emb_status status = run_loop(run, error);
    if (run->settle_callback) {
        emb_error last = {0};
        emb_status settled = run->settle_callback(run->user, &last);
        if (status == EMB_OK && settled != EMB_OK) {
            status = settled;
            *error = last;
        }
    }
    emb_status_file_close(&run->status_file);
    if (run->progress && status == EMB_OK) emb_progress_draw(run, true);
    emb_progress_clear(run);
    if (emb_signals_received()) return EMB_CANCELLED;
    return status;
}
