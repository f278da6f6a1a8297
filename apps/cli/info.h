/* info.h - what `info` looks at.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_INFO_H
#define EMB_CLI_INFO_H

#include "common/session.h"

/* Measures the machine with every GPU, each as if for the first time; if one is too full, or
 * broken, at least the one that would be used, or why there is none. */
emb_status emb_info_probe(emb_machine *machine, const emb_session_settings *settings,
                          emb_error *error);

#endif
