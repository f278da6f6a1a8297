/* paths.c - refuses outputs that would overwrite an input or one another, before any work.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include "fail.h"

emb_status emb_cli_check_output(const char *output, const char *const *inputs, uint32_t count,
                                emb_error *error) {
    uint32_t which;
    if (!output || !emb_output_is_input(output, inputs, count, &which)) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%.80s is the input %.80s: it would be overwritten; choose another name",
                        output, inputs[which]);
}

emb_status emb_cli_check_stats(const char *stats, const char *output, const char *what,
                               emb_error *error) {
    if (!stats || !emb_output_is_same(stats, output)) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "--stats %.80s is also where the %s go (%.80s); choose another name", stats,
                        what, output);
}
