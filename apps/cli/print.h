/* print.h - results on standard output.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_PRINT_H
#define EMB_CLI_PRINT_H

#include "sink/writer.h"

/* Standard output, buffered. The same writer each time. */
emb_writer *emb_cli_stdout(void);

/* Flushes standard output; gives `code`, or EMB_EXIT_OUTPUT if that fails. */
int emb_cli_finish(int code);

#endif
