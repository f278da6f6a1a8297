/* describe.c - plan, counters and model as Python dicts of numbers, strings and lists.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "describe.h"

#include <string.h>

/* A member by another name than the library's; NULL: a part of how it works, which is not shown. */
typedef struct renamed {
    const char *name, *shown;
} renamed;

static const char *shown_name(const renamed *list, const char *name) {
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0) return list->shown;
    return name;
}

static PyObject *value_of(const emb_member *member) {
    switch (member->kind) {
    case EMB_MEMBER_FLAG:
        return PyBool_FromLong(member->number != 0);
    case EMB_MEMBER_REAL:
        return PyFloat_FromDouble(member->real);
    case EMB_MEMBER_TEXT:
    case EMB_MEMBER_WORD:
        return emb_python_string(member->text);
    default:
        return PyLong_FromUnsignedLongLong(member->number);
    }
}

/* Takes the reference to the value, also if it fails: -1 with an exception. */
static int put(PyObject *dict, const char *name, PyObject *value) {
    int failed = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return failed;
}

/* Puts the members from *index on and before `until` (NULL: all that are left) into the dict. */
static int put_members(PyObject *dict, emb_struct kind, const void *object, const renamed *list,
                       uint32_t *index, const char *until) {
    emb_member member;
    for (; emb_member_get(&member, kind, object, *index); ++*index) {
        if (until && strcmp(member.name, until) == 0) return 0;
        const char *name = shown_name(list, member.name);
        if (name && put(dict, name, value_of(&member)) != 0) return -1;
    }
    return 0;
}

static const char *region_name(emb_region_kind kind) {
    return kind == EMB_REGION_HOST ? "host" : kind == EMB_REGION_PINNED ? "pinned" : "device";
}

PyObject *emb_python_describe_region(const emb_region *region) {
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

static PyObject *describe_regions(const emb_plan *plan) {
    PyObject *regions = PyList_New((Py_ssize_t)plan->regions_count);
    for (uint32_t i = 0; regions && i < plan->regions_count; i++) {
        PyObject *region = emb_python_describe_region(&plan->regions[i]);
        if (!region || PyList_SetItem(regions, (Py_ssize_t)i, region) != 0) Py_CLEAR(regions);
    }
    return regions;
}

static PyObject *describe_devices(const emb_plan *plan) {
    PyObject *indices = PyList_New((Py_ssize_t)plan->devices_count);
    for (uint32_t i = 0; indices && i < plan->devices_count; i++) {
        PyObject *index = PyLong_FromUnsignedLong(plan->devices[i]);
        if (!index || PyList_SetItem(indices, (Py_ssize_t)i, index) != 0) Py_CLEAR(indices);
    }
    return indices;
}

PyObject *emb_python_describe_plan(const emb_plan *plan) {
    static const renamed list[] = {{"rung", NULL},
                                   {"rung_name", "rung"},
                                   {"long_rule", "long"},
                                   {"readers", NULL},
                                   {"chunk_tokens_max", "max_tokens"},
                                   {"weight_slots", NULL},
                                   {"embeddings_resident", NULL},
                                   {"embeddings_pinned", NULL},
                                   {"layers_pinned", NULL},
                                   {"gemm", NULL},
                                   {"graphs", NULL},
                                   {NULL, NULL}};
    uint32_t at = 0;
    PyObject *dict = PyDict_New();
    if (dict && (put_members(dict, EMB_STRUCT_PLAN, plan, list, &at, "dtype") != 0 ||
                 put(dict, "devices", describe_devices(plan)) != 0 ||
                 put_members(dict, EMB_STRUCT_PLAN, plan, list, &at, NULL) != 0 ||
                 put(dict, "regions", describe_regions(plan)) != 0))
        Py_CLEAR(dict);
    return dict;
}

PyObject *emb_python_describe_stats(const emb_engine_stats_t *stats, bool open,
                                    const emb_python_engine *engine) {
    static const renamed list[] = {{"graphs", NULL}, {NULL, NULL}};
    uint32_t at = 0;
    PyObject *dict =
        Py_BuildValue("{s:N,s:K,s:K,s:K}", "open", PyBool_FromLong(open), "opens",
                      (unsigned long long)engine->opens, "calls", (unsigned long long)engine->calls,
                      "texts_returned", (unsigned long long)engine->texts);
    if (dict && (put_members(dict, EMB_STRUCT_STATS, stats, list, &at, NULL) != 0 ||
                 put(dict, "device_rows_bytes",
                     PyLong_FromUnsignedLongLong(atomic_load(&engine->held->bytes))) != 0))
        Py_CLEAR(dict);
    return dict;
}

PyObject *emb_python_describe_model(const emb_model_info *info, const emb_specials *specials) {
    static const renamed list[] = {
        {"stored_group", NULL}, {"smooths", NULL}, {"truncate_dim", NULL}, {NULL, NULL}};
    uint32_t at = 0;
    PyObject *dict = PyDict_New();
    if (dict && (put_members(dict, EMB_STRUCT_MODEL, info, list, &at, "dim") != 0 ||
                 put(dict, "specials_after", PyLong_FromUnsignedLong(specials->after)) != 0 ||
                 put_members(dict, EMB_STRUCT_MODEL, info, list, &at, NULL) != 0))
        Py_CLEAR(dict);
    return dict;
}
