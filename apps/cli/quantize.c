/* quantize.c - `embound quantize`: writes a new directory of a model with its matrices in 8 or 4
 * bits.
 *
 * The library does the work; this reads the calibration texts and reports the steps.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "cli/command.h"
#include "cli/line.h"
#include "cli/print.h"
#include "cli/report.h"
#include "common/exit.h"
#include "common/run.h"
#include "common/say.h"
#include "common/signals.h"
#include "embound_experimental.h"
#include "fail.h"
#include "source/open.h"

#define TEXT_BYTES_MAX (4u << 20) /* of all calibration texts; the rest is ignored */
#define TEXTS_MAX      16384
#define WORDS_MAX      10 /* messages about unreadable texts */
#define MATRICES       6
#define MIB(bytes)     ((double)(bytes) / 1048576)

typedef struct layer_errors {
    double matrix[MATRICES], products[MATRICES]; /* products: NaN if nothing was calibrated */
    char tensors[MATRICES][128];
    double output;
} layer_errors;

typedef struct quantize_job {
    emb_source source;
    unsigned char *memory; /* of the source */
    char *bytes;           /* [TEXT_BYTES_MAX] */
    size_t bytes_used;
    emb_text *texts; /* [TEXTS_MAX] */
    uint32_t texts_count, left_out;
    emb_piece *pieces; /* [EMB_RUN_PIECES] */
    layer_errors *layers;
    double words;
    bool progress;
    emb_quantize_result result;
    double started;
} quantize_job;

/* ---- texts ----------------------------------------------------------------------------------- */

/* Gives whether there is room for more. */
static bool take_piece(quantize_job *job, const emb_piece *piece) {
    size_t room = TEXT_BYTES_MAX - job->bytes_used;
    size_t length = piece->length < room ? piece->length : room;
    if (piece->flags & EMB_PIECE_FIRST)
        job->texts[job->texts_count] = (emb_text){.data = job->bytes + job->bytes_used};
    memcpy(job->bytes + job->bytes_used, piece->data, length);
    job->bytes_used += length;
    job->texts[job->texts_count].length += length;
    if (piece->flags & EMB_PIECE_LAST || length == room) job->texts_count++;
    return job->texts_count < TEXTS_MAX && length < room;
}

/* The last text could not be read, or not to its end. */
static void leave_out(quantize_job *job, const emb_error *error) {
    job->bytes_used -= job->texts[--job->texts_count].length;
    if (++job->left_out <= WORDS_MAX) emb_app_say("left out: %s", error->message);
    if (job->left_out == WORDS_MAX) emb_app_say("further ones are not shown here");
}

static emb_status read_texts(quantize_job *job, const emb_options *options, emb_error *error) {
    EMB_APP_TRY(emb_source_open(&job->source, &options->source, &options->calibrate, 1,
                                emb_signals_descriptor(), job->memory, EMB_SOURCE_BYTES, error));
    emb_status status = EMB_OK;
    for (bool more = true; more && status == EMB_OK;) {
        uint32_t count = 0;
        status = emb_source_read(&job->source, job->pieces, EMB_RUN_PIECES, &count, error);
        for (uint32_t i = 0; i < count && more; i++) more = take_piece(job, &job->pieces[i]);
        if (count == 0) break;
        if (status != EMB_BAD_TEXT) continue;
        if (more) leave_out(job, error);
        status = EMB_OK;
    }
    emb_source_close(&job->source);
    if (status == EMB_OK && !options->settings.quiet) emb_report_notes(&job->source);
    if (status == EMB_OK && job->texts_count == 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "--calibrate %.*s: holds no texts",
                            EMB_APP_CUT(options->calibrate, 150));
    return status;
}

static emb_status open_job(quantize_job *job, emb_session *session, const emb_options *options,
                           emb_error *error) {
    uint64_t layers = session->info.layers * sizeof *job->layers;
    uint64_t texts = TEXTS_MAX * sizeof *job->texts, pieces = EMB_RUN_PIECES * sizeof *job->pieces;
    bool reads = options->calibrate != NULL;
    session->limits.caller_bytes = emb_session_round(layers);
    if (reads)
        session->limits.caller_bytes += EMB_SOURCE_BYTES + TEXT_BYTES_MAX +
                                        emb_session_round(texts) + emb_session_round(pieces);
    EMB_APP_TRY(emb_session_open_block(session, error));
    job->layers = emb_session_take(session, layers);
    if (!reads) return EMB_OK;
    job->memory = emb_session_take(session, EMB_SOURCE_BYTES);
    job->bytes = emb_session_take(session, TEXT_BYTES_MAX);
    job->texts = emb_session_take(session, texts);
    job->pieces = emb_session_take(session, pieces);
    return read_texts(job, options, error);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void draw(const quantize_job *job, const emb_quantize_step *step) {
    char text[192], bar[EMB_LINE_BAR];
    double share = (double)step->done / step->total, spent = emb_app_seconds() - job->started;
    unsigned left = (unsigned)(spent / share - spent + 0.5);
    emb_line_bar(bar, share);
    snprintf(text, sizeof text, "%3.0f%% %s %u of %u matrices  %u:%02u left", share * 100, bar,
             step->done, step->total, left / 60, left % 60);
    emb_line_show(text);
}

static int take_step(void *user, const emb_quantize_step *step) {
    quantize_job *job = user;
    if (step->done == 1) {
        job->words = step->error;
    } else if (!step->tensor[0]) {
        job->layers[step->layer].output = step->output_error;
    } else {
        layer_errors *layer = &job->layers[step->layer];
        uint32_t place = (step->done - 2) % MATRICES;
        layer->matrix[place] = step->error;
        layer->products[place] = step->output_error;
        memcpy(layer->tensors[place], step->tensor, sizeof step->tensor);
    }
    if (job->progress) draw(job, step);
    return emb_signals_received();
}

/* ---- report ---------------------------------------------------------------------------------- */

static void print_table(const quantize_job *job, const emb_options *options, uint32_t layers) {
    emb_writer *out = emb_cli_stdout();
    bool calibrated = job->result.texts > 0;
    emb_writer_format(out, "relative error (root mean square) of each matrix%s\n\n",
                      calibrated ? "'s products on the texts, and of the layer's output" : "");
    emb_writer_text(out, "layer    query      key    value      out   ffn in  ffn out");
    emb_writer_text(out, calibrated ? "    layer\n" : "\n");
    for (uint32_t n = 0; n < layers; n++) {
        const layer_errors *layer = &job->layers[n];
        emb_writer_format(out, "%5u", n);
        for (uint32_t i = 0; i < MATRICES; i++)
            emb_writer_format(out, "  %7.5f", calibrated ? layer->products[i] : layer->matrix[i]);
        if (calibrated) emb_writer_format(out, "  %7.5f", layer->output);
        emb_writer_text(out, "\n");
    }
    emb_writer_format(out, "words  %7.5f\n\n", job->words);
    if (calibrated)
        emb_writer_format(out, "calibrated with %u text%s, %u tokens\n", job->result.texts,
                          emb_app_plural(job->result.texts), job->result.tokens);
    emb_writer_format(out, "%.*s: %s, %.1f MiB of %.1f, %.1f s, %.1f MiB of working memory\n",
                      EMB_APP_CUT(options->output, 400),
                      emb_dtype_name(options->settings.limits.dtype), MIB(job->result.bytes),
                      MIB(job->result.source_bytes), emb_app_seconds() - job->started,
                      MIB(job->result.memory_bytes));
}

static void print_error(emb_writer *out, const char *key, double value) {
    if (isnan(value))
        emb_writer_format(out, ",\"%s\":null", key);
    else
        emb_writer_format(out, ",\"%s\":%.6g", key, value);
}

static void print_json(const quantize_job *job, const emb_options *options, uint32_t layers) {
    emb_writer *out = emb_cli_stdout();
    const emb_quantize_result *r = &job->result;
    emb_writer_text(out, "{\"output\":");
    emb_writer_string(out, options->output, strlen(options->output));
    emb_writer_format(out, ",\"dtype\":\"%s\",\"matrices\":%u,\"texts\":%u,\"tokens\":%u",
                      emb_dtype_name(options->settings.limits.dtype), r->matrices, r->texts,
                      r->tokens);
    emb_writer_format(out, ",\"source_bytes\":%llu,\"bytes\":%llu,\"memory_bytes\":%llu",
                      (unsigned long long)r->source_bytes, (unsigned long long)r->bytes,
                      (unsigned long long)r->memory_bytes);
    emb_writer_format(out, ",\"seconds\":%.3f", emb_app_seconds() - job->started);
    print_error(out, "words_error", job->words);
    emb_writer_text(out, ",\"layers\":[");
    for (uint32_t n = 0; n < layers; n++) {
        const layer_errors *layer = &job->layers[n];
        emb_writer_format(out, "%s{\"layer\":%u", n ? "," : "", n);
        print_error(out, "output_error", r->texts ? layer->output : NAN);
        emb_writer_text(out, ",\"matrices\":[");
        for (uint32_t i = 0; i < MATRICES; i++) {
            emb_writer_text(out, i ? ",{\"tensor\":" : "{\"tensor\":");
            emb_writer_string(out, layer->tensors[i], strlen(layer->tensors[i]));
            print_error(out, "error", layer->matrix[i]);
            print_error(out, "output_error", layer->products[i]);
            emb_writer_text(out, "}");
        }
        emb_writer_text(out, "]}");
    }
    emb_writer_text(out, "]}\n");
}

/* ---- the command ----------------------------------------------------------------------------- */

static emb_status run_job(quantize_job *job, emb_session *session, const emb_options *options,
                          emb_error *error) {
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    EMB_APP_TRY(open_job(job, session, options, error));
    emb_quantize_options how = {
        .struct_bytes = sizeof how,
        .dtype = options->settings.limits.dtype,
        .group = options->group,
        .smooth = options->smooth,
        .overwrite = options->force,
        .tokens_max = options->calibrate_tokens,
        .texts_count = job->texts_count,
        .texts = job->texts,
        .host_bytes_max = options->settings.limits.host_bytes_max,
    };
    emb_signals_set_busy(true);
    emb_status status = emb_model_quantize(&job->result, session->model, options->output, &how,
                                           take_step, job, error);
    emb_signals_set_busy(false);
    if (job->progress) emb_line_show("");
    return status;
}

int emb_command_quantize(emb_session *session, emb_options *options) {
    static quantize_job job;
    emb_error error = {0};
    const char *missing = !options->output                    ? "no output: state -o DIR"
                          : strcmp(options->output, "-") == 0 ? "-o -: state a directory"
                          : !options->settings.limits.dtype   ? "state --dtype int8, int4 or fp8"
                                                              : NULL;
    if (!missing && options->calibrate_tokens && !options->calibrate)
        missing = "--calibrate-tokens needs --calibrate FILE";
    if (missing) {
        emb_app_say("%s", missing);
        return EMB_EXIT_USAGE;
    }
    job.progress = emb_line_is_wanted(options);
    job.started = emb_app_seconds();
    emb_status status = run_job(&job, session, options, &error);
    if (status != EMB_OK) return emb_exit_say(status, &error);
    if (options->json)
        print_json(&job, options, session->info.layers);
    else if (!options->settings.quiet)
        print_table(&job, options, session->info.layers);
    return EMB_EXIT_OK;
}
