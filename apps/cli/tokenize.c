/* tokenize.c - `embound tokenize`: the ids of each text, a line a text, whatever its length.
 *
 * Special tokens stand around the text as the model would see them, unless --no-specials. The text
 * is not cut into chunks.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/command.h"
#include "cli/paths.h"
#include "cli/report.h"
#include "common/exit.h"
#include "common/run.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/open.h"

#define IDS_MAX   4096
#define OUT_BYTES (128u << 10) /* half of it holds the line being written */
#define ID_BYTES  11           /* at most, with what separates it */

typedef struct tokenize_job {
    emb_source source;
    emb_output output;
    emb_writer out;
    size_t line_start; /* in the writer's buffer */
    emb_tokenizer_handle *tokenizer;
    emb_specials specials; /* around each text; none with --no-specials */
    bool json, line_open;
    uint64_t index, failed, ids_in_line;
    emb_piece pieces[EMB_RUN_PIECES];
    uint32_t ids[IDS_MAX];
    _Alignas(64) unsigned char memory[EMB_SOURCE_BYTES];
    char buffer[OUT_BYTES];
} tokenize_job;

static void write_id(tokenize_job *job, uint32_t id) {
    if (job->ids_in_line++) emb_writer_put(&job->out, job->json ? "," : " ", 1);
    emb_writer_u64(&job->out, id);
}

static void begin_line(tokenize_job *job) {
    if (job->out.used > OUT_BYTES / 2) emb_writer_flush(&job->out, NULL);
    job->line_start = job->out.used;
    job->line_open = true;
    job->ids_in_line = 0;
    if (job->json) {
        emb_writer_text(&job->out, "{\"index\":");
        emb_writer_u64(&job->out, job->index);
        emb_writer_text(&job->out, ",\"ids\":[");
    }
    for (uint32_t i = 0; i < job->specials.before; i++) write_id(job, job->specials.ids[i]);
}

/* A failed text gets no ids, which would look like success: they are dropped, unless the line is so
 * long that its beginning may have been written. */
static void end_line(tokenize_job *job, bool failed) {
    bool taken_back = failed && job->ids_in_line < OUT_BYTES / 2 / ID_BYTES - 16;
    const char *end = failed ? "],\"error\":\"EMB_BAD_TEXT\"}" : "]}";
    if (taken_back) {
        job->out.used = job->line_start;
        end = ",\"ids\":null,\"error\":\"EMB_BAD_TEXT\"}";
        if (job->json) emb_writer_text(&job->out, "{\"index\":");
        if (job->json) emb_writer_u64(&job->out, job->index);
    } else {
        const uint32_t *after = job->specials.ids + job->specials.before;
        for (uint32_t i = 0; i < job->specials.after; i++) write_id(job, after[i]);
    }
    if (job->json) emb_writer_text(&job->out, end);
    emb_writer_put(&job->out, "\n", 1);
    job->line_open = false;
    job->index++;
}

/* The input pauses: its writer may be waiting for the output of what it wrote. */
static bool while_idle(void *user) {
    tokenize_job *job = user;
    return job->line_open || !job->output.direct || emb_writer_flush(&job->out, NULL) == EMB_OK;
}

/* Ids come out in portions of IDS_MAX; the last call of a text gives those still held back. */
static emb_status take_piece(tokenize_job *job, const emb_piece *piece, bool failed,
                             emb_error *error) {
    const char *bytes = piece->data;
    size_t left = piece->length;
    uint32_t flags = piece->flags, done = 0;
    bool last = (flags & EMB_PIECE_LAST) != 0;
    if (flags & EMB_PIECE_FIRST) begin_line(job);
    for (;;) {
        size_t used = 0, count = 0;
        EMB_APP_TRY(emb_tokenize(job->tokenizer, bytes, left, flags, job->ids, IDS_MAX, &used,
                                 &count, &done, error));
        for (size_t i = 0; i < count; i++) write_id(job, job->ids[i]);
        flags &= ~(uint32_t)EMB_PIECE_FIRST;
        bytes += used;
        left -= used;
        if (last ? done : left == 0) break;
    }
    if (last) end_line(job, failed);
    return EMB_OK;
}

static emb_status tokenize_all(tokenize_job *job, emb_error *error) {
    for (;;) {
        uint32_t count = 0;
        emb_error reason = {0};
        emb_status status =
            emb_source_read(&job->source, job->pieces, EMB_RUN_PIECES, &count, &reason);
        bool failed = status == EMB_BAD_TEXT;
        if (status != EMB_OK && !failed) {
            bool written = job->out.status == EMB_OK; /* while the input paused */
            *error = written ? reason : job->out.error;
            return written ? status : job->out.status;
        }
        for (uint32_t i = 0; i < count; i++) {
            EMB_APP_TRY(take_piece(job, &job->pieces[i], failed && i + 1 == count, error));
        }
        if (failed) {
            emb_app_say("row %llu failed: %s", (unsigned long long)job->index - 1, reason.message);
            job->failed++;
        }
        if (job->out.status != EMB_OK) {
            *error = job->out.error;
            return job->out.status;
        }
        if (count == 0) return EMB_OK;
    }
}

/* Gives an exit code. */
static int open_output(tokenize_job *job, const emb_options *options) {
    emb_error error = {0};
    const char *path = options->output ? options->output : "-";
    emb_status status = emb_cli_check_output(path, options->inputs, options->inputs_count, &error);
    if (status == EMB_OK) status = emb_output_open(&job->output, path, &error);
    if (status != EMB_OK) {
        int code = emb_exit_say(status, &error);
        return status == EMB_IO ? EMB_EXIT_CREATE : code;
    }
    emb_writer_init(&job->out, &job->output, job->buffer, sizeof job->buffer);
    return EMB_EXIT_OK;
}

static int run_job(tokenize_job *job, const emb_options *options) {
    emb_error error = {0};
    job->source.input.idle = while_idle;
    job->source.input.idle_user = job;
    emb_status status = tokenize_all(job, &error);
    if (status == EMB_OK) status = emb_writer_flush(&job->out, &error);
    if (status == EMB_OK) status = emb_output_commit(&job->output, &error);
    if (status != EMB_OK) {
        emb_output_abort(&job->output);
        return job->output.closed_by_reader ? EMB_EXIT_OUTPUT : emb_exit_say(status, &error);
    }
    if (!options->settings.quiet) emb_report_notes(&job->source);
    return job->failed ? EMB_EXIT_DATA : EMB_EXIT_OK;
}

/* The job is large, so it is allocated only for this command. */
static emb_status open_job(tokenize_job **out, emb_session *session, emb_options *options,
                           emb_error *error) {
    session->limits.caller_bytes = emb_session_round(sizeof(tokenize_job));
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    EMB_APP_TRY(emb_session_prompt(&options->source.prompt, session, options->prompt_name, error));
    EMB_APP_TRY(emb_session_open_block(session, error));
    tokenize_job *job = emb_session_take(session, sizeof *job);
    job->json = options->json;
    if (!options->no_specials) emb_model_specials(&job->specials, session->model);
    EMB_APP_TRY(emb_source_open(&job->source, &options->source, options->inputs,
                                options->inputs_count, emb_signals_descriptor(), job->memory,
                                sizeof job->memory, error));
    EMB_APP_TRY(emb_tokenizer_open(&job->tokenizer, session->model, error));
    *out = job;
    return EMB_OK;
}

int emb_command_tokenize(emb_session *session, emb_options *options) {
    tokenize_job *job = NULL;
    emb_error error = {0};
    if (options->inputs_count == 0) {
        emb_app_say("no input: state -i FILE, or -i - for standard input");
        return EMB_EXIT_USAGE;
    }
    emb_status status = open_job(&job, session, options, &error);
    if (status != EMB_OK) return emb_exit_say(status, &error);
    int code = open_output(job, options);
    if (code == EMB_EXIT_OK) code = run_job(job, options);
    emb_source_close(&job->source);
    emb_tokenizer_close(job->tokenizer);
    return code;
}
