/* metrics.h - what a model counts and has planned, among the server's own metrics.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_METRICS_H
#define EMB_TRITON_METRICS_H

#include "embound.h"
#include "triton/triton_api.h"

/* Counters; each with the labels model and version. */
typedef enum emb_triton_counter {
    EMB_TRITON_TEXTS = 0,
    EMB_TRITON_FAILED = 1, /* texts without a vector */
    EMB_TRITON_TOKENS = 2, /* encoded, special tokens included */
    EMB_TRITON_DROPPED = 3,
    EMB_TRITON_COUNTERS = 4
} emb_triton_counter;

typedef struct emb_triton_metrics emb_triton_metrics;

/* Gives the metrics of a model and version, with its plan's items; NULL if there is no memory for
 * them. While a model is reloaded the old and the new one share theirs: in the server metrics with
 * the same labels are one, which the first to delete it takes from the other. Where the server has
 * metrics switched off nothing below does anything. Threads: any. */
emb_triton_metrics *emb_triton_metrics_open(const char *name, uint64_t version,
                                            const emb_plan *plan);

/* metrics may be NULL. Threads: any. */
void emb_triton_metrics_add(emb_triton_metrics *metrics, emb_triton_counter counter,
                            uint64_t count);

/* Gives them back; the last one deletes them. metrics may be NULL. Threads: any. */
void emb_triton_metrics_close(emb_triton_metrics *metrics);

#endif
