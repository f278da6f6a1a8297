/* describe.c - plans and counters as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/describe.h"

#include <string.h>

#include "common/members.h"
#include "common/size.h"

static const char *const region_names[] = {"host", "pinned", "device"};

static void json_regions(emb_writer *out, const emb_plan *plan) {
    emb_writer_text(out, ",\"regions\":[");
    for (uint32_t r = 0; r < plan->regions_count; r++) {
        const emb_region *region = &plan->regions[r];
        const char *kind = region->kind <= EMB_REGION_DEVICE ? region_names[region->kind] : "?";
        emb_writer_format(out, "%s{\"kind\":\"%s\"", r ? "," : "", kind);
        emb_members_write_number(out, "devices", region->devices);
        emb_members_write_number(out, "bytes", region->bytes);
        emb_members_write_number(out, "arena_bytes", region->arena_bytes);
        emb_writer_text(out, ",\"items\":[");
        for (uint32_t i = 0; i < region->items_count; i++) {
            const char *name = region->items[i].name;
            emb_writer_text(out, i ? ",{\"name\":" : "{\"name\":");
            emb_writer_string(out, name, strlen(name));
            emb_members_write_number(out, "bytes", region->items[i].bytes);
            emb_writer_text(out, "}");
        }
        emb_writer_text(out, "]}");
    }
    emb_writer_text(out, "]");
}

void emb_describe_plan(emb_writer *out, const emb_session *session) {
    const emb_plan *plan = &session->plan;
    emb_members members = {.kind = EMB_STRUCT_PLAN,
                           .object = plan,
                           .flags_as_numbers = true,
                           .inside = true,
                           .left_out = "long_rule"};
    char minimum[32];
    emb_size_minimum(minimum, sizeof minimum, plan->host_bytes_min);
    emb_writer_text(out, "{\"fits\":true");
    emb_members_write_text(out, "model", session->info.name);
    emb_members_write_text(out, "architecture", session->info.architecture);
    emb_members_write(out, &members, "device_bytes_max");
    emb_writer_text(out, ",\"devices\":[");
    for (uint32_t i = 0; plan->device == EMB_DEVICE_CUDA && i < plan->devices_count; i++) {
        emb_writer_format(out, "%s%u", i ? "," : "", plan->devices[i]);
    }
    emb_writer_text(out, "]");
    emb_members_write(out, &members, "isa");
    emb_members_write_text(out, "memory_min", minimum);
    emb_members_write(out, &members, NULL);
    json_regions(out, plan);
    emb_writer_text(out, "}\n");
}

void emb_describe_stats(emb_writer *out, const emb_engine_stats_t *stats,
                        const emb_session *session) {
    const emb_plan *plan = &session->plan;
    emb_members members = {.kind = EMB_STRUCT_STATS, .object = stats, .inside = true};
    double seconds = stats->seconds > 1e-9 ? stats->seconds : 1e-9;
    emb_writer_format(out, "{\"version\":\"%s\"", emb_version());
    emb_members_write_text(out, "model", session->info.name);
    emb_members_write(out, &members, "host_bytes_planned");
    emb_members_write_real(out, "texts_per_second", (double)stats->texts / seconds);
    emb_members_write_real(out, "tokens_per_second", (double)stats->tokens / seconds);
    emb_members_write_one(out, EMB_STRUCT_PLAN, plan, "host_bytes_max");
    emb_members_write(out, &members, "host_bytes_now");
    emb_members_write_one(out, EMB_STRUCT_PLAN, plan, "rung");
    emb_members_write_one(out, EMB_STRUCT_PLAN, plan, "rung_name");
    emb_members_write_text(out, "tuned",
                           session->tuned == EMB_TUNED_NOW      ? "now"
                           : session->tuned == EMB_TUNED_BEFORE ? "before"
                                                                : "no");
    static const char *const last[] = {"dtype", "isa", "lanes", "dim", "numerics_id"};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++)
        emb_members_write_one(out, EMB_STRUCT_PLAN, plan, last[i]);
    emb_writer_text(out, "}\n");
}
