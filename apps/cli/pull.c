/* pull.c - the command `pull`: shows the progress of a model's download, and prints its path.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/line.h"
#include "cli/print.h"
#include "common/exit.h"
#include "common/say.h"
#include "hub/hub.h"

#define REDRAW_SECONDS 0.1

typedef struct bar {
    bool wanted, visible;
    double begun, drawn;
    uint64_t bytes_before; /* present when the first line was drawn */
} bar;

static void draw(bar *line, const char *text) {
    emb_line_show(text);
    line->visible = *text != '\0';
}

static int on_progress(void *user, const emb_hub_progress *progress) {
    bar *line = user;
    double now = emb_app_seconds();
    if (!line->wanted || now - line->drawn < REDRAW_SECONDS) return 0;
    if (line->drawn == 0) {
        line->begun = now;
        line->bytes_before = progress->bytes;
    }
    line->drawn = now;
    char text[256] = "asking the hub";
    if (progress->files_count) {
        double seconds = now - line->begun;
        double rate = seconds > 0 && progress->bytes > line->bytes_before
                          ? (double)(progress->bytes - line->bytes_before) / seconds
                          : 0;
        snprintf(text, sizeof text, "%3.0f%%  %.1f of %.1f MB  %.1f MB/s  %u of %u  %.40s",
                 progress->total ? 100.0 * (double)progress->bytes / (double)progress->total : 100,
                 (double)progress->bytes * 1e-6, (double)progress->total * 1e-6, rate * 1e-6,
                 progress->files_done + 1, progress->files_count, progress->file);
    }
    draw(line, text);
    return 0;
}

static void print_json(const emb_hub_pulled *pulled) {
    emb_writer *out = emb_cli_stdout();
    emb_writer_text(out, "{\"path\":");
    emb_writer_string(out, pulled->path, strlen(pulled->path));
    emb_writer_format(out, ",\"model\":\"%s\",\"commit\":\"%s\",\"files\":%u", pulled->repo,
                      pulled->commit, pulled->files);
    emb_writer_format(out, ",\"bytes\":%llu,\"bytes_fetched\":%llu}\n",
                      (unsigned long long)pulled->bytes, (unsigned long long)pulled->bytes_fetched);
}

/* Warns about a pulled model of a kind that embound does not support. */
static int check(const emb_hub_pulled *pulled) {
    emb_model *model = NULL;
    emb_error error;
    emb_status status = emb_model_open(&model, pulled->path, &error);
    if (status == EMB_OK) {
        emb_model_close(model);
        return EMB_EXIT_OK;
    }
    emb_app_say("%s is in the cache, but embound cannot use it:", pulled->repo);
    return emb_exit_say(status, &error);
}

int emb_command_pull(emb_session *session, emb_options *options) {
    static emb_hub_pulled pulled;
    (void)session;
    bool silenced = emb_hub_wants_silence() && options->progress != EMB_CLI_ALWAYS;
    bar line = {.wanted = emb_line_is_wanted(options) && !silenced};
    const emb_hub_request request = {.revision = options->revision,
                                     .offline = options->offline,
                                     .progress = on_progress,
                                     .user = &line};
    emb_error error;
    emb_status status = emb_hub_pull(&pulled, options->model, &request, &error);
    if (line.visible) draw(&line, "");
    if (status != EMB_OK) return emb_exit_say(status, &error);
    if (options->json)
        print_json(&pulled);
    else
        emb_writer_format(emb_cli_stdout(), "%s\n", pulled.path);
    return check(&pulled);
}
