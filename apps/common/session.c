/* session.c - machine, model, plan, the job's one block of memory, engine: in this order.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/session.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/exit.h"
#include "common/say.h"
#include "common/signals.h"
#include "common/size.h"
#include "fail.h"
#include "hub/hub.h"

#define TAKE_ALIGN 64

uint64_t emb_session_round(uint64_t bytes) {
    return (bytes + TAKE_ALIGN - 1) / TAKE_ALIGN * TAKE_ALIGN;
}

emb_status emb_session_probe(emb_session *session, const emb_session_settings *settings,
                             bool looks_at_gpus, emb_error *error) {
    emb_device_list devices = settings->devices;
    devices.gemm = settings->limits.gemm;
    bool first = devices.kind == EMB_DEVICE_CUDA && devices.count == 0;
    session->machine.struct_bytes = sizeof session->machine;
    if (!looks_at_gpus) devices.kind = EMB_DEVICE_CPU;
    if (first && settings->limits.devices_max == 1) {
        devices.count = 1; /* no context on a GPU that is not used */
        devices.indices[0] = 0;
    }
    return emb_machine_probe(&session->machine, &devices, error);
}

emb_status emb_session_open_model(emb_session *session, const char *path, emb_error *error) {
    char found[PATH_MAX];
    EMB_APP_TRY(emb_hub_find(found, path, error));
    emb_status status = emb_model_open(&session->model, found, error);
    if (status == EMB_NOT_FOUND && strcmp(found, path) != 0) {
        return emb_app_fail(error, status,
                            "%.*s is in the hub cache in part only: embound pull %.*s",
                            EMB_APP_CUT(path, 100), EMB_APP_CUT(path, 100));
    }
    if (status != EMB_OK) return status;
    session->info.struct_bytes = sizeof session->info;
    emb_model_describe(&session->info, session->model);
    return EMB_OK;
}

static emb_status make_plan(emb_session *session, emb_error *error) {
    session->plan.struct_bytes = sizeof session->plan;
    return emb_plan_make(&session->plan, session->model, &session->limits, &session->machine,
                         error);
}

/* What --dtype auto means depends on the device, which the plan in the default dtype finds. */
static emb_status plan_dtype(emb_session *session, const emb_session_settings *settings,
                             emb_error *error) {
    emb_status status = make_plan(session, error);
    if (!settings->dtype_auto || !(session->machine.cpu_features & EMB_CPU_BF16_FAST))
        return status;
    bool chosen = session->limits.device == EMB_DEVICE_AUTO && session->machine.devices_count;
    bool cuda = session->limits.device == EMB_DEVICE_CUDA ||
                (chosen && (status != EMB_OK || session->plan.device == EMB_DEVICE_CUDA));
    if (cuda) return status;
    session->limits.dtype = EMB_DTYPE_BF16;
    return make_plan(session, error);
}

emb_status emb_session_plan(emb_session *session, const emb_session_settings *settings,
                            uint64_t caller_bytes, emb_error *error) {
    uint64_t page = session->machine.page_bytes ? session->machine.page_bytes : 4096;
    session->limits = settings->limits;
    session->limits.caller_bytes = (caller_bytes + page - 1) / page * page;
    /* a script's GPU budget is no error if EMB_DEVICE selects the CPU */
    if (session->limits.device == EMB_DEVICE_CPU && !settings->device_stated &&
        session->limits.device_bytes_max) {
        session->limits.device_bytes_max = 0;
        if (!settings->quiet) emb_app_say("--gpu-memory bounds nothing: EMB_DEVICE is cpu");
    }
    EMB_APP_TRY(plan_dtype(session, settings, error));
    const emb_plan *plan = &session->plan;
    if (plan->device_notice && !settings->quiet) emb_app_say("on the CPU: %s", plan->device_reason);
    if (plan->device == EMB_DEVICE_CPU && settings->tune == EMB_TUNE_FULL && !settings->quiet)
        emb_app_say("--autotune full has no effect: on a CPU there is nothing to choose");
    emb_tune tune = settings->opens_nothing ? EMB_TUNE_OFF : settings->tune;
    session->tuned = emb_tuning_plan(&session->plan, &session->info, &session->machine, tune);
    return EMB_OK;
}

emb_status emb_session_open_block(emb_session *session, emb_error *error) {
    void *block = mmap(NULL, session->limits.caller_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (block == MAP_FAILED) {
        return emb_app_fail(error, EMB_NO_MEMORY, "the system refused %llu bytes",
                            (unsigned long long)session->limits.caller_bytes);
    }
    session->block = block;
    session->block_used = 0;
    return EMB_OK;
}

emb_status emb_session_keep_tuning(emb_session *session, emb_error *error) {
    return emb_tuning_keep(&session->tuned, &session->plan, session->engine, &session->info,
                           &session->machine, error);
}

emb_status emb_session_open_engine(emb_session *session, emb_error *error) {
    EMB_APP_TRY(emb_engine_open(&session->engine, session->model, &session->plan, error));
    emb_signals_set_engine(session->engine);
    emb_error kept = {0};
    if (emb_session_keep_tuning(session, &kept) != EMB_OK) {
        emb_app_say("what tuning found cannot be kept: %.*s", EMB_APP_CUT(kept.message, 200));
    }
    return EMB_OK;
}

void *emb_session_take(emb_session *session, uint64_t bytes) {
    void *start = session->block + session->block_used;
    session->block_used += emb_session_round(bytes);
    return start;
}

void emb_session_close_model(emb_session *session) {
    emb_signals_set_engine(NULL);
    if (session->engine) emb_engine_close(session->engine);
    if (session->model) emb_model_close(session->model);
    session->engine = NULL;
    session->model = NULL;
}

void emb_session_close(emb_session *session) {
    emb_session_close_model(session);
    if (session->block) munmap(session->block, session->limits.caller_bytes);
    session->block = NULL;
}

emb_status emb_session_prompt(const char **prompt, const emb_session *session, const char *name,
                              emb_error *error) {
    if (*prompt && name) {
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "--prompt and --prompt-name: state one of them");
    }
    if (*prompt) return EMB_OK;
    *prompt = emb_model_prompt(session->model, name);
    if (*prompt || !name) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "--prompt-name %s: the model's files have no prompt of that name; state "
                        "its text with --prompt",
                        name);
}

/* The host bytes that a GPU needs with this way of multiplying; 0 if that is not the question. */
static uint64_t minimum_with(const emb_session *session, emb_gemm gemm) {
    emb_limits limits = session->limits;
    emb_plan plan = {.struct_bytes = sizeof plan};
    emb_error error = {0};
    limits.gemm = gemm;
    limits.host_bytes_max = 1;
    if (limits.device != EMB_DEVICE_CUDA || !session->model) return 0;
    emb_status status = emb_plan_make(&plan, session->model, &limits, &session->machine, &error);
    return status == EMB_BUDGET && error.region == EMB_REGION_HOST ? error.bytes_min : 0;
}

/* Both ways of multiplying on a GPU, of which the budget may do for one. */
static void say_gemm_minima(const emb_session *session) {
    char own[32], library[32];
    uint64_t own_bytes = minimum_with(session, EMB_GEMM_OWN);
    uint64_t library_bytes = minimum_with(session, EMB_GEMM_CUBLASLT);
    if (!own_bytes || !library_bytes) return;
    emb_size_minimum(own, sizeof own, own_bytes);
    emb_size_minimum(library, sizeof library, library_bytes);
    emb_app_say("on a GPU, --gemm own needs --memory %s, --gemm cublaslt needs --memory %s", own,
                library);
}

/* Whether the plan that failed was a GPU's. */
static bool on_gpu(const emb_session *session) {
    return session->limits.device != EMB_DEVICE_CPU && session->machine.devices_count;
}

int emb_session_fail(const emb_session *session, const emb_session_settings *settings,
                     emb_status status, const emb_error *error) {
    const char *by = settings->device_by, *colon = *by && on_gpu(session) ? ": " : "";
    if (status != EMB_BUDGET || error->bytes_min == 0)
        return emb_exit_say_device(by, status, error);
    if (!*colon) by = "";
    bool device = error->region == EMB_REGION_DEVICE;
    const emb_limits *limits = &settings->limits;
    uint64_t bytes = device ? limits->device_bytes_max : limits->host_bytes_max;
    /* no figure is too small: others fill the GPU */
    bool full =
        device && session->machine.devices[0].free_bytes && (!bytes || bytes >= error->bytes_min);
    if (full) return emb_exit_say_device(by, status, error);
    char minimum[32], stated[32];
    emb_size_minimum(minimum, sizeof minimum, error->bytes_min);
    if (bytes) {
        emb_size_stated(stated, sizeof stated, bytes);
        emb_app_say(
            "%s%sa%s budget of %s is too small for this; the smallest that works is %s %s%s", by,
            colon, device ? " GPU" : "", stated, device ? "--gpu-memory" : "--memory", minimum,
            on_gpu(session) ? ", or use --device cpu" : "");
    } else {
        emb_app_say("%s%sthe memory of %s is too small for this, which needs %s%s", by, colon,
                    device ? "the GPU" : "this machine", minimum,
                    on_gpu(session) ? "; or use --device cpu" : "");
    }
    if (!device) say_gemm_minima(session);
    return EMB_EXIT_BUDGET;
}
