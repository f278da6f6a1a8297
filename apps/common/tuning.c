/* tuning.c - which kernels were found fastest on this GPU, kept from run to run.
 *
 * One small file per GPU, driver, model shape, dtype and version under $XDG_CACHE_HOME/embound. It
 * affects speed, never bits: an unusable file is ignored with a message.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "common/say.h"
#include "embound_experimental.h"
#include "fail.h"
#include "sink/writer.h"

#define KEY_BYTES  256
#define FILE_BYTES 1024
#define KERNEL_MAX 4

static const emb_device_info *gpu_of(const emb_machine *machine, const emb_plan *plan) {
    for (uint32_t i = 0; i < machine->devices_count; i++) {
        if (machine->devices[i].index == plan->devices[0]) return &machine->devices[i];
    }
    return NULL;
}

/* What the choice of kernels depends on. */
static void make_key(char key[KEY_BYTES], const emb_plan *plan, const emb_model_info *model,
                     const emb_device_info *gpu) {
    snprintf(key, KEY_BYTES, "embound %s, %.63s, sm_%u, driver %.31s, %s, %u heads, %u x %u",
             emb_version(), gpu->name, gpu->compute_capability, gpu->driver,
             emb_dtype_name(plan->dtype), model->heads, model->hidden, model->intermediate);
}

/* FNV-1a: a name for the file; its content repeats the key. */
static uint64_t hash_of(const char *key) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *key; key++) hash = (hash ^ (unsigned char)*key) * UINT64_C(1099511628211);
    return hash;
}

/* The folder, without a trailing slash; false if the environment names none. */
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
            emb_app_say("%.*s is passed over: %s", EMB_APP_CUT(path, 200), strerror(errno));
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
    emb_app_say("%.*s is passed over (%.*s); embound tune replaces it", EMB_APP_CUT(path, 200),
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
    int failed = emb_file_make_folders(folder, 0700);
    if (failed) emb_app_fail(error, EMB_IO, "%.*s: %s", EMB_APP_CUT(folder, 180), strerror(failed));
    return !failed;
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

/* ---- a plan's -------------------------------------------------------------------------------- */

emb_tuned emb_tuning_plan(emb_plan *plan, const emb_model_info *model, const emb_machine *machine,
                          emb_tune tune) {
    const emb_device_info *gpu = gpu_of(machine, plan);
    char key[KEY_BYTES];
    if (plan->device != EMB_DEVICE_CUDA || !gpu || tune == EMB_TUNE_OFF ||
        plan->gemm != EMB_GEMM_OWN)
        return EMB_TUNED_NOT;
    make_key(key, plan, model, gpu);
    if (tune != EMB_TUNE_ANEW && load(&plan->tuning, key)) return EMB_TUNED_BEFORE;
    plan->tune = tune != EMB_TUNE_CACHED;
    return EMB_TUNED_NOT;
}

emb_status emb_tuning_keep(emb_tuned *tuned, emb_plan *plan, const emb_engine *engine,
                           const emb_model_info *model, const emb_machine *machine,
                           emb_error *error) {
    char key[KEY_BYTES], path[PATH_MAX];
    if (!plan->tune) return EMB_OK;
    *tuned = EMB_TUNED_NOW;
    emb_engine_tuning(&plan->tuning, engine);
    make_key(key, plan, model, gpu_of(machine, plan));
    if (!make_folder(error)) return EMB_IO;
    if (!file_name(path, sizeof path, key)) {
        return emb_app_fail(error, EMB_IO, "the folder's name is too long");
    }
    return write_table(path, &plan->tuning, key, error);
}
