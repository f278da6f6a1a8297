/* lora.c - a layer's matrices put together with their adapters, and gradients taken apart: threads
 * split rows or columns of what comes out, never a sum.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "train/lora.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "train/cpu/random.h"
#include "train/stored.h"

enum { ROWS_STEP = 12 }; /* that a thread takes at least, as in cpu/linear.c */

/* In the order of emb_lora_target's bits. */
static const emb_tensor_role roles[EMB_LORA_LINEARS] = {EMB_TENSOR_QUERY,  EMB_TENSOR_KEY,
                                                        EMB_TENSOR_VALUE,  EMB_TENSOR_ATTENTION_OUT,
                                                        EMB_TENSOR_FFN_IN, EMB_TENSOR_FFN_OUT};

/* ---- memory ---------------------------------------------------------------------------------- */

static uint32_t most(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* Queries, keys and values are one matrix to the blocks: if one is put together, all are. Gives the
 * values of `weights`. */
static uint64_t find_linears(emb_lora *lora, uint32_t targets) {
    bool own[2] = {false}, wanted[2] = {false};
    emb_lora_linear *l = lora->linears;
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++, l++) {
        uint32_t rank;
        l->role = roles[k];
        l->target = targets >> k & 1;
        emb_model_tensor_shape(lora->base.files, l->role, 0, &rank, &l->rows, &l->cols);
        l->own = l->target;
        for (uint32_t n = 0; n < lora->base.shape->layers; n++)
            l->own |= emb_model_tensor_dtype(lora->base.files, l->role, n) != EMB_DTYPE_F32;
        l->wanted = l->target;
        own[k > 2] |= l->own;
        wanted[k > 2] |= l->wanted;
    }
    uint64_t weights = 0, d_weights = 0;
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        l = &lora->linears[k];
        if (k < 3) l->own = own[0];
        if (k < 3) l->wanted = wanted[0];
        l->weight = weights;
        l->d_weight = d_weights;
        weights += l->own ? (uint64_t)l->rows * l->cols : 0;
        d_weights += l->wanted ? (uint64_t)l->rows * l->cols : 0;
    }
    lora->d_weights_count = d_weights;
    return weights;
}

static uint64_t place(emb_params *trained, emb_tensor_role role, uint32_t layer, uint32_t rows,
                      uint32_t cols) {
    emb_param tensor = {role, layer, 2, rows, cols, EMB_DTYPE_F32, trained->values};
    uint64_t values = (uint64_t)rows * cols;
    values += (EMB_PARAM_BLOCK - values % EMB_PARAM_BLOCK) % EMB_PARAM_BLOCK;
    if (trained->tensors) {
        trained->tensors[trained->count] = tensor;
        trained->ranges[trained->count] = (emb_param_range){
            .first = tensor.first, .values = values, .depth = layer + 1, .matrix = true};
    }
    trained->count++;
    trained->ranges_count++;
    trained->values += values;
    return tensor.first;
}

static void place_adapters(emb_lora *lora, uint32_t layer) {
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        emb_lora_linear *l = &lora->linears[k];
        if (!l->target) continue;
        uint64_t a = place(&lora->trained, l->role, layer, lora->rank, l->cols);
        uint64_t b = place(&lora->trained, l->role, layer, l->rows, lora->rank);
        if (layer == 0) l->a = a;
        if (layer == 0) l->b = b;
    }
}

void emb_lora_layout(emb_lora *lora, const emb_shape *shape, const emb_model_files *files,
                     const emb_train_lora *options, uint32_t tile_tokens, uint32_t threads,
                     emb_ledger *ledger) {
    uint32_t rows = 0, cols = shape->spec.hidden;
    uint64_t tensors = (uint64_t)shape->layers * EMB_LORA_LINEARS * 2;
    memset(lora, 0, sizeof *lora);
    lora->rank = options->rank;
    lora->scale = options->alpha / (float)options->rank;
    lora->threads = threads;
    emb_params_layout_frozen(&lora->base, shape, files, ledger);
    lora->values = emb_ledger_take(ledger, lora->base.values, sizeof(float));
    lora->stored = emb_ledger_take(ledger, lora->base.stored, 1);
    uint64_t weights = find_linears(lora, options->targets);
    emb_ledger_item(ledger, "a layer's weights");
    lora->weights = emb_ledger_take(ledger, weights, sizeof(float));
    lora->d_weights = emb_ledger_take(ledger, lora->d_weights_count, sizeof(float));
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        rows = most(rows, lora->linears[k].rows);
        cols = most(cols, lora->linears[k].cols);
    }
    lora->scaled = emb_ledger_take(ledger, (uint64_t)rows * lora->rank, sizeof(float));
    lora->along = emb_ledger_take(ledger, (uint64_t)rows * lora->rank, sizeof(float));
    lora->work = emb_ledger_take(ledger, (uint64_t)threads * EMB_TRAIN_WORK, sizeof(float));
    if (lora->base.stored) {
        lora->codes = emb_ledger_take(ledger, threads, cols);
        lora->staging = emb_ledger_take(ledger, emb_stored_staging(&lora->base), sizeof(float));
        lora->places = emb_ledger_take(ledger, tile_tokens, sizeof *lora->places);
        for (uint32_t i = 0; lora->places && i < tile_tokens; i++) lora->places[i] = i;
    }
    emb_ledger_item(ledger, "adapters");
    lora->trained = (emb_params){.shape = shape, .files = files};
    lora->trained.tensors = emb_ledger_take(ledger, tensors, sizeof(emb_param));
    lora->trained.ranges = emb_ledger_take(ledger, tensors, sizeof(emb_param_range));
    for (uint32_t n = 0; n < shape->layers; n++) {
        place_adapters(lora, n);
        if (n == 0) lora->layer_values = lora->trained.values;
    }
}

emb_status emb_lora_load(emb_lora *lora, float *adapters, uint64_t seed, void *scratch,
                         emb_error *error) {
    EMB_TRY(emb_params_load(lora->values, &lora->base, scratch, error));
    EMB_TRY(emb_stored_load(lora->stored, &lora->base, scratch, lora->staging, error));
    memset(adapters, 0, lora->trained.values * sizeof(float));
    for (uint32_t i = 0; i < lora->trained.count; i++) {
        const emb_param *t = &lora->trained.tensors[i];
        float bound = 1.0f / sqrtf((float)t->cols);
        if (emb_lora_is_b(i)) continue;
        for (uint32_t v = 0; v < t->rows * t->cols; v++) {
            uint32_t bits = emb_random_bits(emb_hash_mix(seed, i), v);
            adapters[t->first + v] = bound * ((float)bits * (2.0f / 4294967296.0f) - 1.0f);
        }
    }
    return EMB_OK;
}

/* ---- a layer's weights ----------------------------------------------------------------------- */

typedef struct job {
    const emb_lora *lora;
    const emb_lora_linear *linear;
    const float *a, *b;
    float *d_a, *d_b;
    const emb_param *tensor;
} job;

static job job_of(const emb_lora *lora, uint32_t k, const float *adapters, uint32_t layer) {
    const emb_lora_linear *l = &lora->linears[k];
    uint64_t at = layer * lora->layer_values;
    return (job){.lora = lora,
                 .linear = l,
                 .a = adapters + at + l->a,
                 .b = adapters + at + l->b,
                 .tensor = emb_params_find(&lora->base, l->role, layer)};
}

/* out [cols] = a row of the model's. */
static void base_row(const emb_lora *lora, float *out, const emb_param *t, uint32_t row,
                     uint32_t thread) {
    if (t->dtype == EMB_DTYPE_F32)
        memcpy(out, lora->values + t->first + (size_t)row * t->cols, t->cols * sizeof *out);
    else
        emb_stored_row(out, &lora->base, lora->stored, t, row,
                       lora->codes + (size_t)thread * t->cols);
}

/* scaled = scale * B, in rows [first, end) */
static void scale_rows(const job *j, uint32_t first, uint32_t end) {
    size_t rank = j->lora->rank;
    for (size_t i = first * rank; i < end * rank; i++)
        j->lora->scaled[i] = j->lora->scale * j->b[i];
}

static void weights_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    const emb_lora *lora = j->lora;
    const emb_lora_linear *l = j->linear;
    uint32_t first = emb_team_begin(l->rows, ROWS_STEP, index, count);
    uint32_t end = emb_team_begin(l->rows, ROWS_STEP, index + 1, count);
    float *out = lora->weights + l->weight + (size_t)first * l->cols;
    for (uint32_t r = first; r < end; r++)
        base_row(lora, out + (size_t)(r - first) * l->cols, j->tensor, r, index);
    if (!l->target || first == end) return;
    scale_rows(j, first, end);
    emb_matmul product = {.m = end - first,
                          .n = l->cols,
                          .k = lora->rank,
                          .a = lora->scaled + (size_t)first * lora->rank,
                          .a_row = lora->rank,
                          .a_col = 1,
                          .b = j->a,
                          .b_row = l->cols,
                          .c = out,
                          .c_row = l->cols,
                          .add = true,
                          .work = lora->work + (size_t)index * EMB_TRAIN_WORK};
    lora->kernels->matmul(&product);
}

emb_layer_params emb_lora_weights(const emb_lora *lora, const float *adapters, uint32_t layer) {
    emb_layer_params p = emb_params_layer(&lora->base, lora->values, layer);
    float **const matrices[EMB_LORA_LINEARS] = {&p.qkv,           NULL,      NULL,
                                                &p.attention_out, &p.ffn_in, &p.ffn_out};
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        const emb_lora_linear *l = &lora->linears[k];
        if (!l->own) continue;
        job j = job_of(lora, k, adapters, layer);
        emb_team_run(lora->team, weights_part, &j);
        if (matrices[k]) *matrices[k] = lora->weights + l->weight;
    }
    return p;
}

/* ---- gradients ------------------------------------------------------------------------------- */

emb_layer_params emb_lora_gradients(const emb_lora *lora) {
    emb_layer_params p = {0};
    float **const matrices[EMB_LORA_LINEARS] = {&p.qkv,           NULL,      NULL,
                                                &p.attention_out, &p.ffn_in, &p.ffn_out};
    memset(lora->d_weights, 0, lora->d_weights_count * sizeof(float));
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++)
        if (lora->linears[k].wanted && matrices[k])
            *matrices[k] = lora->d_weights + lora->linears[k].d_weight;
    return p;
}

double emb_lora_spares(const emb_lora *lora) {
    double all = 0, wanted = 0;
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        const emb_lora_linear *l = &lora->linears[k];
        all += (double)l->rows * l->cols;
        wanted += l->wanted ? (double)l->rows * l->cols : 0;
    }
    return 1 - wanted / all;
}

/* dB += scale * dW * A^T */
static void b_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    const emb_lora *lora = j->lora;
    const emb_lora_linear *l = j->linear;
    size_t rank = lora->rank;
    uint32_t first = emb_team_begin(l->rows, ROWS_STEP, index, count);
    uint32_t end = emb_team_begin(l->rows, ROWS_STEP, index + 1, count);
    if (first == end) return;
    emb_matmul product = {.m = end - first,
                          .n = lora->rank,
                          .k = l->cols,
                          .a = lora->d_weights + l->d_weight + (size_t)first * l->cols,
                          .a_row = l->cols,
                          .a_col = 1,
                          .b = j->a,
                          .b_row = l->cols,
                          .b_transposed = true,
                          .c = lora->along + first * rank,
                          .c_row = rank,
                          .work = lora->work + (size_t)index * EMB_TRAIN_WORK};
    lora->kernels->matmul(&product);
    for (size_t i = first * rank; i < end * rank; i++) j->d_b[i] += lora->scale * lora->along[i];
    scale_rows(j, first, end);
}

/* dA += (scale * B)^T * dW */
static void a_part(void *user, uint32_t index, uint32_t count) {
    const job *j = user;
    const emb_lora *lora = j->lora;
    const emb_lora_linear *l = j->linear;
    uint32_t first = emb_team_begin(l->cols, EMB_TRAIN_PANEL, index, count);
    uint32_t end = emb_team_begin(l->cols, EMB_TRAIN_PANEL, index + 1, count);
    if (first == end) return;
    emb_matmul product = {.m = lora->rank,
                          .n = end - first,
                          .k = l->rows,
                          .a = lora->scaled,
                          .a_row = 1,
                          .a_col = lora->rank,
                          .b = lora->d_weights + l->d_weight + first,
                          .b_row = l->cols,
                          .c = j->d_a + first,
                          .c_row = l->cols,
                          .add = true,
                          .work = lora->work + (size_t)index * EMB_TRAIN_WORK};
    lora->kernels->matmul(&product);
}

void emb_lora_project(const emb_lora *lora, const float *adapters, float *d_adapters,
                      uint32_t layer) {
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        const emb_lora_linear *l = &lora->linears[k];
        if (!l->target) continue;
        job j = job_of(lora, k, adapters, layer);
        j.d_a = d_adapters + (j.a - adapters);
        j.d_b = d_adapters + (j.b - adapters);
        emb_team_run(lora->team, b_part, &j);
        emb_team_run(lora->team, a_part, &j);
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

emb_embed_params emb_lora_embed(const emb_lora *lora, float *room, emb_tile *tile) {
    emb_embed_params p = emb_params_embed(&lora->base, lora->values);
    const emb_param *words = emb_params_find(&lora->base, EMB_TENSOR_WORDS, 0);
    if (p.words) return p;
    for (uint32_t t = 0; t < tile->tokens; t++)
        base_row(lora, room + (size_t)t * words->cols, words, tile->ids[t], 0);
    tile->ids = lora->places;
    p.words = room;
    return p;
}

const float *emb_lora_rows(const emb_lora *lora, const float *adapters, const emb_param *tensor,
                           uint32_t row, uint32_t *count) {
    *count = tensor->rows - row;
    for (uint32_t k = 0; k < EMB_LORA_LINEARS; k++) {
        const emb_lora_linear *l = &lora->linears[k];
        if (l->role != tensor->role || !l->own) continue;
        job j = job_of(lora, k, adapters, tensor->layer);
        emb_team_run(lora->team, weights_part, &j);
        return lora->weights + l->weight + (size_t)row * l->cols;
    }
    if (tensor->dtype == EMB_DTYPE_F32)
        return lora->values + tensor->first + (size_t)row * tensor->cols;
    if (*count > EMB_PARAM_ROWS) *count = EMB_PARAM_ROWS;
    for (uint32_t r = 0; r < *count; r++)
        base_row(lora, lora->staging + (size_t)r * tensor->cols, tensor, row + r, 0);
    return lora->staging;
}
