/* machine.c - measures this machine for the planner, and stores the result as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/process.h"

#define MAIN_STACK_BYTES (256u << 10) /* stack that the caller's thread may use */

#define DRIVER_MS 30000 /* for the driver to answer; with eight cards it takes some */

/* Whether the module, and the driver under it, can use that GPU. */
static emb_status check_gpu(const emb_cuda_module *module, const emb_cuda_found *found,
                            uint32_t index, emb_error *error) {
    uint32_t capability = found->capabilities[index];
    if (found->driver_version < module->driver_version)
        return emb_error_set(error, EMB_DEVICE,
                             "the NVIDIA driver is of CUDA %u.%u, and the CUDA module needs %u.%u: "
                             "update it",
                             found->driver_version / 1000, found->driver_version % 1000 / 10,
                             module->driver_version / 1000, module->driver_version % 1000 / 10);
    if (capability < EMB_CUDA_CAPABILITY)
        return emb_error_set(
            error, EMB_DEVICE, "GPU %u has compute capability %u.%u, and %u.%u is needed", index,
            capability / 10, capability % 10, EMB_CUDA_CAPABILITY / 10, EMB_CUDA_CAPABILITY % 10);
    if (!module->supports(capability))
        return emb_error_set(error, EMB_DEVICE,
                             "the CUDA module was built for other GPUs than GPU %u, of compute "
                             "capability %u.%u: build it for %u-real too",
                             index, capability / 10, capability % 10, capability);
    return EMB_OK;
}

/* Finds the module and checks the wanted GPUs; for auto, narrows them to the first usable one.
 * Creates no context. */
static emb_status find_gpus(const emb_cuda_module **module, emb_device_list *wanted, bool *notice,
                            emb_error *error) {
    emb_cuda_found found;
    EMB_TRY(emb_cuda_look(&found, notice, DRIVER_MS, error));
    EMB_TRY(emb_cuda_open(module, error));
    if (wanted->kind == EMB_DEVICE_CUDA) {
        for (uint32_t i = 0; i < (wanted->count ? wanted->count : found.count); i++) {
            uint32_t index = wanted->count ? wanted->indices[i] : i;
            if (index < found.count) EMB_TRY(check_gpu(*module, &found, index, error));
        }
        return EMB_OK;
    }
    wanted->count = 1;
    for (uint32_t i = 0; i < found.count; i++) {
        wanted->indices[0] = i;
        if (check_gpu(*module, &found, i, NULL) == EMB_OK) return EMB_OK;
    }
    return check_gpu(*module, &found, 0, error);
}

static emb_status no_room(const emb_device_info *gpu, emb_error *error) {
    char free_text[64] = "";
    if (gpu->free_bytes)
        snprintf(free_text, sizeof free_text, ": %llu of %llu MiB are free",
                 (unsigned long long)gpu->free_bytes >> 20,
                 (unsigned long long)gpu->memory_bytes >> 20);
    emb_error_set(error, EMB_BUDGET,
                  "GPU %u (%.63s) has no room for a CUDA context%s; end what fills it, or "
                  "use " EMB_ADVICE_CPU,
                  gpu->index, gpu->name, free_text);
    if (error) {
        error->bytes_min = 0;
        error->region = EMB_REGION_DEVICE;
    }
    return EMB_BUDGET;
}

/* Divides the host bytes that probing the GPUs cost: the other GPUs' contexts and cuBLASLt have
 * figures of their own; what belongs to no context (module, driver) counts with the first. */
static void part_host_bytes(emb_device_info *devices, uint32_t count, uint64_t bytes) {
    for (uint32_t i = 1; i < count; i++)
        bytes = bytes > devices[i].host_bytes ? bytes - devices[i].host_bytes : 0;
    if (count == 0) return;
    if (devices->cublaslt_bytes > bytes) devices->cublaslt_bytes = bytes;
    devices->host_bytes = bytes - devices->cublaslt_bytes;
}

/* Not in a child process, as contexts that this process already has are shared, and a child of fork
 * could use none. Once auto has found a usable GPU it has chosen: later failures are errors. */
static emb_status probe_gpus(emb_machine *out, const emb_device_list *devices, emb_error *error) {
    const emb_cuda_module *module = NULL;
    emb_device_list wanted = *devices;
    emb_error why = {0};
    bool notice = false;
    emb_status status = find_gpus(&module, &wanted, &notice, &why);
    if (status != EMB_OK && wanted.kind == EMB_DEVICE_AUTO) {
        snprintf(out->device_reason, sizeof out->device_reason, "%.191s", why.message);
        out->device_notice = notice;
        return EMB_OK;
    }
    if (status != EMB_OK)
        return emb_error_set(error, status, "no usable CUDA device: %.180s, or use " EMB_ADVICE_CPU,
                             why.message);
    wanted.kind = EMB_DEVICE_CUDA;
    status = module->probe(out->devices, &out->devices_count, &wanted, error);
    if (status == EMB_NO_MEMORY) return no_room(&out->devices[out->devices_count], error);
    return status;
}

static uint64_t base_bytes(bool guest) {
    uint64_t now, peak;
    emb_process_memory(&now, &peak);
    return guest ? now : peak;
}

static emb_status probe(emb_machine *out, const emb_device_list *devices, bool guest,
                        emb_error *error) {
    if (!out) return emb_error_set(error, EMB_INVALID_ARGUMENT, "machine must not be NULL");
    memset(out, 0, sizeof *out);
    EMB_TRY(emb_cpu_detect(&out->cpu_features, error));
    out->struct_bytes = sizeof *out;
    emb_process_host(out);
    emb_process_populate(MAIN_STACK_BYTES, guest);
    out->process_base_bytes = base_bytes(guest);
    if (!out->process_base_bytes)
        return emb_error_set(error, EMB_IO,
                             "cannot read this process's memory from /proc: no VmHWM in "
                             "/proc/self/status; mount /proc");
    if (!devices || devices->kind == EMB_DEVICE_CPU) return EMB_OK;
    EMB_TRY(probe_gpus(out, devices, error));
    uint64_t taken = base_bytes(guest), before = out->process_base_bytes;
    taken = taken > before ? taken - before : 0; /* a guest's program may have freed some */
    if (out->devices_count == 0)
        out->process_base_bytes += taken; /* from a driver that was of no use */
    part_host_bytes(out->devices, out->devices_count, taken);
    return EMB_OK;
}

emb_status emb_machine_probe(emb_machine *out, const emb_device_list *devices, emb_error *error) {
    return probe(out, devices, false, error);
}

emb_status emb_machine_probe_guest(emb_machine *out, const emb_device_list *devices,
                                   emb_error *error) {
    return probe(out, devices, true, error);
}

const char *emb_machine_isa(const emb_machine *machine) {
    return emb_cpu_isa(machine->cpu_features);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* What JSON states as text. Earlier files have isa and has_bf16 (0: none, 1: fast, 2: slow) in
 * place of the features. */
typedef struct machine_text {
    emb_machine machine;
    char cpu_features[EMB_CPU_FEATURES_TEXT];
    char isa[16];
    uint32_t has_bf16;
} machine_text;

/* One table serves writing and reading, so that they cannot drift. */
enum field_kind {
    FIELD_TEXT,
    FIELD_U32,
    FIELD_U64,
    FIELD_IF_KNOWN, /* from here on: may be missing, then 0 or "" */
    FIELD_U32_IF_KNOWN = FIELD_IF_KNOWN,
    FIELD_U64_IF_KNOWN,
    FIELD_TEXT_IF_KNOWN
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset, size;
};

#define WORDS(kind, name)                                                                          \
    { #name, kind, offsetof(machine_text, name), sizeof((machine_text *)0)->name }
#define FIELD(kind, name)                                                                          \
    { #name, kind, offsetof(emb_machine, name), sizeof((emb_machine *)0)->name }
_Static_assert(offsetof(machine_text, machine) == 0, "fields of both stand in one table");
static const struct field machine_fields[] = {
    FIELD(FIELD_TEXT, cpu_name),
    WORDS(FIELD_TEXT_IF_KNOWN, cpu_features),
    WORDS(FIELD_TEXT_IF_KNOWN, isa),
    WORDS(FIELD_U32_IF_KNOWN, has_bf16),
    FIELD(FIELD_U32, cores),
    FIELD(FIELD_U32, page_bytes),
    FIELD(FIELD_U64, cache_l2_bytes),
    FIELD(FIELD_U64, cache_l3_bytes),
    FIELD(FIELD_U64, memory_bytes),
    FIELD(FIELD_U64, process_base_bytes),
    FIELD(FIELD_TEXT_IF_KNOWN, device_reason),
    FIELD(FIELD_U32_IF_KNOWN, device_notice),
};
#undef FIELD
#define FIELD(kind, name)                                                                          \
    { #name, kind, offsetof(emb_device_info, name), sizeof((emb_device_info *)0)->name }
static const struct field device_fields[] = {
    FIELD(FIELD_TEXT, name),
    FIELD(FIELD_TEXT_IF_KNOWN, driver),
    FIELD(FIELD_U32, index),
    FIELD(FIELD_U32, compute_capability),
    FIELD(FIELD_U64, memory_bytes),
    FIELD(FIELD_U64, context_bytes),
    FIELD(FIELD_U64, host_bytes),
    FIELD(FIELD_U64_IF_KNOWN, cublaslt_bytes),
    FIELD(FIELD_U64_IF_KNOWN, held_bytes),
    FIELD(FIELD_U64_IF_KNOWN, free_bytes),
    FIELD(FIELD_U32_IF_KNOWN, grown),
    FIELD(FIELD_U32_IF_KNOWN, grown_lanes),
};
#undef FIELD
#define MACHINE_FIELDS (sizeof machine_fields / sizeof machine_fields[0])
#define DEVICE_FIELDS  (sizeof device_fields / sizeof device_fields[0])

static bool is_text(const struct field *field) {
    return field->kind == FIELD_TEXT || field->kind == FIELD_TEXT_IF_KNOWN;
}

static bool is_u32(const struct field *field) {
    return field->kind == FIELD_U32 || field->kind == FIELD_U32_IF_KNOWN;
}

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
    for (size_t left = strlen(text), used; left; text += used, left -= used) {
        char escaped[EMB_JSON_ESCAPED_MAX];
        put(out, escaped, emb_json_escape(escaped, text, left, &used));
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
        if (fields[i].kind == FIELD_U32_IF_KNOWN && !*(const uint32_t *)at) continue;
        if (fields[i].kind == FIELD_U64_IF_KNOWN && !*(const uint64_t *)at) continue;
        if (fields[i].kind == FIELD_TEXT_IF_KNOWN && !*(const char *)at) continue;
        put_text(out, i ? ",\n " : "");
        put_quoted(out, fields[i].name);
        put_text(out, ": ");
        if (is_text(&fields[i])) {
            put_quoted(out, at);
            continue;
        }
        uint64_t value = is_u32(&fields[i]) ? *(const uint32_t *)at : *(const uint64_t *)at;
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
    machine_text written = {.machine = *machine};
    emb_cpu_features_write(written.cpu_features, sizeof written.cpu_features,
                           machine->cpu_features);
    put_text(&out, "{");
    put_fields(&out, machine_fields, MACHINE_FIELDS, &written);
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
    if (is_text(field)) return emb_json_next_string(json, at, field->size, field->name, error);
    uint64_t value;
    EMB_TRY(emb_json_next_u64(json, &value, field->name, error));
    if (!is_u32(field)) {
        *(uint64_t *)at = value;
        return EMB_OK;
    }
    if (value > UINT32_MAX)
        return emb_error_set(error, EMB_BAD_FILE, "machine: %s: %llu is too large", field->name,
                             (unsigned long long)value);
    *(uint32_t *)at = (uint32_t)value;
    return EMB_OK;
}

/* Reads the rest of an object whose brace has been read. Stops before the value of the key `list`
 * (NULL: there is none) and sets *at_list; called again, it continues. At the end every field must
 * have been seen once. */
static emb_status read_fields(void *object, const struct field *fields, size_t count,
                              const char *list, uint32_t *seen, bool *at_list, emb_json *json,
                              emb_error *error) {
    for (*at_list = false; !*at_list;) {
        emb_json_event event;
        char key[64];
        size_t length, i = 0;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_OBJECT_END) break;
        EMB_TRY(emb_json_string(json, key, sizeof key, &length, error));
        while (i < count && strcmp(key, fields[i].name) != 0) i++;
        *at_list = i == count && list && strcmp(key, list) == 0;
        if (i == count && !*at_list)
            return emb_error_set(error, EMB_BAD_FILE, "machine: unknown key '%s'", key);
        if (*seen & 1u << i)
            return emb_error_set(error, EMB_BAD_FILE, "machine: %s is there twice", key);
        *seen |= 1u << i;
        if (!*at_list) EMB_TRY(read_field(object, &fields[i], json, error));
    }
    for (size_t i = 0; i < count && !*at_list; i++)
        if (!(*seen & 1u << i) && fields[i].kind < FIELD_IF_KNOWN)
            return emb_error_set(error, EMB_BAD_FILE, "machine: %s is missing", fields[i].name);
    return EMB_OK;
}

static emb_status read_devices(emb_machine *out, emb_json *json, emb_error *error) {
    emb_json_event event;
    EMB_TRY(emb_json_next(json, &event, error));
    if (event != EMB_JSON_ARRAY_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "machine: devices must be a list");
    for (;;) {
        uint32_t seen = 0;
        bool at_list;
        EMB_TRY(emb_json_next(json, &event, error));
        if (event == EMB_JSON_ARRAY_END) return EMB_OK;
        if (event != EMB_JSON_OBJECT_BEGIN || out->devices_count == EMB_DEVICES_MAX)
            return emb_error_set(error, EMB_BAD_FILE, "machine: devices: at most %d objects",
                                 EMB_DEVICES_MAX);
        EMB_TRY(read_fields(&out->devices[out->devices_count++], device_fields, DEVICE_FIELDS, NULL,
                            &seen, &at_list, json, error));
    }
}

static emb_status read_features(machine_text *text, emb_error *error) {
    static const uint32_t bf16[] = {0, EMB_CPU_VNNI | EMB_CPU_BF16 | EMB_CPU_BF16_FAST,
                                    EMB_CPU_VNNI | EMB_CPU_BF16};
    const char *isa = text->isa;
    bool avx512 = !strcmp(isa, "avx512");
    if (*text->cpu_features) {
        if (emb_cpu_features_read(&text->machine.cpu_features, text->cpu_features)) return EMB_OK;
        return emb_error_set(error, EMB_BAD_FILE, "machine: cpu_features: '%s' has an unknown name",
                             text->cpu_features);
    }
    if (!*isa) return emb_error_set(error, EMB_BAD_FILE, "machine: cpu_features is missing");
    if (text->has_bf16 >= sizeof bf16 / sizeof bf16[0])
        return emb_error_set(error, EMB_BAD_FILE, "machine: has_bf16 is %u: state 0, 1 or 2",
                             text->has_bf16);
    if (!avx512 && strcmp(isa, "avx2") && strcmp(isa, "ref"))
        return emb_error_set(error, EMB_BAD_FILE, "machine: no kernels for isa '%s'", isa);
    if (strcmp(isa, "ref")) text->machine.cpu_features = EMB_CPU_AVX2;
    if (avx512) text->machine.cpu_features |= EMB_CPU_AVX512 | bf16[text->has_bf16];
    return EMB_OK;
}

static emb_status check_machine(const emb_machine *machine, emb_error *error) {
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
    machine_text read = {.machine.struct_bytes = sizeof *out};
    unsigned char buffer[256];
    emb_json json;
    emb_json_memory memory = {text, length};
    emb_json_init(&json, buffer, sizeof buffer, emb_json_memory_read, &memory);
    emb_json_event event;
    EMB_TRY(emb_json_next(&json, &event, error));
    if (event != EMB_JSON_OBJECT_BEGIN)
        return emb_error_set(error, EMB_BAD_FILE, "machine: must be a JSON object");
    uint32_t seen = 0;
    for (bool at_list = true; at_list;) {
        EMB_TRY(read_fields(&read, machine_fields, MACHINE_FIELDS, "devices", &seen, &at_list,
                            &json, error));
        if (at_list) EMB_TRY(read_devices(&read.machine, &json, error));
    }
    EMB_TRY(emb_json_next(&json, &event, error));
    EMB_TRY(read_features(&read, error));
    EMB_TRY(check_machine(&read.machine, error));
    *out = read.machine;
    return EMB_OK;
}
