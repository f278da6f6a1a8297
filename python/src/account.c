/* account.c - what the engines of this process hold and allow together: the smallest figure that an
 * open one states bounds them all, and each plan shows what the others hold.
 *
 * The list, and of each engine what is read here (engine, plan, limits), is read and written under
 * the GIL. That no other engine opens between a look at it and an opening is the affair of the
 * queue of openings (engine.c). The room for rows is two numbers, which any thread may read.
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
    return other != self && other->engine && other->turn.process == getpid();
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

static atomic_ullong engines_bytes;            /* of host memory: the open engines' own */
static _Atomic int64_t taken_most = INT64_MAX; /* that rows and engines may take by all figures */

/* What of the caller's bytes is not for rows: the slab of texts, the interpreter's own objects. */
static int64_t kept_bytes(const emb_plan *plan) {
    const uint64_t most = 2u << 20;
    uint64_t kept = plan->caller_bytes / 4;
    return (int64_t)(kept < most ? kept : most);
}

/* What rows and engines may take by an open engine's own figure; those that bound its plan as well
 * go with the engines that state them. */
static int64_t taken_most_by(const emb_python_engine *self) {
    const emb_plan *plan = &self->plan;
    uint64_t stated = self->limits.host_bytes_max;
    if (!stated) return INT64_MAX;
    uint64_t before = self->taken_bytes + own_bytes(plan, true);
    return (int64_t)(stated - plan->host_bytes + plan->caller_bytes + before) - kept_bytes(plan);
}

/* The open engine whose figure allows least, but for one that is closing; NULL: none states any. */
static const emb_python_engine *tightest(const emb_python_engine *but) {
    const emb_python_engine *found = NULL;
    for (const emb_python_engine *other = engines; other; other = other->next) {
        if (!is_other(other, but) || taken_most_by(other) == INT64_MAX) continue;
        if (!found || taken_most_by(other) < taken_most_by(found)) found = other;
    }
    return found;
}

static void bound_rows(const emb_python_engine *but) {
    const emb_python_engine *least = tightest(but);
    atomic_store(&taken_most, least ? taken_most_by(least) : INT64_MAX);
}

void emb_python_account_opened(const emb_python_engine *self) {
    atomic_fetch_add(&engines_bytes, own_bytes(&self->plan, true));
    bound_rows(NULL);
}

void emb_python_account_closed(const emb_python_engine *self) {
    atomic_fetch_sub(&engines_bytes, own_bytes(&self->plan, true));
    bound_rows(self);
}

uint64_t emb_python_account_taken(void) {
    return atomic_load(&engines_bytes) + emb_python_buffers_bytes();
}

int64_t emb_python_account_room(void) {
    int64_t most = atomic_load(&taken_most);
    return most == INT64_MAX ? most : most - (int64_t)emb_python_account_taken();
}

void emb_python_account_refuse(const emb_python_engine *self, uint64_t bytes, emb_error *error) {
    const uint64_t mib = 1u << 20;
    const emb_python_engine *by = tightest(NULL);
    *error = (emb_error){.region = EMB_REGION_HOST};
    if (!by) { /* closed since the room was looked at */
        PyOS_snprintf(error->message, sizeof error->message,
                      "there was no room for %llu bytes of vectors, and now there is: encode again",
                      (unsigned long long)bytes);
        return;
    }
    const emb_plan *plan = &by->plan;
    int64_t room = taken_most_by(by) - (int64_t)emb_python_account_taken();
    /* what full speed needs, with the rows and what has been taken or given back since the engine
     * was planned; a mebibyte for what the process may grow by till then */
    int64_t later = (int64_t)(emb_python_account_taken() - by->taken_bytes - own_bytes(plan, true));
    uint64_t least = plan->host_bytes_knee - plan->caller_bytes +
                     (uint64_t)(kept_bytes(plan) + later) + bytes + mib;
    error->bytes_min = (least + mib) / mib * mib;
    char whose[64] = "";
    emb_model_info info;
    if (by != self) {
        emb_model_describe(&info, by->model);
        PyOS_snprintf(whose, sizeof whose, " of %.24s, open too,", info.name);
    }
    PyOS_snprintf(error->message, sizeof error->message,
                  "the vectors take %llu bytes, but memory=%llu%s leaves %lld for them (vectors "
                  "still alive: %llu): take them from encode_stream or encode_parquet, or state "
                  "memory=%llu",
                  (unsigned long long)bytes, (unsigned long long)by->limits.host_bytes_max, whose,
                  (long long)(room > 0 ? room : 0), (unsigned long long)emb_python_buffers_bytes(),
                  (unsigned long long)error->bytes_min);
}

emb_status emb_python_account_claim(const emb_python_engine *self, uint64_t bytes,
                                    emb_error *error) {
    int64_t room = emb_python_account_room();
    if (room > 0 && bytes <= (uint64_t)room) return EMB_OK;
    emb_python_account_refuse(self, bytes, error);
    return EMB_BUDGET;
}
