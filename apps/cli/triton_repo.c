/* triton_repo.c - `embound triton-repo`: a model's place in a Triton model repository, its figures
 * from the plan.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/print.h"
#include "common/exit.h"
#include "common/own_plan.h"
#include "common/size.h"
#include "fail.h"
#include "triton/model.h"

#define MARKER "# Written by embound triton-repo"

enum { SIZE_TEXT = 32, TEXT_BYTES = 8192, WINDOWS_WAITING = 8 };

typedef struct repository {
    const emb_options *options;
    const emb_session *session;
    emb_own_plan own;
    const char *name;
    char model[PATH_MAX];  /* absolute */
    char folder[PATH_MAX]; /* DIR/NAME */
    char path[PATH_MAX];   /* its config.pbtxt */
    char text[TEXT_BYTES];
    size_t used;
} repository;

/* ---- where ----------------------------------------------------------------------------------- */

static emb_status check_name(const char *name, emb_error *error) {
    size_t length =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    if (*name && *name != '.' && !name[length]) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "the model's name in the server cannot be '%.*s': letters, digits and _-. "
                        "alone; state --name",
                        EMB_APP_CUT(name, 100));
}

/* What is there may be replaced if this command wrote it and --force says so. */
static emb_status check_place(const repository *r, emb_error *error) {
    char first[sizeof MARKER - 1];
    struct stat about;
    if (lstat(r->folder, &about) != 0) return EMB_OK;
    int descriptor = open(r->path, O_RDONLY | O_CLOEXEC);
    ssize_t got = descriptor < 0 ? -1 : read(descriptor, first, sizeof first);
    if (descriptor >= 0) close(descriptor);
    bool ours = got == (ssize_t)sizeof first && memcmp(first, MARKER, sizeof first) == 0;
    if (ours && r->options->force) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        ours ? "%.*s: is there already; --force replaces its config.pbtxt"
                             : "%.*s: is there already, and not by triton-repo; state another "
                               "--name or -o",
                        EMB_APP_CUT(r->folder, 120));
}

static emb_status find_places(repository *r, emb_error *error) {
    const emb_options *options = r->options;
    if (!options->output)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "-o is missing: name the model repository's directory");
    r->name = options->triton.name ? options->triton.name : r->session->info.name;
    EMB_APP_TRY(check_name(r->name, error));
    if (!realpath(options->model, r->model))
        return emb_app_fail(error, EMB_NOT_FOUND,
                            "%.*s: state the model's directory, not its name in the hub",
                            EMB_APP_CUT(options->model, 120));
    if (strpbrk(r->model, "\"\\\n"))
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%.*s: a config.pbtxt cannot hold a path with quotes or backslashes",
                            EMB_APP_CUT(r->model, 120));
    int folder = snprintf(r->folder, sizeof r->folder, "%s/%s", options->output, r->name);
    int path = snprintf(r->path, sizeof r->path, "%s/%s/config.pbtxt", options->output, r->name);
    if (folder < 0 || path < 0 || (size_t)path >= sizeof r->path)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "-o: the path is too long");
    return check_place(r, error);
}

/* ---- the configuration ----------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void add(repository *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(r->text + r->used, sizeof r->text - r->used, format, arguments);
    va_end(arguments);
    r->used += length > 0 ? (size_t)length : 0;
    if (r->used >= sizeof r->text) r->used = sizeof r->text - 1;
}

static void add_parameter(repository *r, const char *key, const char *value) {
    add(r, "parameters { key: \"%s\" value: { string_value: \"%s\" } }\n", key, value);
}

static void add_number(repository *r, const char *key, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    add_parameter(r, key, text);
}

static void add_tensors(repository *r) {
    static const char *const types[] = {"TYPE_FP32", "TYPE_FP16", "TYPE_INT8"};
    add(r,
        "input [\n"
        "  { name: \"TEXT\" data_type: TYPE_STRING dims: [ 1 ] optional: true },\n"
        "  { name: \"INPUT_IDS\" data_type: TYPE_INT32 dims: [ -1 ] optional: true "
        "allow_ragged_batch: true },\n"
        "  { name: \"PROMPT_NAME\" data_type: TYPE_STRING dims: [ 1 ] optional: true }\n"
        "]\n"
        "output [ { name: \"EMBEDDING\" data_type: %s dims: [ %u ] } ]\n",
        types[r->options->triton.output], r->own.plan.dim);
}

/* One instance: Execute returns once its texts are in the engine's windows. */
static void add_instances(repository *r) {
    const emb_plan *plan = &r->own.plan;
    if (plan->device != EMB_DEVICE_CUDA) {
        add(r, "instance_group [ { kind: KIND_CPU count: 1 } ]\n");
        return;
    }
    add(r, "instance_group [ { kind: KIND_GPU count: 1 gpus: [");
    for (uint32_t i = 0; i < plan->devices_count; i++)
        add(r, "%s %u", i ? "," : "", plan->devices[i]);
    add(r, " ] } ]\n");
}

static void add_batching(repository *r) {
    const emb_triton_repo_settings *stated = &r->options->triton;
    const emb_plan *plan = &r->own.plan;
    uint32_t batch = stated->batch_size ? stated->batch_size : plan->window_chunks;
    add(r, "# a window of the engine has %u texts%s\nmax_batch_size: %u\n", plan->window_chunks,
        stated->batch_size ? "" : ", and so has a batch", batch);
    add(r,
        "# so many requests wait, %u windows of single texts; their tensors are the server's "
        "memory\n"
        "dynamic_batching {\n"
        "  max_queue_delay_microseconds: %u\n"
        "  default_queue_policy { max_queue_size: %u }\n"
        "}\n",
        WINDOWS_WAITING, stated->queue_delay, WINDOWS_WAITING * plan->window_chunks);
}

/* As it was stated, else what the plan takes. */
static void size_text(char out[SIZE_TEXT], uint64_t stated, uint64_t planned) {
    if (stated)
        emb_size_text(out, SIZE_TEXT, stated);
    else
        emb_size_minimum(out, SIZE_TEXT, planned);
}

static void add_parameters(repository *r) {
    static const char *const rules[] = {"chunk", "truncate", "error"};
    const emb_limits *limits = &r->session->limits;
    char memory[SIZE_TEXT], device[SIZE_TEXT];
    size_text(memory, limits->host_bytes_max, r->own.host_bytes);
    size_text(device, limits->device_bytes_max, r->own.device_bytes);
    add(r, "# of the model's own; a reload holds the old and the new model at once: twice that\n");
    add_parameter(r, "memory", memory);
    if (r->own.plan.device == EMB_DEVICE_CUDA) add_parameter(r, "gpu_memory", device);
    add_parameter(r, "dtype", emb_dtype_name(r->own.plan.dtype));
    add_parameter(r, "long", rules[limits->long_rule]);
    if (limits->dim) add_number(r, "dim", limits->dim);
    if (limits->threads) add_number(r, "threads", limits->threads);
    add(r, "# the tokens of a window, at which the server ends a batch\n");
    add_number(r, "tokens_per_batch", r->own.plan.window_tokens);
    add_parameter(r, "model", r->model);
}

static emb_status write_text(const repository *r, emb_error *error) {
    char temporary[PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%s.tmp-%ld", r->path, (long)getpid());
    int failed = emb_file_replace(AT_FDCWD, temporary, r->path, 0666, r->text, r->used, true);
    if (!failed) return EMB_OK;
    return emb_app_fail(error, EMB_IO, "%.*s: cannot be written: %s", EMB_APP_CUT(r->path, 120),
                        strerror(failed));
}

/* What fails leaves no folder behind that the next run would take for another's. */
static emb_status write_entry(const repository *r, emb_error *error) {
    char version[PATH_MAX + 8];
    struct stat about;
    snprintf(version, sizeof version, "%s/1", r->folder);
    int failed = emb_file_make_folders(version, 0777);
    emb_status status = failed ? emb_app_fail(error, EMB_IO, "%.*s: cannot be made: %s",
                                              EMB_APP_CUT(r->folder, 120), strerror(failed))
                               : write_text(r, error);
    if (status == EMB_OK || lstat(r->path, &about) == 0) return status;
    snprintf(version, sizeof version, "%s/1", r->folder);
    rmdir(version); /* both only if they are empty */
    rmdir(r->folder);
    return status;
}

static emb_status make(repository *r, emb_session *session, emb_error *error) {
    const emb_options *options = r->options;
    const emb_own_budget budget = {options->settings.limits.host_bytes_max,
                                   options->settings.limits.device_bytes_max, "--memory",
                                   "--gpu-memory"};
    EMB_APP_TRY(emb_session_open_model(session, options->model, error));
    EMB_APP_TRY(find_places(r, error));
    session->limits = options->settings.limits;
    session->limits.caller_bytes = sizeof(emb_triton_model);
    EMB_APP_TRY(emb_own_plan_make(&r->own, session->model, &session->limits, &session->machine,
                                  &budget, error));
    add(r,
        MARKER " %s: docs/triton.md says what each line means.\nname: \"%s\"\n"
               "backend: \"embound\"\n",
        emb_version(), r->name);
    add_batching(r);
    add_tensors(r);
    add_instances(r);
    add_parameters(r);
    return write_entry(r, error);
}

int emb_command_triton_repo(emb_session *session, emb_options *options) {
    static repository r;
    emb_error error = {0};
    r.options = options;
    r.session = session;
    emb_status status = make(&r, session, &error);
    if (status != EMB_OK) return emb_session_fail(session, &options->settings, status, &error);
    if (options->settings.quiet) return EMB_EXIT_OK;
    char own[SIZE_TEXT];
    emb_size_text(own, sizeof own, r.own.host_bytes);
    emb_writer_format(emb_cli_stdout(),
                      "%s: %s of its own\n"
                      "next: tritonserver --model-repository=%s\n",
                      r.path, own, options->output);
    return EMB_EXIT_OK;
}
