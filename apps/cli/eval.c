/* eval.c - `embound eval`: scored sentence pairs -> Spearman and Pearson; two models compared.
 *
 * Keeps a few numbers a pair, and with --against the first model's vectors; all of it is booked in
 * the plan before any work.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "cli/command.h"
#include "cli/paths.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/scores.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/open.h"
#include "source/pairs.h"

typedef struct eval_job {
    emb_pairs pairs;
    emb_run run;
    emb_session *session;
    uint32_t dim, pairs_max;
    uint64_t texts; /* rows received of the model at work */
    bool first_good;
    unsigned char *memory;                        /* of the source */
    double *scores, *cosines, *ranks_a, *ranks_b; /* [pairs_max] */
    uint32_t *order;
    float *first;   /* [dim], the first sentence's vector */
    float *vectors; /* [2 * pairs_max, dim] with --against, else NULL */
    uint64_t compared;
    double against_sum, against_min;
    uint64_t failed; /* pairs */
} eval_job;

typedef struct eval_result {
    uint32_t pairs;
    double spearman, pearson;
} eval_result;

static uint64_t eval_bytes(uint32_t pairs, uint32_t dim, bool against) {
    uint64_t vector = (uint64_t)dim * sizeof(float);
    return emb_session_round(EMB_SOURCE_BYTES) + emb_run_bytes() +
           4 * emb_session_round((uint64_t)pairs * sizeof(double)) +
           emb_session_round((uint64_t)pairs * sizeof(uint32_t)) + emb_session_round(vector) +
           (against ? emb_session_round(2 * (uint64_t)pairs * vector) : 0);
}

static void bind_job(eval_job *job, emb_session *session, bool against) {
    uint64_t doubles = (uint64_t)job->pairs_max * sizeof(double);
    uint64_t vector = (uint64_t)job->dim * sizeof(float);
    job->memory = emb_session_take(session, EMB_SOURCE_BYTES);
    job->scores = emb_session_take(session, doubles);
    job->cosines = emb_session_take(session, doubles);
    job->ranks_a = emb_session_take(session, doubles);
    job->ranks_b = emb_session_take(session, doubles);
    job->order = emb_session_take(session, (uint64_t)job->pairs_max * sizeof(uint32_t));
    job->first = emb_session_take(session, vector);
    job->vectors = against ? emb_session_take(session, 2 * job->pairs_max * vector) : NULL;
}

/* Two rows make a pair; the first one's vector must be kept, for it is gone with the next rows. */
static void take_half(eval_job *job, const emb_row *row, uint64_t text) {
    bool good = row->status == EMB_OK;
    if (text % 2 == 0) {
        job->first_good = good;
        if (good) memcpy(job->first, row->values, job->dim * sizeof(float));
    } else {
        bool both = good && job->first_good;
        job->cosines[text / 2] = both ? emb_scores_cosine(job->first, row->values, job->dim) : NAN;
    }
}

static emb_status take_rows(void *user, const emb_row *rows, uint32_t count, emb_error *error) {
    eval_job *job = user;
    (void)error;
    for (uint32_t i = 0; i < count; i++) {
        const emb_row *row = &rows[i];
        uint64_t text = job->texts++;
        bool good = row->status == EMB_OK;
        if (job->vectors) {
            float *kept = job->vectors + text * job->dim;
            for (uint32_t d = 0; d < job->dim; d++) kept[d] = good ? row->values[d] : NAN;
        }
        take_half(job, row, text);
    }
    return EMB_OK;
}

static emb_status compare_rows(void *user, const emb_row *rows, uint32_t count, emb_error *error) {
    eval_job *job = user;
    (void)error;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t text = job->texts++;
        const float *kept = job->vectors + text * job->dim;
        take_half(job, &rows[i], text);
        if (rows[i].status != EMB_OK) continue;
        double value = emb_scores_cosine(kept, rows[i].values, job->dim);
        if (!isfinite(value)) continue;
        job->against_sum += value;
        job->against_min =
            job->compared == 0 || value < job->against_min ? value : job->against_min;
        job->compared++;
    }
    return EMB_OK;
}

/* Encodes every pair with the session's model. */
static emb_status run_model(eval_job *job, emb_session *session, const emb_options *options,
                            emb_run_rows callback, emb_error *error) {
    emb_source_options source = options->source;
    EMB_APP_TRY(emb_session_prompt(&source.prompt, session, options->prompt_name, error));
    EMB_APP_TRY(emb_pairs_open(&job->pairs, &source, job->scores, emb_signals_descriptor(),
                               job->memory, error));
    EMB_APP_TRY(emb_session_open_engine(session, error));
    uint64_t used = session->block_used;
    emb_run_bind(&job->run, session);
    session->block_used = used; /* a second model works in the same place */
    job->run.source = &job->pairs.source;
    job->run.rows_callback = callback;
    job->run.user = job;
    job->run.quiet = options->settings.quiet;
    job->run.display = emb_progress_display(options);
    job->run.status = options->status;
    job->texts = 0;
    emb_status status = emb_run_all(&job->run, error);
    emb_source_close(&job->pairs.source);
    if (job->run.failed > job->failed) job->failed = job->run.failed;
    return status;
}

static eval_result correlate(eval_job *job) {
    eval_result result = {0};
    for (uint32_t i = 0; i < job->pairs.pairs; i++) {
        if (isnan(job->scores[i]) || isnan(job->cosines[i])) continue;
        job->scores[result.pairs] = job->scores[i];
        job->cosines[result.pairs++] = job->cosines[i];
    }
    result.pearson = emb_scores_pearson(job->scores, job->cosines, result.pairs);
    result.spearman = emb_scores_spearman(job->scores, job->cosines, result.pairs, job->ranks_a,
                                          job->ranks_b, job->order);
    return result;
}

static void print_number(emb_writer *out, const char *key, double value, int digits) {
    emb_writer_format(out, ",\"%s\":", key);
    if (isfinite(value))
        emb_writer_format(out, "%.*f", digits, value);
    else
        emb_writer_text(out, "null");
}

/* second: of the other model, with --against. */
static void print_result(const eval_job *job, const eval_result *result, const eval_result *second,
                         const emb_options *options) {
    emb_writer *out = emb_cli_stdout();
    double mean = job->compared ? job->against_sum / (double)job->compared : NAN;
    double least = job->compared ? job->against_min : NAN;
    if (options->json) {
        emb_writer_format(out, "{\"pairs\":%u", result->pairs);
        print_number(out, "spearman", result->spearman * 100, 4);
        print_number(out, "pearson", result->pearson * 100, 4);
        if (options->against) {
            print_number(out, "cosine_mean", mean, 9);
            print_number(out, "cosine_min", least, 9);
            print_number(out, "against_spearman", second->spearman * 100, 4);
            print_number(out, "spearman_delta", (second->spearman - result->spearman) * 100, 4);
        }
        emb_writer_text(out, "}\n");
        return;
    }
    emb_writer_format(out, "pairs        %u\n", result->pairs);
    emb_writer_format(out, "Spearman     %.2f\n", result->spearman * 100);
    emb_writer_format(out, "Pearson      %.2f\n", result->pearson * 100);
    if (options->against) {
        emb_writer_format(out, "against      %.*s\n", EMB_APP_CUT(options->against, 400));
        emb_writer_format(out, "cosine mean  %.7f\n", mean);
        emb_writer_format(out, "cosine min   %.7f\n", least);
        emb_writer_format(out, "its Spearman %.2f (%+.2f)\n", second->spearman * 100,
                          (second->spearman - result->spearman) * 100);
    }
}

/* The second model, in the memory of the first, under a plan of its own. */
static emb_status run_against(eval_job *job, emb_session *session, const emb_options *options,
                              uint64_t caller_bytes, emb_error *error) {
    emb_session_close_model(session);
    EMB_APP_TRY(emb_session_open_model(session, options->against, error));
    EMB_APP_TRY(emb_session_plan(session, &options->settings, caller_bytes, error));
    if (session->plan.dim != job->dim) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "--against %.*s: its vectors have %u values, the first model's %u",
                            EMB_APP_CUT(options->against, 150), session->plan.dim, job->dim);
    }
    return run_model(job, session, options, compare_rows, error);
}

/* The budget must do for both models before either works: plans the second too, and of two that do
 * not fit names the one that takes more. The session is left as it was. */
static emb_status check_budgets(const eval_job *job, emb_session *session,
                                const emb_options *options, emb_error *error) {
    emb_error second = {0};
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    uint64_t caller_bytes = eval_bytes(job->pairs_max, session->info.dim, true);
    emb_status status = emb_session_plan(session, &options->settings, caller_bytes, error);
    emb_session_close_model(session);
    if (status != EMB_OK && status != EMB_BUDGET) return status;
    emb_status other = emb_session_open_model(session, options->against, &second);
    if (other == EMB_OK)
        other = emb_session_plan(session, &options->settings, caller_bytes, &second);
    emb_session_close_model(session);
    bool greater = second.region == error->region && second.bytes_min > error->bytes_min;
    if (other == EMB_OK || (status != EMB_OK && other == EMB_BUDGET && !greater)) return status;
    *error = second;
    return other;
}

/* Looks the table through in memory that is given back before the plan is made. */
static emb_status inspect(eval_job *job, emb_session *session, const emb_options *options,
                          const char *path, emb_error *error) {
    session->limits.caller_bytes = EMB_SOURCE_BYTES;
    EMB_APP_TRY(emb_session_open_block(session, error));
    emb_status status = emb_pairs_inspect(&job->pairs, path, options->columns, &options->source,
                                          session->block, error);
    emb_session_close(session);
    job->pairs_max = job->pairs.rows_max;
    return status;
}

static emb_status run_job(eval_job *job, emb_session *session, const emb_options *options,
                          eval_result *result, eval_result *second, emb_error *error) {
    bool against = options->against != NULL;
    if (against) EMB_APP_TRY(check_budgets(job, session, options, error));
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    uint64_t caller_bytes = eval_bytes(job->pairs_max, session->info.dim, against);
    EMB_APP_TRY(emb_session_plan(session, &options->settings, caller_bytes, error));
    job->dim = session->plan.dim;
    EMB_APP_TRY(emb_session_open_block(session, error));
    bind_job(job, session, against);
    EMB_APP_TRY(run_model(job, session, options, take_rows, error));
    if (options->stats_path) {
        emb_engine_stats_t stats;
        emb_run_stats(&job->run, &stats);
        int code = emb_report_save_stats(options->stats_path, &stats, session);
        if (code != EMB_EXIT_OK) return emb_app_fail(error, EMB_IO, "--stats was not written");
    }
    *result = correlate(job);
    if (!against) return EMB_OK;
    EMB_APP_TRY(run_against(job, session, options, caller_bytes, error));
    *second = correlate(job);
    return EMB_OK;
}

int emb_command_eval(emb_session *session, emb_options *options) {
    static eval_job job;
    emb_error error = {0};
    eval_result result = {0}, second = {0};
    if (options->inputs_count + options->words_count != 1) {
        emb_app_say("eval needs one table of scored pairs: state -i FILE");
        return EMB_EXIT_USAGE;
    }
    const char *path = options->inputs_count ? options->inputs[0] : options->words[0];
    emb_status status = emb_cli_check_output(options->stats_path, &path, 1, &error);
    if (status == EMB_OK) status = inspect(&job, session, options, path, &error);
    if (status == EMB_OK) status = run_job(&job, session, options, &result, &second, &error);
    emb_signals_set_engine(NULL);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    if (result.pairs < 2) {
        emb_app_say("%s: fewer than two usable pairs", path);
        return EMB_EXIT_DATA;
    }
    print_result(&job, &result, &second, options);
    if (!options->settings.quiet) emb_report_notes(&job.pairs.source);
    if (job.failed) {
        emb_app_say("%llu pair%s failed", (unsigned long long)job.failed,
                    emb_app_plural(job.failed));
    }
    return job.failed ? EMB_EXIT_DATA : EMB_EXIT_OK;
}
