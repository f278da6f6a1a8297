/* line.h - the line on standard error that moves while something goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_LINE_H
#define EMB_CLI_LINE_H

#include <stdbool.h>

#include "cli/options.h"

/* Whether --progress, or a terminal, asks for it. */
bool emb_line_is_wanted(const emb_options *options);

/* Shows a text in place of the one before; an empty one clears the line. */
void emb_line_show(const char *text);

#define EMB_LINE_BAR 21

/* Gives "#####..............." for a share from 0 to 1. */
void emb_line_bar(char out[EMB_LINE_BAR], double share);

#endif
