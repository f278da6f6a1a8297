/* encode.h - what `encode` takes for itself.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_ENCODE_H
#define EMB_CLI_ENCODE_H

#include "cli/options.h"

/* Bytes that `encode` keeps for itself: what `plan` books too. */
uint64_t emb_encode_bytes(const emb_options *options, uint32_t dim);

#endif
