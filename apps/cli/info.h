/* info.h - what `info` looks at.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_INFO_H
#define EMB_CLI_INFO_H

#include "cli/options.h"

/* Measures the machine with every GPU, each as if for the first time; if one is too full, or
 * broken, at least the one that would be used, or why there is none. Whatever EMB_DEVICE says: a
 * problem with that stands in the options then. */
emb_status emb_info_probe(emb_machine *machine, emb_options *options, emb_error *error);

#endif
