/* describe.c - plan, counters and model as Python dicts of numbers, strings and lists.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "describe.h"

static const char *pooling_name(emb_pooling pooling) {
    static const char *const names[] = {"model", "mean", "cls", "max"};
    return (size_t)pooling < sizeof names / sizeof names[0] ? names[pooling] : "unknown";
}

static const char *long_name(emb_long_rule rule) {
    return rule == EMB_LONG_CHUNK ? "chunk" : rule == EMB_LONG_TRUNCATE ? "truncate" : "error";
}

static const char *region_name(emb_region_kind kind) {
    return kind == EMB_REGION_HOST ? "host" : kind == EMB_REGION_PINNED ? "pinned" : "device";
}

static PyObject *describe_region(const emb_region *region) {
    PyObject *items = PyList_New((Py_ssize_t)region->items_count);
    for (uint32_t i = 0; items && i < region->items_count; i++) {
        PyObject *item = Py_BuildValue("(sK)", region->items[i].name,
                                       (unsigned long long)region->items[i].bytes);
        if (!item || PyList_SetItem(items, (Py_ssize_t)i, item) != 0) Py_CLEAR(items);
    }
    if (!items) return NULL;
    return Py_BuildValue("{s:s,s:I,s:K,s:K,s:N}", "kind", region_name(region->kind), "devices",
                         region->devices, "bytes", (unsigned long long)region->bytes, "arena_bytes",
                         (unsigned long long)region->arena_bytes, "items", items);
}

PyObject *emb_python_describe_plan(const emb_plan *plan) {
    PyObject *regions = PyList_New((Py_ssize_t)plan->regions_count);
    for (uint32_t i = 0; regions && i < plan->regions_count; i++) {
        PyObject *region = describe_region(&plan->regions[i]);
        if (!region || PyList_SetItem(regions, (Py_ssize_t)i, region) != 0) Py_CLEAR(regions);
    }
    PyObject *indices = PyList_New((Py_ssize_t)plan->devices_count);
    for (uint32_t i = 0; indices && i < plan->devices_count; i++) {
        PyObject *index = PyLong_FromUnsignedLong(plan->devices[i]);
        if (!index || PyList_SetItem(indices, (Py_ssize_t)i, index) != 0) Py_CLEAR(indices);
    }
    if (!regions || !indices) {
        Py_XDECREF(regions);
        Py_XDECREF(indices);
        return NULL;
    }
    return Py_BuildValue(
        "{s:s,s:s,s:N,s:N,s:N,s:s,s:s,s:s,s:N,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:K,s:K,s:K,s:K,s:K,"
        "s:K,s:K,"
        "s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:s,s:s,s:N}",
        "rung", emb_rung_name(plan->rung), "device",
        plan->device == EMB_DEVICE_CUDA ? "cuda" : "cpu", "device_reason",
        emb_python_string(plan->device_reason), "device_notice",
        PyBool_FromLong(plan->device_notice != 0), "devices", indices, "dtype",
        emb_dtype_name(plan->dtype), "long", long_name(plan->long_rule), "pooling",
        pooling_name(plan->pooling), "normalize", PyBool_FromLong(plan->normalize != 0), "dim",
        plan->dim, "lanes", plan->lanes, "windows", plan->windows, "window_tokens",
        plan->window_tokens, "window_chunks", plan->window_chunks, "tokens_per_tile",
        plan->tokens_per_tile, "tokens_per_pass", plan->tokens_per_pass, "max_tokens",
        plan->chunk_tokens_max, "host_bytes_max", (unsigned long long)plan->host_bytes_max,
        "host_bytes", (unsigned long long)plan->host_bytes, "host_bytes_min",
        (unsigned long long)plan->host_bytes_min, "host_bytes_knee",
        (unsigned long long)plan->host_bytes_knee, "device_bytes_max",
        (unsigned long long)plan->device_bytes_max, "device_bytes",
        (unsigned long long)plan->device_bytes, "device_bytes_min",
        (unsigned long long)plan->device_bytes_min, "device_bytes_knee",
        (unsigned long long)plan->device_bytes_knee, "device_held_bytes",
        (unsigned long long)plan->device_held_bytes, "device_free_bytes",
        (unsigned long long)plan->device_free_bytes, "device_margin_bytes",
        (unsigned long long)plan->device_margin_bytes, "process_base_bytes",
        (unsigned long long)plan->process_base_bytes, "caller_bytes",
        (unsigned long long)plan->caller_bytes, "device_caller_bytes",
        (unsigned long long)plan->device_caller_bytes, "isa", plan->isa, "numerics_id",
        plan->numerics_id, "regions", regions);
}

PyObject *emb_python_describe_stats(const emb_engine_stats_t *stats, bool open,
                                    const emb_python_engine *engine) {
    return Py_BuildValue(
        "{s:N,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:d,s:d,s:d,s:d,s:K,s:K,s:K,"
        "s:K}",
        "open", PyBool_FromLong(open), "opens", (unsigned long long)engine->opens, "calls",
        (unsigned long long)engine->calls, "texts_returned", (unsigned long long)engine->texts,
        "texts", (unsigned long long)stats->texts, "texts_failed",
        (unsigned long long)stats->texts_failed, "texts_long",
        (unsigned long long)stats->texts_long, "chunks", (unsigned long long)stats->chunks,
        "tokens", (unsigned long long)stats->tokens, "tokens_dropped",
        (unsigned long long)stats->tokens_dropped, "rows_computed",
        (unsigned long long)stats->rows_computed, "bytes_read",
        (unsigned long long)stats->bytes_read, "passes", (unsigned long long)stats->passes,
        "windows", (unsigned long long)stats->windows, "tiles", (unsigned long long)stats->tiles,
        "seconds", stats->seconds, "seconds_tokenize", stats->seconds_tokenize, "seconds_encode",
        stats->seconds_encode, "seconds_wait", stats->seconds_wait, "host_bytes_planned",
        (unsigned long long)stats->host_bytes_planned, "host_bytes_peak",
        (unsigned long long)stats->host_bytes_peak, "host_bytes_now",
        (unsigned long long)stats->host_bytes_now, "device_rows_bytes",
        (unsigned long long)atomic_load(&engine->held->bytes));
}

PyObject *emb_python_describe_model(const emb_model_info *info, const emb_specials *specials) {
    return Py_BuildValue(
        "{s:s,s:N,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:N,s:s,s:K,s:K,s:K,s:N}",
        "architecture", info->architecture, "name", emb_python_string(info->name), "layers",
        info->layers, "hidden", info->hidden, "heads", info->heads, "intermediate",
        info->intermediate, "vocabulary", info->vocabulary, "positions", info->positions,
        "window_tokens", info->window_tokens, "default_tokens", info->default_tokens,
        "special_tokens", info->special_tokens, "specials_after", specials->after, "dim", info->dim,
        "pooling", pooling_name(info->pooling), "normalizes",
        PyBool_FromLong(info->normalizes != 0), "stored_dtype", emb_dtype_name(info->stored_dtype),
        "parameters", (unsigned long long)info->parameters, "file_bytes",
        (unsigned long long)info->file_bytes, "description_bytes",
        (unsigned long long)info->description_bytes, "unknown_keys",
        emb_python_string(info->unknown_keys));
}
