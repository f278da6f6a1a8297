/* tuning.c - which kernels were found fastest on this GPU, kept from run to run; `embound tune`.
 *
 * One small file per GPU, driver, model shape, dtype and version under $XDG_CACHE_HOME/embound. It
 * decides about speed, never about bits: a file that cannot be used is passed over with a word.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "fail.h"

#define KEY_BYTES  256
#define FILE_BYTES 1024
#define KERNEL_MAX 4

static const emb_device_info *gpu_of(const emb_session *session) {
    const emb_machine *machine = &session->machine;
    for (uint32_t i = 0; i < machine->devices_count; i++) {
        if (machine->devices[i].index == session->plan.devices[0]) return &machine->devices[i];
    }
    return NULL;
}

/* What the choice of kernels depends on. */
static void make_key(char key[KEY_BYTES], const emb_session *session, const emb_device_info *gpu) {
    snprintf(key, KEY_BYTES, "embound %s, %.63s, sm_%u, driver %.31s, %s, %u heads, %u x %u",
             emb_version(), gpu->name, gpu->compute_capability, gpu->driver,
             emb_dtype_name(session->plan.dtype), session->info.heads, session->info.hidden,
             session->info.intermediate);
}

/* FNV-1a: a name for the file; its content repeats the key. */
static uint64_t hash_of(const char *key) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *key; key++) hash = (hash ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return hash;
}

/* The folder, without a slash at its end; false if nobody says where. */
static bool folder_name(char *out, size_t capacity) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (cache && *cache == '/')
        length = snprintf(out, capacity, "%s/embound", cache);
    else if (home && *home == '/')
        length = snprintf(out, capacity, "%s/.cache/embound", home);
    return length > 0 && (size_t)length < capacity;
}

static bool file_name(char *out, size_t capacity, const char *key) {
    char folder[PATH_MAX];
    if (!folder_name(folder, sizeof folder)) return false;
    int length =
        snprintf(out, capacity, "%s/tune-%016llx.json", folder, (unsigned long long)hash_of(key));
    return length > 0 && (size_t)length < capacity;
}

/* ---- reading --------------------------------------------------------------------------------- */

static emb_status expect(emb_json *json, emb_json_event wanted, emb_error *error) {
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(json, &event, error));
    if (event == wanted) return EMB_OK;
    return emb_app_fail(error, EMB_BAD_FILE, "not what embound tune writes");
}

static emb_status read_kernels(emb_tuning *out, emb_json *json, emb_error *error) {
    EMB_APP_TRY(expect(json, EMB_JSON_ARRAY_BEGIN, error));
    for (uint32_t i = 0; i < EMB_TUNING_SIZES; i++) {
        EMB_APP_TRY(expect(json, EMB_JSON_ARRAY_BEGIN, error));
        for (uint32_t p = 0; p < EMB_TUNING_PRODUCTS; p++) {
            uint64_t kernel;
            EMB_APP_TRY(emb_json_next_u64(json, &kernel, "kernels", error));
            if (kernel > KERNEL_MAX) return emb_app_fail(error, EMB_BAD_FILE, "unknown kernel");
            out->kernels[i][p] = (uint8_t)kernel;
        }
        EMB_APP_TRY(expect(json, EMB_JSON_ARRAY_END, error));
    }
    return expect(json, EMB_JSON_ARRAY_END, error);
}

static emb_status read_member(emb_tuning *out, emb_json *json, const char *name, const char *key,
                              emb_error *error) {
    char text[KEY_BYTES];
    size_t length;
    EMB_APP_TRY(expect(json, EMB_JSON_KEY, error));
    EMB_APP_TRY(emb_json_string(json, text, sizeof text, &length, error));
    if (strcmp(text, name) != 0) return emb_app_fail(error, EMB_BAD_FILE, "unknown key");
    if (out) return read_kernels(out, json, error);
    EMB_APP_TRY(emb_json_next_string(json, text, sizeof text, name, error));
    if (strcmp(text, key) == 0) return EMB_OK;
    return emb_app_fail(error, EMB_BAD_FILE, "of another device, model or version");
}

static emb_status parse(emb_tuning *out, const char *text, size_t length, const char *key,
                        emb_error *error) {
    unsigned char buffer[256];
    emb_json json;
    emb_json_memory memory = {text, length};
    emb_json_event event;
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    EMB_APP_TRY(expect(&json, EMB_JSON_OBJECT_BEGIN, error));
    EMB_APP_TRY(read_member(NULL, &json, "key", key, error));
    EMB_APP_TRY(read_member(out, &json, "kernels", key, error));
    EMB_APP_TRY(expect(&json, EMB_JSON_OBJECT_END, error));
    return emb_json_next(&json, &event, error);
}

/* Whether the file is there and holds a table for this key; a word about one that does not. */
static bool load(emb_tuning *out, const char *key) {
    char path[PATH_MAX], text[FILE_BYTES];
    emb_error error = {0};
    if (!file_name(path, sizeof path, key)) return false;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0) {
        if (errno != ENOENT)
            emb_cli_say("%.*s is passed over: %s", EMB_APP_CUT(path, 200), strerror(errno));
        return false;
    }
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < sizeof text) {
        got = read(file, text + length, sizeof text - length);
        if (got > 0) length += (size_t)got;
    }
    close(file);
    emb_status status = EMB_BAD_FILE;
    emb_app_fail(&error, status, "not what embound tune writes");
    if (got == 0) status = parse(out, text, length, key, &error);
    if (status == EMB_OK) return true;
    emb_cli_say("%.*s is passed over (%.*s); embound tune replaces it", EMB_APP_CUT(path, 200),
                EMB_APP_CUT(error.message, 100));
    memset(out, 0, sizeof *out);
    return false;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool make_folder(emb_error *error) {
    char folder[PATH_MAX];
    if (!folder_name(folder, sizeof folder)) {
        emb_app_fail(error, EMB_IO, "neither XDG_CACHE_HOME nor HOME names a folder");
        return false;
    }
    for (char *at = strchr(folder + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(folder, 0700); /* what fails here fails below */
        *at = '/';
    }
    if (mkdir(folder, 0700) == 0 || errno == EEXIST) return true;
    emb_app_fail(error, EMB_IO, "%.*s: %s", EMB_APP_CUT(folder, 180), strerror(errno));
    return false;
}

static emb_status write_table(const char *path, const emb_tuning *tuning, const char *key,
                              emb_error *error) {
    static emb_output output;
    char buffer[FILE_BYTES];
    emb_writer out;
    EMB_APP_TRY(emb_output_open(&output, path, error));
    emb_writer_init(&out, &output, buffer, sizeof buffer);
    emb_writer_text(&out, "{\"key\":");
    emb_writer_string(&out, key, strlen(key));
    emb_writer_text(&out, ",\n \"kernels\":[");
    for (uint32_t i = 0; i < EMB_TUNING_SIZES; i++) {
        const uint8_t *row = tuning->kernels[i];
        emb_writer_format(&out, "%s[%u,%u,%u,%u]", i ? "," : "", row[0], row[1], row[2], row[3]);
    }
    emb_writer_text(&out, "]}\n");
    emb_status status = emb_writer_flush(&out, error);
    if (status == EMB_OK) return emb_output_commit(&output, error);
    emb_output_abort(&output);
    return status;
}

/* ---- the session's --------------------------------------------------------------------------- */

void emb_tuning_plan(emb_session *session, const emb_options *options) {
    const emb_device_info *gpu = gpu_of(session);
    char key[KEY_BYTES];
    bool tunes = options->command == EMB_CLI_TUNE;
    bool off =
        (options->autotune == EMB_CLI_TUNE_OFF && !tunes) || options->command == EMB_CLI_PLAN;
    session->tuned = EMB_CLI_UNTUNED;
    if (session->plan.device != EMB_DEVICE_CUDA || !gpu || off ||
        session->plan.gemm != EMB_GEMM_OWN) {
        return;
    }
    make_key(key, session, gpu);
    if (!tunes && load(&session->plan.tuning, key)) {
        session->tuned = EMB_CLI_TUNED_BEFORE;
        return;
    }
    session->plan.tune = tunes || options->autotune == EMB_CLI_TUNE_FULL;
}

emb_status emb_tuning_keep(emb_session *session, emb_error *error) {
    char key[KEY_BYTES], path[PATH_MAX];
    emb_tuning tuning;
    if (!session->plan.tune) return EMB_OK;
    session->tuned = EMB_CLI_TUNED_NOW;
    emb_engine_tuning(&tuning, session->engine);
    session->plan.tuning = tuning;
    make_key(key, session, gpu_of(session));
    if (!make_folder(error)) return EMB_IO;
    if (!file_name(path, sizeof path, key)) {
        return emb_app_fail(error, EMB_IO, "the folder's name is too long");
    }
    return write_table(path, &tuning, key, error);
}

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
    if (status == EMB_OK) {
        uint64_t caller_bytes = emb_encode_bytes(options, session->info.dim);
        status = emb_session_plan(session, options, caller_bytes, &error);
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
    if (status != EMB_OK) return emb_session_fail(session, options, status, &error);
    status = emb_tuning_keep(session, &error);
    if (status != EMB_OK) {
        emb_cli_say("what was found cannot be kept: %.*s", EMB_APP_CUT(error.message, 200));
        return EMB_EXIT_CREATE;
    }
    if (!options->quiet) print_tuning(session, options->json);
    return EMB_EXIT_OK;
}
