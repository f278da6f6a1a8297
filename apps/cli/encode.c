/* encode.c - `embound encode`: texts from files, vectors into a file.
 *
 * Everything it keeps lies in one block that the plan has booked; after the engine is open it
 * allocates nothing.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/encode.h"

#include <string.h>

#include "cli/command.h"
#include "cli/paths.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "common/behind.h"
#include "common/describe.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/open.h"

typedef struct encode_job {
    emb_source source;
    emb_sink sink;
    emb_error_log log;
    emb_run run;
    emb_behind behind;
    bool sink_open;
} encode_job;

/* Only a GPU needs rows to be written beside the reading of texts; the plan may choose one. */
static bool may_write_behind(const emb_options *options) {
    return options->settings.devices.kind != EMB_DEVICE_CPU &&
           emb_sink_may_write_behind(options->output_format);
}

uint64_t emb_encode_bytes(const emb_options *options, uint32_t dim) {
    uint64_t behind = may_write_behind(options) ? emb_session_round(emb_behind_bytes()) : 0;
    return behind + emb_session_round(EMB_SOURCE_BYTES) + emb_session_round(emb_sink_bytes(dim)) +
           emb_run_bytes();
}

/* What can be refused before the model is opened. The list of failed rows is only given its name.
 */
static emb_status check_paths(emb_options *options, emb_error_log *log, emb_error *error) {
    static emb_input probe;
    if (options->inputs_count == 0) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "no input: state -i FILE, or -i - for standard input");
    }
    if (!options->output) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "no output: state -o FILE.npy, -o FILE.jsonl or -o -");
    }
    EMB_APP_TRY(emb_sink_choose_format(&options->output_format, options->output, error));
    EMB_APP_TRY(emb_input_open(&probe, options->inputs, options->inputs_count, -1, error));
    emb_error_log_init(log, options->output);
    const char *outputs[] = {options->output, options->stats_path, log->path};
    for (size_t i = 0; i < 3; i++) {
        EMB_APP_TRY(
            emb_cli_check_output(outputs[i], options->inputs, options->inputs_count, error));
    }
    EMB_APP_TRY(emb_cli_check_stats(options->stats_path, options->output, "vectors", error));
    return emb_cli_check_stats(options->stats_path, log->path, "failed rows", error);
}

static emb_status write_rows(void *user, const emb_row *rows, uint32_t count, emb_error *error) {
    encode_job *job = user;
    if (job->behind.open) return emb_behind_rows(&job->behind, rows, count, error);
    return emb_sink_rows(&job->sink, rows, count, error);
}

static emb_status settle_rows(void *user, emb_error *error) {
    encode_job *job = user;
    return emb_behind_settle(&job->behind, error);
}

/* Opens what can fail quickly before what takes long. Gives an exit code. */
static int open_job(encode_job *job, emb_session *session, emb_options *options) {
    emb_error error = {0};
    uint32_t dim = session->plan.dim;
    emb_status status = emb_session_open_block(session, &error);
    if (status == EMB_OK) {
        void *memory = emb_session_take(session, EMB_SOURCE_BYTES);
        status =
            emb_source_open(&job->source, &options->source, options->inputs, options->inputs_count,
                            emb_signals_descriptor(), memory, EMB_SOURCE_BYTES, &error);
    }
    if (status != EMB_OK) return emb_exit_say(status, &error);
    void *memory = emb_session_take(session, emb_sink_bytes(dim));
    status =
        emb_sink_open(&job->sink, options->output_format, options->output, dim, memory, &error);
    if (status != EMB_OK) {
        int code = emb_exit_say(status, &error);
        return status == EMB_IO ? EMB_EXIT_CREATE : code;
    }
    job->sink_open = true;
    emb_error_log_init(&job->log, job->sink.output.direct ? NULL : options->output);
    if (may_write_behind(options) && session->plan.device == EMB_DEVICE_CUDA) {
        memory = emb_session_take(session, emb_behind_bytes());
        status = emb_behind_open(&job->behind, &job->sink, memory, &error);
    }
    if (status == EMB_OK) status = emb_session_open_engine(session, &error);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    emb_run_bind(&job->run, session);
    job->run.source = &job->source;
    job->run.log = &job->log;
    job->run.rows_callback = write_rows;
    job->run.settle_callback = settle_rows;
    job->run.user = job;
    job->run.quiet = options->settings.quiet;
    job->run.display = emb_progress_display(options);
    job->run.status = options->status;
    return EMB_EXIT_OK;
}

/* Gives the output its name. The list of failed rows comes first: whoever sees the vectors must be
 * able to see which of them are missing. */
static emb_status finish_job(encode_job *job, emb_error *error) {
    EMB_APP_TRY(emb_error_log_finish(&job->log, error));
    job->sink_open = false;
    return emb_sink_finish(&job->sink, error);
}

static void report(encode_job *job, const emb_engine_stats_t *stats, const emb_session *session,
                   const emb_options *options) {
    unsigned long long failed = job->run.failed;
    if (!options->settings.quiet) emb_report_summary(stats, session);
    if (!options->settings.quiet) emb_report_notes(&job->source);
    if (failed == 0) return;
    const char *many = emb_app_plural(failed);
    if (job->log.path[0])
        emb_app_say("%llu row%s failed; listed in %s", failed, many, job->log.path);
    else
        emb_app_say("%llu row%s failed", failed, many);
}

static int run_job(encode_job *job, emb_session *session, emb_options *options) {
    emb_error error = {0};
    emb_status status = emb_run_all(&job->run, &error);
    if (status == EMB_OK) status = finish_job(job, &error);
    if (status != EMB_OK) {
        const emb_output *output = &job->sink.output;
        if (output->closed_by_reader) return EMB_EXIT_OUTPUT;
        if (status == EMB_CANCELLED && output->direct && output->lines) {
            emb_app_say("interrupted after %llu row%s", (unsigned long long)output->lines,
                        emb_app_plural(output->lines));
            int number = emb_signals_received();
            return number ? 128 + number : EMB_EXIT_INTERRUPTED;
        }
        return emb_session_fail(session, &options->settings, status, &error);
    }
    emb_engine_stats_t stats;
    emb_run_stats(&job->run, &stats);
    report(job, &stats, session, options);
    if (options->json) emb_describe_stats(emb_cli_stdout(), &stats, session);
    int code = EMB_EXIT_OK;
    if (options->stats_path) code = emb_report_save_stats(options->stats_path, &stats, session);
    if (code == EMB_EXIT_OK && job->run.failed) code = EMB_EXIT_DATA;
    return code;
}

int emb_command_encode(emb_session *session, emb_options *options) {
    static encode_job job;
    emb_error error = {0};
    job.log.output.descriptor = -1;
    emb_status status = check_paths(options, &job.log, &error);
    if (status == EMB_OK) status = emb_session_open_model(session, options->model, &error);
    if (status == EMB_OK) {
        status = emb_session_prompt(&options->source.prompt, session, options->prompt_name, &error);
    }
    if (status == EMB_OK) {
        uint64_t caller_bytes = emb_encode_bytes(options, session->info.dim);
        status = emb_session_plan(session, &options->settings, caller_bytes, &error);
    }
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    int code = open_job(&job, session, options);
    if (code == EMB_EXIT_OK) code = run_job(&job, session, options);
    emb_signals_set_engine(NULL);
    emb_behind_close(&job.behind);
    if (job.sink_open) emb_sink_abort(&job.sink);
    emb_error_log_abort(&job.log);
    emb_source_close(&job.source);
    return code;
}
