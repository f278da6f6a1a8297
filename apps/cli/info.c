/* info.c - `embound info`: this build, this machine, a model; what is used and what is not, and
 * why.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/info.h"

#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/print.h"
#include "common/exit.h"
#include "common/members.h"
#include "fail.h"

#define MACHINE_BYTES 20480
#define MIB(bytes)    ((double)(bytes) / 1048576)

emb_status emb_info_probe(emb_machine *machine, emb_options *options, emb_error *error) {
    const emb_session_settings *settings = &options->settings;
    emb_device_list any = {.struct_bytes = sizeof any, .gemm = settings->limits.gemm}, all = any;
    machine->struct_bytes = sizeof *machine;
    if (settings->devices.kind != EMB_DEVICE_AUTO) {
        emb_device_list stated = settings->devices;
        stated.gemm = any.gemm;
        emb_status status = emb_machine_probe(machine, &stated, error);
        if (status == EMB_OK || settings->device_stated) return status;
        snprintf(options->device_problem, sizeof options->device_problem, "%s: %s",
                 settings->device_by, error->message);
    }
    all.kind = EMB_DEVICE_CUDA;
    if (emb_machine_probe(machine, &all, error) == EMB_OK) return EMB_OK;
    if (emb_machine_probe(machine, &any, error) == EMB_OK) return EMB_OK;
    emb_error why = *error;
    EMB_APP_TRY(emb_machine_probe(machine, NULL, error));
    snprintf(machine->device_reason, sizeof machine->device_reason, "%.*s",
             EMB_APP_CUT(why.message, sizeof machine->device_reason - 1));
    machine->device_notice = 1;
    return EMB_OK;
}

/* What GPUs hold and have free at this moment is not the machine's. */
static emb_status lasting_json(char *json, size_t *length, const emb_machine *now,
                               emb_error *error) {
    emb_machine machine = *now;
    for (uint32_t i = 0; i < machine.devices_count; i++) {
        emb_device_info *gpu = &machine.devices[i];
        gpu->free_bytes = gpu->held_bytes = 0;
        gpu->grown = gpu->grown_lanes = 0;
    }
    return emb_machine_to_json(json, MACHINE_BYTES, length, &machine, error);
}

static int save_machine(const char *path, const char *json, size_t length) {
    static emb_output output;
    emb_error error = {0};
    emb_status status = emb_output_open(&output, path, &error);
    if (status != EMB_OK) {
        int code = emb_exit_say(status, &error);
        return status == EMB_IO ? EMB_EXIT_CREATE : code;
    }
    status = emb_output_write(&output, json, length, &error);
    if (status == EMB_OK) status = emb_output_write(&output, "\n", 1, &error);
    if (status == EMB_OK) status = emb_output_commit(&output, &error);
    if (status == EMB_OK) return EMB_EXIT_OK;
    emb_output_abort(&output);
    return emb_exit_say(status, &error);
}

static void print_no_gpu(emb_writer *out, const emb_machine *machine, const emb_options *options) {
    if (options->settings.devices.kind == EMB_DEVICE_CPU)
        emb_writer_format(out, "  cuda             not asked for (%s)\n",
                          *options->settings.device_by ? options->settings.device_by
                                                       : "--device cpu");
    else
        emb_writer_format(out, "  cuda             not used: %s\n", machine->device_reason);
}

static const char *kernels_reason(const emb_machine *machine) {
    const char *forced = getenv("EMB_CPU");
    if (forced && *forced) return "chosen by EMB_CPU";
    return machine->cpu_features == 0 ? "this CPU has no AVX2 and FMA" : "best of this CPU";
}

static void print_machine(emb_writer *out, const emb_machine *machine, const emb_options *options) {
    emb_writer_format(out, "embound %s\n\nMachine\n", emb_version());
    emb_writer_format(out, "  processor        %.63s\n", machine->cpu_name);
    emb_writer_format(out, "  cores            %u that this process may use\n", machine->cores);
    emb_writer_format(out, "  caches           L2 %.2f MiB a core, L3 %.2f MiB\n",
                      MIB(machine->cache_l2_bytes), MIB(machine->cache_l3_bytes));
    emb_writer_format(out, "  memory           %.0f MiB\n", MIB(machine->memory_bytes));
    emb_writer_format(out, "  process base     %.2f MiB\n", MIB(machine->process_base_bytes));
    emb_writer_format(out, "\nDevices\n  cpu              used: kernels %.15s (%s)\n",
                      emb_machine_isa(machine), kernels_reason(machine));
    emb_writer_format(out, "  bf16 products    %s\n",
                      machine->cpu_features & EMB_CPU_BF16_FAST
                          ? "used"
                          : "not used: this CPU (or the kernels chosen) "
                            "lacks fast ones; bf16 weights are widened");
    if (machine->devices_count == 0) print_no_gpu(out, machine, options);
    for (uint32_t i = 0; i < machine->devices_count; i++) {
        const emb_device_info *device = &machine->devices[i];
        emb_writer_format(out, "  cuda:%-11u %.63s, %.0f MiB, of which %.0f MiB are free\n",
                          device->index, device->name, MIB(device->memory_bytes),
                          MIB(device->free_bytes));
    }
    if (*options->device_problem)
        emb_writer_format(out, "  problem          %s\n", options->device_problem);
}

static void print_model(emb_writer *out, const emb_model_info *info) {
    emb_writer_format(out, "\nModel %.127s\n", info->name);
    emb_writer_format(out, "  architecture     %.15s, %u layers, %u wide, %u heads, %u inside\n",
                      info->architecture, info->layers, info->hidden, info->heads,
                      info->intermediate);
    char group[48] = "";
    if (info->stored_group) snprintf(group, sizeof group, " (groups of %u)", info->stored_group);
    emb_writer_format(out, "  parameters       %.2f million, stored as %s%s%s in %.1f MiB\n",
                      (double)info->parameters / 1e6, emb_dtype_name(info->stored_dtype), group,
                      info->smooths ? ", inputs scaled" : "", MIB(info->file_bytes));
    emb_writer_format(out, "  vocabulary       %u tokens\n", info->vocabulary);
    emb_writer_format(out,
                      "  window           %u tokens at most, %u by default, %u of them "
                      "special\n",
                      info->window_tokens, info->default_tokens, info->special_tokens);
    char kept[48] = "";
    if (info->truncate_dim) snprintf(kept, sizeof kept, ", the first %u kept", info->truncate_dim);
    emb_writer_format(out, "  vectors          %u values, %s pooling%s%s\n", info->dim,
                      emb_pooling_name(info->pooling), info->normalizes ? ", normalised" : "",
                      kept);
    if (*info->unknown_keys)
        emb_writer_format(out, "  passed over      keys that embound does not know: %.255s\n",
                          info->unknown_keys);
}

static void json_model(emb_writer *out, const emb_model_info *info) {
    emb_members members = {
        .kind = EMB_STRUCT_MODEL, .object = info, .left_out = "description_bytes"};
    emb_writer_text(out, ",\"model\":{");
    emb_members_write(out, &members, NULL);
    emb_writer_text(out, "}");
}

int emb_command_info(emb_session *session, emb_options *options) {
    static char json[MACHINE_BYTES];
    emb_error error = {0};
    size_t length = 0;
    emb_status status = emb_machine_to_json(json, sizeof json, &length, &session->machine, &error);
    if (status == EMB_OK && options->model) {
        status = emb_session_open_model(session, options->model, &error);
    }
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    emb_writer *out = emb_cli_stdout();
    if (options->json) {
        emb_writer_format(out, "{\"version\":\"%s\",\"machine\":", emb_version());
        emb_writer_put(out, json, length);
        if (*options->device_problem) {
            emb_writer_text(out, ",\"device_problem\":");
            emb_writer_string(out, options->device_problem, strlen(options->device_problem));
        }
        if (options->model) json_model(out, &session->info);
        emb_writer_text(out, "}\n");
    } else {
        print_machine(out, &session->machine, options);
        if (options->model) print_model(out, &session->info);
    }
    if (!options->save_machine_path) return EMB_EXIT_OK;
    status = lasting_json(json, &length, &session->machine, &error);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    return save_machine(options->save_machine_path, json, length);
}
