/* own_plan.c - plans twice: without budgets, to learn what of the process is not the model's own,
 * then within them and that.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "common/own_plan.h"

#include <stdbool.h>

#include "common/size.h"
#include "fail.h"

enum { SIZE_TEXT = 32 };

static uint64_t arena_bytes(const emb_plan *plan, bool device) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->regions_count; i++)
        if ((plan->regions[i].kind == EMB_REGION_DEVICE) == device)
            bytes += plan->regions[i].arena_bytes;
    return bytes;
}

static emb_status plan(emb_own_plan *out, const emb_model *model, const emb_limits *limits,
                       const emb_machine *machine, emb_error *error) {
    emb_model_info info = {.struct_bytes = sizeof info};
    emb_model_describe(&info, model);
    out->plan.struct_bytes = sizeof out->plan;
    EMB_APP_TRY(emb_plan_make(&out->plan, model, limits, machine, error));
    out->host_bytes =
        arena_bytes(&out->plan, false) + info.description_bytes + out->plan.caller_bytes;
    out->device_bytes = arena_bytes(&out->plan, true);
    return EMB_OK;
}

/* `others`: what the rest of the process has. */
static emb_status too_little(emb_error *error, const char *name, uint64_t stated, uint64_t others) {
    char needs[SIZE_TEXT], has[SIZE_TEXT];
    uint64_t least = error->bytes_min > others ? error->bytes_min - others : 0;
    if (!least) return EMB_BUDGET;
    emb_size_minimum(needs, sizeof needs, least);
    emb_size_stated(has, sizeof has, stated);
    return emb_app_fail(error, EMB_BUDGET, "%s: %s is too little; the model needs %s", name, has,
                        needs);
}

emb_status emb_own_plan_make(emb_own_plan *out, const emb_model *model, const emb_limits *limits,
                             const emb_machine *machine, const emb_own_budget *budget,
                             emb_error *error) {
    emb_limits within = *limits;
    within.host_bytes_max = within.device_bytes_max = 0;
    EMB_APP_TRY(plan(out, model, &within, machine, error));
    uint64_t host = out->plan.host_bytes - out->host_bytes;
    uint64_t all = out->plan.device_bytes, own = out->device_bytes;
    uint64_t device = all > own ? all - own : 0;
    if (!budget->host_bytes && !budget->device_bytes) return EMB_OK;
    if (budget->host_bytes) within.host_bytes_max = host + budget->host_bytes;
    if (budget->device_bytes) within.device_bytes_max = device + budget->device_bytes;
    emb_status status = plan(out, model, &within, machine, error);
    if (status != EMB_BUDGET) return status;
    return error->region == EMB_REGION_DEVICE
               ? too_little(error, budget->device_name, budget->device_bytes, device)
               : too_little(error, budget->host_name, budget->host_bytes, host);
}
