/* progress.c - the line that moves while an encode runs: share done, rate, time left, memory.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>

#include "cli/line.h"
#include "common/say.h"

#define REDRAW_SECONDS 0.1

/* The line shown; global, as there is one terminal. */
static struct {
    bool visible;
    double drawn;                /* when */
    double share, share_seconds; /* share done, and when that was reached */
} shown;

static void begin(void) {
    shown.share = 0;
}

/* A text so long that it fills all windows has no row yet: its bytes that must have been encoded,
 * as the windows hold at most the tokens of those that have not. */
static double bytes_encoded(const emb_run *run, const emb_engine_stats_t *stats) {
    const emb_plan *plan = &run->session->plan;
    double waiting = (double)plan->windows * plan->window_tokens;
    double computed = (double)stats->rows_computed;
    double prompts = (double)(run->submitted + 1) * (double)run->source->prompt_length;
    double bytes = (double)(stats->bytes_read - run->bytes_before) - prompts;
    return bytes * computed / (computed + waiting);
}

/* Bytes of the input whose rows were delivered, of all bytes: what is only read, or still in the
 * engine, is not done. Between two marks texts count equally. */
static double share_done(const emb_run *run, const emb_engine_stats_t *stats) {
    double bytes = (double)run->done.bytes;
    if (run->marks_count) {
        const emb_run_mark *next = &run->marks[run->marks_first];
        double texts = (double)(next->texts - run->done.texts);
        double share = (double)(run->collected - run->done.texts) / texts;
        bytes += share * (double)(next->bytes - run->done.bytes);
    } else {
        double encoded = bytes_encoded(run, stats);
        if (encoded > bytes) bytes = encoded;
    }
    double share = bytes / (double)run->source->input.bytes_total;
    if (share < shown.share)
        share = shown.share; /* an estimate from inside a long text was shown before */
    return share < 1 ? share : 1;
}

static void clear(void) {
    if (!shown.visible) return;
    emb_line_show("");
    shown.visible = false;
}

/* Extrapolates from when the current share was reached, as rows arrive in groups and time passes
 * between them. */
static double seconds_left(double share, double elapsed) {
    if (share != shown.share) {
        shown.share = share;
        shown.share_seconds = elapsed;
    }
    double left = shown.share_seconds / share - elapsed;
    return left > 0 ? left : 0;
}

static void draw(const emb_run *run, bool last) {
    double now = emb_app_seconds();
    if (!last && now - shown.drawn < REDRAW_SECONDS) return;
    shown.drawn = now;
    emb_engine_stats_t stats = {.struct_bytes = sizeof stats};
    emb_engine_stats(&stats, run->engine);
    double elapsed = now - run->started > 1e-3 ? now - run->started : 1e-3;
    bool sized = run->source->input.bytes_total > 0;
    double share = !sized ? 0 : last ? 1 : share_done(run, &stats);
    char text[192], bar[EMB_LINE_BAR], left[32] = "";
    int length = 0;
    if (sized) {
        emb_line_bar(bar, share);
        unsigned seconds = share > 0 ? (unsigned)(seconds_left(share, elapsed) + 0.5) : 0;
        if (share > 0) snprintf(left, sizeof left, "  %u:%02u left", seconds / 60, seconds % 60);
        length = snprintf(text, sizeof text, "%3.0f%% %s ", share * 100, bar);
    }
    snprintf(text + length, sizeof text - (size_t)length, "%llu texts  %.0f/s%s  %.0f MiB",
             (unsigned long long)run->collected, (double)run->collected / elapsed, left,
             (double)stats.host_bytes_now / 1048576);
    emb_line_show(text);
    shown.visible = true;
}

const emb_run_display *emb_progress_display(const emb_options *options) {
    static const emb_run_display display = {.begin = begin, .draw = draw, .clear = clear};
    return emb_line_is_wanted(options) ? &display : NULL;
}
