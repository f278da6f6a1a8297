/* tuning.h - which of a GPU's kernels were found fastest, kept from run to run.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_TUNING_H
#define EMB_COMMON_TUNING_H

#include "embound.h"

/* What is done about a GPU's kernels. */
typedef enum emb_tune {
    EMB_TUNE_CACHED, /* what an earlier run found */
    EMB_TUNE_OFF,
    EMB_TUNE_FULL, /* time kernels if no earlier run did */
    EMB_TUNE_ANEW  /* time them whatever an earlier run found */
} emb_tune;

typedef enum emb_tuned { EMB_TUNED_NOT, EMB_TUNED_BEFORE, EMB_TUNED_NOW } emb_tuned;

/* Puts into a GPU's plan the kernels that an earlier run found, or that they are to be timed. */
emb_tuned emb_tuning_plan(emb_plan *plan, const emb_model_info *model, const emb_machine *machine,
                          emb_tune tune);

/* Keeps for later runs what the engine of this plan found when it was opened, if it timed kernels;
 * then gives EMB_TUNED_NOW in `tuned`. Fails: EMB_IO and what else a file may; the run is none the
 * worse. */
emb_status emb_tuning_keep(emb_tuned *tuned, emb_plan *plan, const emb_engine *engine,
                           const emb_model_info *model, const emb_machine *machine,
                           emb_error *error);

#endif
