/* progress.h - the line that moves while a run goes on.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_PROGRESS_H
#define EMB_CLI_PROGRESS_H

#include "cli/options.h"
#include "common/run.h"

/* For emb_run.display; NULL if it is not wanted. */
const emb_run_display *emb_progress_display(const emb_options *options);

#endif
