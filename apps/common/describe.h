/* describe.h - plans and counters as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_COMMON_DESCRIBE_H
#define EMB_COMMON_DESCRIBE_H

#include "common/session.h"
#include "sink/writer.h"

/* Each writes one JSON object and a line feed. */
void emb_describe_plan(emb_writer *out, const emb_session *session);
void emb_describe_stats(emb_writer *out, const emb_engine_stats_t *stats,
                        const emb_session *session);

#endif
