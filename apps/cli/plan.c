/* plan.c - `embound plan`: what `encode` with the same options would take, before any work; or
 * `train`, plan_train.c.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/encode.h"
#include "cli/plan_train.h"
#include "cli/print.h"
#include "cli/report.h"
#include "common/describe.h"
#include "common/exit.h"
#include "common/size.h"
#include "fail.h"
#include "source/input.h"

#define MACHINE_BYTES 20480

/* --machine FILE: plans for that machine, not for this one. */
static emb_status load_machine(emb_machine *out, const char *path, emb_error *error) {
    static char text[MACHINE_BYTES];
    const char *const paths[] = {path};
    emb_input input;
    bool more = false;
    size_t length = 0;
    EMB_APP_TRY(emb_input_open(&input, paths, 1, -1, error));
    EMB_APP_TRY(emb_input_advance(&input, &more, error));
    ptrdiff_t got = 1;
    while (got > 0 && length < sizeof text) {
        got = emb_input_read(&input, text + length, sizeof text - length);
        if (got > 0) length += (size_t)got;
    }
    emb_input_close(&input);
    if (got < 0) return emb_input_fail(&input, error);
    if (length == sizeof text) {
        return emb_app_fail(error, EMB_BAD_FILE, "%s: too long for a machine file", path);
    }
    emb_error inner = {0};
    emb_status status = emb_machine_from_json(out, text, length, &inner);
    if (status == EMB_OK) return EMB_OK;
    return emb_app_fail(error, status, "%.*s: %.*s", EMB_APP_CUT(path, 100),
                        EMB_APP_CUT(inner.message, 140));
}

/* Keeps the GPUs that --device names, in its order, as a probe of them would. */
static emb_status keep_devices(emb_machine *machine, const emb_device_list *list,
                               emb_error *error) {
    if (list->kind != EMB_DEVICE_CUDA || list->count == 0) return EMB_OK;
    emb_device_info kept[EMB_DEVICES_MAX];
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t at = 0;
        while (at < machine->devices_count && machine->devices[at].index != list->indices[i]) at++;
        if (at == machine->devices_count) {
            return emb_app_fail(error, EMB_DEVICE,
                                "--device cuda:%u: the machine's file has no GPU of that index",
                                list->indices[i]);
        }
        kept[i] = machine->devices[at];
    }
    memcpy(machine->devices, kept, list->count * sizeof *kept);
    machine->devices_count = list->count;
    return EMB_OK;
}

static void print_too_small(const emb_options *options, const emb_error *error) {
    emb_writer *out = emb_cli_stdout();
    char minimum[32];
    emb_size_minimum(minimum, sizeof minimum, error->bytes_min);
    const emb_limits *limits = &options->settings.limits;
    bool device = error->region == EMB_REGION_DEVICE;
    const char *kind = device ? "device" : "host";
    emb_writer_format(
        out, "{\"fits\":false,\"%s_bytes_max\":%llu,\"%s_bytes_min\":%llu", kind,
        (unsigned long long)(device ? limits->device_bytes_max : limits->host_bytes_max), kind,
        (unsigned long long)error->bytes_min);
    emb_writer_format(out, ",\"%smemory_min\":\"%s\",\"message\":", device ? "gpu_" : "", minimum);
    emb_writer_string(out, error->message, strlen(error->message));
    emb_writer_text(out, "}\n");
}

int emb_command_plan(emb_session *session, emb_options *options) {
    emb_error error = {0};
    emb_status status = EMB_OK;
    if (options->machine_path) {
        status = load_machine(&session->machine, options->machine_path, &error);
        if (status == EMB_OK)
            status = keep_devices(&session->machine, &options->settings.devices, &error);
    }
    if (status == EMB_OK) status = emb_session_open_model(session, options->model, &error);
    options->settings.opens_nothing = true;
    if (status == EMB_OK && options->plan_train) {
        status = emb_plan_train(session, options, &error);
        return status == EMB_OK ? EMB_EXIT_OK
                                : emb_session_fail(session, &options->settings, status, &error);
    }
    if (status == EMB_OK) {
        uint64_t caller_bytes = emb_encode_bytes(options, session->info.dim);
        status = emb_session_plan(session, &options->settings, caller_bytes, &error);
    }
    if (status != EMB_OK) {
        if (status == EMB_BUDGET && options->json) print_too_small(options, &error);
        return emb_session_fail(session, &options->settings, status, &error);
    }
    if (options->json) {
        emb_describe_plan(emb_cli_stdout(), session);
    } else {
        emb_report_plan_table(emb_cli_stdout(), session);
    }
    return EMB_EXIT_OK;
}
