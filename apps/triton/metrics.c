/* metrics.c - families, metrics and their labels, made when a model is loaded.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "triton/report.h"

enum { LABELS_MAX = 4 };

typedef struct labels {
    const TRITONSERVER_Parameter *list[LABELS_MAX];
    uint32_t count;
} labels;

static void add_label(labels *l, const char *name, const char *value) {
    TRITONSERVER_Parameter *made =
        TRITONSERVER_ParameterNew(name, TRITONSERVER_PARAMETER_STRING, value);
    if (made) l->list[l->count++] = made;
}

static void remove_labels(labels *l, uint32_t count) {
    while (l->count > count)
        TRITONSERVER_ParameterDelete((TRITONSERVER_Parameter *)(uintptr_t)l->list[--l->count]);
}

/* Gives NULL where the server has no metrics. */
static TRITONSERVER_MetricFamily *add_family(emb_triton_metrics *m, TRITONSERVER_MetricKind kind,
                                             const char *name, const char *about) {
    TRITONSERVER_MetricFamily *family = NULL;
    emb_triton_error failed = TRITONSERVER_MetricFamilyNew(&family, kind, name, about);
    if (failed) {
        emb_triton_log(TRITONSERVER_LOG_VERBOSE, "no metric %s: %s", name,
                       TRITONSERVER_ErrorMessage(failed));
        TRITONSERVER_ErrorDelete(failed);
        return NULL;
    }
    return m->families[m->families_count++] = family;
}

static TRITONSERVER_Metric *add_metric(TRITONSERVER_MetricFamily *family, labels *l) {
    TRITONSERVER_Metric *metric = NULL;
    if (family) emb_triton_drop(TRITONSERVER_MetricNew(&metric, family, l->list, l->count));
    return metric;
}

static void add_gauge(emb_triton_metrics *m, TRITONSERVER_MetricFamily *family, labels *l,
                      double value) {
    TRITONSERVER_Metric *metric = add_metric(family, l);
    if (!metric) return;
    emb_triton_drop(TRITONSERVER_MetricSet(metric, value));
    m->gauges[m->gauges_count++] = metric;
}

static void add_items(emb_triton_metrics *m, TRITONSERVER_MetricFamily *family, labels *l,
                      const emb_plan *plan) {
    static const char *const names[] = {"host", "pinned", "gpu"};
    for (uint32_t i = 0; i < plan->regions_count; i++) {
        const emb_region *region = &plan->regions[i];
        for (uint32_t k = 0; k < region->items_count && m->gauges_count < EMB_TRITON_GAUGES; k++) {
            uint32_t own = l->count;
            add_label(l, "region", names[region->kind]);
            add_label(l, "item", region->items[k].name);
            add_gauge(m, family, l, (double)region->items[k].bytes);
            remove_labels(l, own);
        }
    }
}

void emb_triton_metrics_open(emb_triton_metrics *out, const char *name, uint64_t version,
                             const emb_plan *plan) {
    static const char *const counters[EMB_TRITON_COUNTERS][2] = {
        {"embound_texts_total", "Texts encoded"},
        {"embound_texts_failed_total", "Texts without a vector"},
        {"embound_tokens_total", "Tokens encoded, special tokens included"},
        {"embound_tokens_dropped_total", "Tokens of long texts that were truncated"}};
    char number[24];
    labels l = {.count = 0};
    memset(out, 0, sizeof *out);
    snprintf(number, sizeof number, "%" PRIu64, version);
    add_label(&l, "model", name);
    add_label(&l, "version", number);
    for (uint32_t i = 0; i < EMB_TRITON_COUNTERS; i++)
        out->counters[i] = add_metric(add_family(out, TRITONSERVER_METRIC_KIND_COUNTER,
                                                 counters[i][0], counters[i][1]),
                                      &l);
    add_gauge(out,
              add_family(out, TRITONSERVER_METRIC_KIND_GAUGE, "embound_padding_tokens",
                         "Tokens computed that no text has: there is no padding"),
              &l, 0);
    add_items(out,
              add_family(out, TRITONSERVER_METRIC_KIND_GAUGE, "embound_plan_bytes",
                         "Bytes of the model's memory plan"),
              &l, plan);
    remove_labels(&l, 0);
}

void emb_triton_metrics_add(emb_triton_metrics *metrics, emb_triton_counter counter,
                            uint64_t count) {
    if (!metrics->counters[counter] || count == 0) return;
    emb_triton_drop(TRITONSERVER_MetricIncrement(metrics->counters[counter], (double)count));
}

void emb_triton_metrics_close(emb_triton_metrics *metrics) {
    for (uint32_t i = 0; i < EMB_TRITON_COUNTERS; i++)
        if (metrics->counters[i]) emb_triton_drop(TRITONSERVER_MetricDelete(metrics->counters[i]));
    while (metrics->gauges_count)
        emb_triton_drop(TRITONSERVER_MetricDelete(metrics->gauges[--metrics->gauges_count]));
    while (metrics->families_count)
        emb_triton_drop(
            TRITONSERVER_MetricFamilyDelete(metrics->families[--metrics->families_count]));
}
