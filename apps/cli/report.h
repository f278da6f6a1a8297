/* report.h - plans as tables, counters in words.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CLI_REPORT_H
#define EMB_CLI_REPORT_H

#include "common/session.h"
#include "sink/writer.h"
#include "source/source.h"

/* The summary on standard error after an encode. */
void emb_report_summary(const emb_engine_stats_t *stats, const emb_session *session);

/* Prints the source's notes on texts that were read nevertheless: not UTF-8, CR inside a line. */
void emb_report_notes(const emb_source *source);

/* Writes emb_describe_stats to a file ("-": standard output). Gives an exit code. */
int emb_report_save_stats(const char *path, const emb_engine_stats_t *stats,
                          const emb_session *session);

/* The plan, item by item. */
void emb_report_plan_table(emb_writer *writer, const emb_session *session);

#endif
