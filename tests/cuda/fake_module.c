/* fake_module.c - a CUDA module without CUDA: the device's memory is the host's, kernels are loops.
 *
 * Opened through EMB_CUDA_MODULE, it lets the host side of a device run where there is no GPU, in
 * f32. Lanes and copies are threads, so that an order that nothing holds shows as wrong bits
 * (EMB_FAKE_JITTER); a recording is a list of calls. EMB_FAKE_FAIL=N makes the N-th call that can
 * fail do so, EMB_FAKE_GRAPHS=N all recordings from the N-th on; EMB_FAKE_MEMORY is the bytes of
 * the card, EMB_FAKE_DEVICES the number of cards, EMB_FAKE_CUBLASLT the host bytes of a cuBLASLt.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda/layout.h"
#include "base/error.h"
#include "fake_stream.h"

#define CONTEXT_BYTES (10u << 20)

static unsigned long calls; /* that may fail, so far */
static uint64_t taken;      /* bytes, so far */

/* So that a test can fail the next one but n. */
__attribute__((visibility("default"))) unsigned long fake_module_calls(void);
unsigned long fake_module_calls(void) {
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}

static bool fails(void) {
    const char *wanted = getenv("EMB_FAKE_FAIL");
    return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) ==
           (wanted ? strtoul(wanted, NULL, 10) : 0);
}

static emb_status lost(emb_error *error, const char *what) {
    return emb_error_set(error, EMB_DEVICE, "fake device: %s failed", what);
}

/* The card's books, as a driver keeps them for NVML: EMB_FAKE_HELD is a folder, where the file
 * named by this process gets the bytes that it took (tests/cli/fake_nvml.c). */
static void enter_held(uint64_t bytes) {
    const char *folder = getenv("EMB_FAKE_HELD");
    if (!folder) return;
    char path[512];
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%llu\n", (unsigned long long)(bytes + CONTEXT_BYTES));
    fclose(file);
}

/* ---- device calls ---------------------------------------------------------------------------- */

static emb_status open_device(uint32_t device, emb_error *error) {
    (void)device;
    return fails() ? lost(error, "open") : EMB_OK;
}

static emb_status uploaded(uint32_t device, emb_error *error) {
    (void)device;
    return fails() ? lost(error, "an upload") : EMB_OK;
}

static void *take(uint32_t device, uint64_t bytes) {
    (void)device;
    const char *memory = getenv("EMB_FAKE_MEMORY");
    if (fails() || (memory && bytes > strtoull(memory, NULL, 10))) return NULL;
    void *base = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (base) memset(base, 0xA5, bytes); /* what was never written must show */
    if (base) enter_held(__atomic_add_fetch(&taken, bytes, __ATOMIC_RELAXED));
    return base;
}

static void give(void *base) {
    free(base);
}

static bool pin(void *base, uint64_t bytes) {
    (void)base, (void)bytes;
    return !fails();
}

static void unpin(void *base) {
    (void)base;
}

/* ---- recordings ------------------------------------------------------------------------------ */

enum { CALLS_MAX = 256 };

/* One call of the forward: embed, or a block of a layer. */
typedef struct call {
    int kind;
    void *out;
    const void *in;
    const emb_layer *layer;
    emb_embedding embedding;
    const emb_block_shape *shape;
} call;
enum { CALL_EMBED, CALL_ATTENTION, CALL_FFN };

/* A lane's. What fails is kept until finish tells it. Recordings of all sizes hold the same calls:
 * one list serves them. */
typedef struct fake_state {
    fake_stream *stream;
    bool failed;
    call *calls;      /* [CALLS_MAX] */
    uint32_t count;   /* of calls in the recording at hand */
    uint32_t tokens;  /* that it is for; 0: nothing is being recorded */
    uint32_t longest; /* tile that a recording fits; 0: none */
    uint32_t recordings;
} fake_state;

static fake_stream *stream_of(const emb_lane_scratch *scratch) {
    return ((const fake_state *)scratch->state)->stream;
}

static bool lane_fails(emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    state->failed |= fails();
    return state->failed;
}

static emb_status lane_open(emb_lane_scratch *scratch, uint32_t device, emb_error *error) {
    fake_state *state = scratch->state;
    (void)device;
    memset(state, 0, sizeof *state);
    if (fails()) return lost(error, "a stream");
    state->calls = calloc(CALLS_MAX, sizeof *state->calls);
    state->stream = fake_stream_open();
    return state->calls && state->stream ? EMB_OK : lost(error, "memory");
}

static void lane_close(emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    fake_stream_close(state->stream);
    free(state->calls);
    memset(state, 0, sizeof *state);
}

static void tuned(emb_lane_scratch *scratch, const emb_tuning *tuning) {
    (void)scratch, (void)tuning; /* there is one kernel for each product */
}

static emb_status tune(emb_tuning *tuning, uint32_t tokens, const emb_layer *layer,
                       const emb_block_shape *shape, emb_lane_scratch *scratch, emb_error *error) {
    (void)layer, (void)shape, (void)scratch;
    if (fails()) return lost(error, "tuning");
    uint32_t row = 0;
    while (row + 1 < EMB_TUNING_SIZES && (EMB_TUNING_TOKENS << row) < tokens) row++;
    for (uint32_t p = 0; p < EMB_TUNING_PRODUCTS; p++)
        tuning->kernels[row][p] = (uint8_t)(1 + (row + p) % 3);
    return EMB_OK;
}

static void record(emb_tile *tile, uint32_t tokens, emb_lane_scratch *scratch) {
    fake_state *state = scratch->state;
    *tile = (emb_tile){.tokens = tokens, .chunks = emb_chunks_max(tokens), .queue = scratch};
    state->tokens = tokens;
    state->count = 0;
}

static emb_status recorded(emb_lane_scratch *scratch, emb_error *error) {
    fake_state *state = scratch->state;
    const char *broken = getenv("EMB_FAKE_GRAPHS");
    uint32_t tokens = state->tokens;
    state->tokens = 0;
    if (broken && ++state->recordings >= strtoul(broken, NULL, 10)) return lost(error, "recording");
    if (tokens > state->longest) state->longest = tokens;
    return EMB_OK;
}

/* Notes the call if it is to be recorded. */
static bool noted(const emb_tile *tile, call what) {
    fake_state *state = ((emb_lane_scratch *)tile->queue)->state;
    if (!state->tokens) return false;
    if (state->count < CALLS_MAX) state->calls[state->count++] = what;
    return true;
}

static void embed(void *out, const emb_tile *tile, const emb_embedding *embedding,
                  const emb_block_shape *shape);
static void attention_block(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape, emb_lane_scratch *scratch);
static void ffn_block(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                      const emb_block_shape *shape, emb_lane_scratch *scratch);

static emb_cuda_lane lane_of(const emb_tile *tile, const emb_block_shape *shape) {
    emb_lane_scratch *scratch = tile->queue;
    emb_cuda_lane lane;
    emb_cuda_lane_cut(&lane, shape, EMB_FORMAT_F32,
                      (uint32_t)(uintptr_t)scratch->buffers[EMB_CUDA_LANE_TOKENS],
                      scratch->buffers[EMB_CUDA_LANE_MEMORY]);
    if (tile->kept) emb_cuda_indices_cut(&lane, tile->tokens, tile->kept);
    return lane;
}

typedef struct upload {
    void *to;
    const void *from;
    size_t bytes;
} upload;

static void do_upload(void *arguments) {
    const upload *what = arguments;
    memcpy(what->to, what->from, what->bytes);
}

static bool begin(emb_tile *tile, const uint32_t **targets, emb_lane_scratch *scratch) {
    static const emb_block_shape any = {.hidden = 1, .intermediate = 1};
    const fake_state *state = scratch->state;
    tile->queue = scratch;
    emb_cuda_lane lane = lane_of(tile, &any);
    const uint32_t *end = *targets + tile->chunks;
    const upload indices = {lane.indices, tile->indices,
                            (size_t)(end - tile->indices) * sizeof *end};
    fake_stream_run(state->stream, do_upload, &indices, sizeof indices);
    tile->ids = lane.ids;
    tile->starts = lane.starts;
    *targets = lane.ids + tile->tokens;
    if (tile->tokens > state->longest) return false;
    for (const call *c = state->calls; c < state->calls + state->count; c++) {
        if (c->kind == CALL_EMBED) embed(c->out, tile, &c->embedding, c->shape);
        if (c->kind == CALL_ATTENTION)
            attention_block(c->out, c->in, tile, c->layer, c->shape, scratch);
        if (c->kind == CALL_FFN) ffn_block(c->out, c->in, tile, c->layer, c->shape, scratch);
    }
    return true;
}

static emb_status finish(emb_lane_scratch *scratch, emb_error *error) {
    fake_stream_finish(stream_of(scratch));
    return lane_fails(scratch) ? lost(error, "a kernel") : EMB_OK;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static void copier_close(void *copier, void **events, uint32_t count) {
    fake_stream_close(copier);
    for (uint32_t i = 0; i < count; i++) fake_event_close(events[i]);
}

static emb_status copier_open(void **copier, void **events, uint32_t count, uint32_t device,
                              emb_error *error) {
    (void)device;
    memset(events, 0, count * sizeof *events);
    void *stream = fails() ? NULL : fake_stream_open();
    bool whole = stream != NULL;
    for (uint32_t i = 0; whole && i < count; i++) {
        events[i] = fails() ? NULL : fake_event_open();
        whole = events[i] != NULL;
    }
    if (whole) {
        *copier = stream;
        return EMB_OK;
    }
    copier_close(stream, events, count);
    return lost(error, "a stream of copies");
}

/* Spoils what was there first: a layer that is read while it comes must show. */
static void do_copy(void *arguments) {
    const emb_device_copy *copy = arguments;
    memset(copy->to, 0xA5, copy->bytes);
    memcpy(copy->to, copy->from, copy->bytes);
}

static emb_status copy(void *copier, const emb_device_copy *copy, uint32_t device,
                       emb_error *error) {
    (void)device;
    if (fails()) return lost(error, "copying a layer");
    for (uint32_t i = 0; i < copy->after_count; i++) fake_event_wait(copier, copy->after[i]);
    fake_stream_run(copier, do_copy, copy, sizeof *copy);
    fake_event_mark(copier, copy->done);
    return EMB_OK;
}

/* A lane that failed still waits: its rows are thrown away, but it must not be seen to race. */
static void lane_wait(emb_lane_scratch *scratch, void *event) {
    lane_fails(scratch);
    fake_event_wait(stream_of(scratch), event);
}

static void lane_mark(emb_lane_scratch *scratch, void *event) {
    lane_fails(scratch);
    fake_event_mark(stream_of(scratch), event);
}

static emb_status event_finish(void *event, uint32_t device, emb_error *error) {
    (void)device;
    fake_event_finish(event);
    return fails() ? lost(error, "a kernel") : EMB_OK;
}

/* A tile of the warming before ready, of no meaning: loops over its thousands of tokens would be
 * most of a test's time. Every real chunk holds an id above 1, and where words are gathered, which
 * numbers the tokens of a tile as ids, so does every tile of more than two tokens. */
static bool warms(const emb_tile *tile) {
    if (tile->tokens <= 2) return false;
    for (uint32_t t = 0; t < tile->tokens; t++)
        if (tile->ids[t] > 1) return false;
    return true;
}

/* ---- kernels --------------------------------------------------------------------------------- */

static void norm(float *out, const float *in, const float *add, const float *gain,
                 const float *shift, const emb_block_shape *shape) {
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < shape->hidden; i++) mean += in[i] + add[i];
    mean /= shape->hidden;
    for (uint32_t i = 0; i < shape->hidden; i++)
        square += (in[i] + add[i] - mean) * (in[i] + add[i] - mean);
    double scale = 1 / sqrt(square / shape->hidden + shape->norm_epsilon);
    for (uint32_t i = 0; i < shape->hidden; i++)
        out[i] = (float)((in[i] + add[i] - mean) * scale * gain[i] + shift[i]);
}

static void product(float *out, const float *in, const emb_linear *linear, uint32_t tokens,
                    bool gelu) {
    const float *weights = linear->packed;
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < linear->rows; r++) {
            double sum = linear->bias[r];
            for (uint32_t c = 0; c < linear->cols; c++)
                sum += (double)in[(size_t)t * linear->cols + c] *
                       weights[(size_t)r * linear->cols + c];
            if (gelu) sum = 0.5 * sum * (1 + erf(sum * 0.70710678118654752));
            out[(size_t)t * linear->rows + r] = (float)sum;
        }
    }
}

/* The arguments of any block operation, as they were when it was enqueued. */
typedef struct block {
    void *out;
    const void *in;
    emb_tile tile;
    emb_layer layer;
    emb_embedding embedding;
    emb_pool_rule rule;
    const uint32_t *targets;
    emb_block_shape shape;
} block;

static void enqueue(fake_call run, const block *what) {
    fake_stream_run(stream_of(what->tile.queue), run, what, sizeof *what);
}

static void do_embed(void *arguments) {
    const block *what = arguments;
    const emb_tile *tile = &what->tile;
    const emb_embedding *embedding = &what->embedding;
    const emb_block_shape *shape = &what->shape;
    void *out = what->out;
    if (warms(tile)) return;
    const float *words = embedding->words;
    for (uint32_t c = 0; c < tile->chunks; c++)
        for (uint32_t t = tile->starts[c]; t < tile->starts[c + 1]; t++)
            norm((float *)out + (size_t)t * shape->hidden,
                 words + (size_t)tile->ids[t] * shape->hidden,
                 embedding->positions + (size_t)(t - tile->starts[c]) * shape->hidden,
                 embedding->gain, embedding->shift, shape);
}

static void embed(void *out, const emb_tile *tile, const emb_embedding *embedding,
                  const emb_block_shape *shape) {
    if (noted(tile, (call){CALL_EMBED, out, NULL, NULL, *embedding, shape})) return;
    block what = {.out = out, .tile = *tile, .embedding = *embedding, .shape = *shape};
    enqueue(do_embed, &what);
}

/* One query of one head against the keys of its chunk, which begins at qkv. */
static void attend(float *out, const float *qkv, uint32_t query, uint32_t tokens, uint32_t head,
                   const emb_block_shape *shape) {
    size_t stride = (size_t)3 * shape->hidden, first = (size_t)head * shape->head_dim;
    const float *q = qkv + query * stride + first;
    double sums[256] = {0}, total = 0;
    for (uint32_t k = 0; k < tokens; k++) {
        const float *key = qkv + k * stride + shape->hidden + first;
        const float *value = key + shape->hidden;
        double score = 0;
        for (uint32_t i = 0; i < shape->head_dim; i++) score += (double)q[i] * key[i];
        score /= sqrt(shape->head_dim);
        if (shape->relative)
            score += shape->relative[(size_t)head * (2 * shape->chunk_tokens_max - 1) + k - query +
                                     shape->chunk_tokens_max - 1];
        double weight = exp(score);
        total += weight;
        for (uint32_t i = 0; i < shape->head_dim; i++) sums[i] += weight * value[i];
    }
    for (uint32_t i = 0; i < shape->head_dim; i++) out[i] = (float)(sums[i] / total);
}

static void norm_rows(float *out, const float *in, const float *add, const float *gain,
                      const float *shift, uint32_t tokens, const emb_block_shape *shape) {
    for (uint32_t t = 0; t < tokens; t++) {
        size_t at = (size_t)t * shape->hidden;
        norm(out + at, in + at, add + at, gain, shift, shape);
    }
}

static void do_attention(void *arguments) {
    const block *what = arguments;
    const emb_tile *tile = &what->tile;
    const emb_layer *layer = &what->layer;
    const emb_block_shape *shape = &what->shape;
    void *out = what->out;
    const void *in = what->in;
    if (warms(tile)) return;
    emb_cuda_lane lane = lane_of(tile, shape);
    product(lane.wide, in, &layer->qkv, tile->tokens, false);
    for (uint32_t c = 0; c < tile->chunks; c++) {
        size_t start = tile->starts[c];
        uint32_t tokens = tile->starts[c + 1] - tile->starts[c];
        for (uint32_t q = 0; q < tokens; q++)
            for (uint32_t h = 0; h < shape->heads; h++)
                attend((float *)lane.context + (start + q) * shape->hidden + h * shape->head_dim,
                       (float *)lane.wide + start * 3 * shape->hidden, q, tokens, h, shape);
    }
    product(lane.narrow, lane.context, &layer->attention_out, tile->tokens, false);
    norm_rows(out, in, lane.narrow, layer->attention_gain, layer->attention_shift, tile->tokens,
              shape);
}

static void attention_block(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    if (noted(tile, (call){CALL_ATTENTION, out, in, layer, {0}, shape})) return;
    block what = {.out = out, .in = in, .tile = *tile, .layer = *layer, .shape = *shape};
    enqueue(do_attention, &what);
}

static void do_ffn(void *arguments) {
    const block *what = arguments;
    const emb_tile *tile = &what->tile;
    const emb_layer *layer = &what->layer;
    const emb_block_shape *shape = &what->shape;
    void *out = what->out;
    const void *in = what->in;
    if (warms(tile)) return;
    emb_cuda_lane lane = lane_of(tile, shape);
    product(lane.wide, in, &layer->ffn_in, tile->tokens, true);
    product(lane.narrow, lane.wide, &layer->ffn_out, tile->tokens, false);
    norm_rows(out, in, lane.narrow, layer->ffn_gain, layer->ffn_shift, tile->tokens, shape);
}

static void ffn_block(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                      const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    if (noted(tile, (call){CALL_FFN, out, in, layer, {0}, shape})) return;
    block what = {.out = out, .in = in, .tile = *tile, .layer = *layer, .shape = *shape};
    enqueue(do_ffn, &what);
}

/* Mean or cls: what the tiny models use. */
static void do_pool(void *arguments) {
    const block *what = arguments;
    const emb_tile *tile = &what->tile;
    const emb_pool_rule *rule = &what->rule;
    const emb_block_shape *shape = &what->shape;
    const uint32_t *targets = what->targets;
    const void *in = what->in;
    float *rows = what->out;
    for (uint32_t c = 0; c < tile->chunks; c++) {
        uint32_t start = tile->starts[c];
        uint32_t count = rule->pooling == EMB_POOLING_CLS ? 1 : tile->starts[c + 1] - start;
        float *row = rows + (size_t)targets[c] * shape->hidden;
        double square = 0;
        for (uint32_t i = 0; i < shape->hidden; i++) {
            double sum = 0;
            for (uint32_t t = start; t < start + count; t++)
                sum += ((const float *)in)[(size_t)t * shape->hidden + i];
            row[i] = (float)(sum / count);
            square += (double)row[i] * row[i];
        }
        for (uint32_t i = 0; rule->normalize && i < shape->hidden; i++)
            row[i] = (float)(row[i] / sqrt(square));
    }
}

static void pool(float *rows, const uint32_t *targets, const void *in, const emb_tile *tile,
                 const emb_pool_rule *rule, const emb_block_shape *shape) {
    block what = {
        .out = rows, .in = in, .tile = *tile, .rule = *rule, .targets = targets, .shape = *shape};
    enqueue(do_pool, &what);
}

static void convert(void *out, emb_format format, const float *in, uint64_t rows, uint32_t cols) {
    (void)format;
    memcpy(out, in, rows * cols * sizeof *in);
}

static void linear_pack(emb_linear *linear, uint32_t row0, uint32_t rows, const float *values) {
    convert((float *)linear->packed + (size_t)row0 * linear->cols, linear->format, values, rows,
            linear->cols);
}

/* ---- the module ------------------------------------------------------------------------------ */

static const emb_device_calls device_calls = {
    .open = open_device,
    .uploaded = uploaded,
    .take = take,
    .give = give,
    .pin = pin,
    .unpin = unpin,
    .lane_open = lane_open,
    .lane_close = lane_close,
    .tuned = tuned,
    .tune = tune,
    .record = record,
    .recorded = recorded,
    .begin = begin,
    .finish = finish,
    .copier_open = copier_open,
    .copier_close = copier_close,
    .copy = copy,
    .lane_wait = lane_wait,
    .lane_mark = lane_mark,
    .event_finish = event_finish,
};

#define FAKE_BACKEND(numerics_name, layout)                                                        \
    {                                                                                              \
        .name = "cuda", .numerics = numerics_name, .activation_bytes = 4, .device = &device_calls, \
        .tokens_knee = EMB_CUDA_TOKENS_KNEE, .lane_state_bytes = EMB_CUDA_STATE_BYTES,             \
        .linear_layout = layout, .linear_pack = linear_pack, .lane_layout = emb_cuda_lane_layout,  \
        .embed = embed, .attention_block = attention_block, .ffn_block = ffn_block, .pool = pool,  \
        .kept_place = emb_cuda_kept_place, .convert = convert,                                     \
    }
static const emb_backend f32_backend = FAKE_BACKEND("cuda-f32", emb_cuda_linear_layout);
static const emb_backend cublaslt_backend =
    FAKE_BACKEND("cuda-f32-cublaslt", emb_cuda_linear_layout_cublaslt);

static emb_status probe_library(emb_device_info *device, const emb_device_list *wanted,
                                emb_error *error) {
    const char *library = getenv("EMB_FAKE_CUBLASLT");
    if (!wanted || wanted->gemm != EMB_GEMM_CUBLASLT) return EMB_OK;
    if (!library) return emb_error_set(error, EMB_DEVICE, "fake device: no cuBLASLt (--gemm own)");
    device->cublaslt_bytes = strtoull(library, NULL, 10);
    return EMB_OK;
}

static emb_status probe(emb_device_info *devices, uint32_t *count, const emb_device_list *wanted,
                        emb_error *error) {
    const char *number = getenv("EMB_FAKE_DEVICES");
    uint32_t present = number ? (uint32_t)strtoul(number, NULL, 10) : 1;
    *count = 0;
    if (fails()) return lost(error, "probe");
    uint32_t asked = wanted ? wanted->count : 0;
    for (uint32_t i = 0; i < (asked ? asked : present); i++) {
        uint32_t index = asked ? wanted->indices[i] : i;
        if (index >= present)
            return emb_error_set(error, EMB_DEVICE, "there is no fake device %u", index);
        memset(&devices[i], 0, sizeof devices[i]);
        snprintf(devices[i].name, sizeof devices[i].name, "fake %u", index);
        snprintf(devices[i].driver, sizeof devices[i].driver, "1.0");
        devices[i].index = index;
        devices[i].compute_capability = 90;
        devices[i].memory_bytes = 4ull << 30;
        devices[i].context_bytes = CONTEXT_BYTES;
        *count = i + 1;
    }
    return probe_library(devices, wanted, error);
}

static const emb_backend *backend(uint32_t compute_capability, emb_format format, emb_gemm gemm) {
    (void)compute_capability;
    if (format == EMB_FORMAT_F32 && gemm == EMB_GEMM_CUBLASLT) return &cublaslt_backend;
    return format == EMB_FORMAT_F32 ? &f32_backend : NULL;
}

static const emb_cuda_module module_table = {EMB_CUDA_ABI, probe, backend};

__attribute__((visibility("default"))) const emb_cuda_module *emb_cuda_query(void);
const emb_cuda_module *emb_cuda_query(void) {
    return &module_table;
}
