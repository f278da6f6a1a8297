/* metrics.c - families, metrics and their labels, made when a model is loaded.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "triton/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "triton/report.h"

enum { LABELS_MAX = 4, NAME_BYTES = 256, FAMILIES = EMB_TRITON_COUNTERS + 2 };
enum { ITEMS_MAX = EMB_ITEMS_MAX * 3 }; /* of the plans of a model, so far */

/* An item of a plan. */
typedef struct gauge {
    emb_region_kind kind;
    char item[40];
    TRITONSERVER_Metric *metric;
} gauge;

struct emb_triton_metrics {
    struct emb_triton_metrics *next;
    uint32_t users; /* loaded models of this name and version */
    char name[NAME_BYTES];
    uint64_t version;
    TRITONSERVER_MetricFamily *families[FAMILIES];
    TRITONSERVER_Metric *counters[EMB_TRITON_COUNTERS], *padding;
    gauge gauges[ITEMS_MAX];
    uint32_t gauges_count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and its members */
static emb_triton_metrics *all;

typedef struct labels {
    const TRITONSERVER_Parameter *list[LABELS_MAX];
    uint32_t count;
} labels;

static void add_label(labels *l, const char *name, const char *value) {
    TRITONSERVER_Parameter *made =
        TRITONSERVER_ParameterNew(name, TRITONSERVER_PARAMETER_STRING, value);
    if (made) l->list[l->count++] = made;
}

static void remove_labels(labels *l) {
    while (l->count)
        TRITONSERVER_ParameterDelete((TRITONSERVER_Parameter *)(uintptr_t)l->list[--l->count]);
}

/* Gives NULL where the server has no metrics. */
static TRITONSERVER_MetricFamily *new_family(TRITONSERVER_MetricKind kind, const char *name,
                                             const char *about) {
    TRITONSERVER_MetricFamily *family = NULL;
    emb_triton_error failed = TRITONSERVER_MetricFamilyNew(&family, kind, name, about);
    if (failed) {
        emb_triton_log(TRITONSERVER_LOG_VERBOSE, "no metric %s: %s", name,
                       TRITONSERVER_ErrorMessage(failed));
        TRITONSERVER_ErrorDelete(failed);
        return NULL;
    }
    return family;
}

static TRITONSERVER_Metric *add_metric(TRITONSERVER_MetricFamily *family, labels *l) {
    TRITONSERVER_Metric *metric = NULL;
    if (family) emb_triton_drop(TRITONSERVER_MetricNew(&metric, family, l->list, l->count));
    return metric;
}

static void set(TRITONSERVER_Metric *metric, double value) {
    if (metric) emb_triton_drop(TRITONSERVER_MetricSet(metric, value));
}

static void label_model(labels *l, const emb_triton_metrics *m) {
    char number[24];
    snprintf(number, sizeof number, "%" PRIu64, m->version);
    add_label(l, "model", m->name);
    add_label(l, "version", number);
}

/* The gauge of an item, made if it is new; NULL if there are too many. */
static gauge *find_gauge(emb_triton_metrics *m, emb_region_kind kind, const char *item) {
    static const char *const regions[] = {"host", "pinned", "gpu"};
    for (uint32_t i = 0; i < m->gauges_count; i++)
        if (m->gauges[i].kind == kind && strcmp(m->gauges[i].item, item) == 0) return &m->gauges[i];
    if (m->gauges_count == ITEMS_MAX) return NULL;
    gauge *made = &m->gauges[m->gauges_count++];
    labels l = {.count = 0};
    made->kind = kind;
    snprintf(made->item, sizeof made->item, "%s", item);
    label_model(&l, m);
    add_label(&l, "region", regions[kind]);
    add_label(&l, "item", item);
    made->metric = add_metric(m->families[FAMILIES - 1], &l);
    remove_labels(&l);
    return made;
}

/* Items that an older plan had and this one has not are 0. */
static void set_items(emb_triton_metrics *m, const emb_plan *plan) {
    for (uint32_t i = 0; i < m->gauges_count; i++) set(m->gauges[i].metric, 0);
    for (uint32_t i = 0; i < plan->regions_count; i++) {
        const emb_region *region = &plan->regions[i];
        for (uint32_t k = 0; k < region->items_count; k++) {
            gauge *found = find_gauge(m, region->kind, region->items[k].name);
            if (found) set(found->metric, (double)region->items[k].bytes);
        }
    }
}

static void make_metrics(emb_triton_metrics *m) {
    static const char *const counters[EMB_TRITON_COUNTERS][2] = {
        {"embound_texts_total", "Texts encoded"},
        {"embound_texts_failed_total", "Texts without a vector"},
        {"embound_tokens_total", "Tokens encoded, special tokens included"},
        {"embound_tokens_dropped_total", "Tokens of long texts that were truncated"}};
    labels l = {.count = 0};
    label_model(&l, m);
    for (uint32_t i = 0; i < EMB_TRITON_COUNTERS; i++) {
        m->families[i] =
            new_family(TRITONSERVER_METRIC_KIND_COUNTER, counters[i][0], counters[i][1]);
        m->counters[i] = add_metric(m->families[i], &l);
    }
    m->families[FAMILIES - 2] = new_family(TRITONSERVER_METRIC_KIND_GAUGE, "embound_padding_tokens",
                                           "Tokens computed that no text has: there is no padding");
    m->padding = add_metric(m->families[FAMILIES - 2], &l);
    set(m->padding, 0);
    m->families[FAMILIES - 1] = new_family(TRITONSERVER_METRIC_KIND_GAUGE, "embound_plan_bytes",
                                           "Bytes of the model's memory plan");
    remove_labels(&l);
}

static emb_triton_metrics *find(const char *name, uint64_t version) {
    emb_triton_metrics *m = all;
    while (m && (m->version != version || strncmp(m->name, name, NAME_BYTES - 1) != 0)) m = m->next;
    if (m) return m;
    m = calloc(1, sizeof *m);
    if (!m) return NULL;
    snprintf(m->name, sizeof m->name, "%s", name);
    m->version = version;
    m->next = all;
    all = m;
    make_metrics(m);
    return m;
}

emb_triton_metrics *emb_triton_metrics_open(const char *name, uint64_t version,
                                            const emb_plan *plan) {
    pthread_mutex_lock(&lock);
    emb_triton_metrics *m = find(name, version);
    if (m) {
        m->users++;
        set_items(m, plan);
    }
    pthread_mutex_unlock(&lock);
    return m;
}

void emb_triton_metrics_add(emb_triton_metrics *metrics, emb_triton_counter counter,
                            uint64_t count) {
    if (!metrics || !metrics->counters[counter] || count == 0) return;
    emb_triton_drop(TRITONSERVER_MetricIncrement(metrics->counters[counter], (double)count));
}

static void delete_metric(TRITONSERVER_Metric *metric) {
    if (metric) emb_triton_drop(TRITONSERVER_MetricDelete(metric));
}

static void delete_all(emb_triton_metrics *m) {
    for (uint32_t i = 0; i < EMB_TRITON_COUNTERS; i++) delete_metric(m->counters[i]);
    for (uint32_t i = 0; i < m->gauges_count; i++) delete_metric(m->gauges[i].metric);
    delete_metric(m->padding);
    for (uint32_t i = 0; i < FAMILIES; i++)
        if (m->families[i]) emb_triton_drop(TRITONSERVER_MetricFamilyDelete(m->families[i]));
    free(m);
}

void emb_triton_metrics_close(emb_triton_metrics *metrics) {
    if (!metrics) return;
    pthread_mutex_lock(&lock);
    if (--metrics->users == 0) {
        emb_triton_metrics **link = &all;
        while (*link != metrics) link = &(*link)->next;
        *link = metrics->next;
        delete_all(metrics);
    }
    pthread_mutex_unlock(&lock);
}
