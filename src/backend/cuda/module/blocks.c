/* blocks.c - the block operations of a CUDA backend: kernels enqueued on the tile's lane.
 *
 * Grids are sized by the tile at hand; a row's arithmetic depends on nothing outside its chunk.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <cuda_runtime_api.h>

#include <string.h>

#include "backend/cuda/kernels.h"
#include "backend/cuda/module/module.h"
#include "backend/cuda/module/pack.h"

/* Of activations: f16 beside quantised matrices. */
static emb_cuda_type type_of(emb_format format) {
    return format == EMB_FORMAT_F32    ? EMB_CUDA_F32
           : format == EMB_FORMAT_BF16 ? EMB_CUDA_BF16
                                       : EMB_CUDA_F16;
}

emb_cuda_view emb_cuda_view_of(const emb_tile *tile, const emb_block_shape *shape,
                               emb_format format) {
    emb_cuda_view v;
    emb_lane_scratch *scratch = tile->queue;
    emb_cuda_lane_cut(&v.lane, shape, format,
                      (uint32_t)(uintptr_t)scratch->buffers[EMB_CUDA_LANE_TOKENS],
                      scratch->buffers[EMB_CUDA_LANE_MEMORY]);
    if (tile->kept) emb_cuda_indices_cut(&v.lane, tile->tokens, tile->kept);
    v.type = type_of(format);
    v.state = scratch->state;
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

/* The index buffers stand before everything whose place depends on shape or format. */
emb_cuda_view emb_cuda_view_indices(const emb_tile *tile) {
    static const emb_block_shape any = {.hidden = 1, .intermediate = 1};
    return emb_cuda_view_of(tile, &any, EMB_FORMAT_F32);
}

static void run_embed(void *out, const emb_tile *tile, const emb_embedding *embedding,
                      const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(tile, shape, embedding->format);
    emb_cuda_embedding words = {embedding->words, embedding->positions, embedding->gain,
                                embedding->shift, shape->norm_epsilon};
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

static void run_attention(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                          const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, layer->qkv.format);
    emb_cuda_heads heads = {shape->hidden, shape->heads, shape->head_dim, shape->chunk_tokens_max,
                            shape->relative};
    emb_cuda_product_run(&v, EMB_CUDA_QKV, v.lane.wide, in, &layer->qkv);
    emb_cuda_note(v.state, emb_cuda_attention(v.lane.context, v.lane.wide, &heads, &v.pack, v.type,
                                              &v.state->device, v.state->stream));
    emb_cuda_norm norm = {layer->attention_gain, layer->attention_shift, shape->norm_epsilon};
    product_norm(&v, EMB_CUDA_ATTENTION_OUT, out, v.lane.context, &layer->attention_out, in, &norm);
}

static void run_ffn(void *out, const void *in, const emb_tile *tile, const emb_layer *layer,
                    const emb_block_shape *shape, emb_lane_scratch *scratch) {
    (void)scratch;
    emb_cuda_view v = emb_cuda_view_of(tile, shape, layer->ffn_in.format);
    emb_cuda_product_run(&v, EMB_CUDA_FFN_IN, v.lane.wide, in, &layer->ffn_in);
    emb_cuda_norm norm = {layer->ffn_gain, layer->ffn_shift, shape->norm_epsilon};
    product_norm(&v, EMB_CUDA_FFN_OUT, out, v.lane.wide, &layer->ffn_out, in, &norm);
}

/* `format` is that of the activations, which pool alone cannot see from its parameters. */
static void pool(emb_format format, float *rows, const void *in, const emb_tile *tile,
                 const emb_pool_rule *rule, const emb_block_shape *shape) {
    emb_cuda_view v = emb_cuda_view_of(tile, shape, format);
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

static void convert(void *out, emb_format format, const float *in, uint64_t rows, uint32_t cols) {
    emb_cuda_pack_values(out, format, in, rows, cols, put);
}

static void linear_pack(emb_linear *linear, uint32_t row0, uint32_t rows, const float *values) {
    unsigned char *to = linear->packed;
    to += (uint64_t)row0 * linear->cols * emb_format_bytes(linear->format);
    convert(to, linear->format, values, rows, linear->cols);
}

static void pack_quantized(emb_linear *linear, uint32_t row0, const emb_quantized_rows *rows) {
    emb_cuda_pack_rows(linear, row0, rows, put);
}

/* ---- tables ---------------------------------------------------------------------------------- */

#define DEVICE_CALLS(open_lane)                                                                    \
    {                                                                                              \
        .enter = emb_cuda_enter, .leave = emb_cuda_leave, .open = emb_cuda_open_device,            \
        .uploaded = emb_cuda_uploaded, .take = emb_cuda_take, .give = emb_cuda_give,               \
        .pin = emb_cuda_pin, .unpin = emb_cuda_unpin, .lane_open = open_lane,                      \
        .lane_close = emb_cuda_lane_close, .tuned = emb_cuda_tuned, .tune = emb_cuda_tune,         \
        .record = emb_cuda_record, .recorded = emb_cuda_recorded, .begin = emb_cuda_begin,         \
        .finish = emb_cuda_finish, .copier_open = emb_cuda_copier_open,                            \
        .copier_close = emb_cuda_copier_close, .copy = emb_cuda_copy,                              \
        .lane_wait = emb_cuda_lane_wait, .lane_mark = emb_cuda_lane_mark,                          \
        .event_finish = emb_cuda_event_finish, .rows_take = emb_cuda_rows_take,                    \
        .rows_give = emb_cuda_rows_give, .rows_copy = emb_cuda_rows_copy,                          \
    }
static const emb_device_calls own_calls = DEVICE_CALLS(emb_cuda_lane_open);
static const emb_device_calls cublaslt_calls = DEVICE_CALLS(emb_cuda_lane_open_cublaslt);

/* The last arguments: how matrices are packed and multiplied. */
#define DEFINE_BACKEND(id, format_bytes, numerics_name, calls, layout, pool_call, ...)             \
    static const emb_backend id = {                                                                \
        .name = "cuda",                                                                            \
        .numerics = numerics_name,                                                                 \
        .activation_bytes = format_bytes,                                                          \
        .device = &calls,                                                                          \
        .tokens_knee = EMB_CUDA_TOKENS_KNEE,                                                       \
        .lane_state_bytes = EMB_CUDA_STATE_BYTES,                                                  \
        .linear_layout = layout,                                                                   \
        .lane_layout = emb_cuda_lane_layout,                                                       \
        .kept_place = emb_cuda_kept_place,                                                         \
        .pool = pool_call,                                                                         \
        .convert = convert,                                                                        \
        __VA_ARGS__,                                                                               \
    }

#define PLAIN                                                                                      \
    .linear_pack = linear_pack, .embed = run_embed, .attention_block = run_attention,              \
    .ffn_block = run_ffn
#define QUANTISED                                                                                  \
    .linear_pack = linear_pack, .linear_pack_quantized = pack_quantized,                           \
    .layer_finish = emb_cuda_quantised_finish, .embed = emb_cuda_quantised_embed,                  \
    .attention_block = emb_cuda_quantised_attention, .ffn_block = emb_cuda_quantised_ffn

#define DEFINE_POOL(id, format)                                                                    \
    static void id##_pool(float *rows, const uint32_t *targets, const void *in,                    \
                          const emb_tile *tile, const emb_pool_rule *rule,                         \
                          const emb_block_shape *shape) {                                          \
        (void)targets;                                                                             \
        pool(format, rows, in, tile, rule, shape);                                                 \
    }

/* Own products, and cuBLASLt's. */
#define DEFINE_BACKENDS(id, format, format_bytes, numerics_name)                                   \
    DEFINE_POOL(id, format)                                                                        \
    DEFINE_BACKEND(id##_own, format_bytes, numerics_name, own_calls, emb_cuda_linear_layout,       \
                   id##_pool, PLAIN);                                                              \
    DEFINE_BACKEND(id##_cublaslt, format_bytes, numerics_name "-cublaslt", cublaslt_calls,         \
                   emb_cuda_linear_layout_cublaslt, id##_pool, PLAIN)

#define DEFINE_QUANTISED(id, numerics_name, format)                                                \
    DEFINE_POOL(id, format)                                                                        \
    DEFINE_BACKEND(id, 2, numerics_name, own_calls, emb_cuda_linear_layout, id##_pool, QUANTISED)

DEFINE_BACKENDS(f32, EMB_FORMAT_F32, 4, "cuda-f32");
DEFINE_BACKENDS(sm75_f16, EMB_FORMAT_F16, 2, "cuda-sm75-f16");
DEFINE_BACKENDS(sm80_f16, EMB_FORMAT_F16, 2, "cuda-sm80-f16");
DEFINE_BACKENDS(sm80_bf16, EMB_FORMAT_BF16, 2, "cuda-sm80-bf16");
DEFINE_QUANTISED(sm75_int8, "cuda-sm75-int8", EMB_FORMAT_I8);
DEFINE_QUANTISED(sm80_int8, "cuda-sm80-int8", EMB_FORMAT_I8);
DEFINE_QUANTISED(sm75_int4, "cuda-sm75-int4", EMB_FORMAT_I4);
DEFINE_QUANTISED(sm80_int4, "cuda-sm80-int4", EMB_FORMAT_I4);
DEFINE_QUANTISED(sm89_fp8, "cuda-sm89-fp8", EMB_FORMAT_FP8);
DEFINE_QUANTISED(sm90_fp8, "cuda-sm90-fp8", EMB_FORMAT_FP8);

static const emb_backend *backend_of(uint32_t compute_capability, emb_format format,
                                     emb_gemm gemm) {
    static const emb_backend *const all[] = {
        &f32_own,           &f32_cublaslt,  &sm75_f16_own,       &sm75_f16_cublaslt, &sm80_f16_own,
        &sm80_f16_cublaslt, &sm80_bf16_own, &sm80_bf16_cublaslt, &sm75_int8,         &sm80_int8,
        &sm75_int4,         &sm80_int4,     &sm89_fp8,           &sm90_fp8};
    const char *numerics = emb_cuda_numerics(compute_capability, format, gemm);
    for (size_t i = 0; numerics && i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->numerics, numerics) == 0) return all[i];
    return NULL;
}

/* Drivers of the toolkit's major version run what it built, whatever their minor one. */
static const emb_cuda_module module_table = {EMB_CUDA_ABI, CUDART_VERSION / 1000 * 1000,
                                             emb_cuda_supports, emb_cuda_probe, backend_of};

EMB_API const emb_cuda_module *emb_cuda_query(void);
const emb_cuda_module *emb_cuda_query(void) {
    return &module_table;
}
