/* account.c - what the engines of this process hold and allow together: the smallest figure that an
 * open one states bounds them all, and each plan shows what the others hold.
 *
 * The list is read and written under the GIL, in the process that its engines were opened in.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

static emb_python_engine *engines; /* all that exist, open or not */

void emb_python_account_add(emb_python_engine *self) {
    self->next = engines;
    engines = self;
}

void emb_python_account_remove(emb_python_engine *self) {
    emb_python_engine **link = &engines;
    while (*link && *link != self) link = &(*link)->next;
    if (*link) *link = self->next;
}

/* Another engine that is open here. */
static bool is_other(const emb_python_engine *other, const emb_python_engine *self) {
    return other != self && other->engine && other->process == getpid();
}

static bool uses(const emb_python_engine *other, uint32_t device) {
    if (other->plan.device != EMB_DEVICE_CUDA) return false;
    for (uint32_t i = 0; i < other->plan.devices_count; i++)
        if (other->plan.devices[i] == device) return true;
    return false;
}

/* Lowers *bytes to what the other states; 0 is no figure. */
static void bound(uint64_t *bytes, const emb_python_engine **by, uint64_t stated,
                  const emb_python_engine *other) {
    if (!stated || (*bytes && *bytes <= stated)) return;
    *bytes = stated;
    *by = other;
}

void emb_python_account_bound(emb_limits *limits, emb_python_bounds *by,
                              const emb_python_engine *self, const emb_machine *machine) {
    memset(by, 0, sizeof *by);
    for (const emb_python_engine *other = engines; other; other = other->next) {
        if (!is_other(other, self)) continue;
        bound(&limits->host_bytes_max, &by->host, other->limits.host_bytes_max, other);
        if (limits->device == EMB_DEVICE_CPU) continue;
        for (uint32_t i = 0; i < machine->devices_count && i < limits->devices_max; i++)
            if (uses(other, machine->devices[i].index))
                bound(&limits->device_bytes_max, &by->device, other->limits.device_bytes_max,
                      other);
    }
}

void emb_python_account_blame(emb_error *error, const emb_python_bounds *by) {
    const emb_python_engine *other = error->region == EMB_REGION_DEVICE ? by->device : by->host;
    if (!other) return;
    emb_model_info info;
    emb_model_describe(&info, other->model);
    bool device = error->region == EMB_REGION_DEVICE;
    uint64_t stated = device ? other->limits.device_bytes_max : other->limits.host_bytes_max;
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof error->message - used,
             "; %.60s, open in this process, states %s=%llu", info.name,
             device ? "gpu_memory" : "memory", (unsigned long long)stated);
}

/* The bytes of all other engines' own regions: the host's, or a device's. */
static uint64_t others_bytes(const emb_python_engine *self, bool host, uint32_t device) {
    uint64_t bytes = 0;
    for (const emb_python_engine *other = engines; other; other = other->next) {
        if (!is_other(other, self) || !(host || uses(other, device))) continue;
        for (uint32_t r = 0; r < other->plan.regions_count; r++)
            if ((other->plan.regions[r].kind != EMB_REGION_DEVICE) == host)
                bytes += other->plan.regions[r].arena_bytes;
    }
    return bytes;
}

/* Parts an item in two: what other engines hold, and the rest. */
static void part(emb_region *region, const char *name, uint64_t others) {
    uint32_t at = 0;
    while (at < region->items_count && strcmp(region->items[at].name, name) != 0) at++;
    if (!others || at == region->items_count || region->items_count == EMB_ITEMS_MAX) return;
    emb_item *item = &region->items[at];
    if (others > item->bytes) others = item->bytes;
    memmove(item + 1, item, (region->items_count - at) * sizeof *item);
    region->items_count++;
    item[1].bytes -= others;
    item->bytes = others;
    snprintf(item->name, sizeof item->name, "other engines in this process");
}

void emb_python_account_part(emb_plan *plan, const emb_python_engine *self) {
    for (uint32_t r = 0; r < plan->regions_count; r++) {
        emb_region *region = &plan->regions[r];
        if (region->kind == EMB_REGION_HOST) part(region, "process", others_bytes(self, true, 0));
        if (region->kind == EMB_REGION_DEVICE)
            part(region, "held by this process already",
                 others_bytes(self, false, plan->devices[0]));
    }
}
