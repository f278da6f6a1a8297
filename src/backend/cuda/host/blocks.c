/* blocks.c - the block operations of a CUDA backend: kernels enqueued on the tile's lane.
 *
 * Grids are sized by the tile at hand; a row's arithmetic depends on nothing outside its chunk.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "backend/cuda/host/module.h"
#include "backend/cuda/host/pack.h"
#include "backend/cuda/kernels/kernels.h"

/* Of activations: f16 beside quantised matrices. */
static emb_dtype type_of(emb_dtype dtype) {
    return dtype == EMB_DTYPE_F32    ? EMB_DTYPE_F32
           : dtype == EMB_DTYPE_BF16 ? EMB_DTYPE_BF16
                                     : EMB_DTYPE_F16;
}

static emb_cuda_view view(const emb_lane_scratch *lane, const emb_tile *tile,
                          const emb_block_shape *shape, emb_dtype dtype) {
    emb_cuda_view v;
    emb_cuda_lane_cut(&v.lane, shape, dtype, lane->tokens_max, lane->memory);
    if (tile->kept) emb_cuda_indices_cut(&v.lane, tile->tokens, tile->kept);
    v.type = type_of(dtype);
    v.state = lane->state;
    v.pack = (emb_cuda_pack){
        .tokens_max = tile->tokens,
        .chunks_max = tile->chunks,
        .counts = v.lane.indices,
        .ids = v.lane.ids,
        .starts = v.lane.starts,
        .targets = v.lane.ids + tile->tokens,
        .positions = v.lane.positions,
        .tiles = v.lane.tiles,
        /* a kernel may start while the one before ends; the launch attribute is Hopper's, and
         * what stands before it must be a kernel, not a graph */
        .overlap = v.state->device.capability >= 90 && !v.state->replayed,
    };
    return v;
}

emb_cuda_view emb_cuda_view_of(const emb_backend *self, const emb_lane_scratch *lane,
                               const emb_tile *tile, const emb_block_shape *shape) {
    return view(lane, tile, shape, self->dtype);
}

/* The index buffers stand before everything whose place depends on shape or dtype. */
emb_cuda_view emb_cuda_view_indices(const emb_lane_scratch *lane, const emb_tile *tile) {
    static const emb_block_shape any = {.hidden = 1, .intermediate = 1};
    return view(lane, tile, &any, EMB_DTYPE_F32);
}

static void embed(const emb_backend *self, emb_lane_scratch *lane, void *out, const emb_tile *tile,
                  const emb_embedding *embedding, const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
    if (emb_dtype_quantized(self->dtype)) {
        emb_cuda_quantised_embed(&v, out, embedding, shape);
        return;
    }
    emb_cuda_note(v.state,
                  emb_cuda_embed(out, &v.pack, &words, shape->hidden, v.type, v.state->stream));
}

/* out = norm(residual + product), in one kernel where the own products have that. */
static void product_norm(emb_cuda_view *v, emb_cuda_product which, void *out, const void *in,
                         const emb_linear *linear, const void *residual,
                         const emb_cuda_norm *norm) {
    void *product = v->lane.narrow;
    if (!v->state->blas.handle) {
        emb_cuda_linear weights = {linear->packed, linear->bias, linear->rows, linear->cols,
                                   v->type};
        emb_cuda_note(v->state,
                      emb_cuda_linear_norm(out, in, &weights, residual, norm, product,
                                           emb_cuda_tuned_tile(v, which), emb_cuda_tuning_tokens(v),
                                           &v->pack, &v->state->device, v->state->stream));
        return;
    }
    emb_cuda_product_run(v, which, product, in, linear);
    emb_cuda_note(v->state, emb_cuda_residual_norm(out, product, residual, norm, &v->pack,
                                                   linear->rows, v->type, v->state->stream));
}

static void attention_block(const emb_backend *self, emb_lane_scratch *lane, void *out,
                            const void *in, const emb_tile *tile, const emb_layer *layer,
                            const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    if (emb_dtype_quantized(self->dtype)) {
        emb_cuda_quantised_attention(&v, out, in, tile, layer, shape);
        return;
    }
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_product_run(&v, EMB_CUDA_QKV, v.lane.wide, in, &layer->qkv);
    emb_cuda_note(v.state, emb_cuda_attention(v.lane.context, v.lane.wide, &heads, &v.pack, v.type,
                                              &v.state->device, v.state->stream));
    emb_cuda_norm norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon};
    product_norm(&v, EMB_CUDA_ATTENTION_OUT, out, v.lane.context, &layer->attention_out, in, &norm);
}

static void ffn_block(const emb_backend *self, emb_lane_scratch *lane, void *out, const void *in,
                      const emb_tile *tile, const emb_layer *layer, const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    if (emb_dtype_quantized(self->dtype)) {
        emb_cuda_quantised_ffn(&v, out, in, layer, shape);
        return;
    }
    emb_cuda_product_run(&v, EMB_CUDA_FFN_IN, v.lane.wide, in, &layer->ffn_in);
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    product_norm(&v, EMB_CUDA_FFN_OUT, out, v.lane.wide, &layer->ffn_out, in, &norm);
}

static void pool(const emb_backend *self, emb_lane_scratch *lane, float *rows,
                 const uint32_t *targets, const void *in, const emb_tile *tile,
                 const emb_pool_rule *rule, const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(self, lane, tile, shape);
    (void)targets; /* the device has its own */
    emb_cuda_pooling pooling = rule->pooling == EMB_POOLING_CLS   ? EMB_CUDA_POOL_CLS
                               : rule->pooling == EMB_POOLING_MAX ? EMB_CUDA_POOL_MAX
                                                                  : EMB_CUDA_POOL_MEAN;
    emb_cuda_note(v.state, emb_cuda_pool(rows, in, &v.pack, shape->hidden, pooling,
                                         (int)rule->normalize, v.type, v.state->stream));
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A failure is told by emb_cuda_uploaded. */
static void put(void *to, const void *from, uint64_t bytes) {
    cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
}

static void convert(const emb_backend *self, void *out, emb_dtype dtype, const float *in,
                    uint64_t rows, uint32_t cols) {
    (void)self;
    emb_cuda_pack_values(out, dtype, in, rows, cols, put);
}

static void linear_pack(const emb_backend *self, emb_linear *linear, uint32_t row0, uint32_t rows,
                        const float *values) {
    unsigned char *to = linear->packed;
    to += (uint64_t)row0 * linear->cols * emb_dtype_bytes(linear->dtype);
    convert(self, to, linear->dtype, values, rows, linear->cols);
}

static void pack_quantized(const emb_backend *self, emb_linear *linear, uint32_t row0,
                           const emb_quantized_rows *rows) {
    (void)self;
    emb_cuda_pack_rows(linear, row0, rows, put);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const emb_device_calls calls = {
    .enter = emb_cuda_enter,
    .leave = emb_cuda_leave,
    .open = emb_cuda_open_device,
    .uploaded = emb_cuda_uploaded,
    .take = emb_cuda_take,
    .give = emb_cuda_give,
    .pin = emb_cuda_pin,
    .unpin = emb_cuda_unpin,
    .lane_open = emb_cuda_lane_open,
    .lane_close = emb_cuda_lane_close,
    .tuned = emb_cuda_tuned,
    .tune = emb_cuda_tune,
    .record = emb_cuda_record,
    .recorded = emb_cuda_recorded,
    .begin = emb_cuda_begin,
    .finish = emb_cuda_finish,
    .copier_open = emb_cuda_copier_open,
    .copier_close = emb_cuda_copier_close,
    .copy = emb_cuda_copy,
    .lane_wait = emb_cuda_lane_wait,
    .lane_mark = emb_cuda_lane_mark,
    .event_finish = emb_cuda_event_finish,
    .rows_take = emb_cuda_rows_take,
    .rows_give = emb_cuda_rows_give,
    .rows_copy = emb_cuda_rows_copy,
};

#define BACKEND(numerics, dtype, gemm)                                                             \
    {EMB_CUDA_SIZES(numerics, dtype, gemm),                                                        \
     .device = &calls,                                                                             \
     .linear_pack = linear_pack,                                                                   \
     .linear_pack_quantized = pack_quantized,                                                      \
     .layer_finish = emb_cuda_quantised_finish,                                                    \
     .convert = convert,                                                                           \
     .embed = embed,                                                                               \
     .attention_block = attention_block,                                                           \
     .ffn_block = ffn_block,                                                                       \
     .pool = pool},
static const emb_backend backends[] = {EMB_CUDA_ROWS(BACKEND)};

static const emb_backend *backend_of(uint32_t compute_capability, emb_dtype dtype, emb_gemm gemm) {
    return emb_cuda_find(backends, sizeof backends / sizeof backends[0], compute_capability, dtype,
                         gemm);
}

/* Drivers of the toolkit's major version run what it built, whatever their minor one. */
static const emb_cuda_module module_table = {EMB_CUDA_ABI, CUDART_VERSION / 1000 * 1000,
                                             emb_cuda_supports, emb_cuda_probe, backend_of};

EMB_API const emb_cuda_module *emb_cuda_query(void);
const emb_cuda_module *emb_cuda_query(void) {
    return &module_table;
}
