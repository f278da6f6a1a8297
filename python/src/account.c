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

void emb_python_account_blame(emb_error *error, const emb_python_bounds *by,
                              const emb_machine *machine) {
    size_t said = strlen(error->message);
    if (error->region == EMB_REGION_HOST)
        snprintf(error->message + said, sizeof error->message - said,
                 "; this process holds %llu MiB already",
                 (unsigned long long)machine->process_base_bytes >> 20);
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

/* The bytes of an engine's own regions: the host's, or a device's. */
static uint64_t own_bytes(const emb_plan *plan, bool host) {
    uint64_t bytes = 0;
    for (uint32_t r = 0; r < plan->regions_count; r++)
        if ((plan->regions[r].kind != EMB_REGION_DEVICE) == host)
            bytes += plan->regions[r].arena_bytes;
    return bytes;
}

/* The same of all other engines. */
static uint64_t others_bytes(const emb_python_engine *self, bool host, uint32_t device) {
    uint64_t bytes = 0;
    for (const emb_python_engine *other = engines; other; other = other->next) {
        if (!is_other(other, self) || !(host || uses(other, device))) continue;
        bytes += own_bytes(&other->plan, host);
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

/* ---- room for rows --------------------------------------------------------------------------- */

static atomic_ullong engines_bytes; /* of host memory that is the open engines' own */

void emb_python_account_opened(const emb_python_engine *self) {
    atomic_fetch_add(&engines_bytes, own_bytes(&self->plan, true));
}

void emb_python_account_closed(const emb_python_engine *self) {
    atomic_fetch_sub(&engines_bytes, own_bytes(&self->plan, true));
}

uint64_t emb_python_account_taken(void) {
    return atomic_load(&engines_bytes) + emb_python_buffers_bytes();
}

/* What of the caller's bytes is not for rows: the slab of texts, the interpreter's own objects. */
static int64_t kept_bytes(const emb_plan *plan) {
    const uint64_t most = 2u << 20;
    uint64_t kept = plan->caller_bytes / 4;
    return (int64_t)(kept < most ? kept : most);
}

/* What rows and other engines have taken since the process was measured, or given back. */
static int64_t later_bytes(const emb_python_engine *self) {
    uint64_t before = self->taken_bytes + own_bytes(&self->plan, true);
    return (int64_t)(emb_python_account_taken() - before);
}

int64_t emb_python_account_room(const emb_python_engine *self) {
    const emb_plan *plan = &self->plan;
    if (!plan->host_bytes_max) return INT64_MAX;
    return (int64_t)(plan->host_bytes_max - plan->host_bytes + plan->caller_bytes) -
           kept_bytes(plan) - later_bytes(self);
}

emb_status emb_python_account_claim(const emb_python_engine *self, uint64_t bytes,
                                    emb_error *error) {
    const uint64_t mib = 1u << 20;
    int64_t room = emb_python_account_room(self);
    if (room > 0 && bytes <= (uint64_t)room) return EMB_OK;
    const emb_plan *plan = &self->plan;
    /* what full speed needs, with the rows; a mebibyte for what the process may grow by till then
     */
    uint64_t least = plan->host_bytes_knee - plan->caller_bytes +
                     (uint64_t)(kept_bytes(plan) + later_bytes(self)) + bytes + mib;
    *error = (emb_error){.region = EMB_REGION_HOST, .bytes_min = (least + mib) / mib * mib};
    PyOS_snprintf(error->message, sizeof error->message,
                  "the vectors take %llu bytes, but memory=%llu leaves %lld for them (vectors made "
                  "before and still alive: %llu): take them from encode_stream or encode_parquet, "
                  "or state memory=%llu",
                  (unsigned long long)bytes, (unsigned long long)plan->host_bytes_max,
                  (long long)(room > 0 ? room : 0), (unsigned long long)emb_python_buffers_bytes(),
                  (unsigned long long)error->bytes_min);
    return EMB_BUDGET;
}
