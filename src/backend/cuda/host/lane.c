/* lane.c - cuts a lane's memory for a tile, and selects the tuned kernels it uses.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/host/lane.h"

/* The type of activations: f16 with quantized matrices. */
static emb_dtype type_of(emb_dtype dtype) {
    return emb_dtype_quantized(dtype) ? EMB_DTYPE_F16 : dtype;
}

static emb_cuda_view view(const emb_lane_scratch *lane, const emb_tile *tile,
                          const emb_layer_spec *shape, emb_dtype dtype) {
    emb_cuda_view v;
    uint32_t chunks = emb_chunks_max(lane->tokens_max, lane->chunk_tokens_min);
    emb_cuda_lane_cut(&v.lane, shape, dtype, lane->tokens_max, chunks, lane->memory);
    if (tile->kept) emb_cuda_indices_cut(&v.lane, tile->tokens, tile->chunks, tile->kept);
    v.type = type_of(dtype);
    v.queue = lane->state;
    v.batch = (emb_cuda_batch){
        .tokens_max = tile->tokens,
        .chunks_max = tile->chunks,
        .counts = v.lane.indices,
        .ids = v.lane.ids,
        .starts = v.lane.starts,
        .targets = v.lane.ids + tile->tokens,
        .positions = v.lane.positions,
        .query_tiles = v.lane.query_tiles,
        /* programmatic dependent launch: a kernel may start while the previous one ends; needs
         * Hopper, and the previous launch must be a kernel, not a graph */
        .overlap = v.queue->device.capability >= 90 && !v.queue->replayed,
    };
    return v;
}

emb_cuda_view emb_cuda_view_of(const emb_backend *self, const emb_lane_scratch *lane,
                               const emb_tile *tile, const emb_layer_spec *shape) {
    return view(lane, tile, shape, self->dtype);
}

/* The index buffers come before everything whose place depends on shape or dtype. */
emb_cuda_view emb_cuda_view_indices(const emb_lane_scratch *lane, const emb_tile *tile) {
    static const emb_layer_spec any = {.hidden = 1, .intermediate = 1};
    return view(lane, tile, &any, EMB_DTYPE_F32);
}

emb_cuda_upload emb_cuda_upload_of(const emb_cuda_view *v, emb_tile *tile,
                                   const uint32_t **targets) {
    const uint32_t *end = *targets + tile->chunks;
    tile->indices[0] = tile->tokens;
    tile->indices[1] = tile->chunks;
    tile->ids = v->lane.ids;
    tile->starts = v->lane.starts;
    *targets = v->batch.targets;
    return (emb_cuda_upload){v->lane.indices, tile->indices,
                             (uint64_t)(end - tile->indices) * sizeof *end};
}

uint32_t emb_cuda_tuning_row(uint32_t tokens) {
    uint32_t row = 0;
    while (row + 1 < EMB_TUNING_SIZES && (EMB_TUNING_TOKENS << row) < tokens) row++;
    return row;
}

void emb_cuda_tuned(emb_lane_scratch *scratch, const emb_tuning *tuning) {
    emb_cuda_queue *queue = scratch->state;
    for (uint32_t i = 0; i < EMB_TUNING_SIZES; i++) {
        for (uint32_t p = 0; p < EMB_CUDA_PRODUCTS; p++) {
            uint8_t kernel = tuning->kernels[i][p];
            bool known = kernel <= EMB_CUDA_TILE_LARGE ||
                         (kernel == EMB_CUDA_TILE_PAIR && queue->device.capability == 90);
            queue->tuning.kernels[i][p] = known ? kernel : EMB_CUDA_TILE_AUTO;
        }
    }
}
