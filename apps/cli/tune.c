/* tune.c - `embound tune`: times a GPU's kernels for this model, and keeps which are fastest.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"
#include "cli/encode.h"
#include "cli/print.h"
#include "common/exit.h"
#include "common/say.h"
#include "fail.h"

static void print_tuning(const emb_session *session, bool json) {
    static const char *const kernels[] = {"usual", "small", "medium", "large", "pair"};
    const emb_plan *plan = &session->plan;
    emb_writer *out = emb_cli_stdout();
    emb_writer_text(out,
                    json ? "{\"kernels\":["
                         : "tokens   queries/keys/values  attention out  feed-forward in  out\n");
    for (uint32_t i = 0; i < EMB_TUNING_SIZES; i++) {
        const uint8_t *row = plan->tuning.kernels[i];
        if (json) {
            emb_writer_format(out, "%s[%u,%u,%u,%u]", i ? "," : "", row[0], row[1], row[2], row[3]);
            continue;
        }
        emb_writer_format(out, "%6u   %-20s %-14s %-16s %s\n", EMB_TUNING_TOKENS << i,
                          kernels[row[0]], kernels[row[1]], kernels[row[2]], kernels[row[3]]);
    }
    if (json) emb_writer_text(out, "]}\n");
}

int emb_command_tune(emb_session *session, emb_options *options) {
    emb_error error = {0};
    emb_status status = emb_session_open_model(session, options->model, &error);
    options->settings.tune = EMB_TUNE_ANEW;
    if (status == EMB_OK) {
        uint64_t caller_bytes = emb_encode_bytes(options, session->info.dim);
        status = emb_session_plan(session, &options->settings, caller_bytes, &error);
    }
    if (status == EMB_OK && session->plan.device != EMB_DEVICE_CUDA) {
        status = emb_app_fail(&error, EMB_DEVICE,
                              "tune: there is nothing to choose on a CPU; it needs a GPU that can "
                              "be used (see embound info)");
    }
    if (status == EMB_OK && session->plan.gemm != EMB_GEMM_OWN) {
        status =
            emb_app_fail(&error, EMB_INVALID_ARGUMENT,
                         "tune: cuBLASLt's products are chosen by the library; use --gemm own");
    }
    if (status == EMB_OK) {
        status = emb_engine_open(&session->engine, session->model, &session->plan, &error);
    }
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    status = emb_session_keep_tuning(session, &error);
    if (status != EMB_OK) {
        emb_app_say("what was found cannot be kept: %.*s", EMB_APP_CUT(error.message, 200));
        return EMB_EXIT_CREATE;
    }
    if (!options->settings.quiet) print_tuning(session, options->json);
    return EMB_EXIT_OK;
}
