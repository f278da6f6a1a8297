/* help.h - --help, and the completions of shells.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_HELP_H
#define EMB_CLI_HELP_H

#include "cli/command.h"
#include "sink/writer.h"

/* Prints --help of the program, of a command. */
void emb_help_print_usage(emb_writer *writer);
void emb_help_print(emb_writer *writer, const emb_command_entry *command);

/* Prints the completion for "bash", "zsh" or "fish"; false: for no other. */
bool emb_completion_print(emb_writer *writer, const char *shell);

#endif
