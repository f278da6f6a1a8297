/* suggest.h - what an unknown word on the command line may have meant.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_SUGGEST_H
#define EMB_CLI_SUGGEST_H

#include "cli/options.h"

/* The name that usage knows a command by. */
const char *emb_suggest_command_name(emb_cli_command command);

/* The command whose name is nearest to `name`, or NULL: none is near. */
const char *emb_suggest_command(const char *name);

/* Fills error for a word that is no option: what does it here, or the option that is nearest.
 * Gives EMB_INVALID_ARGUMENT. */
emb_status emb_suggest_option(const char *word, emb_cli_command command, emb_error *error);

#endif
