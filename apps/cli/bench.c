/* bench.c - `embound bench`: texts and tokens a second, and where the time goes.
 *
 * Without -i it makes up its own texts, the same ones every time.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/command.h"
#include "cli/paths.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "common/describe.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/open.h"
#include "source/pieces.h"

#define OWN_TEXTS     512
#define OWN_WORDS_MAX 120

/* A source of made-up texts. */
typedef struct made_up {
    char *buffer;  /* [EMB_SOURCE_BYTES] */
    uint32_t made; /* texts given in this pass */
    uint64_t random;
} made_up;

typedef struct bench_job {
    emb_source source;
    emb_run run;
    made_up own;
} bench_job;

static uint32_t next_random(made_up *own, uint32_t limit) {
    own->random = own->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(own->random >> 33) % limit;
}

static emb_status next_own(emb_source *source, emb_piece *pieces, uint32_t capacity,
                           uint32_t *count, emb_error *error) {
    static const char *const words[] = {
        "the",     "river",  "of",      "a",       "small",   "garden",   "and",     "night",
        "train",   "music",  "in",      "winter",  "kitchen", "with",     "letters", "walking",
        "through", "market", "science", "quietly", "blue",    "mountain", "answers", "children",
        "history", "to",     "measure", "light",   "machine", "bread",    "seven",   "remember"};
    made_up *own = source->own;
    emb_piece_list list = {.pieces = pieces, .capacity = capacity};
    size_t used = 0, text_bytes_max = OWN_WORDS_MAX * 10;
    while (own->made < OWN_TEXTS && !emb_piece_list_full(&list) &&
           used + text_bytes_max <= EMB_SOURCE_BYTES) {
        size_t start = used;
        uint32_t length = 4 + next_random(own, OWN_WORDS_MAX - 4);
        for (uint32_t i = 0; i < length; i++) {
            const char *word = words[next_random(own, sizeof words / sizeof words[0])];
            size_t bytes = strlen(word);
            memcpy(own->buffer + used, word, bytes);
            used += bytes;
            own->buffer[used++] = ' ';
        }
        emb_source_add(source, &list, own->buffer + start, used - start);
        EMB_APP_TRY(emb_source_end(source, &list, error));
        own->made++;
    }
    *count = list.count;
    return EMB_OK;
}

static emb_status open_source(bench_job *job, const emb_options *options, void *memory,
                              emb_error *error) {
    static const emb_source_ops own_ops = {.next = next_own};
    if (options->inputs_count) {
        emb_source_close(&job->source);
        return emb_source_open(&job->source, &options->source, options->inputs,
                               options->inputs_count, emb_signals_descriptor(), memory,
                               EMB_SOURCE_BYTES, error);
    }
    job->own = (made_up){.buffer = memory, .random = 1};
    emb_source_init(&job->source, &own_ops, &job->own, &options->source);
    return EMB_OK;
}

static emb_status drop_rows(void *user, const emb_row *rows, uint32_t count, emb_error *error) {
    (void)user, (void)rows, (void)count, (void)error;
    return EMB_OK;
}

static void print_table(const emb_engine_stats_t *stats, const emb_session *session) {
    emb_writer *out = emb_cli_stdout();
    double seconds = stats->seconds > 1e-9 ? stats->seconds : 1e-9;
    double lanes = session->plan.lanes ? session->plan.lanes : 1;
    double mib = 1048576;
    emb_writer_format(out, "%.127s, %s on %s, %u lanes, %s\n", session->info.name,
                      emb_dtype_name(session->plan.dtype), session->plan.isa, session->plan.lanes,
                      emb_rung_name(session->plan.rung));
    emb_writer_format(out, "  texts            %12llu  %10.1f a second\n",
                      (unsigned long long)stats->texts, (double)stats->texts / seconds);
    emb_writer_format(out, "  tokens           %12llu  %10.1f a second\n",
                      (unsigned long long)stats->tokens, (double)stats->tokens / seconds);
    emb_writer_format(out, "  seconds          %12.3f\n", stats->seconds);
    emb_writer_format(out, "    tokenizing     %12.3f  on the reading thread\n",
                      stats->seconds_tokenize);
    emb_writer_format(out, "    encoding       %12.3f  on each lane\n",
                      stats->seconds_encode / lanes);
    emb_writer_format(out, "    waiting        %12.3f  on each lane, for streamed weights\n",
                      stats->seconds_wait / lanes);
    emb_writer_format(out, "  memory planned   %12.2f MiB\n",
                      (double)stats->host_bytes_planned / mib);
    emb_writer_format(out, "  memory observed  %12.2f MiB at its peak\n",
                      (double)stats->host_bytes_peak / mib);
}

static emb_status run_passes(bench_job *job, const emb_options *options, void *memory,
                             emb_error *error) {
    uint32_t repeat = options->repeat ? options->repeat : 1;
    for (uint32_t pass = 0; pass < repeat; pass++) {
        EMB_APP_TRY(open_source(job, options, memory, error));
        EMB_APP_TRY(emb_run_all(&job->run, error));
    }
    return EMB_OK;
}

int emb_command_bench(emb_session *session, emb_options *options) {
    static bench_job job;
    emb_error error = {0};
    void *memory = NULL;
    uint64_t bytes = emb_session_round(EMB_SOURCE_BYTES) + emb_run_bytes();
    for (uint32_t i = 0; i < options->inputs_count && options->repeat > 1; i++) {
        if (strcmp(options->inputs[i], "-") != 0) continue;
        emb_app_say("--repeat: standard input can be read once only; state a file");
        return EMB_EXIT_USAGE;
    }
    emb_status status =
        emb_cli_check_output(options->stats_path, options->inputs, options->inputs_count, &error);
    if (status == EMB_OK) status = emb_session_open_model(session, options->model, &error);
    if (status == EMB_OK) {
        status = emb_session_prompt(&options->source.prompt, session, options->prompt_name, &error);
    }
    if (status == EMB_OK) status = emb_session_plan(session, &options->settings, bytes, &error);
    if (status == EMB_OK) status = emb_session_open_block(session, &error);
    if (status == EMB_OK) {
        memory = emb_session_take(session, EMB_SOURCE_BYTES);
        status = open_source(&job, options, memory, &error);
    }
    if (status == EMB_OK) status = emb_session_open_engine(session, &error);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    emb_run_bind(&job.run, session);
    job.run.source = &job.source;
    job.run.rows_callback = drop_rows;
    job.run.quiet = options->settings.quiet;
    job.run.display = emb_progress_display(options);
    job.run.status = options->status;
    status = run_passes(&job, options, memory, &error);
    emb_source_close(&job.source);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    emb_engine_stats_t stats;
    emb_run_stats(&job.run, &stats);
    if (!options->settings.quiet) emb_report_notes(&job.source);
    if (options->json)
        emb_describe_stats(emb_cli_stdout(), &stats, session);
    else
        print_table(&stats, session);
    emb_signals_set_engine(NULL);
    int code = EMB_EXIT_OK;
    if (options->stats_path) code = emb_report_save_stats(options->stats_path, &stats, session);
    return code == EMB_EXIT_OK && job.run.failed ? EMB_EXIT_DATA : code;
}
