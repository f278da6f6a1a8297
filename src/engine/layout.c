/* layout.c - books every buffer of an engine for given shapes: measured while planning, bound at
 * open.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/engine.h"

static void window_layout(emb_window *window, const emb_plan *plan, const emb_shape *shape,
                          const emb_books *books) {
    emb_ledger *ledger = books->host;
    emb_window measured;
    if (!window) window = &measured;
    memset(window, 0, sizeof *window);
    emb_ledger_item(ledger, "windows of tokens");
    window->table.tokens_max = plan->window_tokens;
    window->table.chunks_max = plan->window_chunks;
    window->table.ids = emb_ledger_take(ledger, plan->window_tokens, sizeof(uint32_t));
    window->table.starts =
        emb_ledger_take(ledger, (uint64_t)plan->window_chunks + 1, sizeof(uint32_t));
    window->parts = emb_ledger_take(ledger, plan->window_chunks, sizeof *window->parts);
    window->order = emb_ledger_take(ledger, plan->window_chunks, sizeof *window->order);
    window->cuts = emb_ledger_take(ledger, plan->window_chunks, sizeof *window->cuts);
    window->next = emb_ledger_take(ledger, shape->layers, sizeof *window->next);
    emb_ledger_item(books->pinned, "vectors");
    uint64_t rows = plan->output == EMB_OUTPUT_TOKENS ? plan->window_tokens : plan->window_chunks;
    window->vectors =
        emb_ledger_take(books->pinned, rows * emb_row_width(shape, plan->output), sizeof(float));
}

/* Readers besides the caller's own thread. */
static void readers_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                           emb_ledger *ledger) {
    if (plan->readers <= 1) return;
    emb_ledger_item(ledger, "text being read");
    memory->readers = emb_ledger_take(ledger, plan->readers, sizeof *memory->readers);
    memory->ahead_texts = emb_ledger_take(ledger, EMB_AHEAD_TEXTS, sizeof *memory->ahead_texts);
    emb_reader measured;
    for (uint32_t i = 0; i < plan->readers; i++) {
        emb_reader *reader = memory->readers ? &memory->readers[i] : &measured;
        reader->tokenizer = memory->tokenizer;
        if (i) emb_text_layout_shared(&reader->tokenizer, &model->text, ledger);
        emb_ledger_item(ledger, "text being read");
        reader->ids = emb_ledger_take(ledger, EMB_AHEAD_IDS, sizeof *reader->ids);
    }
}

static void text_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                        emb_ledger *ledger) {
    emb_text_layout(&memory->tokenizer, &model->text, ledger);
    emb_ledger_item(ledger, "text being read");
    memory->slab = emb_ledger_take(ledger, emb_engine_slab_pieces(plan), sizeof *memory->slab);
    memory->open_ids = emb_ledger_take(ledger, plan->chunk_tokens_max, sizeof(uint32_t));
    memory->fresh_ids = emb_ledger_take(ledger, EMB_FRESH_IDS, sizeof(uint32_t));
    memory->length_counts =
        emb_ledger_take(ledger, (uint64_t)plan->chunk_tokens_max + 1, sizeof(uint32_t));
    uint32_t width = emb_row_width(&model->shape, plan->output);
    memory->sum = emb_ledger_take(ledger, width, sizeof(double));
    memory->nan_row = emb_ledger_take(ledger, width, sizeof(float));
}

/* A site's weights, and what else its lanes share. */
static void site_layout(emb_site *site, const emb_plan *plan, const emb_weights_config *config,
                        const emb_books *books) {
    const emb_shape *shape = config->shape;
    emb_weights_layout(&site->weights, &site->blocks, config, books);
    site->pass_x = NULL;
    site->passes = 0;
    site->runs_device = false;
    if (!plan->weight_slots) return;
    site->runs_device = books->device != books->host;
    if (site->runs_device)
        emb_device_pass_layout(&site->on_device, config, plan->window_tokens, plan->window_chunks,
                               plan->tokens_per_tile, books);
    emb_ledger_item(books->device, "activations of a pass");
    site->pass_x =
        emb_ledger_take(books->device, (uint64_t)plan->window_tokens * shape->spec.hidden,
                        config->backend->activation_bytes);
}

void emb_engine_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                       const emb_backend *backend, emb_plan_books *books) {
    emb_ledger *ledger = &books->host;
    const emb_shape *shape = &model->shape;
    uint32_t sites = plan->devices_count;
    bool cuda = backend->device != NULL || plan->device == EMB_DEVICE_CUDA;
    emb_books at = {ledger, cuda ? &books->pinned : ledger, NULL};
    memset(memory, 0, sizeof *memory);
    emb_ledger_item(ledger, "engine");
    memory->engine = emb_ledger_take(ledger, 1, sizeof *memory->engine);
    memory->lanes = emb_ledger_take(ledger, plan->lanes, sizeof *memory->lanes);
    memory->windows = emb_ledger_take(ledger, plan->windows, sizeof *memory->windows);
    memory->sites = emb_ledger_take(ledger, sites, sizeof *memory->sites);
    text_layout(memory, model, plan, ledger);
    readers_layout(memory, model, plan, ledger);

    emb_weights_config config = {
        .files = model->files,
        .shape = shape,
        .backend = backend,
        .dtype = plan->dtype,
        .slots = plan->weight_slots,
        .lanes = plan->lanes / sites,
        .chunk_tokens_min = emb_text_chunk_min(&model->text.specials),
        .chunk_tokens_max = plan->chunk_tokens_max,
        .words_resident = plan->embeddings_resident,
        .words_pinned = plan->embeddings_pinned,
        .layers_pinned = plan->layers_pinned,
    };
    emb_pinned_weights_layout(&config.pinned, &config, &at);
    emb_site one_site; /* while measuring there are no tables to write into */
    emb_lane one_lane;
    for (uint32_t d = 0; d < sites; d++) {
        at.device = cuda ? &books->devices[d] : ledger;
        config.device = plan->devices[d];
        config.fills_pinned = d == 0;
        emb_site *site = memory->sites ? &memory->sites[d] : &one_site;
        site_layout(site, plan, &config, &at);
        for (uint32_t i = d; i < plan->lanes; i += sites)
            emb_lane_layout(memory->lanes ? &memory->lanes[i] : &one_lane, i / sites, &config,
                            &site->blocks, plan->tokens_per_tile, plan->weight_slots == 0, &at);
    }
    for (uint32_t i = 0; i < plan->windows; i++)
        window_layout(memory->windows ? &memory->windows[i] : NULL, plan, shape, &at);
    emb_thread_set_layout(&memory->threads,
                          plan->lanes + (plan->weight_slots ? sites : 0) + plan->readers - 1,
                          ledger);
}

static void weigh(emb_plan_books *books, const emb_model *model, const emb_plan *plan,
                  const emb_backend *backend) {
    emb_memory memory;
    emb_engine_layout(&memory, model, plan, backend, books);
}

emb_status emb_plan_make(emb_plan *out, const emb_model *model, const emb_limits *limits,
                         const emb_machine *machine, emb_error *error) {
    return emb_plan_choose(out, model, limits, machine, weigh, error);
}
