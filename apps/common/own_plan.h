/* own_plan.h - a plan whose budgets are a model's own, not the process's: for a model that is one
 * of several in a server.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_OWN_PLAN_H
#define EMB_COMMON_OWN_PLAN_H

#include "embound.h"

typedef struct emb_own_plan {
    emb_plan plan;         /* of the whole process */
    uint64_t host_bytes;   /* of it this model's own: arena, description, caller's buffers */
    uint64_t device_bytes; /* on each GPU: without context, and what others hold */
} emb_own_plan;

/* What is stated of it; 0: nothing. The names are for messages: "--memory". */
typedef struct emb_own_budget {
    uint64_t host_bytes, device_bytes;
    const char *host_name, *device_name;
} emb_own_budget;

/* Plans with these limits, whose own budgets are not looked at. Fails: as emb_plan_make; EMB_BUDGET
 * says what the model needs of its own. Threads: any. */
emb_status emb_own_plan_make(emb_own_plan *out, const emb_model *model, const emb_limits *limits,
                             const emb_machine *machine, const emb_own_budget *budget,
                             emb_error *error);

#endif
