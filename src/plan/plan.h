/* plan.h - from limits to shapes and bytes: the fastest step of the ladder that fits the budgets.
 *
 * Knows only shapes. The bytes of a candidate come from the engine's layout, which measures here
 * and binds at open; nothing else knows sizes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_PLAN_PLAN_H
#define EMB_PLAN_PLAN_H

#include "backend/backend.h"
#include "base/ledger.h"
#include "model/model.h"
#include "text/text.h"

/* An open model: metadata only. */
struct emb_model {
    emb_model_files *files;
    emb_shape shape;
    emb_text_spec text;
    emb_text_added *added; /* [added_count], used by `text` */
    emb_model_info info;
};

/* The ledgers of a plan's regions: one per GPU. While measuring, all GPUs need the same.
 */
typedef struct emb_plan_books {
    emb_ledger host, pinned, devices[EMB_DEVICES_MAX];
} emb_plan_books;

/* Books every buffer that the plan's shapes need, in measuring ledgers. */
typedef void emb_plan_weigh(emb_plan_books *books, const emb_model *model, const emb_plan *plan,
                            const emb_backend *backend);

/* What emb_plan_make does, with candidates weighed by `weigher`. */
emb_status emb_plan_choose(emb_plan *out, const emb_model *model, const emb_limits *limits,
                           const emb_machine *machine, emb_plan_weigh *weigher, emb_error *error);

/* Writes the numerics_id of this model on this backend (64 bytes). */
void emb_plan_numerics(char out[64], const emb_model *model, const emb_backend *backend);

#endif
