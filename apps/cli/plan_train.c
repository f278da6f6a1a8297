/* plan_train.c - `embound plan --train`: what each way of training a model would take, in bytes and
 * in work, before any of it.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan_train.h"

#include <stdio.h>
#include <string.h>

#include "cli/print.h"

#define MIB(bytes) ((double)(bytes) / 1048576)

/* Passes of a step that keeps all: one forward, and two for the way back. */
#define PASSES_PLAIN 3.0

typedef unsigned long long ull;

typedef struct method {
    const char *key, *words;
    emb_optimizer_kind optimizer;
    uint32_t bits;
    float momentum;
    emb_train_lora lora;
    bool layerwise;
} method;

static const method methods[] = {
    {.key = "adamw", .words = "AdamW"},
    {.key = "adamw8", .words = "AdamW, moments in 8 bits", .bits = 8},
    {.key = "sgd", .words = "SGD with momentum", .optimizer = EMB_OPTIMIZER_SGD, .momentum = 0.9f},
    {.key = "layerwise", .words = "AdamW, layer by layer", .layerwise = true},
    {.key = "lora", .words = "LoRA 8: query, value", .lora = {.rank = 8}},
    {.key = "lora-all",
     .words = "LoRA 8: all matrices",
     .lora = {.rank = 8, .targets = EMB_LORA_ALL}},
};

/* What a method is given: so much that nothing is computed again; what the user states; the least
 * that works. */
typedef enum budget { ALL_KEPT, STATED, LEAST, BUDGETS } budget;
static const char *const budget_keys[] = {"all", "stated", "least"};

/* Where the bytes of a plan are. */
enum { WEIGHTS, GRADIENTS, MOMENTS, ACTIVATIONS, REST, PLACES };
static const char *const place_keys[] = {"weights", "gradients", "moments", "activations", "rest"};

static uint32_t place_of(const char *item) {
    static const struct {
        const char *item;
        uint32_t place;
    } places[] = {{"parameters", WEIGHTS},        {"adapters", WEIGHTS},
                  {"a layer's weights", WEIGHTS}, {"gradients", GRADIENTS},
                  {"optimizer", MOMENTS},         {"activations", ACTIVATIONS},
                  {"block scratch", ACTIVATIONS}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (strcmp(places[i].item, item) == 0) return places[i].place;
    return REST;
}

static void sum_places(uint64_t *bytes, const emb_train_plan *plan) {
    memset(bytes, 0, PLACES * sizeof *bytes);
    for (uint32_t i = 0; i < plan->region.items_count; i++)
        bytes[place_of(plan->region.items[i].name)] += plan->region.items[i].bytes;
}

static emb_train_options options_of(const emb_options *options, const method *m, uint64_t bytes) {
    const emb_limits *limits = &options->settings.limits;
    return (emb_train_options){
        .struct_bytes = sizeof(emb_train_options),
        .batch_examples = options->plan_train,
        .example_texts = 2,
        .max_length = limits->chunk_tokens_max,
        .threads = limits->threads,
        .learning_rate = 1,
        .optimizer = m->optimizer,
        .optimizer_bits = m->bits,
        .momentum = m->momentum,
        .lora = m->lora,
        .layerwise = m->layerwise,
        .host_bytes_max = bytes,
    };
}

/* The least is known from a plan of any other budget. */
static emb_status measure(emb_train_plan *plan, const emb_session *session,
                          const emb_options *options, const method *m, budget given,
                          emb_error *error) {
    uint64_t bytes = given == STATED ? options->settings.limits.host_bytes_max : UINT64_MAX;
    emb_train_options how = options_of(options, m, bytes);
    emb_status status = emb_train_measure(plan, session->model, &how, error);
    if (status != EMB_OK || given != LEAST) return status;
    how.host_bytes_max = plan->host_bytes_min;
    return emb_train_measure(plan, session->model, &how, error);
}

/* ---- what is shown --------------------------------------------------------------------------- */

static void print_head(emb_writer *out, const emb_options *options, const emb_session *session,
                       const emb_train_plan *plan) {
    uint64_t most = options->settings.limits.host_bytes_max;
    uint32_t stated = options->settings.limits.chunk_tokens_max;
    emb_writer_format(
        out, "Training by steps of %u pairs, up to %u tokens a text, %u threads; MiB\n",
        options->plan_train, stated ? stated : session->info.default_tokens, plan->threads);
    emb_writer_format(out, "  %-32s %8s %9s %8s %11s %7s %9s %6s\n", "", "weights", "gradients",
                      "moments", "activations", "rest", "total", "work");
    if (most)
        emb_writer_format(out, "  %-32s %8s %9s %8s %11s %7s %9.1f\n", "budget", "", "", "", "", "",
                          MIB(most));
}

static void print_row(emb_writer *out, const method *m, budget given, emb_status status,
                      const emb_train_plan *plan) {
    static const char *const behind[] = {", all kept", "", "  in the least memory"};
    char name[64];
    uint64_t bytes[PLACES];
    snprintf(name, sizeof name, "%s%s", given == LEAST ? "" : m->words, behind[given]);
    if (status == EMB_BUDGET) {
        emb_writer_format(out, "  %-32s does not fit the budget\n", name);
        return;
    }
    sum_places(bytes, plan);
    emb_writer_format(out, "  %-32s %8.1f %9.1f %8.1f %11.1f %7.1f %9.1f %6.2f\n", name,
                      MIB(bytes[WEIGHTS]), MIB(bytes[GRADIENTS]), MIB(bytes[MOMENTS]),
                      MIB(bytes[ACTIVATIONS]), MIB(bytes[REST]), MIB(plan->host_bytes),
                      plan->passes / PASSES_PLAIN);
}

static void print_json(emb_writer *out, const method *m, budget given, emb_status status,
                       const emb_train_plan *plan, bool first) {
    uint64_t bytes[PLACES];
    sum_places(bytes, plan);
    emb_writer_format(out, "%s{\"method\":\"%s\",\"budget\":\"%s\",\"fits\":%s", first ? "" : ",",
                      m->key, budget_keys[given], status == EMB_OK ? "true" : "false");
    emb_writer_format(out, ",\"host_bytes\":%llu,\"host_bytes_min\":%llu,\"passes\":%.4f",
                      (ull)plan->host_bytes, (ull)plan->host_bytes_min, plan->passes);
    for (uint32_t i = 0; i < PLACES; i++)
        emb_writer_format(out, ",\"%s_bytes\":%llu", place_keys[i], (ull)bytes[i]);
    emb_writer_format(out, ",\"tokens_per_tile\":%u,\"tiles\":%u,\"tiles_kept\":%u",
                      plan->tokens_per_tile, plan->tiles, plan->tiles_kept);
    emb_writer_format(out, ",\"attention_kept\":%u,\"ffn_kept\":%u,\"layers_apart\":%u}",
                      plan->attention_kept, plan->ffn_kept, plan->layers_apart);
}

static void print_foot(emb_writer *out) {
    emb_writer_text(out, "\nwork: multiplications of a step, as a multiple of those where nothing "
                         "is computed again\n");
}

emb_status emb_plan_train(const emb_session *session, const emb_options *options,
                          emb_error *error) {
    emb_writer *out = emb_cli_stdout();
    uint32_t shown = 0;
    emb_status status = EMB_OK;
    for (uint32_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        for (uint32_t given = i ? STATED : ALL_KEPT; given < BUDGETS; given++) {
            emb_train_plan plan;
            status = measure(&plan, session, options, &methods[i], (budget)given, error);
            bool lora_alone = status == EMB_UNSUPPORTED && !methods[i].lora.rank;
            if (lora_alone) continue; /* the model is quantized */
            if (status != EMB_OK && status != EMB_BUDGET) return status;
            if (options->json && !shown) emb_writer_text(out, "{\"methods\":[");
            if (!options->json && !shown) print_head(out, options, session, &plan);
            if (options->json)
                print_json(out, &methods[i], (budget)given, status, &plan, !shown);
            else
                print_row(out, &methods[i], (budget)given, status, &plan);
            shown++;
        }
    }
    if (options->json)
        emb_writer_text(out, "]}\n");
    else
        print_foot(out);
    return EMB_OK;
}
