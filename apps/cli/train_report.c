/* train_report.c - what `embound train` shows: the plan, a line that moves, the log, the report.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/line.h"
#include "cli/print.h"
#include "cli/train.h"
#include "common/say.h"
#include "fail.h"

#define REDRAW_SECONDS 0.1
#define MIB(bytes)     ((double)(bytes) / 1048576)
typedef unsigned long long ull;

static emb_train_stats stats_of(const emb_train_job *job) {
    emb_train_stats stats;
    emb_trainer_stats(&stats, job->trainer);
    return stats;
}

static double per_second(double count, double seconds) {
    return count / (seconds > 1e-9 ? seconds : 1e-9);
}

/* ---- the log --------------------------------------------------------------------------------- */

emb_status emb_train_log_open(emb_train_job *job, emb_error *error) {
    static char buffer[4096];
    const char *path = job->options->train.log_path, *events = job->options->train.tensorboard_path;
    job->log.descriptor = -1;
    if (events) EMB_APP_TRY(emb_tensorboard_open(&job->events, events, error));
    if (!path) return EMB_OK;
    job->log = (emb_output){.descriptor = -1}; /* not direct: a signal does not cut its lines */
    snprintf(job->log.path, sizeof job->log.path, "%s", path);
    int start = job->resumed ? O_APPEND : O_TRUNC; /* what was logged before a stop stays */
    job->log.descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | start, 0666);
    if (job->log.descriptor < 0)
        return emb_app_fail(error, EMB_IO, "--log %.*s: %s", EMB_APP_CUT(path, 150),
                            strerror(errno));
    emb_writer_init(&job->log_writer, &job->log, buffer, sizeof buffer);
    return EMB_OK;
}

void emb_train_log_close(emb_train_job *job) {
    if (job->log.descriptor >= 0) close(job->log.descriptor);
    job->log.descriptor = -1;
    emb_tensorboard_close(&job->events);
}

/* As a log that cannot be written. */
static void add_events(emb_train_job *job, const emb_tensorboard_scalar *scalars, uint32_t count) {
    emb_error error;
    if (job->events.descriptor < 0) return;
    if (emb_tensorboard_add(&job->events, job->last.step, scalars, count, &error) == EMB_OK) return;
    emb_app_say("--tensorboard: %.*s; training goes on without it",
                EMB_APP_CUT(error.message, 200));
    job->log_failed = true;
    emb_tensorboard_close(&job->events);
}

/* Each line is there at once, for whoever follows the file. A log that cannot be written any more
 * does not end the training. */
static void flush_log(emb_train_job *job) {
    emb_error error;
    if (emb_writer_flush(&job->log_writer, &error) == EMB_OK) return;
    emb_app_say("--log: %.*s; training goes on without it", EMB_APP_CUT(error.message, 200));
    job->log_failed = true;
    close(job->log.descriptor);
    job->log.descriptor = -1;
}

static void log_step(emb_train_job *job) {
    const emb_train_step *step = &job->last;
    emb_train_stats stats = stats_of(job);
    emb_writer *out = &job->log_writer;
    if (job->log.descriptor < 0) return;
    emb_writer_format(out, "{\"step\":%llu,\"epoch\":%u,\"loss\":%.9g,\"gradient_norm\":%.9g",
                      (ull)step->step, job->batches.epoch, step->loss, step->gradient_norm);
    emb_writer_format(out, ",\"learning_rate\":%.9g,\"tokens\":%llu,\"truncated\":%llu",
                      step->learning_rate, (ull)step->tokens, (ull)step->truncated);
    emb_writer_format(out, ",\"seconds\":%.6f,\"tokens_per_second\":%.1f,\"host_bytes\":%llu}\n",
                      step->seconds, per_second((double)step->tokens, step->seconds),
                      (ull)stats.host_bytes_now);
    flush_log(job);
}

/* ---- while it runs --------------------------------------------------------------------------- */

/* What waits in memory for the way back, and so is not computed again. */
static void say_kept(const emb_train_plan *plan) {
    if (plan->layers_apart < plan->layers)
        emb_app_say("kept for the way back: the sums of every %u layers of one tile",
                    plan->layers_apart);
    else
        emb_app_say(
            "kept for the way back: the sums of %u of %u tiles; of these %u with attention, "
            "%u with feed-forward",
            plan->tiles_kept, plan->tiles, plan->attention_kept, plan->ffn_kept);
}

void emb_train_say_plan(const emb_train_job *job) {
    const emb_examples *examples = &job->examples;
    emb_app_say("%u examples of %u text%s, %.2f MiB in memory; %llu step%s of up to %llu",
                examples->count, examples->texts, emb_app_plural(examples->texts),
                MIB(emb_examples_bytes(examples)), (ull)job->steps, emb_app_plural(job->steps),
                (ull)job->batches.size * job->accumulate);
    emb_app_say("memory: %.2f MiB planned; %u tokens at work at once, %u thread%s",
                MIB(job->plan.host_bytes), job->plan.tokens_per_tile, job->plan.threads,
                emb_app_plural(job->plan.threads));
    if (job->plan.device_bytes)
        emb_app_say("%u GPU%s; memory of %s: %.2f MiB planned, %.2f of them the training's own",
                    job->plan.device.devices, emb_app_plural(job->plan.device.devices),
                    job->plan.device.devices > 1 ? "each" : "it", MIB(job->plan.device_bytes),
                    MIB(job->plan.device.arena_bytes));
    say_kept(&job->plan);
}

static void draw(emb_train_job *job) {
    char text[192], bar[EMB_LINE_BAR];
    double now = emb_app_seconds(), spent = now - job->started;
    bool last = job->last.step == job->steps;
    if (!job->progress || (!last && now - job->drawn < REDRAW_SECONDS)) return;
    job->drawn = now;
    double share = (double)job->last.step / (double)job->steps;
    emb_train_stats stats = stats_of(job);
    unsigned left = (unsigned)(spent / share - spent + 0.5);
    emb_line_bar(bar, share);
    snprintf(text, sizeof text, "%3.0f%% %s loss %.4f  %.0f tok/s  %u:%02u left  %.0f MiB",
             share * 100, bar, job->last.loss, per_second((double)stats.tokens, stats.seconds),
             left / 60, left % 60, MIB(stats.host_bytes_now));
    emb_line_show(text);
}

void emb_train_show_step(emb_train_job *job) {
    const emb_train_step *step = &job->last;
    const emb_tensorboard_scalar scalars[] = {
        {"train/loss", step->loss},
        {"train/gradient_norm", step->gradient_norm},
        {"train/learning_rate", step->learning_rate},
        {"train/tokens_per_second", per_second((double)step->tokens, step->seconds)},
        {"train/epoch", job->batches.epoch}};
    log_step(job);
    add_events(job, scalars, sizeof scalars / sizeof scalars[0]);
    draw(job);
}

static void print_score(emb_writer *out, const char *key, double value) {
    if (isfinite(value))
        emb_writer_format(out, "\"%s\":%.4f", key, value);
    else
        emb_writer_format(out, "\"%s\":null", key);
}

void emb_train_show_score(emb_train_job *job, double spearman) {
    if (job->progress) emb_line_show("");
    if (!job->options->settings.quiet)
        emb_app_say("step %llu: Spearman %.2f", (ull)job->last.step, spearman);
    if (isfinite(spearman))
        add_events(job, &(emb_tensorboard_scalar){"eval/spearman", spearman}, 1);
    if (job->log.descriptor < 0) return;
    emb_writer_format(&job->log_writer, "{\"step\":%llu,", (ull)job->last.step);
    print_score(&job->log_writer, "spearman", spearman);
    emb_writer_text(&job->log_writer, "}\n");
    flush_log(job);
}

/* ---- the report ------------------------------------------------------------------------------ */

static void print_json(const emb_train_job *job, const emb_train_stats *stats) {
    emb_writer *out = emb_cli_stdout();
    const char *output = job->options->output;
    emb_writer_text(out, "{\"output\":");
    emb_writer_string(out, output, strlen(output));
    emb_writer_format(out, ",\"interrupted\":%s,\"steps\":%llu,\"steps_planned\":%llu",
                      job->interrupted ? "true" : "false", (ull)stats->steps, (ull)job->steps);
    emb_writer_format(out, ",\"examples\":%llu,\"tokens\":%llu,\"truncated\":%llu",
                      (ull)stats->examples, (ull)stats->tokens, (ull)stats->truncated);
    emb_writer_format(out, ",\"seconds\":%.3f,\"tokens_per_second\":%.1f", job->seconds,
                      per_second((double)stats->tokens, stats->seconds));
    emb_writer_format(out, ",\"loss_first\":%.9g,\"loss_last\":%.9g,", job->first.loss,
                      job->last.loss);
    print_score(out, "spearman_before", job->spearman_before);
    emb_writer_text(out, ",");
    print_score(out, "spearman_after", job->spearman_after);
    emb_writer_format(out, ",\"gpus\":%u", job->plan.device.devices);
    emb_writer_format(out, ",\"tokens_per_tile\":%u,\"tiles\":%u,\"tiles_kept\":%u",
                      job->plan.tokens_per_tile, job->plan.tiles, job->plan.tiles_kept);
    emb_writer_format(
        out, ",\"attention_kept\":%u,\"ffn_kept\":%u,\"layers\":%u,\"layers_apart\":%u",
        job->plan.attention_kept, job->plan.ffn_kept, job->plan.layers, job->plan.layers_apart);
    emb_writer_text(out, ",");
    print_score(out, "spearman_best", job->best);
    emb_writer_format(out, ",\"best_step\":%llu,\"stopped_early\":%s", (ull)job->best_step,
                      job->stopped ? "true" : "false");
    emb_writer_format(out, ",\"examples_bytes\":%llu,\"host_bytes_planned\":%llu",
                      (ull)emb_examples_bytes(&job->examples), (ull)stats->host_bytes_planned);
    emb_writer_format(out, ",\"host_bytes_peak\":%llu}\n", (ull)stats->host_bytes_peak);
}

static void say_replaced(const emb_examples *examples) {
    if (examples->replaced)
        emb_app_say("%llu text%s what is not UTF-8, read as U+FFFD, the first in %s",
                    (ull)examples->replaced, examples->replaced == 1 ? " holds" : "s hold",
                    examples->replaced_place);
}

void emb_train_report(const emb_train_job *job) {
    emb_train_stats stats = stats_of(job);
    if (job->options->json) print_json(job, &stats);
    if (job->options->settings.quiet) return;
    emb_app_say("%llu step%s, %llu examples, %llu tokens in %.2f s: %.0f tokens/s",
                (ull)stats.steps, emb_app_plural(stats.steps), (ull)stats.examples,
                (ull)stats.tokens, job->seconds, per_second((double)stats.tokens, stats.seconds));
    emb_app_say("loss: %.4f in the first step, %.4f in the last", job->first.loss, job->last.loss);
    if (isfinite(job->spearman_before) && isfinite(job->spearman_after))
        emb_app_say("Spearman: %.2f before, %.2f after (%+.2f)", job->spearman_before,
                    job->spearman_after, job->spearman_after - job->spearman_before);
    if (job->alike)
        emb_app_say("%llu batch%s had equal scores alone, from which cosent learns nothing: give a "
                    "larger --batch-size",
                    (ull)job->alike, job->alike == 1 ? "" : "es");
    if (stats.truncated)
        emb_app_say("%llu text%s longer than --max-length and cut", (ull)stats.truncated,
                    stats.truncated == 1 ? " was" : "s were");
    say_replaced(&job->examples);
    say_replaced(&job->pairs);
    emb_app_say("memory: %.2f MiB planned, %.2f MiB observed peak", MIB(stats.host_bytes_planned),
                MIB(stats.host_bytes_peak));
}
