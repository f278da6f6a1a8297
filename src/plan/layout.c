/* layout.c - books every buffer of an engine for given shapes; measured by plan, bound by engine.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "plan/plan.h"

emb_format emb_plan_format(emb_dtype dtype) {
    return dtype == EMB_DTYPE_BF16  ? EMB_FORMAT_BF16
           : dtype == EMB_DTYPE_F16 ? EMB_FORMAT_F16
                                    : EMB_FORMAT_F32;
}

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
    window->vectors = emb_ledger_take(books->pinned, (uint64_t)plan->window_chunks * shape->hidden,
                                      sizeof(float));
}

static void text_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                        emb_ledger *ledger) {
    emb_text_layout(&memory->tokenizer, &model->text, ledger);
    emb_ledger_item(ledger, "text being read");
    memory->open_ids = emb_ledger_take(ledger, plan->chunk_tokens_max, sizeof(uint32_t));
    memory->fresh_ids = emb_ledger_take(ledger, EMB_FRESH_IDS, sizeof(uint32_t));
    memory->length_counts =
        emb_ledger_take(ledger, (uint64_t)plan->chunk_tokens_max + 1, sizeof(uint32_t));
    memory->sum = emb_ledger_take(ledger, model->shape.hidden, sizeof(double));
    memory->nan_row = emb_ledger_take(ledger, model->shape.hidden, sizeof(float));
}

void emb_memory_layout(emb_memory *memory, const emb_model *model, const emb_plan *plan,
                       const emb_backend *backend, const emb_books *books) {
    emb_ledger *ledger = books->host;
    const emb_shape *shape = &model->shape;
    memset(memory, 0, sizeof *memory);
    emb_ledger_item(ledger, "engine");
    memory->engine = emb_ledger_take(ledger, 1, EMB_ENGINE_BYTES);
    memory->lanes = emb_ledger_take(ledger, plan->lanes, sizeof *memory->lanes);
    memory->windows = emb_ledger_take(ledger, plan->windows, sizeof *memory->windows);
    text_layout(memory, model, plan, ledger);

    emb_weights_config config = {
        .files = model->files,
        .shape = shape,
        .backend = backend,
        .format = emb_plan_format(plan->dtype),
        .slots = plan->weight_slots,
        .lanes = plan->lanes,
        .chunk_tokens_max = plan->chunk_tokens_max,
        .device = plan->device_index,
        .words_resident = plan->embeddings_resident,
    };
    emb_weights_layout(&memory->weights, &config, books);
    memory->blocks = (emb_block_shape){
        .hidden = shape->hidden,
        .heads = shape->heads,
        .head_dim = shape->head_dim,
        .intermediate = shape->intermediate,
        .chunk_tokens_max = plan->chunk_tokens_max,
        .norm_epsilon = shape->norm_epsilon,
        .relative = memory->weights.relative,
    };
    emb_lane measured;
    for (uint32_t i = 0; i < plan->lanes; i++)
        emb_lane_layout(memory->lanes ? &memory->lanes[i] : &measured, &config, &memory->blocks,
                        plan->tokens_per_tile, plan->window_chunks, plan->weight_slots == 0, books);
    for (uint32_t i = 0; i < plan->windows; i++)
        window_layout(memory->windows ? &memory->windows[i] : NULL, plan, shape, books);
    if (plan->weight_slots) {
        emb_ledger_item(books->device, "activations of a pass");
        memory->pass_x =
            emb_ledger_take(books->device, (uint64_t)plan->window_tokens * shape->hidden,
                            backend->activation_bytes);
    }
    emb_thread_set_layout(&memory->threads, plan->lanes + (plan->weight_slots ? 1 : 0), ledger);
}
