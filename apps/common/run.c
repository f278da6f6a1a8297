/* run.c - the loop that every encoding command shares: source -> submit, collect -> rows.
 *
 * A row that the source could not read is not computed: it is passed on in its turn, without the
 * engine. Only a text whose beginning was submitted must also end in the engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/run.h"

#include <string.h>

#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/open.h"
#include "suffix.h"

#define WAIT_MS          200 /* in between the bar moves and signals are checked */
#define FAILURES_PRINTED 10
#define NOTHING_READY    UINT32_MAX /* work is under way */

uint64_t emb_run_bytes(void) {
    return emb_session_round(EMB_RUN_PIECES * sizeof(emb_piece)) +
           emb_session_round(EMB_RUN_ROWS * sizeof(emb_row)) +
           emb_session_round(EMB_RUN_SKIPPED * sizeof(emb_row)) +
           emb_session_round(EMB_RUN_MARKS * sizeof(emb_run_mark)) +
           2 * emb_session_round(EMB_RUN_IN_FLIGHT / 8) + emb_session_round(EMB_STATUS_BYTES);
}

void emb_run_bind(emb_run *run, emb_session *session) {
    memset(run, 0, sizeof *run);
    run->pieces = emb_session_take(session, EMB_RUN_PIECES * sizeof(emb_piece));
    run->rows = emb_session_take(session, EMB_RUN_ROWS * sizeof(emb_row));
    run->skipped_rows = emb_session_take(session, EMB_RUN_SKIPPED * sizeof(emb_row));
    run->marks = emb_session_take(session, EMB_RUN_MARKS * sizeof(emb_run_mark));
    run->failed_bits = emb_session_take(session, EMB_RUN_IN_FLIGHT / 8);
    run->skipped_bits = emb_session_take(session, EMB_RUN_IN_FLIGHT / 8);
    run->status_file.buffer = emb_session_take(session, EMB_STATUS_BYTES);
    run->status_file.folder = -1;
    memset(run->failed_bits, 0, EMB_RUN_IN_FLIGHT / 8); /* left by a previous model, in eval */
    memset(run->skipped_bits, 0, EMB_RUN_IN_FLIGHT / 8);
    for (uint32_t i = 0; i < EMB_RUN_SKIPPED; i++)
        run->skipped_rows[i] = (emb_row){.status = EMB_BAD_TEXT};
    run->session = session;
    run->engine = session->engine;
    run->started = emb_app_seconds();
}

void emb_run_stats(const emb_run *run, emb_engine_stats_t *stats) {
    *stats = (emb_engine_stats_t){.struct_bytes = sizeof *stats};
    emb_engine_stats(stats, run->engine);
    stats->texts += run->skipped;
    stats->texts_failed = run->failed;
}

static void clear(const emb_run *run) {
    if (run->display) run->display->clear();
}

/* A row fails once, whichever of its texts failed. */
static emb_status log_failure(emb_run *run, uint64_t text, uint64_t user, emb_status status,
                              const char *message, emb_error *error) {
    uint32_t file, texts_per_row = run->source->texts_per_row;
    uint64_t line, row = text / texts_per_row;
    emb_source_place(user, &file, &line);
    if (run->failed && run->failed_row == row) return EMB_OK;
    run->failed++;
    run->failed_row = row;
    if (!run->quiet && run->failed <= FAILURES_PRINTED) {
        clear(run);
        emb_app_say("%s %llu failed: %s", texts_per_row == 1 ? "row" : "pair",
                    (unsigned long long)row, message);
        if (run->failed == FAILURES_PRINTED) emb_app_say("further failed rows are not shown here");
    }
    if (!run->log) return EMB_OK;
    return emb_error_log_add(run->log, row, emb_input_name(&run->source->input, file), line, status,
                             message, error);
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
    snprintf(out, capacity, "%s line %llu: the text %s (%s)",
             emb_app_path_tail(emb_input_name(&run->source->input, file)), (unsigned long long)line,
             what, emb_status_name(row->status));
}

/* ---- texts by number ------------------------------------------------------------------------- */

static void set_bit(uint8_t *bits, uint64_t text) {
    bits[text % EMB_RUN_IN_FLIGHT / 8] |= (uint8_t)(1u << text % 8);
}

static bool has_bit(const uint8_t *bits, uint64_t text) {
    return bits[text % EMB_RUN_IN_FLIGHT / 8] >> text % 8 & 1;
}

static bool take_bit(uint8_t *bits, uint64_t text) {
    bool set = has_bit(bits, text);
    bits[text % EMB_RUN_IN_FLIGHT / 8] &= (uint8_t) ~(1u << text % 8);
    return set;
}

/* Records how much of the input has been read up to this text. */
static void add_mark(emb_run *run) {
    emb_run_mark mark = {run->submitted, emb_source_bytes_given(run->source)};
    if (run->marks_count < EMB_RUN_MARKS) run->marks_count++;
    run->marks[(run->marks_first + run->marks_count - 1) % EMB_RUN_MARKS] = mark;
}

static void pass_marks(emb_run *run) {
    while (run->marks_count && run->marks[run->marks_first].texts <= run->collected) {
        run->done = run->marks[run->marks_first];
        run->marks_first = (run->marks_first + 1) % EMB_RUN_MARKS;
        run->marks_count--;
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Passes on the failed rows that are next in turn. */
static emb_status give_skipped(emb_run *run, emb_error *error) {
    for (;;) {
        uint32_t count = 0;
        while (count < EMB_RUN_SKIPPED && run->collected < run->submitted &&
               take_bit(run->skipped_bits, run->collected)) {
            run->collected++;
            count++;
        }
        if (count == 0) break;
        EMB_APP_TRY(run->rows_callback(run->user, run->skipped_rows, count, error));
    }
    pass_marks(run);
    return EMB_OK;
}

/* Marks and logs the failed ones among consecutive rows. */
static emb_status judge(emb_run *run, emb_row *rows, uint32_t count, emb_error *error) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t text = run->collected + i;
        if (take_bit(run->failed_bits, text)) {
            rows[i].status = EMB_BAD_TEXT; /* logged when the source found it */
        } else if (rows[i].status != EMB_OK) {
            char message[224];
            describe_failure(message, sizeof message, run, &rows[i]);
            EMB_APP_TRY(log_failure(run, text, rows[i].user, rows[i].status, message, error));
        }
    }
    return EMB_OK;
}

/* Collects what is ready (or waits for it) and passes it on. */
static emb_status deliver(emb_run *run, int timeout_ms, uint32_t *count, emb_error *error) {
    *count = 0;
    if (run->settle_callback) EMB_APP_TRY(run->settle_callback(run->user, error));
    emb_status status =
        emb_engine_collect(run->engine, run->rows, EMB_RUN_ROWS, count, timeout_ms, error);
    if (status == EMB_TIMEOUT) {
        *count = timeout_ms ? NOTHING_READY : 0;
        status = EMB_OK;
    }
    if (run->display) run->display->draw(run, false);
    emb_status_file_write(&run->status_file);
    if (status != EMB_OK || *count == 0 || *count == NOTHING_READY) return status;
    for (uint32_t done = 0, next; done < *count; done = next) {
        EMB_APP_TRY(give_skipped(run, error));
        uint32_t length = 1;
        while (done + length < *count && !has_bit(run->skipped_bits, run->collected + length))
            length++;
        next = done + length;
        EMB_APP_TRY(judge(run, run->rows + done, length, error));
        run->collected += length;
        EMB_APP_TRY(run->rows_callback(run->user, run->rows + done, length, error));
    }
    return give_skipped(run, error);
}

/* ---- texts ----------------------------------------------------------------------------------- */

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

/* Takes the texts of the row that failed, the last of the pieces, out of them again. A text that
 * the engine has begun is ended instead. */
static void drop_row(emb_run *run, uint32_t *count) {
    uint32_t texts = run->source->texts_per_row;
    for (uint32_t i = 1; i <= texts; i++) { /* the first of a pair may have been handed on */
        if (run->submitted - i >= run->collected) set_bit(run->failed_bits, run->submitted - i);
    }
    for (uint64_t text = run->submitted - 1; texts > 0 && *count > 0;) {
        emb_piece *piece = &run->pieces[*count - 1];
        if (piece->flags & EMB_PIECE_FIRST) {
            take_bit(run->failed_bits, text);
            set_bit(run->skipped_bits, text--);
            run->skipped++;
            texts--;
        } else if (*count == 1) {
            *piece = (emb_piece){.data = "", .flags = EMB_PIECE_LAST, .user = piece->user};
            return;
        }
        --*count;
    }
}

/* Asks the source for pieces, without those of a row that fails, which is logged. */
static emb_status read_pieces(emb_run *run, uint32_t *count, bool *end, emb_error *error) {
    emb_status status = emb_source_read(run->source, run->pieces, EMB_RUN_PIECES, count, error);
    *end = status == EMB_OK && *count == 0;
    run->submitted += run->source->ended;
    if (run->idle_status != EMB_OK) {
        *error = run->idle_error;
        return run->idle_status;
    }
    if (run->source->ended) add_mark(run);
    if (status != EMB_BAD_TEXT) return status;
    uint64_t user = run->pieces[*count - 1].user;
    drop_row(run, count);
    emb_error reason = *error;
    EMB_APP_TRY(log_failure(run, run->submitted - 1, user, EMB_BAD_TEXT, reason.message, error));
    return *count ? EMB_OK : give_skipped(run, error);
}

/* Encodes and hands on what waits, until no more than so many texts are under way; or, if `pauses`,
 * until the input has something to read. */
static emb_status drain(emb_run *run, uint64_t in_flight_max, bool pauses, emb_error *error) {
    EMB_APP_TRY(emb_engine_flush(run->engine));
    EMB_APP_TRY(give_skipped(run, error));
    while (run->submitted - run->collected > in_flight_max) {
        uint32_t delivered;
        if (pauses && emb_input_readable(&run->source->input, 0)) break;
        EMB_APP_TRY(deliver(run, WAIT_MS, &delivered, error));
        if (delivered == 0) {
            return emb_app_fail(error, EMB_INTERNAL, "%llu texts never came back: please report",
                                (unsigned long long)(run->submitted - run->collected));
        }
    }
    return EMB_OK;
}

/* The input pauses: whoever writes it may wait for the rows of what was written. */
static bool while_idle(void *user) {
    emb_run *run = user;
    run->idle_status = drain(run, 0, true, &run->idle_error);
    return run->idle_status == EMB_OK;
}

static emb_status run_loop(emb_run *run, emb_error *error) {
    run->source->input.idle = while_idle;
    run->source->input.idle_user = run;
    emb_engine_stats_t stats;
    emb_run_stats(run, &stats);
    run->bytes_before = stats.bytes_read;
    if (run->display) run->display->begin();
    run->done = (emb_run_mark){.texts = run->collected};
    run->marks_count = 0;
    for (;;) {
        uint32_t count = 0;
        bool end = false;
        if (run->submitted - run->collected + EMB_RUN_PIECES > EMB_RUN_IN_FLIGHT) {
            EMB_APP_TRY(drain(run, EMB_RUN_IN_FLIGHT / 2, false, error));
        }
        EMB_APP_TRY(read_pieces(run, &count, &end, error));
        if (end) return drain(run, 0, false, error);
        EMB_APP_TRY(submit_all(run, count, error));
    }
}

emb_status emb_run_all(emb_run *run, emb_error *error) {
    if (run->status) {
        emb_status_of of = {run->engine, &run->session->plan, run->session->info.name};
        EMB_APP_TRY(emb_status_file_open(&run->status_file, &of, error));
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
    if (run->display && status == EMB_OK) run->display->draw(run, true);
    clear(run);
    if (emb_signals_received()) return EMB_CANCELLED;
    return status;
}
