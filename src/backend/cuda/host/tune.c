/* tune.c - times the kernels that give a product the same bits, and keeps the fastest.
 *
 * Runs during open, on a lane just warmed up with a tile of the same size, in that lane's memory.
 * The result affects only speed.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/module.h"
#include "backend/cuda/host/products.h"

enum { LAUNCHES = 10, SAMPLES = 3 };

/* A gain must exceed the noise between measurements. */
#define GAIN 0.97f

/* One product of the layer, between buffers of the lane: as the block runs it, norm included if it
 * is not quantized. */
typedef struct job {
    void *out;
    const void *in;
    emb_cuda_linear linear;
    emb_cuda_quantized quantized; /* instead of `linear`, if it has rows */
    const float *bounds;
    const emb_cuda_norm *norm; /* NULL: none, and GELU if it is the feed-forward's first */
    int gelu;
} job;

static job job_of(const emb_cuda_view *v, const emb_layer *layer, const emb_cuda_norm *norm,
                  emb_cuda_product which) {
    const emb_linear *linears[EMB_CUDA_PRODUCTS] = {&layer->qkv, &layer->attention_out,
                                                    &layer->ffn_in, &layer->ffn_out};
    const emb_linear *l = linears[which];
    bool widens = which == EMB_CUDA_QKV || which == EMB_CUDA_FFN_IN,
         last = which == EMB_CUDA_FFN_OUT;
    bool quantized = emb_dtype_quantized(l->dtype);
    return (job){
        .quantized = quantized ? emb_cuda_quantized_of(l) : (emb_cuda_quantized){0},
        .bounds = quantized ? l->bounds : NULL,
        .out = last ? v->lane.context : v->lane.wide,
        .in = last ? v->lane.wide : v->lane.context,
        .linear = {l->packed, l->bias, l->rows, l->cols, v->type},
        .norm = widens ? NULL : norm,
        .gelu = which == EMB_CUDA_FFN_IN,
    };
}

/* Codes and values overlap here and are meaningless. What follows a product is the same for every
 * kernel. */
static int run_quantized(const job *j, emb_cuda_tile tile, const emb_cuda_view *v) {
    const emb_cuda_launch *launch = v->queue->launch;
    const emb_cuda_device *device = &v->queue->device;
    cudaStream_t stream = v->queue->stream;
    emb_cuda_codes codes = emb_cuda_codes_of(v, v->lane.inner_codes);
    emb_cuda_codes next = emb_cuda_codes_of(v, v->lane.middle_codes);
    bool plain = j->quantized.type == EMB_DTYPE_INT4;
    if (j->gelu && j->quantized.type == EMB_DTYPE_FP8)
        return launch->quantized_codes(&codes, &next, j->bounds, &j->quantized, 1, tile, &v->batch,
                                       device, stream);
    return launch->quantized_run(j->out, plain ? NULL : &codes, plain ? j->in : NULL, &j->quantized,
                                 j->gelu, tile, &v->batch, device, stream);
}

static int run_job(const job *j, emb_cuda_tile tile, const emb_cuda_view *v) {
    const emb_cuda_launch *launch = v->queue->launch;
    const emb_cuda_device *device = &v->queue->device;
    cudaStream_t stream = v->queue->stream;
    if (j->quantized.rows) return run_quantized(j, tile, v);
    if (!j->norm || !v->lane.projected)
        return launch->linear_run(j->out, j->in, &j->linear, j->gelu, tile, &v->batch, device,
                                  stream);
    return launch->linear_norm(j->out, j->in, &j->linear, j->out, j->norm, v->lane.projected, tile,
                               emb_cuda_tuning_tokens(v), &v->batch, device, stream);
}

/* Milliseconds of the fastest sample; 0 if there is no such kernel here. */
static float time_of(const job *j, emb_cuda_tile tile, const emb_cuda_view *v, cudaEvent_t start,
                     cudaEvent_t stop) {
    cudaStream_t stream = v->queue->stream;
    float best = 0;
    if (run_job(j, tile, v) != 0) {
        cudaGetLastError(); /* handled here: not an error of later calls */
        return 0;
    }
    for (int s = 0; s < SAMPLES; s++) {
        float ms = 0;
        emb_cuda_note(v->queue, cudaEventRecord(start, stream));
        for (int i = 0; i < LAUNCHES; i++) emb_cuda_note(v->queue, run_job(j, tile, v));
        emb_cuda_note(v->queue, cudaEventRecord(stop, stream));
        emb_cuda_note(v->queue, cudaEventSynchronize(stop));
        if (cudaEventElapsedTime(&ms, start, stop) != cudaSuccess) return 0;
        if (s == 0 || ms < best) best = ms;
    }
    return best;
}

static uint8_t fastest(const job *j, const emb_cuda_view *v, cudaEvent_t start, cudaEvent_t stop) {
    bool hopper = v->queue->device.capability == 90 && v->type != EMB_DTYPE_F32;
    int best = EMB_CUDA_TILE_AUTO, last = hopper ? EMB_CUDA_TILE_PAIR : EMB_CUDA_TILE_LARGE;
    float least = time_of(j, EMB_CUDA_TILE_AUTO, v, start, stop) * GAIN;
    for (int tile = EMB_CUDA_TILE_SMALL; tile <= last; tile++) {
        float ms = time_of(j, (emb_cuda_tile)tile, v, start, stop);
        if (ms <= 0 || ms >= least) continue;
        least = ms;
        best = tile;
    }
    return (uint8_t)best;
}

emb_status emb_cuda_tune(const emb_backend *self, emb_lane_scratch *scratch, emb_tuning *tuning,
                         uint32_t tokens, const emb_layer *layer, const emb_layer_spec *shape,
                         emb_error *error) {
    emb_cuda_state *state = scratch->state;
    uint32_t chunks = emb_chunks_max(tokens, scratch->chunk_tokens_min);
    emb_tile tile = {.tokens = tokens, .chunks = chunks};
    emb_cuda_view v = emb_cuda_view_of(self, scratch, &tile, shape);
    cudaEvent_t start = NULL, stop = NULL;
    if (state->queue.blas.handle) return EMB_OK; /* its algorithms differ in bits */
    cudaError_t reason = cudaEventCreate(&start);
    if (reason == cudaSuccess) reason = cudaEventCreate(&stop);
    uint8_t *row = tuning->kernels[emb_cuda_tuning_row(tokens)];
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    for (uint32_t p = 0; reason == cudaSuccess && p < EMB_CUDA_PRODUCTS; p++) {
        job j = job_of(&v, layer, &norm, (emb_cuda_product)p);
        row[p] = fastest(&j, &v, start, stop);
    }
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    emb_cuda_note(&state->queue, reason);
    if (!state->queue.failure) return EMB_OK;
    return emb_cuda_lane_failed(error, state, "tuning failed", reason);
}
