/* external.h - programs of their own.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_EXTERNAL_H
#define EMB_CLI_EXTERNAL_H

#include "embound.h"

/* Runs `embound-NAME` from beside the program or from PATH. Returns only if there is none. */
void emb_cli_run_external(const char *name, char **arguments);

#endif
