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

#define EMB_TRITON_GAUGES (EMB_ITEMS_MAX * 3 + 1) /* padding, and items of the plan */

typedef struct emb_triton_metrics {
    TRITONSERVER_MetricFamily *families[EMB_TRITON_COUNTERS + 2];
    TRITONSERVER_Metric *counters[EMB_TRITON_COUNTERS];
    TRITONSERVER_Metric *gauges[EMB_TRITON_GAUGES];
    uint32_t families_count, gauges_count;
} emb_triton_metrics;

/* Makes the metrics of a model. Where the server has metrics switched off there are none, and
 * nothing below does anything. */
void emb_triton_metrics_open(emb_triton_metrics *out, const char *name, uint64_t version,
                             const emb_plan *plan);

/* Threads: any. */
void emb_triton_metrics_add(emb_triton_metrics *metrics, emb_triton_counter counter,
                            uint64_t count);

void emb_triton_metrics_close(emb_triton_metrics *metrics);

#endif
