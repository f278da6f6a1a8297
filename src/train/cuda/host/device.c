/* device.c - what training needs of a GPU beside the blocks: its memory, uploads, and what is done
 * with all parameters and all vectors of a batch.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "backend/cuda/kernels/kernels.h"
#include "base/error.h"
#include "base/sort.h"
#include "train/cuda/host/train.h"

/* A tile's indices in a slot; an id may have a group of its own. */
static emb_cuda_train_places places_of(uint32_t tokens, uint32_t chunks) {
    emb_cuda_train_places p = {.starts = 4};
    p.ids = p.starts + chunks + 1;
    p.targets = p.ids + tokens;
    p.order = p.targets + chunks;
    p.groups = p.order + tokens;
    p.group_ids = p.groups + tokens + 1;
    p.words = p.group_ids + tokens;
    return p;
}

static uint64_t slot_words(uint32_t tokens) {
    return places_of(tokens, emb_chunks_max(tokens, 1)).words;
}

static emb_status attach(void *state, uint32_t device, emb_error *error) {
    emb_cuda_train *t = state;
    t->launch = &emb_cuda_kernels;
    t->index = device;
    t->type = EMB_DTYPE_BF16;
    cudaError_t reason = cudaSetDevice((int)device);
    if (reason == cudaSuccess) reason = (cudaError_t)emb_cuda_device_read(&t->device);
    if (reason != cudaSuccess) return emb_cuda_failed(error, device, "cannot be examined", reason);
    if (t->device.capability >= 80) return EMB_OK;
    return emb_error_set(error, EMB_UNSUPPORTED,
                         "CUDA device %u has compute capability %u.%u; training needs 8.0: train "
                         "on the CPU",
                         device, t->device.capability / 10, t->device.capability % 10);
}

static void layout(emb_train_run *run, const emb_train_device_sizes *sizes, emb_ledger *pinned,
                   emb_ledger *device) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint32_t chunks = emb_chunks_max(sizes->tokens, 1);
    t->sizes = *sizes;
    emb_ledger_item(device, "matrices in 16 bits");
    t->narrow = emb_ledger_take(device, sizes->matrices_values, sizeof *t->narrow);
    t->transposed = emb_ledger_take(device, sizes->matrices_values, sizeof *t->transposed);
    t->zeros = emb_ledger_take(device, sizes->cols_max, sizeof *t->zeros);
    emb_ledger_item(device, "tokens of a tile");
    t->indices = emb_ledger_take(device, slot_words(sizes->tokens), sizeof *t->indices);
    t->positions = emb_ledger_take(device, sizes->tokens, sizeof *t->positions);
    t->query_tiles = emb_ledger_take(device, emb_cuda_query_tiles_words(sizes->tokens, chunks),
                                     sizeof *t->query_tiles);
    emb_ledger_item(device, "loss");
    t->lengths = emb_ledger_take(device, sizes->texts, sizeof *t->lengths);
    t->log_sums = emb_ledger_take(device, 2 * (uint64_t)sizes->texts, sizeof *t->log_sums);
    t->losses = emb_ledger_take(device, 2 * (uint64_t)sizes->texts, sizeof *t->losses);
    t->sums = emb_ledger_take(device, 2 + EMB_CUDA_TRAIN_PARTIALS, sizeof *t->sums);
    emb_ledger_item(pinned, "tokens of a tile");
    for (uint32_t i = 0; i < EMB_CUDA_TRAIN_SLOTS; i++)
        t->slots[i] = emb_ledger_take(pinned, slot_words(sizes->tokens), sizeof **t->slots);
    t->result = emb_ledger_take(pinned, 2, sizeof *t->result);
}

static emb_status open_queue(emb_train_run *run, emb_error *error) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    cudaError_t reason = cudaSetDevice((int)t->index);
    if (reason == cudaSuccess)
        reason = cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking);
    for (uint32_t i = 0; i < EMB_CUDA_TRAIN_SLOTS && reason == cudaSuccess; i++)
        reason = cudaEventCreateWithFlags(&t->free[i], cudaEventDisableTiming);
    if (reason == cudaSuccess)
        reason = cudaMemsetAsync(t->zeros, 0, t->sizes.cols_max * sizeof *t->zeros, t->stream);
    if (reason != cudaSuccess) return emb_cuda_failed(error, t->index, "no stream", reason);
    return EMB_OK;
}

static void close_queue(emb_train_run *run) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    if (t->stream) emb_cuda_train_wait(t);
    emb_cuda_train_part(t);
    for (uint32_t i = 0; i < EMB_CUDA_TRAIN_SLOTS; i++)
        if (t->free[i]) cudaEventDestroy(t->free[i]);
    if (t->stream) cudaStreamDestroy(t->stream);
    t->stream = NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void copy(emb_cuda_train *t, void *to, const void *from, uint64_t bytes,
                 enum cudaMemcpyKind kind) {
    if (t->failure) return;
    emb_cuda_train_note(t, cudaMemcpyAsync(to, from, bytes, kind, t->stream));
    emb_cuda_train_wait(t);
}

static void write_bytes(const emb_train_run *run, void *to, const void *from, uint64_t bytes) {
    copy(emb_cuda_train_of(run), to, from, bytes, cudaMemcpyHostToDevice);
}

static void read_bytes(const emb_train_run *run, void *to, const void *from, uint64_t bytes) {
    copy(emb_cuda_train_of(run), to, from, bytes, cudaMemcpyDeviceToHost);
}

static void clear(const emb_train_run *run, void *at, uint64_t bytes) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_note(t, cudaMemsetAsync(at, 0, bytes, t->stream));
}

/* Values that the scratch has room for as f32. */
static uint64_t piece_of(const emb_train_run *run) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint32_t tokens = run->scratch.tokens_max;
    return emb_cuda_train_cut(t, run->spec, tokens, NULL).bytes / sizeof(float);
}

static void read_vectors(const emb_train_run *run, float *to, const void *from, uint64_t values) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    float *wide = run->scratch.memory;
    for (uint64_t at = 0, count; at < values; at += count) {
        count = values - at < piece_of(run) ? values - at : piece_of(run);
        emb_cuda_train_note(
            t, emb_cuda_train_widen(wide, (const uint16_t *)from + at, count, t->type, t->stream));
        read_bytes(run, to + at, wide, count * sizeof *to);
    }
}

static void write_vectors(const emb_train_run *run, void *to, const float *from, uint64_t values) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    float *wide = run->scratch.memory;
    for (uint64_t at = 0, count; at < values; at += count) {
        count = values - at < piece_of(run) ? values - at : piece_of(run);
        write_bytes(run, wide, from + at, count * sizeof *from);
        emb_cuda_train_note(
            t, emb_cuda_train_narrow_values((uint16_t *)to + at, wide, count, t->type, t->stream));
    }
}

static void narrow(const emb_train_run *run, const float *values, const float *weight,
                   uint32_t rows, uint32_t cols) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint64_t at = (uint64_t)(weight - values) - t->sizes.matrices_first;
    t->values = values;
    emb_cuda_train_note(t, emb_cuda_train_narrow(t->narrow + at, t->transposed + at, weight, rows,
                                                 cols, t->type, t->stream));
}

/* ---- a tile ---------------------------------------------------------------------------------- */

/* Orders the tokens by id, and gives how many ids there are. */
static uint32_t group_tokens(uint32_t *slot, const emb_cuda_train_places *p, const emb_tile *tile) {
    uint32_t *order = slot + p->order, *groups = slot + p->groups, *ids = slot + p->group_ids;
    const uint32_t *id = tile->ids;
    uint32_t count = 0;
    emb_sort_by_key(order, groups, id, tile->tokens);
    for (uint32_t i = 0; i < tile->tokens; i++) {
        if (i && id[order[i]] == ids[count - 1]) continue;
        groups[count] = i;
        ids[count++] = id[order[i]];
    }
    groups[count] = tile->tokens;
    return count;
}

static void set_batch(emb_cuda_train *t, const emb_cuda_train_places *p, const emb_tile *tile) {
    t->batch = (emb_cuda_batch){
        .tokens_max = tile->tokens,
        .chunks_max = tile->chunks,
        .counts = t->indices,
        .ids = t->indices + p->ids,
        .starts = t->indices + p->starts,
        .targets = t->indices + p->targets,
        .positions = t->positions,
        .query_tiles = t->query_tiles,
        .overlap = t->device.capability >= 90,
    };
    t->words = (emb_train_cuda_words){.tokens = t->indices + p->order,
                                      .groups = t->indices + p->groups,
                                      .ids = t->indices + p->group_ids,
                                      .groups_count = t->indices + 2};
}

static void begin(const emb_train_run *run, emb_tile *tile, const uint32_t **targets) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_places p = places_of(tile->tokens, tile->chunks);
    uint32_t *slot = t->slots[t->slot];
    emb_cuda_train_note(t, cudaSetDevice((int)t->index));
    emb_cuda_train_note(t, cudaEventSynchronize(t->free[t->slot]));
    memcpy(slot + p.starts, tile->starts, ((uint64_t)tile->chunks + 1) * sizeof *slot);
    memcpy(slot + p.ids, tile->ids, (uint64_t)tile->tokens * sizeof *slot);
    memcpy(slot + p.targets, *targets, (uint64_t)tile->chunks * sizeof *slot);
    slot[0] = tile->tokens;
    slot[1] = tile->chunks;
    slot[2] = group_tokens(slot, &p, tile);
    emb_cuda_train_note(t, cudaMemcpyAsync(t->indices, slot, p.words * sizeof *slot,
                                           cudaMemcpyHostToDevice, t->stream));
    emb_cuda_train_note(t, cudaEventRecord(t->free[t->slot], t->stream));
    t->slot = (t->slot + 1) % EMB_CUDA_TRAIN_SLOTS;
    set_batch(t, &p, tile);
    emb_cuda_train_note(t, t->launch->prepare(&t->batch, t->stream));
    tile->ids = t->batch.ids;
    tile->starts = t->batch.starts;
    *targets = t->batch.targets;
}

/* ---- the loss, and all parameters ------------------------------------------------------------ */

/* Waits for sums[0 .. count). */
static bool read_sums(emb_cuda_train *t, uint32_t count) {
    copy(t, t->result, t->sums, count * sizeof *t->sums, cudaMemcpyDeviceToHost);
    return !t->failure;
}

/* A batch's vectors at the ranking loss: the anchors and candidates of all, of which some rows are
 * this GPU's own. */
typedef struct scores {
    const uint16_t *a, *b; /* [examples, width], [others, width] */
    float *sums, *back;    /* [examples]; back NULL: not symmetric */
    uint32_t examples, others, first, own, width;
    float scale;
} scores;

/* Losses and log sums of all: each GPU finds those of its own rows. */
static void find_sums(emb_cuda_train *t, const scores *s) {
    uint64_t at = (uint64_t)s->first * s->width;
    for (int back = 0; back < (s->back ? 2 : 1); back++) {
        float *sums = back ? s->back : s->sums, *losses = t->losses + (back ? s->examples : 0);
        const uint16_t *a = back ? s->b : s->a, *b = back ? s->a : s->b;
        emb_cuda_train_pairs pairs = {.anchors = s->own,
                                      .candidates = back ? s->examples : s->others,
                                      .first = (int32_t)s->first};
        if (s->own)
            emb_cuda_train_note(t, emb_cuda_train_ranking(losses + s->first, sums + s->first,
                                                          a + at, b, &pairs, s->width, s->scale,
                                                          t->type, &t->device, t->stream));
        emb_cuda_train_gather(t, sums, 1, s->examples, sizeof *sums);
        emb_cuda_train_gather(t, losses, 1, s->examples, sizeof *losses);
    }
}

/* The gradients of the own rows: of anchors (column 0), and of each column of candidates. Where one
 * GPU has all, those are one call, as they lie. */
static void find_gradients(emb_cuda_train *t, const scores *s, uint16_t *d, uint32_t columns,
                           float weight) {
    bool all = s->own == s->examples;
    uint64_t at = (uint64_t)s->first * s->width;
    if (!s->own) return;
    emb_cuda_train_pairs pairs = {s->own, s->others, (int32_t)s->first, s->examples};
    emb_cuda_train_note(t, emb_cuda_train_ranking_back(
                               d + at, 0, s->a + at, s->b, s->sums + s->first, s->back, &pairs,
                               s->width, s->scale, weight, 1.0f, t->type, &t->device, t->stream));
    for (uint32_t k = 0; k < (all ? 1 : columns - 1); k++) {
        uint64_t row = (uint64_t)k * s->examples + s->first;
        /* behind the positives no row is an anchor's own: first is out of their reach */
        pairs = (emb_cuda_train_pairs){.anchors = s->examples,
                                       .candidates = all ? s->others : s->own,
                                       .first = -(int32_t)row,
                                       .backs = k ? 0 : s->own};
        emb_cuda_train_note(t, emb_cuda_train_ranking_back(d + (s->examples + row) * s->width, 1,
                                                           s->a, s->b + row * s->width, s->sums,
                                                           s->back ? s->back + s->first : NULL,
                                                           &pairs, s->width, s->scale, weight, 1.0f,
                                                           t->type, &t->device, t->stream));
    }
}

static double ranking(const emb_train_run *run, const emb_train_loss *loss,
                      const emb_train_vectors *batch) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    uint32_t n = batch->examples, rows = n * batch->columns, width = t->sizes.width;
    const uint16_t *a = batch->vectors;
    scores s = {.a = a,
                .b = a + (uint64_t)n * width,
                .sums = t->log_sums,
                .back = loss->symmetric ? t->log_sums + n : NULL,
                .examples = n,
                .others = rows - n,
                .first = batch->first,
                .own = batch->own,
                .width = width,
                .scale = loss->scale};
    float weight = (loss->symmetric ? 0.5f : 1.0f) / (float)n;
    emb_cuda_train_gather(t, batch->vectors, batch->columns, n, (uint64_t)width * sizeof *a);
    emb_cuda_train_note(
        t, emb_cuda_train_units(batch->vectors, t->lengths, rows, width, t->type, t->stream));
    find_sums(t, &s);
    emb_cuda_train_note(
        t, emb_cuda_train_sum(t->sums, t->losses, loss->symmetric ? 2 * n : n, t->stream));
    find_gradients(t, &s, batch->d_vectors, batch->columns, weight * batch->share);
    /* of rows that are not this GPU's own, what comes out is not read */
    emb_cuda_train_note(t, emb_cuda_train_units_back(batch->d_vectors, a, t->lengths, rows, width,
                                                     t->type, t->stream));
    return read_sums(t, 1) ? t->result[0] * weight : NAN;
}

static double norm(const emb_train_run *run, const float *gradients, uint64_t values) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_note(
        t, emb_cuda_train_square_sum(t->sums, t->sums + 2, gradients, values, t->stream));
    return read_sums(t, 1) ? sqrt(t->result[0]) : NAN;
}

static void adamw(const emb_train_run *run, float *values, float *m, float *v,
                  const float *gradients, uint64_t count, const emb_adamw *step) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_note(t, emb_cuda_train_adamw(values, m, v, gradients, count, step, t->stream));
}

static void adamw8(const emb_train_run *run, float *values, int8_t *m, uint8_t *v, float *scales,
                   const float *gradients, uint64_t count, const emb_adamw *step) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_note(
        t, emb_cuda_train_adamw8(values, m, v, scales, gradients, count, step, t->stream));
}

static void sgd(const emb_train_run *run, float *values, float *m, const float *gradients,
                uint64_t count, const emb_sgd *step) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_note(t, emb_cuda_train_sgd(values, m, gradients, count, step, t->stream));
}

static emb_status finish(const emb_train_run *run, emb_error *error) {
    emb_cuda_train *t = emb_cuda_train_of(run);
    emb_cuda_train_wait(t);
    cudaError_t reason = (cudaError_t)t->failure;
    if (reason == cudaSuccess) return EMB_OK;
    return emb_cuda_failed(error, t->index, "a kernel failed; the last checkpoint is valid",
                           reason);
}

static const emb_device_calls calls = {
    .enter = emb_cuda_enter,
    .leave = emb_cuda_leave,
    .open = emb_cuda_open_device,
    .take = emb_cuda_take,
    .give = emb_cuda_give,
    .pin = emb_cuda_pin,
    .unpin = emb_cuda_unpin,
};

const emb_train_device emb_cuda_train_device = {
    .calls = &calls,
    .state_bytes = sizeof(emb_cuda_train),
    .attach = attach,
    .layout = layout,
    .open = open_queue,
    .close = close_queue,
    .write = write_bytes,
    .read = read_bytes,
    .clear = clear,
    .read_vectors = read_vectors,
    .write_vectors = write_vectors,
    .narrow = narrow,
    .begin = begin,
    .ranking = ranking,
    .norm = norm,
    .adamw = adamw,
    .adamw8 = adamw8,
    .sgd = sgd,
    .meet = emb_cuda_train_meet,
    .add_up = emb_cuda_train_add_up,
    .copy_first = emb_cuda_train_copy_first,
    .finish = finish,
};
