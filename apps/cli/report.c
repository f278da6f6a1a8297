/* report.c - the plan as a table, the summary after a run, and --stats.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "common/describe.h"
#include "common/exit.h"
#include "common/say.h"
#include "common/size.h"
#include "source/source.h"

#define MIB(bytes) ((double)(bytes) / 1048576)

typedef unsigned long long ull;

static const char *const region_heads[] = {"Memory of the process, all of it",
                                           "of it pinned, which the GPU reads and writes",
                                           "Memory of the GPU, all of it"};

static const char *rung_in_words(emb_rung rung) {
    switch (rung) {
    case EMB_RUNG_FULL:
        return "full speed: all weights in memory, full batches";
    case EMB_RUNG_FEWER:
        return "all weights in memory, fewer tokens at a time";
    case EMB_RUNG_GATHER:
        return "layers in memory, word embeddings read from the file as needed";
    case EMB_RUNG_STREAM:
        return "layers read from the file one after another, over and over";
    case EMB_RUNG_PINNED_EMBEDDINGS:
        return "layers on the GPU, word embeddings in the host's memory";
    case EMB_RUNG_PINNED_LAYERS:
        return "layers copied from the host's memory one after another, over and over";
    }
    return "?";
}

static const char *long_in_words(emb_long_rule rule) {
    switch (rule) {
    case EMB_LONG_CHUNK:
        return "cut into chunks, whose vectors are averaged";
    case EMB_LONG_TRUNCATE:
        return "cut off: only the beginning counts";
    case EMB_LONG_ERROR:
        return "refused: a failed row";
    }
    return "?";
}

static void table_items(emb_writer *out, const emb_region *region) {
    for (uint32_t i = 0; i < region->items_count; i++) {
        emb_writer_format(out, "  %-40.39s %10.2f\n", region->items[i].name,
                          MIB(region->items[i].bytes));
    }
}

static void table_total(emb_writer *out, uint64_t bytes, uint64_t budget) {
    emb_writer_format(out, "  %-40s %10.2f\n", "total, never exceeded", MIB(bytes));
    if (budget) {
        emb_writer_format(out, "  %-40s %10.2f  it fits\n", "budget", MIB(budget));
    } else {
        emb_writer_format(out, "  %-40s %10s  as much as full speed needs\n", "budget", "auto");
    }
}

/* Host and pinned memory together are one budget, a GPU's is another. */
static void table_regions(emb_writer *out, const emb_plan *plan) {
    for (uint32_t r = 0; r < plan->regions_count; r++) {
        const emb_region *region = &plan->regions[r];
        bool device = region->kind == EMB_REGION_DEVICE;
        if (device) table_total(out, plan->host_bytes, plan->host_bytes_max);
        char head[64];
        snprintf(head, sizeof head, "%s",
                 region->kind <= EMB_REGION_DEVICE ? region_heads[region->kind] : "?");
        if (region->devices > 1) {
            snprintf(head, sizeof head, "Memory of each of %u GPUs", region->devices);
        }
        emb_writer_format(out, "%s%-44s %6s\n", device ? "\n" : "", head, "MiB");
        table_items(out, region);
    }
    if (plan->device_bytes) {
        table_total(out, plan->device_bytes, plan->device_bytes_max);
        if (plan->device_free_bytes)
            emb_writer_format(out, "  %-40s %10.2f  of which %.0f are left to others\n",
                              "free there now", MIB(plan->device_free_bytes),
                              MIB(plan->device_margin_bytes));
    } else {
        table_total(out, plan->host_bytes, plan->host_bytes_max);
    }
}

/* "--memory 64MiB  --gpu-memory 600MiB" */
static void table_budget(emb_writer *out, const char *what, const char *host, const emb_plan *plan,
                         uint64_t device_bytes) {
    char device[32];
    emb_size_text(device, sizeof device, device_bytes);
    emb_writer_format(out, "  %-26s --memory %s", what, host);
    if (plan->device_bytes) emb_writer_format(out, "  --gpu-memory %s", device);
    emb_writer_text(out, "\n");
}

static void table_shapes(emb_writer *out, const emb_session *session) {
    const emb_plan *plan = &session->plan;
    emb_writer_format(out, "How it works inside that\n");
    emb_writer_format(out, "  step of the ladder     %s\n", rung_in_words(plan->rung));
    emb_writer_format(out, "  lanes                  %u (threads that compute)\n", plan->lanes);
    emb_writer_format(out, "  tokens per tile        %u (that one lane holds at once)\n",
                      plan->tokens_per_tile);
    emb_writer_format(out, "  tokens per pass        %u (that go through all layers together)\n",
                      plan->tokens_per_pass);
    emb_writer_format(out, "  tokens read ahead      %u in each of %u windows\n",
                      plan->window_tokens, plan->windows);
    emb_writer_format(out, "  longest chunk          %u tokens; longer texts are %s\n",
                      plan->chunk_tokens_max, long_in_words(plan->long_rule));
    emb_writer_format(out, "  vectors                %u values, %s pooling%s\n", plan->dim,
                      emb_pooling_name(plan->pooling), plan->normalize ? ", normalised" : "");
    emb_writer_format(out, "  numbers                %s on %s (%s)\n", emb_dtype_name(plan->dtype),
                      plan->isa, plan->numerics_id);
}

void emb_report_plan_table(emb_writer *out, const emb_session *session) {
    const emb_plan *plan = &session->plan;
    char minimum[32], knee[32];
    emb_size_minimum(minimum, sizeof minimum, plan->host_bytes_min);
    emb_size_text(knee, sizeof knee, plan->host_bytes_knee);
    emb_writer_format(out, "Plan for %.127s (%s, %u layers, %u wide)\n\n", session->info.name,
                      session->info.architecture, session->info.layers, session->info.hidden);
    table_regions(out, plan);
    emb_writer_text(out, "\n");
    table_shapes(out, session);
    emb_writer_format(out, "\nOther budgets\n");
    table_budget(out, "the smallest that works", minimum, plan, plan->device_bytes_min);
    table_budget(out, "the smallest at full speed", knee, plan, plan->device_bytes_knee);
}

void emb_report_summary(const emb_engine_stats_t *stats, const emb_session *session) {
    double seconds = stats->seconds > 1e-9 ? stats->seconds : 1e-9;
    emb_app_say("%llu text%s, %llu of them longer than %u tokens; %llu failed", (ull)stats->texts,
                emb_app_plural(stats->texts), (ull)stats->texts_long,
                session->plan.chunk_tokens_max, (ull)stats->texts_failed);
    emb_app_say("%llu tokens in %.2f s: %.0f texts/s, %.0f tokens/s", (ull)stats->tokens,
                stats->seconds, (double)stats->texts / seconds, (double)stats->tokens / seconds);
    if (stats->tokens_dropped && session->plan.long_rule == EMB_LONG_TRUNCATE) {
        emb_app_say("%llu tokens were cut off (--long truncate)", (ull)stats->tokens_dropped);
    }
    emb_app_say("memory: %.2f MiB planned, %.2f MiB observed peak", MIB(stats->host_bytes_planned),
                MIB(stats->host_bytes_peak));
}

void emb_report_notes(const emb_source *source) {
    const emb_source_notes *notes = &source->notes;
    uint32_t file;
    uint64_t line;
    if (notes->texts_replaced) {
        bool one = notes->replaced == 1;
        emb_source_place(notes->replaced_place, &file, &line);
        emb_app_say("%llu character%s of %llu text%s %s %s and %s read as U+FFFD, the first at %s "
                    "line %llu, byte %llu of its text (0x%02X): %s, or let such rows fail "
                    "(--invalid error)",
                    (ull)notes->replaced, emb_app_plural(notes->replaced),
                    (ull)notes->texts_replaced, emb_app_plural(notes->texts_replaced),
                    one ? "is" : "are",
                    notes->nuls == notes->replaced ? "NUL"
                    : notes->nuls                  ? "NUL or not UTF-8"
                                                   : "not UTF-8",
                    one ? "was" : "were", emb_input_name(&source->input, file), (ull)line,
                    (ull)notes->replaced_byte, notes->replaced_value,
                    notes->replaced_value ? "convert the file (iconv -f LATIN1 -t UTF-8)"
                                          : "give no binary file, remove the NUL bytes of a text "
                                            "(tr -d '\\000')");
    }
    if (notes->texts_return) {
        bool one = notes->texts_return == 1;
        emb_source_place(notes->return_place, &file, &line);
        emb_app_say("%llu line%s %s a CR that ends no line and was read as a blank, the first at "
                    "%s line %llu",
                    (ull)notes->texts_return, emb_app_plural(notes->texts_return),
                    one ? "holds" : "hold", emb_input_name(&source->input, file), (ull)line);
    }
}

int emb_report_save_stats(const char *path, const emb_engine_stats_t *stats,
                          const emb_session *session) {
    static emb_output output;
    static char buffer[4096];
    emb_error error;
    if (strcmp(path, "-") == 0) {
        emb_describe_stats(emb_cli_stdout(), stats, session);
        return EMB_EXIT_OK;
    }
    emb_status status = emb_output_open(&output, path, &error);
    if (status != EMB_OK) {
        emb_app_say("%s", error.message);
        return status == EMB_TIMEOUT ? EMB_EXIT_AGAIN : EMB_EXIT_CREATE;
    }
    emb_writer writer;
    emb_writer_init(&writer, &output, buffer, sizeof buffer);
    emb_describe_stats(&writer, stats, session);
    status = emb_writer_flush(&writer, &error);
    if (status == EMB_OK)
        status = emb_output_commit(&output, &error);
    else
        emb_output_abort(&output);
    if (status == EMB_OK) return EMB_EXIT_OK;
    emb_app_say("%s", error.message);
    return EMB_EXIT_OUTPUT;
}
