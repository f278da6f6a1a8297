/* machine.c - measures this machine for the planner, and keeps such measures as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"

#define MAIN_STACK_BYTES (256u << 10) /* that the caller's thread may use */

static emb_status probe_gpus(emb_machine *out, const emb_device_list *devices, emb_error *error) {
    const emb_cuda_module *module = NULL;
    EMB_TRY(emb_cuda_open(&module, error));
    return module->probe(out->devices, &out->devices_count, devices, error);
}

emb_status emb_machine_probe(emb_machine *out, const emb_device_list *devices, emb_error *error) {
    if (!out) return emb_error_set(error, EMB_INVALID_ARGUMENT, "machine must not be NULL");
    memset(out, 0, sizeof *out);
    const char *isa;
    bool has_bf16;
    EMB_TRY(emb_cpu_detect(&isa, &has_bf16, error));
    out->struct_bytes = sizeof *out;
    snprintf(out->isa, sizeof out->isa, "%s", isa);
    out->has_bf16 = has_bf16;
    emb_process_host(out);
    if (devices && devices->kind != EMB_DEVICE_CPU) {
        emb_status status = probe_gpus(out, devices, error);
        /* auto does without */
        if (status != EMB_OK && devices->kind == EMB_DEVICE_CUDA) return status;
    }
    /* last: the base then holds what a CUDA module and its contexts cost the host */
    emb_process_populate(MAIN_STACK_BYTES);
    uint64_t now;
    emb_process_memory(&now, &out->process_base_bytes);
    return EMB_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* One table serves writing and reading, so that they cannot drift. */
enum field_kind { FIELD_TEXT, FIELD_U32, FIELD_U64 };

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset, size;
};

#define FIELD(kind, name)                                                                          \
    { #name, kind, offsetof(emb_machine, name), sizeof((emb_machine *)0)->name }
static const struct field machine_fields[] = {
    FIELD(FIELD_TEXT, cpu_name),          FIELD(FIELD_TEXT, isa),
    FIELD(FIELD_U32, has_bf16),           FIELD(FIELD_U32, cores),
    FIELD(FIELD_U32, page_bytes),         FIELD(FIELD_U64, cache_l2_bytes),
    FIELD(FIELD_U64, cache_l3_bytes),     FIELD(FIELD_U64, memory_bytes),
    FIELD(FIELD_U64, process_base_bytes),
};
#undef FIELD
#define FIELD(kind, name)                                                                          \
    { #name, kind, offsetof(emb_device_info, name), sizeof((emb_device_info *)0)->name }
static const struct field device_fields[] = {
    FIELD(FIELD_TEXT, name),
    FIELD(FIELD_U32, index),
    FIELD(FIELD_U32, compute_capability),
    FIELD(FIELD_U64, memory_bytes),
    FIELD(FIELD_U64, context_bytes),
    FIELD(FIELD_U64, host_bytes),
};
#undef FIELD
#define MACHINE_FIELDS (sizeof machine_fields / sizeof machine_fields[0])
#define DEVICE_FIELDS  (sizeof device_fields / sizeof device_fields[0])

struct text_out {
    char *text;
    size_t capacity, length;
};

static void put(struct text_out *out, const char *text, size_t length) {
    if (out->length + length < out->capacity) memcpy(out->text + out->length, text, length);
    out->length += length;
}

static void put_quoted(struct text_out *out, const char *text) {
    put(out, "\"", 1);
    for (; *text; text++) {
        char escaped[8];
        int length =
            *text == '"' || *text == '\\' ? snprintf(escaped, sizeof escaped, "\\%c", *text)
            : (unsigned char)*text < 0x20 ? snprintf(escaped, sizeof escaped, "\\u%04x", *text)
                                          : snprintf(escaped, sizeof escaped, "%c", *text);
        put(out, escaped, (size_t)length);
    }
    put(out, "\"", 1);
}

static void put_text(struct text_out *out, const char *text) {
    put(out, text, strlen(text));
}

/* The fields of one object, without its braces. */
static void put_fields(struct text_out *out, const struct field *fields, size_t count,
                       const void *object) {
    for (size_t i = 0; i < count; i++) {
        const void *at = (const char *)object + fields[i].offset;
        char number[32];
        put_text(out, i ? ",\n " : "");
        put_quoted(out, fields[i].name);
        put_text(out, ": ");
        if (fields[i].kind == FIELD_TEXT) {
            put_quoted(out, at);
            continue;
        }
        uint64_t value =
            fields[i].kind == FIELD_U32 ? *(const uint32_t *)at : *(const uint64_t *)at;
        snprintf(number, sizeof number, "%llu", (unsigned long long)value);
        put_text(out, number);
    }
}

emb_status emb_machine_to_json(char *text, size_t capacity, size_t *length,
                               const emb_machine *machine, emb_error *error) {
    if (!text || !length || !machine || !capacity)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "machine_to_json: text, length and machine must not be NULL");
    struct text_out out = {text, capacity, 0};
    put_text(&out, "{");
    put_fields(&out, machine_fields, MACHINE_FIELDS, machine);
    put_text(&out, ",\n \"devices\": [");
    for (uint32_t i = 0; i < machine->devices_count && i < EMB_DEVICES_MAX; i++) {
        put_text(&out, i ? ", {" : "{");
        put_fields(&out, device_fields, DEVICE_FIELDS, &machine->devices[i]);
        put_text(&out, "}");
    }
    put_text(&out, "]}\n");
    *length = out.length;
    if (out.length >= capacity)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "machine_to_json: %zu bytes are needed, %zu were given",
                             out.length + 1, capacity);
    text[out.length] = '\0';
    return EMB_OK;
}

static emb_status read_field(void *object, const struct field *field, emb_json *json,
                             emb_error *error) {
    void *at = (char *)object + field->offset;
    if (field->kind == FIELD_TEXT)
        return emb_json_next_string(json, at, field->size, field->name, error);
    uint64_t value;
    EMB_TRY(emb_json_next_u64(json, &value, field->name, error));
    if (field->kind == FIELD_U64) {
        *(uint64_t *)at = value;
        return EMB_OK;
    }
    if (value > UINT32_MAX)
        return emb_error_set(error, EMB_BAD_FILE, "machine: %s: %llu is too large", field->name,
                             (unsigned long long)value);
    *(uint32_t *)at = (uint32_t)value;
    return EMB_OK;
}

static emb_status read_devices(emb_machine *out, emb_json *json, emb_error *error);

/* The rest of an object whose brace has been read; every field must be there once. `machine` is
 * given where a list of devices may stand. */
static emb_status read_fields(void *object, const struct field *fields, size_t count,
                              emb_machine *machine, emb_json *json, emb_error *error) {
    uint32_t seen = 0;
    for (;;) {
        emb_json_event event;
        char key[64];
        size_t length, i = 0;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) break;
        EMB_TRY(emb_json_string(json, key, sizeof key, &length, error));
        while (i < count && strcmp(key, fields[i].name) != 0) i++;
        bool devices = i == count && machine && strcmp(key, "devices") == 0;
        if (i == count && !devices)
            return emb_error_set(error, EMB_BAD_FILE, "machine: unknown key '%s'", key);
        if (seen & 1u << i)
            return emb_error_set(error, EMB_BAD_FILE, "machine: %s is there twice", key);
        seen |= 1u << i;
        EMB_TRY(devices ? read_devices(machine, json, error)
                        : read_field(object, &fields[i], json, error));
    }
    for (size_t i = 0; i < count; i++)
        if (!(seen & 1u << i))
            return emb_error_set(error, EMB_BAD_FILE, "machine: %s is missing", fields[i].name);
    return EMB_OK;
}

static emb_status read_devices(emb_machine *out, emb_json *json, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "machine: devices must be a list");
    for (;;) {
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event != EMB_JSON_OBJECT_BEGIN || out->devices_count == EMB_DEVICES_MAX)
            return emb_error_set(error, EMB_BAD_FILE, "machine: devices: at most %d objects",
                                 EMB_DEVICES_MAX);
        EMB_TRY(read_fields(&out->devices[out->devices_count++], device_fields, DEVICE_FIELDS, NULL,
                            json, error));
    }
}

static emb_status check_machine(const emb_machine *machine, emb_error *error) {
    if (!emb_cpu_backend(machine->isa, machine->has_bf16, EMB_FORMAT_F32))
        return emb_error_set(error, EMB_BAD_FILE, "machine: no kernels for isa '%s'", machine->isa);
    if (machine->cores == 0 || machine->cores > 1024 || machine->page_bytes < 512 ||
        (machine->page_bytes & (machine->page_bytes - 1)))
        return emb_error_set(error, EMB_BAD_FILE,
                             "machine: cores must be 1 to 1024, page_bytes a power of two");
    return EMB_OK;
}

emb_status emb_machine_from_json(emb_machine *out, const char *text, size_t length,
                                 emb_error *error) {
    if (!out || !text)
        return emb_error_set(error, EMB_INVALID_ARGUMENT,
                             "machine_from_json: machine and text must not be NULL");
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    unsigned char buffer[256];
    emb_json json;
    emb_json_memory memory = {text, length};
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    emb_json_event event;
    EMB_TRY(emb_json_next(&json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "machine: must be a JSON object");
    EMB_TRY(read_fields(out, machine_fields, MACHINE_FIELDS, out, &json, error));
    EMB_TRY(emb_json_next(&json, &event, error));
    return check_machine(out, error);
}
