/* plan_train.h - `embound plan --train`.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_PLAN_TRAIN_H
#define EMB_CLI_PLAN_TRAIN_H

#include "cli/options.h"
#include "common/session.h"

/* Prints what ways of training the session's model would take. Fails: as emb_train_measure. */
emb_status emb_plan_train(const emb_session *session, const emb_options *options, emb_error *error);

#endif
