/* config.c - reads a model's configuration: tensors, instance groups, parameters.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "common/size.h"
#include "fail.h"
#include "triton/report.h"

enum { WORD = 128, JSON_BUFFER = 4096, DIMS_MAX = 8 };

/* A tensor as the configuration declares it. */
typedef struct tensor {
    char name[WORD], type[WORD];
    int64_t dims[DIMS_MAX];
    uint32_t dims_count;
} tensor;

/* What is checked only when all is read, since fields come in any order. */
typedef struct reading {
    emb_json json;
    emb_triton_config *out;
    tensor text, ids, output;
    uint32_t outputs;
    bool cpu, gpu;
} reading;

/* ---- a tensor -------------------------------------------------------------------------------- */

static emb_status read_dims(emb_json *json, tensor *out, emb_error *error) {
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(json, &event, error));
    for (;;) {
        double value;
        EMB_APP_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event == EMB_JSON_STRING) { /* as protobuf writes numbers of 64 bits */
            char word[WORD];
            EMB_APP_TRY(emb_json_string(json, word, sizeof word, NULL, error));
            value = strtod(word, NULL);
        } else {
            EMB_APP_TRY(emb_json_value_double(json, event, &value, "dims", error));
        }
        if (out->dims_count == DIMS_MAX || fabs(value) > 1e15)
            return emb_app_fail(error, EMB_INVALID_ARGUMENT, "%.64s: dims cannot be this",
                                out->name);
        out->dims[out->dims_count++] = (int64_t)value;
    }
}

static emb_status read_tensor(emb_json *json, tensor *out, emb_error *error) {
    memset(out, 0, sizeof *out);
    for (;;) {
        emb_json_event event;
        char key[WORD];
        EMB_APP_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return EMB_OK;
        EMB_APP_TRY(emb_json_string(json, key, sizeof key, NULL, error));
        if (strcmp(key, "name") == 0)
            EMB_APP_TRY(emb_json_next_string(json, out->name, sizeof out->name, key, error));
        else if (strcmp(key, "data_type") == 0)
            EMB_APP_TRY(emb_json_next_string(json, out->type, sizeof out->type, key, error));
        else if (strcmp(key, "dims") == 0)
            EMB_APP_TRY(read_dims(json, out, error));
        else
            EMB_APP_TRY(emb_json_skip(json, error));
    }
}

typedef emb_status (*element_reader)(reading *r, emb_error *error);

/* Calls `read` for each object of the array that follows. */
static emb_status read_array(reading *r, element_reader read, emb_error *error) {
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&r->json, &event, error));
    for (;;) {
        EMB_APP_TRY(emb_json_next(&r->json, &event, error));
        if (event != EMB_JSON_OBJECT_BEGIN) return EMB_OK;
        EMB_APP_TRY(read(r, error));
    }
}

static emb_status read_input(reading *r, emb_error *error) {
    tensor found;
    EMB_APP_TRY(read_tensor(&r->json, &found, error));
    bool text = strcmp(found.name, EMB_TRITON_TEXT) == 0;
    bool ids = strcmp(found.name, EMB_TRITON_IDS) == 0;
    bool prompt = strcmp(found.name, EMB_TRITON_PROMPT) == 0;
    if (!text && !ids && !prompt)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "input %.64s: inputs are " EMB_TRITON_TEXT ", " EMB_TRITON_IDS
                            " and " EMB_TRITON_PROMPT,
                            found.name);
    if (ids ? strcmp(found.type, "TYPE_INT32") != 0 && strcmp(found.type, "TYPE_INT64") != 0
            : strcmp(found.type, "TYPE_STRING") != 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "input %s: its data_type must be %s",
                            found.name, ids ? "TYPE_INT32 or TYPE_INT64" : "TYPE_STRING");
    if (text) r->text = found;
    if (ids) r->ids = found;
    return EMB_OK;
}

static emb_status read_output(reading *r, emb_error *error) {
    r->outputs++;
    return read_tensor(&r->json, &r->output, error);
}

/* ---- instance groups ------------------------------------------------------------------------- */

static emb_status add_gpu(emb_device_list *list, uint64_t index, emb_error *error) {
    for (uint32_t i = 0; i < list->count; i++)
        if (list->indices[i] == index) return EMB_OK;
    if (list->count == EMB_DEVICES_MAX || index > UINT32_MAX)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT, "instance_group: at most %u GPUs",
                            EMB_DEVICES_MAX);
    list->indices[list->count++] = (uint32_t)index;
    return EMB_OK;
}

static emb_status read_gpus(reading *r, emb_error *error) {
    emb_json_event event;
    EMB_APP_TRY(emb_json_next(&r->json, &event, error));
    for (;;) {
        uint64_t index;
        EMB_APP_TRY(emb_json_next(&r->json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        EMB_APP_TRY(emb_json_value_u64(&r->json, event, &index, "gpus", error));
        EMB_APP_TRY(add_gpu(&r->out->devices, index, error));
    }
}

static emb_status read_group(reading *r, emb_error *error) {
    char key[WORD], kind[WORD] = "";
    for (;;) {
        emb_json_event event;
        EMB_APP_TRY(emb_json_next(&r->json, &event, error));
        if (event == EMB_JSON_OBJECT_END) break;
        EMB_APP_TRY(emb_json_string(&r->json, key, sizeof key, NULL, error));
        if (strcmp(key, "kind") == 0)
            EMB_APP_TRY(emb_json_next_string(&r->json, kind, sizeof kind, key, error));
        else if (strcmp(key, "gpus") == 0)
            EMB_APP_TRY(read_gpus(r, error));
        else
            EMB_APP_TRY(emb_json_skip(&r->json, error));
    }
    if (strcmp(kind, "KIND_MODEL") == 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "instance_group: KIND_MODEL is not known here; state KIND_CPU or "
                            "KIND_GPU");
    r->cpu |= strcmp(kind, "KIND_CPU") == 0;
    r->gpu |= strcmp(kind, "KIND_GPU") == 0;
    return EMB_OK;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static emb_status read_number(uint64_t *out, const char *key, const char *value, uint64_t most,
                              emb_error *error) {
    char *end;
    unsigned long long number = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || number == 0 || number > most)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "parameter %s: %.64s: state a whole number from 1 to %llu", key, value,
                            (unsigned long long)most);
    *out = number;
    return EMB_OK;
}

static emb_status read_dtype(emb_dtype *out, const char *value, emb_error *error) {
    if (emb_dtype_from_name(out, value) == EMB_OK) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "parameter dtype: %.64s: state one of " EMB_DTYPE_NAMES(", "), value);
}

static emb_status read_long(emb_long_rule *out, const char *value, emb_error *error) {
    static const char *const words[] = {"chunk", "truncate", "error"};
    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(value, words[i]) != 0) continue;
        *out = (emb_long_rule)i;
        return EMB_OK;
    }
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "parameter long: %.64s: state chunk, truncate or error", value);
}

static emb_status read_range(double *out, const char *value, emb_error *error) {
    char *end;
    *out = strtod(value, &end);
    if (*value && !*end && *out > 0 && isfinite(*out)) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "parameter int8_range: %.64s: state a number above 0", value);
}

static emb_status read_size(uint64_t *out, const char *key, const char *value, emb_error *error) {
    char place[WORD + 16];
    snprintf(place, sizeof place, "parameter %s", key);
    return emb_size_parse(out, value, place, error);
}

static emb_status set_parameter(emb_triton_config *out, const char *key, const char *value,
                                emb_error *error) {
    uint64_t number = 0;
    if (strcmp(key, "memory") == 0) return read_size(&out->memory, key, value, error);
    if (strcmp(key, "gpu_memory") == 0) return read_size(&out->gpu_memory, key, value, error);
    if (strcmp(key, "dtype") == 0) return read_dtype(&out->limits.dtype, value, error);
    if (strcmp(key, "long") == 0) return read_long(&out->limits.long_rule, value, error);
    if (strcmp(key, "int8_range") == 0) return read_range(&out->int8_range, value, error);
    if (strcmp(key, "tokens_per_batch") == 0)
        return read_number(&out->tokens_per_batch, key, value, UINT32_MAX, error);
    if (strcmp(key, "dim") == 0) {
        EMB_APP_TRY(read_number(&number, key, value, UINT32_MAX, error));
        out->limits.dim = (uint32_t)number;
        return EMB_OK;
    }
    if (strcmp(key, "threads") == 0) {
        EMB_APP_TRY(read_number(&number, key, value, 1024, error));
        out->limits.threads = (uint32_t)number;
        return EMB_OK;
    }
    if (strcmp(key, "model") == 0) {
        snprintf(out->model, sizeof out->model, "%s", value);
        return EMB_OK;
    }
    if (strncmp(key, "TRITON_", 7) == 0) return EMB_OK; /* the server's own */
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "parameter %.64s is not known; there are memory, gpu_memory, dtype, long, "
                        "dim, threads, model, int8_range and tokens_per_batch",
                        key);
}

static emb_status read_parameters(reading *r, emb_error *error) {
    emb_json_event event;
    char key[WORD], inner[WORD], value[PATH_MAX];
    EMB_APP_TRY(emb_json_next(&r->json, &event, error));
    for (;;) {
        EMB_APP_TRY(emb_json_next(&r->json, &event, error));
        if (event != EMB_JSON_KEY) return EMB_OK;
        EMB_APP_TRY(emb_json_string(&r->json, key, sizeof key, NULL, error));
        EMB_APP_TRY(emb_json_next(&r->json, &event, error)); /* { */
        value[0] = 0;
        for (;;) {
            EMB_APP_TRY(emb_json_next(&r->json, &event, error));
            if (event != EMB_JSON_KEY) break;
            EMB_APP_TRY(emb_json_string(&r->json, inner, sizeof inner, NULL, error));
            EMB_APP_TRY(emb_json_next_string(&r->json, value, sizeof value, key, error));
        }
        EMB_APP_TRY(set_parameter(r->out, key, value, error));
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static emb_status read_field(reading *r, const char *key, emb_error *error) {
    if (strcmp(key, "input") == 0) return read_array(r, read_input, error);
    if (strcmp(key, "output") == 0) return read_array(r, read_output, error);
    if (strcmp(key, "instance_group") == 0) return read_array(r, read_group, error);
    if (strcmp(key, "parameters") == 0) return read_parameters(r, error);
    if (strcmp(key, "max_batch_size") != 0) return emb_json_skip(&r->json, error);
    uint64_t size;
    EMB_APP_TRY(emb_json_next_u64(&r->json, &size, key, error));
    r->out->max_batch_size = size > INT32_MAX ? INT32_MAX : (uint32_t)size;
    return EMB_OK;
}

static emb_status check_dims(const tensor *t, bool batches, uint32_t count, const char *wanted,
                             emb_error *error) {
    bool right = t->dims_count == count;
    /* with batches a text is one string; without, their number is free */
    if (right && batches && strcmp(t->name, EMB_TRITON_TEXT) == 0) right = t->dims[0] == 1;
    if (right) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        "%s: dims must be %s where max_batch_size is %s", t->name, wanted,
                        batches ? "above 0" : "0");
}

static emb_status check_output(reading *r, emb_error *error) {
    static const struct {
        const char *name;
        TRITONSERVER_DataType type;
    } types[] = {{"TYPE_FP32", TRITONSERVER_TYPE_FP32},
                 {"TYPE_FP16", TRITONSERVER_TYPE_FP16},
                 {"TYPE_INT8", TRITONSERVER_TYPE_INT8}};
    const tensor *t = &r->output;
    bool batches = r->out->max_batch_size > 0;
    if (r->outputs != 1 || strcmp(t->name, EMB_TRITON_OUTPUT) != 0)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "the output must be " EMB_TRITON_OUTPUT ", and no other");
    EMB_APP_TRY(
        check_dims(t, batches, batches ? 1 : 2, batches ? "[ DIM ]" : "[ -1, DIM ]", error));
    r->out->output_dim = t->dims[t->dims_count - 1];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(t->type, types[i].name) != 0) continue;
        r->out->output = types[i].type;
        return EMB_OK;
    }
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        EMB_TRITON_OUTPUT ": its data_type must be TYPE_FP32, TYPE_FP16 or "
                                          "TYPE_INT8");
}

static emb_status check(reading *r, emb_error *error) {
    emb_triton_config *out = r->out;
    bool batches = out->max_batch_size > 0;
    if (!r->text.name[0] && !r->ids.name[0])
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "no input: declare " EMB_TRITON_TEXT ", " EMB_TRITON_IDS " or both");
    if (r->text.name[0])
        EMB_APP_TRY(check_dims(&r->text, batches, 1, batches ? "[ 1 ]" : "[ -1 ]", error));
    if (r->ids.name[0])
        EMB_APP_TRY(check_dims(&r->ids, batches, batches ? 1 : 2, batches ? "[ -1 ]" : "[ -1, -1 ]",
                               error));
    EMB_APP_TRY(check_output(r, error));
    if (r->cpu && r->gpu)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "instance_group: KIND_CPU and KIND_GPU in one model; make two models");
    if (out->int8_range > 0 && out->output != TRITONSERVER_TYPE_INT8)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "parameter int8_range: it goes with an output of TYPE_INT8");
    out->limits.device = r->gpu ? EMB_DEVICE_CUDA : r->cpu ? EMB_DEVICE_CPU : EMB_DEVICE_AUTO;
    if (out->gpu_memory && out->limits.device == EMB_DEVICE_CPU)
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "parameter gpu_memory: the instance_group is KIND_CPU");
    out->devices.kind = out->limits.device;
    if (!r->gpu) out->devices.count = 0;
    out->limits.devices_max = out->devices.count;
    return EMB_OK;
}

emb_status emb_triton_config_read(emb_triton_config *out, const char *json, size_t bytes,
                                  emb_error *error) {
    unsigned char buffer[JSON_BUFFER];
    emb_json_memory memory = {json, bytes};
    reading r = {.out = out};
    emb_json_event event;
    char key[WORD];
    memset(out, 0, sizeof *out);
    out->limits = emb_limits_default();
    out->devices.struct_bytes = sizeof out->devices;
    out->tokens_per_batch = EMB_TRITON_TOKENS_PER_BATCH;
    emb_json_init(&r.json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    EMB_APP_TRY(emb_json_next(&r.json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_app_fail(error, EMB_BAD_FILE, "the configuration is no JSON object");
    for (;;) {
        EMB_APP_TRY(emb_json_next(&r.json, &event, error));
        if (event == EMB_JSON_OBJECT_END) return check(&r, error);
        EMB_APP_TRY(emb_json_string(&r.json, key, sizeof key, NULL, error));
        EMB_APP_TRY(read_field(&r, key, error));
    }
}

emb_triton_error emb_triton_config_get(emb_triton_config *out, TRITONBACKEND_Model *model) {
    TRITONSERVER_Message *message;
    const char *json;
    size_t bytes;
    emb_error error;
    EMB_TRITON_TRY(TRITONBACKEND_ModelConfig(model, 1, &message));
    emb_triton_error failed = TRITONSERVER_MessageSerializeToJson(message, &json, &bytes);
    if (!failed) {
        emb_status status = emb_triton_config_read(out, json, bytes, &error);
        if (status != EMB_OK) failed = emb_triton_refuse(status, "config.pbtxt", &error);
    }
    emb_triton_drop(TRITONSERVER_MessageDelete(message));
    return failed;
}
