/* search.c - `embound search`: the rows of an .npy file that are nearest to each query.
 *
 * The file is read once, block by block; its size does not matter for memory. With --texts the
 * texts are read once too, and the beginning of each one found is kept.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/vector.h"
#include "cli/command.h"
#include "cli/paths.h"
#include "cli/print.h"
#include "cli/report.h"
#include "common/exit.h"
#include "common/run.h"
#include "common/say.h"
#include "common/signals.h"
#include "fail.h"
#include "source/npy.h"
#include "source/open.h"

#define BLOCK_BYTES   (256u << 10)
#define SNIPPET_BYTES 120

typedef struct hit {
    double score;
    uint64_t row;
    uint32_t snippet_length;
    char snippet[SNIPPET_BYTES];
} hit;

typedef struct search_job {
    emb_npy index;
    uint32_t queries, k;
    bool dot;
    float *vectors;   /* [queries, dim] */
    hit *hits;        /* [queries, k], best first */
    uint32_t *counts; /* [queries] */
    unsigned char *block;
    emb_source source;
    emb_piece pieces[EMB_RUN_PIECES];
} search_job;

/* Puts a row into the list of a query, best first; equal scores stay in row order. */
static void offer(search_job *job, uint32_t query, uint64_t row, double score) {
    hit *list = job->hits + (size_t)query * job->k;
    uint32_t count = job->counts[query];
    if (count == job->k && !(score > list[count - 1].score)) return;
    if (count < job->k) job->counts[query] = ++count;
    uint32_t at = count - 1;
    for (; at > 0 && list[at - 1].score < score; at--) list[at] = list[at - 1];
    list[at].score = score;
    list[at].row = row;
    list[at].snippet_length = 0;
}

static void score_row(search_job *job, const float *row, uint64_t index) {
    double norm = job->dot ? 1 : emb_vector_length(row, job->index.dim);
    for (uint32_t q = 0; q < job->queries; q++) {
        const float *query = job->vectors + (size_t)q * job->index.dim;
        double sum = 0;
        for (uint32_t i = 0; i < job->index.dim; i++) sum += (double)row[i] * query[i];
        double score = norm == 0 ? 0 : sum / norm;
        if (isfinite(score)) offer(job, q, index, score); /* a failed row is NaN */
    }
}

static emb_status scan_index(search_job *job, const char *path, emb_error *error) {
    size_t row_bytes = job->index.dim * sizeof(float);
    uint64_t rows_per_block = BLOCK_BYTES / row_bytes;
    for (uint64_t row = 0; row < job->index.rows;) {
        uint64_t count =
            job->index.rows - row < rows_per_block ? job->index.rows - row : rows_per_block;
        size_t wanted = count * row_bytes, have = 0;
        while (have < wanted) {
            ssize_t got = pread(job->index.descriptor, job->block + have, wanted - have,
                                (off_t)(job->index.data_offset + row * row_bytes + have));
            if (emb_signals_received()) return EMB_CANCELLED;
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return emb_app_fail(error, EMB_IO, "%s: %s", path, strerror(errno));
            if (got == 0) return emb_npy_fail(path, "it was cut while being read", error);
            have += (size_t)got;
        }
        for (uint64_t i = 0; i < count; i++) {
            score_row(job, (const float *)(const void *)(job->block + i * row_bytes), row + i);
        }
        row += count;
    }
    return EMB_OK;
}

static emb_status encode_queries(search_job *job, emb_session *session, const emb_options *options,
                                 emb_error *error) {
    for (uint32_t q = 0; q < job->queries; q++) {
        emb_text text = {.data = options->words[q],
                         .length = strlen(options->words[q]),
                         .prompt = options->source.prompt};
        float *vector = job->vectors + (size_t)q * job->index.dim;
        EMB_APP_TRY(emb_engine_embed(vector, session->engine, &text, 1, error));
        if (!job->dot) emb_vector_normalize(vector, job->index.dim);
    }
    return EMB_OK;
}

static void keep_snippet(search_job *job, uint64_t index, const emb_piece *piece) {
    for (uint32_t q = 0; q < job->queries; q++) {
        for (uint32_t i = 0; i < job->counts[q]; i++) {
            hit *found = job->hits + (size_t)q * job->k + i;
            if (found->row != index) continue;
            size_t room = SNIPPET_BYTES - found->snippet_length;
            size_t length = piece->length < room ? piece->length : room;
            memcpy(found->snippet + found->snippet_length, piece->data, length);
            found->snippet_length += (uint32_t)length;
        }
    }
}

static emb_status read_snippets(search_job *job, emb_error *error) {
    uint64_t index = 0;
    for (;;) {
        uint32_t count = 0;
        emb_status status =
            emb_source_read(&job->source, job->pieces, EMB_RUN_PIECES, &count, error);
        if (status != EMB_OK && status != EMB_BAD_TEXT) return status;
        for (uint32_t i = 0; i < count; i++) {
            keep_snippet(job, index, &job->pieces[i]);
            index += (job->pieces[i].flags & EMB_PIECE_LAST) != 0;
        }
        if (count == 0) break;
    }
    if (index == job->index.rows) return EMB_OK;
    return emb_app_fail(error, EMB_BAD_FILE,
                        "--texts has %llu text%s and --index %llu row%s: they do not belong "
                        "together",
                        (unsigned long long)index, emb_app_plural(index),
                        (unsigned long long)job->index.rows, emb_app_plural(job->index.rows));
}

/* Makes a snippet one line of whole characters. */
static void tidy_snippet(hit *found) {
    static const char dots[] = "...";
    uint32_t length = found->snippet_length;
    if (length == SNIPPET_BYTES) { /* there was more: truncate between characters, and mark it */
        length -= sizeof dots;
        while (length > 0 && ((unsigned char)found->snippet[length] & 0xC0) == 0x80) length--;
        memcpy(found->snippet + length, dots, sizeof dots - 1);
        length += sizeof dots - 1;
    }
    for (uint32_t i = 0; i < length; i++) {
        if ((unsigned char)found->snippet[i] < 0x20 || found->snippet[i] == 0x7F) {
            found->snippet[i] = ' ';
        }
    }
    found->snippet_length = length;
}

static void print_hits(search_job *job, const emb_options *options) {
    emb_writer *out = emb_cli_stdout();
    for (uint32_t q = 0; q < job->queries; q++) {
        const char *query = options->words[q];
        if (!options->json) {
            emb_writer_format(out, "%s%.*s\n", q ? "\n" : "", EMB_APP_CUT(query, 400));
        }
        for (uint32_t i = 0; i < job->counts[q]; i++) {
            hit *found = job->hits + (size_t)q * job->k + i;
            tidy_snippet(found);
            if (options->json) {
                emb_writer_text(out, "{\"query\":");
                emb_writer_string(out, query, strlen(query));
                emb_writer_format(out, ",\"rank\":%u,\"row\":%llu,\"score\":%.6f,\"text\":", i + 1,
                                  (unsigned long long)found->row, found->score);
                emb_writer_string(out, found->snippet, found->snippet_length);
                emb_writer_text(out, "}\n");
            } else {
                emb_writer_format(out, "  %7.4f  %6llu  ", found->score,
                                  (unsigned long long)found->row);
                emb_writer_put(out, found->snippet, found->snippet_length);
                emb_writer_text(out, "\n");
            }
        }
    }
}

static uint64_t search_bytes(uint32_t dim, uint32_t queries, uint32_t k) {
    return emb_session_round((uint64_t)queries * dim * sizeof(float)) +
           emb_session_round((uint64_t)queries * k * sizeof(hit)) +
           emb_session_round(queries * sizeof(uint32_t)) + emb_session_round(EMB_SOURCE_BYTES) +
           emb_session_round(BLOCK_BYTES);
}

static emb_status open_job(search_job *job, emb_session *session, emb_options *options,
                           emb_error *error) {
    job->queries = options->words_count;
    job->k = options->k;
    job->dot = options->score == 1;
    const char *inputs[] = {options->index_path, options->texts_path};
    EMB_APP_TRY(emb_cli_check_output(options->stats_path, inputs, inputs[1] ? 2 : 1, error));
    EMB_APP_TRY(emb_npy_open(&job->index, options->index_path, error));
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    EMB_APP_TRY(emb_session_prompt(&options->source.prompt, session, options->prompt_name, error));
    EMB_APP_TRY(emb_session_plan(session, &options->settings,
                                 search_bytes(job->index.dim, job->queries, job->k), error));
    if (session->plan.dim != job->index.dim) {
        return emb_app_fail(error, EMB_BAD_FILE,
                            "%.*s: its rows have %u values, the model's vectors %u; use the model "
                            "(and --dim) it was encoded with",
                            EMB_APP_CUT(options->index_path, 100), job->index.dim,
                            session->plan.dim);
    }
    EMB_APP_TRY(emb_session_open_block(session, error));
    job->vectors =
        emb_session_take(session, (uint64_t)job->queries * job->index.dim * sizeof(float));
    job->hits = emb_session_take(session, (uint64_t)job->queries * job->k * sizeof(hit));
    job->counts = emb_session_take(session, job->queries * sizeof(uint32_t));
    job->block = emb_session_take(session, BLOCK_BYTES);
    if (options->texts_path) {
        emb_source_options texts = options->source;
        texts.prompt = NULL;
        EMB_APP_TRY(
            emb_source_open(&job->source, &texts, &options->texts_path, 1, emb_signals_descriptor(),
                            emb_session_take(session, EMB_SOURCE_BYTES), EMB_SOURCE_BYTES, error));
    }
    return emb_session_open_engine(session, error);
}

int emb_command_search(emb_session *session, emb_options *options) {
    static search_job job = {.index = {.descriptor = -1}};
    emb_error error = {0};
    if (!options->index_path || options->words_count == 0) {
        emb_app_say(options->index_path ? "no query: write it after MODEL, in quotes"
                                        : "no index: state --index FILE.npy");
        return EMB_EXIT_USAGE;
    }
    emb_status status = open_job(&job, session, options, &error);
    if (status == EMB_OK) status = encode_queries(&job, session, options, &error);
    if (status == EMB_OK) status = scan_index(&job, options->index_path, &error);
    if (status == EMB_OK && options->texts_path) status = read_snippets(&job, &error);
    if (emb_signals_received()) status = EMB_CANCELLED;
    int code = EMB_EXIT_OK;
    if (status != EMB_OK) {
        code = emb_session_fail(session, &options->settings, status, &error);
    } else {
        print_hits(&job, options);
        if (options->texts_path && !options->settings.quiet) emb_report_notes(&job.source);
    }
    if (status == EMB_OK && options->stats_path) {
        emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
        emb_engine_stats(&stats, session->engine);
        code = emb_report_save_stats(options->stats_path, &stats, session);
    }
    emb_signals_set_engine(NULL);
    emb_source_close(&job.source);
    if (job.index.descriptor >= 0) close(job.index.descriptor);
    return code;
}
