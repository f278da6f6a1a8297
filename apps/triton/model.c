/* model.c - loads a model within the memory that its configuration states.
 *
 * That memory is the model's own: its engine, its description and this backend's buffers. A plan
 * counts the whole process; what the server and other models hold is measured, and added to the
 * limit before the plan is made.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/size.h"
#include "fail.h"
#include "triton/report.h"

enum { SIZE_TEXT = 32 };

/* ---- the plan -------------------------------------------------------------------------------- */

static emb_status plan_within(emb_triton_model *m, emb_error *error) {
    const emb_own_budget budget = {m->config.memory, m->config.gpu_memory, "parameter memory",
                                   "parameter gpu_memory"};
    emb_limits limits = m->config.limits;
    limits.caller_bytes = sizeof *m;
    return emb_own_plan_make(&m->own, m->model, &limits, &m->machine, &budget, error);
}

static emb_status check_dim(const emb_triton_model *m, emb_error *error) {
    int64_t stated = m->config.output_dim;
    if (stated < 0 || stated == (int64_t)m->own.plan.dim) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                        EMB_TRITON_OUTPUT ": dims states %lld values, and the model gives %u",
                        (long long)stated, m->own.plan.dim);
}

/* ---- what the server is told ----------------------------------------------------------------- */

/* The items of the plan, as "name 1.5MiB, ...". */
static void list_items(char *out, size_t capacity, const emb_plan *plan) {
    static const char *const kinds[] = {"host", "pinned", "GPU"};
    size_t used = 0;
    for (uint32_t i = 0; i < plan->regions_count; i++) {
        const emb_region *region = &plan->regions[i];
        for (uint32_t k = 0; k < region->items_count && used < capacity; k++) {
            char size[SIZE_TEXT];
            emb_size_text(size, sizeof size, region->items[k].bytes);
            int length = snprintf(out + used, capacity - used, "%s%s %s", k ? ", " : "",
                                  region->items[k].name, size);
            used += length > 0 ? (size_t)length : 0;
        }
        if (used < capacity)
            used += (size_t)snprintf(out + used, capacity - used, " (%s)%s", kinds[region->kind],
                                     i + 1 < plan->regions_count ? "; " : "");
    }
}

static void log_plan(const emb_triton_model *m) {
    const emb_plan *plan = &m->own.plan;
    char own[SIZE_TEXT], others[SIZE_TEXT], both[SIZE_TEXT], device[SIZE_TEXT], items[1536];
    emb_size_text(own, sizeof own, m->own.host_bytes);
    emb_size_text(others, sizeof others, plan->host_bytes - m->own.host_bytes);
    emb_size_text(both, sizeof both, 2 * m->own.host_bytes);
    emb_size_text(device, sizeof device, m->own.device_bytes);
    bool gpu = plan->device == EMB_DEVICE_CUDA;
    emb_triton_log(TRITONSERVER_LOG_INFO,
                   "%s version %llu: %s, %s, %s, %u lanes, tiles of %u tokens, vectors of %u; its "
                   "own memory is %s%s%s%s",
                   m->name, (unsigned long long)m->version, gpu ? "GPU" : "CPU",
                   emb_dtype_name(plan->dtype), emb_rung_name(plan->rung), plan->lanes,
                   plan->tokens_per_tile, plan->dim, own, gpu ? " of the host, " : "",
                   gpu ? device : "", gpu ? " of each GPU" : "");
    emb_triton_log(TRITONSERVER_LOG_INFO,
                   "%s: the server and its other models hold %s beside it; while it is reloaded "
                   "the old and the new one are both there: %s",
                   m->name, others, both);
    list_items(items, sizeof items, plan);
    emb_triton_log(TRITONSERVER_LOG_INFO, "%s: %s", m->name, items);
    if (plan->device_notice && m->config.limits.device == EMB_DEVICE_AUTO)
        emb_triton_log(TRITONSERVER_LOG_WARN, "%s: on the CPU: %s", m->name, plan->device_reason);
}

/* One amount of one kind of memory; NULL if the server has no room for it. */
static TRITONSERVER_BufferAttributes *usage(TRITONSERVER_MemoryType kind, uint32_t device,
                                            uint64_t bytes) {
    TRITONSERVER_BufferAttributes *made = NULL;
    emb_triton_drop(TRITONSERVER_BufferAttributesNew(&made));
    if (!made) return NULL;
    emb_triton_drop(TRITONSERVER_BufferAttributesSetMemoryType(made, kind));
    emb_triton_drop(TRITONSERVER_BufferAttributesSetMemoryTypeId(made, device));
    emb_triton_drop(TRITONSERVER_BufferAttributesSetByteSize(made, bytes));
    return made;
}

static void report_memory(const emb_triton_model *m, TRITONBACKEND_Model *handle) {
    TRITONSERVER_BufferAttributes *list[EMB_DEVICES_MAX + 1];
    const emb_plan *plan = &m->own.plan;
    uint32_t count = 0;
    list[count] = usage(TRITONSERVER_MEMORY_CPU, 0, m->own.host_bytes);
    if (list[count]) count++;
    for (uint32_t i = 0; plan->device == EMB_DEVICE_CUDA && i < plan->devices_count; i++) {
        list[count] = usage(TRITONSERVER_MEMORY_GPU, plan->devices[i], m->own.device_bytes);
        if (list[count]) count++;
    }
    emb_triton_drop(TRITONBACKEND_ModelReportMemoryUsage(handle, list, count));
    while (count) emb_triton_drop(TRITONSERVER_BufferAttributesDelete(list[--count]));
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Where the model's files are. */
static emb_status find_files(char out[PATH_MAX], const emb_triton_model *m, const char *repository,
                             emb_error *error) {
    const char *stated = m->config.model;
    int length;
    if (*stated == '/')
        length = snprintf(out, PATH_MAX, "%s", stated);
    else
        length = snprintf(out, PATH_MAX, "%s/%llu%s%s", repository, (unsigned long long)m->version,
                          *stated ? "/" : "", stated);
    if (length > 0 && length < PATH_MAX) return EMB_OK;
    return emb_app_fail(error, EMB_INVALID_ARGUMENT, "parameter model: the path is too long");
}

static emb_status open_engine(emb_triton_model *m, const char *repository, emb_error *error) {
    char path[PATH_MAX];
    m->machine.struct_bytes = sizeof m->machine;
    EMB_APP_TRY(find_files(path, m, repository, error));
    EMB_APP_TRY(emb_machine_probe_guest(&m->machine, &m->config.devices, error));
    EMB_APP_TRY(emb_model_open(&m->model, path, error));
    EMB_APP_TRY(plan_within(m, error));
    EMB_APP_TRY(check_dim(m, error));
    EMB_APP_TRY(emb_engine_open(&m->engine, m->model, &m->own.plan, error));
    m->queue.config = &m->config;
    m->queue.model = m->model;
    m->queue.plan = &m->own.plan;
    m->queue.engine = m->engine;
    m->metrics = emb_triton_metrics_open(m->name, m->version, &m->own.plan);
    m->queue.metrics = m->metrics;
    EMB_APP_TRY(emb_triton_queue_open(&m->queue, m->stack, error));
    m->queue_open = true;
    return EMB_OK;
}

static emb_triton_error load(emb_triton_model *m, TRITONBACKEND_Model *handle) {
    TRITONBACKEND_ArtifactType kind;
    const char *repository;
    emb_error error = {.message = ""};
    EMB_TRITON_TRY(TRITONBACKEND_ModelName(handle, &m->name));
    EMB_TRITON_TRY(TRITONBACKEND_ModelVersion(handle, &m->version));
    EMB_TRITON_TRY(TRITONBACKEND_ModelRepository(handle, &kind, &repository));
    if (kind != TRITONBACKEND_ARTIFACT_FILESYSTEM)
        return emb_triton_fail(TRITONSERVER_ERROR_UNSUPPORTED,
                               "%s: its repository is no file system", m->name);
    EMB_TRITON_TRY(emb_triton_config_get(&m->config, handle));
    emb_status status = open_engine(m, repository, &error);
    if (status != EMB_OK) return emb_triton_refuse(status, m->name, &error);
    log_plan(m);
    report_memory(m, handle);
    return NULL;
}

emb_triton_error emb_triton_model_open(emb_triton_model **out, TRITONBACKEND_Model *handle) {
    *out = NULL;
    emb_triton_model *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (m == MAP_FAILED)
        return emb_triton_fail(TRITONSERVER_ERROR_UNAVAILABLE, "the system refused %zu bytes",
                               sizeof *m);
    emb_triton_error failed = load(m, handle);
    if (failed) {
        emb_triton_model_close(m);
        return failed;
    }
    *out = m;
    return NULL;
}

void emb_triton_model_close(emb_triton_model *m) {
    if (!m) return;
    if (m->queue_open) emb_triton_queue_close(&m->queue);
    emb_triton_metrics_close(m->metrics);
    emb_engine_close(m->engine);
    emb_model_close(m->model);
    munmap(m, sizeof *m);
}
