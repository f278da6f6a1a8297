/* paths.h - refuses outputs that would overwrite other files of the job.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_PATHS_H
#define EMB_CLI_PATHS_H

#include "embound.h"

/* Refuses an output (NULL: none) that is one of the inputs. Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_output(const char *output, const char *const *inputs, uint32_t count,
                                emb_error *error);

/* Refuses an output (NULL: none) that exists in the model's folder, or one below it.
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_model(const char *output, const char *model, emb_error *error);

/* Refuses --stats (NULL: none) in the file of another output. what: "vectors", "failed rows".
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_stats(const char *stats, const char *output, const char *what,
                               emb_error *error);

/* Refuses an output (NULL: none) that is -o's directory, or would stand in it.
 * Fails: EMB_INVALID_ARGUMENT. */
emb_status emb_cli_check_inside(const char *option, const char *output, const char *directory,
                                emb_error *error);

#endif
