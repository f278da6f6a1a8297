/* line.c - a line that is written over itself.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/line.h"

#include <string.h>
#include <unistd.h>

#include "common/say.h"

#define WIDTH 79

bool emb_line_is_wanted(const emb_options *options) {
    if (options->settings.quiet) return false;
    return options->progress == EMB_CLI_ALWAYS || (options->progress == EMB_CLI_AUTO && isatty(2));
}

void emb_line_show(const char *text) {
    char line[WIDTH + 2];
    size_t length = strlen(text);
    memset(line, ' ', sizeof line);
    line[0] = '\r';
    memcpy(line + 1, text, length < WIDTH ? length : WIDTH);
    line[WIDTH + 1] = '\r';
    emb_app_err(line, sizeof line);
}

void emb_line_bar(char out[EMB_LINE_BAR], double share) {
    int filled = (int)(share * (EMB_LINE_BAR - 1));
    for (int i = 0; i < EMB_LINE_BAR - 1; i++) out[i] = i < filled ? '#' : '.';
    out[EMB_LINE_BAR - 1] = '\0';
}
