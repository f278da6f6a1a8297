/* parse.h - reads the arguments of a command.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_PARSE_H
#define EMB_CLI_PARSE_H

#include "cli/options.h"

typedef enum emb_cli_parse { EMB_CLI_RUN, EMB_CLI_HELP, EMB_CLI_BAD } emb_cli_parse;

/* Reads the arguments after the command's name. On EMB_CLI_BAD the message is in error. */
emb_cli_parse emb_options_parse(emb_options *options, emb_cli_command command, int count,
                                char **arguments, emb_error *error);

#endif
